"""Channels and their order: views, which move nothing."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.match import ints_of, name_of
from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.operators.positions import cut_table
from balacoon_tk.targets.native.views import View, concatenate

_ELEMENT_BY_ELEMENT = ("Add", "Sub", "Mul", "Div")


@operator("Reshape", "Squeeze", "Unsqueeze", "Flatten")
def _reshape(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    before, after = ctx.time_axis(source), ctx.time_axis(made)
    if before is not None and after is not None:
        shape, wanted = ctx.shape(source), ctx.shape(made)
        # Channels in front of time and behind it stay there, or numbers move through time.
        if np.prod(shape[:before]) != np.prod(wanted[:after]):
            ctx.refuse("it moves numbers between time and channels")
        times = wanted[after] // shape[before]
        if wanted[after] != times * shape[before]:
            ctx.refuse("it moves channels into time that aren't whole steps")
        if times > 1:
            # What lies right behind a step becomes steps.
            view = ctx.view(0, windows=True)
            places = np.arange(view.n_channels).reshape(int(np.prod(shape[:before])), times, -1)
            if view.windows is not None:
                return [_in_order(ctx, view, places)]
            view = ctx.builder.gathered(view, ctx.name)
            return [ctx.builder.phases([view.take(places[:, k].reshape(-1)) for k in range(times)], ctx.name)]
    return [ctx.view(0, padded=True, windows=True)]


def _in_order(ctx: Context, view: View, places: AnyArray) -> View:
    """Return the base of windows that lie one behind the other; `places` are (front, steps, behind)."""
    assert view.windows is not None
    channels, steps = view.channels[places], view.windows.steps[places]
    n_steps = places.shape[1]
    follow_each_other = n_steps == view.windows.stride == view.windows.size and not any(view.pads)
    if (
        not follow_each_other
        or (steps != np.arange(n_steps)[:, np.newaxis]).any()
        or (channels != channels[:, :1]).any()
    ):
        ctx.refuse("it joins windows of time that overlap, or lie in another order")
    return View.of(view.bases[0]).take(channels[:, 0].reshape(-1))


@operator("Transpose")
def _transpose(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    shape, axis = ctx.shape(source), ctx.time_axis(source)
    order = ints_of(ctx.node, "perm", list(range(len(shape)))[::-1])
    # A length of 1 where time is, so that channels are all that is left.
    places = [n for k, n in enumerate(shape) if k != axis]
    if axis is not None:
        places.insert(axis, 1)
    moved = np.arange(int(np.prod(places))).reshape(places).transpose(order).reshape(-1)
    return [ctx.view(0, padded=True, windows=True).take(moved)]


def _places(ctx: Context, index: int) -> AnyArray:
    shape = ctx.channel_shape(ctx.node.inputs[index])
    return np.arange(int(np.prod(shape))).reshape(shape)


@operator("Split")
def _split(ctx: Context) -> list[View]:
    view = ctx.view(0, padded=True, windows=True)
    return [view.take(part.reshape(-1)) for part in _parts(ctx)]


def _parts(ctx: Context) -> list[AnyArray]:
    """Return the channels of each output of a Split."""
    axis = ctx.channel_axis(ctx.node.inputs[0], ctx.node.attributes.get_int("axis", 0))
    places, n_parts = _places(ctx, 0), len(ctx.node.outputs)
    equal = -(-places.shape[axis] // n_parts)
    # Nothing is known of an output that nobody reads, its shape neither.
    sizes = ctx.ints("split", 1) or [equal] * n_parts
    return np.split(places, np.cumsum(sizes)[:-1], axis=axis)


@operator("Slice")
def _slice(ctx: Context) -> list[View]:
    if ctx.is_constant(0):
        return cut_table(ctx)
    view, (places, cropped) = ctx.view(0, windows=True), _sliced(ctx)
    view = view.take(places.reshape(-1))
    if any(cropped):
        if view.windows is not None:
            ctx.refuse("it leaves windows of time out")
        if not read_once(ctx.node.inputs[0], "ConvTranspose"):
            view = ctx.builder.gathered(view, ctx.name)
            view = ctx.builder.function("copy", [view], ctx.name, alone=True)
        view = ctx.builder.cropped(view, *cropped, ctx.name)
    return [view]


def _sliced(ctx: Context) -> tuple[AnyArray, tuple[int, int]]:
    """Return the channels that a Slice takes, and how many steps it leaves out in front and behind."""
    source = ctx.node.inputs[0]
    starts, ends = ctx.ints("starts", 1) or [], ctx.ints("ends", 2) or []
    axes = ctx.ints("axes", 3) or list(range(len(starts)))
    steps = (ctx.ints("steps", 4) if ctx.has(4) else None) or [1] * len(starts)
    places = _places(ctx, 0)
    rank, cropped = len(ctx.shape(source)), (0, 0)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % rank == ctx.time_axis(source):
            if step != 1:
                ctx.refuse("it takes every other step of time")
            if start < 0 or 0 <= end < 2**31 - 1:
                ctx.refuse("it keeps a number of steps that doesn't grow with the utterance")
            cropped = start, max(0, -end)
            continue
        along = [slice(None)] * places.ndim
        along[ctx.channel_axis(source, axis)] = _bounds(start, end, step)
        places = places[tuple(along)]
    return places, cropped


def ranges_read(ctx: Context, value: ir.Value) -> list[tuple[int, int]]:
    """Return the ranges of a tensor's channels that are read apart from each other, all of them in order.

    It is one range where it isn't Slices and Splits that read it, be it behind sums and products.
    """
    n_channels = int(np.prod(ctx.channel_shape(value)))
    taken = _taken(ctx, value)
    if not taken:
        return [(0, n_channels)]
    inside = np.zeros(n_channels + 1, bool)  # whether a range that is read goes on at a channel
    for start, stop in taken:
        inside[start + 1 : stop] = True
    bounds = np.flatnonzero(~inside).tolist()
    return list(pairwise(bounds))


def _taken(ctx: Context, value: ir.Value) -> list[tuple[int, int]] | None:
    """Return the ranges of channels that Slices and Splits take of a tensor; None if it is read otherwise."""
    found: list[tuple[int, int]] = []
    pending, seen = [value], {name_of(value)}
    while pending:
        tensor = pending.pop()
        if tensor.is_graph_output():
            return None
        for node, _ in tensor.uses():
            reader, made = ctx.at(node), node.outputs[0]
            if node.op_type == "Split":
                parts = _parts(reader)
            elif node.op_type == "Slice":
                places, cropped = _sliced(reader)
                parts = [] if any(cropped) else [places]
            elif (
                node.op_type in _ELEMENT_BY_ELEMENT
                and ctx.channel_shape(made) == ctx.channel_shape(value)
                and ctx.rate(made) == ctx.rate(value)
            ):
                parts = []
                if name_of(made) not in seen:
                    seen.add(name_of(made))
                    pending.append(made)
            else:
                return None
            for part in parts:
                channels = part.reshape(-1)
                if not len(channels) or (np.diff(channels) != 1).any():
                    return None
                found.append((int(channels[0]), int(channels[-1]) + 1))
    return found


def read_once(value: ir.Value | None, op_type: str) -> bool:
    """Whether all that a node of an operator makes goes to one reader alone, through views."""
    while value is not None and value.producer() is not None:
        if len(value.uses()) > 1 or value.is_graph_output():
            return False
        node = value.producer()
        if node is None or node.op_type == op_type:
            return True
        value = node.inputs[0]
    return True


def _bounds(start: int, end: int, step: int) -> slice:
    # Python takes -1 for the last; ONNX says the start by a number far below that.
    return slice(start, None if step < 0 and end < -(2**31) else end, step)


@operator("Gather")
def _gather(ctx: Context) -> list[View]:
    if ctx.is_constant(0):
        table, view = ctx.constant(0), ctx.view(1)
        if table.ndim != 2 or ctx.node.attributes.get_int("axis", 0) != 0 or view.n_channels != 1:
            ctx.refuse("it isn't a row of a table for one number of each step")
        return [ctx.builder.look_up(view, table, ctx.name)]
    axis = ctx.channel_axis(ctx.node.inputs[0], ctx.node.attributes.get_int("axis", 0))
    picked = np.take(_places(ctx, 0), ctx.constant(1), axis=axis)
    return [ctx.view(0, windows=True).take(picked.reshape(-1))]


@operator("Expand", "Tile")
def _expand(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    axis, time = ctx.time_axis(source), ctx.time_axis(made)
    shape, wanted = list(ctx.shape(source)), list(ctx.shape(made))
    if axis is None and time is not None:
        return [_filled(ctx, ctx.constant(0))]
    if axis is None or time is None or len(wanted) - time != len(shape) - axis or wanted[time] != shape[axis]:
        ctx.refuse("it repeats time")
    shape = [1] * (len(wanted) - len(shape)) + shape
    del shape[time], wanted[time]
    places = np.arange(int(np.prod(shape))).reshape(shape)
    repeats = [n // old for n, old in zip(wanted, shape, strict=True)]
    return [ctx.view(0).take(np.tile(places, repeats).reshape(-1))]


@operator("ConstantOfShape")
def _constant_of_shape(ctx: Context) -> list[View]:
    value = ctx.node.attributes.get_tensor("value", None)
    return [_filled(ctx, np.zeros(1, np.float32) if value is None else value.numpy())]


def _filled(ctx: Context, constant: AnyArray) -> View:
    """Return a constant for as many steps as another tensor has, or some times as many."""
    made = ctx.node.outputs[0]
    axis, wanted = ctx.time_axis(made), list(ctx.shape(made))
    if axis is None:
        ctx.refuse("it makes a tensor that nothing says the length of")
    source, times = ctx.sized_by()
    place = axis - len(wanted) + constant.ndim
    if place >= 0 and constant.shape[place] != 1:
        ctx.refuse(f"its constant of shape {constant.shape} varies with time")
    wanted[axis] = 1
    values = np.broadcast_to(constant, wanted).astype(np.float32).reshape(-1)
    return ctx.builder.filled(source, values, times, ctx.name)


@operator("Concat")
def _concat(ctx: Context) -> list[View]:
    made = ctx.node.outputs[0]
    axis = ctx.channel_axis(made, ctx.node.attributes.get_int("axis", 0))
    views = [ctx.view(index, windows=True) for index in range(len(ctx.node.inputs))]
    if len({view.timeless for view in views}) > 1:
        ctx.refuse("it joins what has time with what has none")
    if (
        len({(view.windows.stride, view.windows.size, view.pads) if view.windows else None for view in views})
        > 1
    ):
        ctx.refuse("it joins windows of time of several forms")
    start, places = 0, []
    for value in ctx.node.inputs:
        shape = ctx.channel_shape(value)
        n = int(np.prod(shape))
        places.append(np.arange(start, start + n).reshape(shape))
        start += n
    return [concatenate(views).take(np.concatenate(places, axis=axis).reshape(-1))]
