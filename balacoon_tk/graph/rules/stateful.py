"""Operators that carry a state through the utterance: folds and slices of time, recurrences and sums.

Of a slice the first push leaves off the start. The end can only be left off once it is known, so as many
steps as it has are held back; fewer, where the tensor trails its whole length anyway. A recurrence keeps
what it keeps itself.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import FAR
from balacoon_tk.graph.match import constant_of
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.rules.positions import table_of_positions
from balacoon_tk.graph.timeline import Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.writer import StreamWriter

_FIRST_STATE = 5  # the input that holds the hidden state at the start; the one of an LSTM's cell follows


@rule("Reshape", "Flatten")
def _reshape(ctx: NodeContext) -> Effect:
    # Element (p, t, q) lies at ``(p * n_t + t) * n_q + q``.
    timeline, shape = ctx.only_time(), ctx.shape(0)
    before, after = prod(shape[: timeline.axis]), prod(shape[timeline.axis + 1 :])
    axis, result = ctx.varying_axis(), ctx.output_shapes()[0]
    if prod(result[:axis]) != before:
        ctx.refuse("it mixes time with the axes before it")
    if ctx.node.op_type == "Reshape":
        target = ctx.const(1)
        if target is not None and (len(target) <= axis or int(target[axis]) not in (-1, 0)):
            ctx.refuse("its target shape fixes the length of time")
    rest = prod(result[axis + 1 :])
    if after % rest == 0:
        up = after // rest
        return Effect(axis, Local(up=up, span=up - 1))
    if rest % after == 0:
        down = rest // after
        return Effect(axis, Local(down=down, span=down - 1), write=_write_fold)
    ctx.refuse("it folds time by a factor that is not a whole number")


def _write_fold(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # As many groups of steps as are whole; what is left of a group waits in the state.
    name, down, build = writer.source(node), effect.local.down, writer.builder
    axis = writer.axis(name)
    state, window = writer.line(name, down - 1)
    whole = build.one("Div", build.length(window, axis), build.ints(down))
    used = build.one("Mul", whole, build.ints(down))
    # A whole utterance that doesn't fold without a rest must fail, as it does in the original.
    copy = writer.copy_on(node, build.slice(window, axis, 0, build.all_if_last(used)))
    build.keep(state, build.after(window, axis, used))
    # A step is there with the last of its group.
    lag = (writer.lag(name) + down - 1) / down
    writer.set(node, copy.outputs[0], lag, writer.steps(name) // down)


@rule("Slice")
def _slice(ctx: NodeContext) -> Effect:
    if ctx.time(0) is None:
        return table_of_positions(ctx)
    timeline = ctx.only_time()
    starts, ends = ctx.ints("starts", 1) or [], ctx.ints("ends", 2) or []
    axes = ctx.ints("axes", 3) or list(range(len(starts)))
    steps = ctx.ints("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % ctx.rank(0) != timeline.axis:
            continue
        if step != 1:
            ctx.refuse(f"it takes steps of {step} along time")
        if start < 0 or (0 <= end < FAR):
            ctx.refuse("it cuts at a place counted from the other end of the utterance")
        local = Local(pad_left=-start, pad_right=min(end, 0))
        # Behind a reduction of the rate how far a tensor trails depends on the phase: a segment sees to that.
        by_length = not (timeline.phased or local.pointwise)
        return Effect(timeline.axis, local, write=_write_slice if by_length else None)
    return Effect(timeline.axis)


def _write_slice(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    name, build = writer.source(node), writer.builder
    axis, value = writer.axis(name), writer.values[name]
    n_start, n_end = -effect.local.pad_left, -effect.local.pad_right
    # What trails the whole length comes with the last push only, which knows where the end is.
    still_to_come = writer.lag(name) - writer.analysis.timelines[name].short(writer.analysis.n_frames)
    n_held = max(0, n_end - int(still_to_come))
    if n_held:
        held, value = writer.line(name, n_held)
        build.keep(held, build.after(value, axis, -n_held))
    start: ir.Value | int = 0
    # A state of as many steps until the first push has left them off: only its length is read.
    if n_start:
        to_skip = build.state((n_start,), 0, n_start, np.dtype(np.float32))
        start = build.length(to_skip, 0)
        build.keep(to_skip, build.slice(to_skip, 0, 0, 0))
    # Before the end what is held back, at the end what is cut off: the last push adds the difference.
    before_the_end = -n_held if n_held else FAR
    more = build.one("Mul", build.last, build.ints(-n_end - before_the_end))
    end = build.one("Add", build.ints(before_the_end), more) if n_end else before_the_end
    cut = _slice_other_axes(writer, node, build.slice(value, axis, start, end))
    right = n_start + n_held
    writer.set(node, cut, writer.lag(name) + right, writer.steps(name) - right)


def _slice_other_axes(writer: StreamWriter, node: ir.Node, value: ir.Value) -> ir.Value:
    # Where the node slices several: those beside time are as long in a push as in the whole run.
    # The rule has seen to it that all that are there are constants.
    bounds = [constant_of(node, index) for index in range(1, len(node.inputs))]
    starts, ends, *rest = [bound for bound in bounds if bound is not None]
    name, build = writer.source(node), writer.builder
    rank = len(writer.shape(name))
    axes = [int(axis) % rank for axis in rest[0]] if rest else list(range(len(starts)))
    if len(axes) == 1:
        return value
    is_time = np.array(axes) == writer.axis(name)
    of_others = (np.where(is_time, 0, starts), np.where(is_time, FAR, ends), *rest)
    return build.one("Slice", value, *map(build.constant, of_others))


@rule("LSTM", "GRU", "RNN")
def _recurrent(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.string("direction", "forward") != "forward":
        ctx.refuse("it also runs from the utterance's end to its start")
    if ctx.int("layout", 0) or timeline.axis != 0:
        ctx.refuse("only the layout with time first is supported")
    if ctx.input(4) is not None:
        ctx.refuse("its sequence lengths are given from outside")
    if any(value.uses() or value.is_graph_output() for value in ctx.node.outputs[1:]):
        ctx.refuse("its final state is used: that is known at the utterance's end only")
    if any(ctx.input(index) in ctx.sized_by for index in (_FIRST_STATE, _FIRST_STATE + 1)):
        ctx.refuse("its first state is computed from the number of frames")
    return Effect(0, write=_write_recurrent, recurrent=True)


def _write_recurrent(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # The operator's own state goes in and out.
    name, build = writer.source(node), writer.builder
    inputs = [None if value is None else writer.values[str(value.name)] for value in node.inputs]
    inputs += [None] * (_FIRST_STATE - len(inputs))
    n_states = 2 if node.op_type == "LSTM" else 1
    # Batch, and hidden size: the second weight turns a state into what is added to the gates.
    shape = (writer.shape(name)[1], writer.analysis.inputs.probe.shape_of(node.inputs[2])[-1])
    states = []
    for k in range(_FIRST_STATE, _FIRST_STATE + n_states):
        first = inputs[k] if k < len(inputs) else None
        if first is None:
            states.append(build.state((1, *shape), 0, 1, writer.dtype(name)))
            inputs[k : k + 1] = states[-1:]
        else:  # an empty state is followed by the first one, which stands in for it
            states.append(build.state((0, *shape), 0, 1, writer.dtype(name)))
            inputs[k] = build.slice(build.concat([states[-1], first], 0), 0, 0, 1)
    copy = build.clone(node, inputs, n_outputs=1 + n_states)
    for state, value in zip(states, copy.outputs[1:], strict=True):
        build.keep(state, value)
    writer.set(node, copy.outputs[0], writer.lag(name), writer.steps(name))


@rule("CumSum")
def _cumsum(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    axis = ctx.const(1)
    if axis is None or int(axis) % ctx.rank(0) != timeline.axis:
        return Effect(timeline.axis)
    if ctx.int("reverse", 0):
        ctx.refuse("it sums from the utterance's end")
    if ctx.int("exclusive", 0):
        ctx.refuse("an exclusive sum over time is not supported")
    return Effect(timeline.axis, write=_write_cumsum, recurrent=True)


def _write_cumsum(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # On from the last sum: it stands in front of the new steps, and is left off what comes out.
    name, build = writer.source(node), writer.builder
    axis = writer.axis(name)
    state, line = writer.line(name, 1)
    sums = writer.copy_on(node, line).outputs[0]
    build.keep(state, build.after(sums, axis, -1))
    new = build.after(sums, axis, build.length(state, axis))
    writer.set(node, new, writer.lag(name), writer.steps(name))
