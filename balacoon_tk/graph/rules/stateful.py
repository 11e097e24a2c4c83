"""Operators that carry a state through the utterance: folds and slices of time.

Of a slice the first push leaves off the start. The end can only be left off once it is known, so as many
steps as it has are held back; fewer, where the tensor trails its whole length anyway. One that takes every
few steps keeps how many it has yet to skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import FAR
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.rules.positions import table_of_positions
from balacoon_tk.graph.timeline import Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.writer import StreamWriter


_AS_GROUP_NORM = ", as group norm does: that takes the mean over the whole time axis"


@rule("Reshape", "Flatten")
def _reshape(ctx: NodeContext) -> Effect:
    # Element (p, t, q) lies at ``(p * n_t + t) * n_q + q``.
    timeline, shape = ctx.only_time(), ctx.shape(0)
    before, after = prod(shape[: timeline.axis]), prod(shape[timeline.axis + 1 :])
    axis, result = ctx.varying_axis(), ctx.output_shapes()[0]
    if prod(result[:axis]) != before:
        normed = any(user.op_type == "InstanceNormalization" for user, _ in ctx.node.outputs[0].uses())
        ctx.refuse(f"it mixes time with the axes before it{_AS_GROUP_NORM if normed else ''}")
    ctx.const(1)  # a shape that follows from another input says at the probe's values alone where time is
    rest = prod(result[axis + 1 :])
    if after % rest == 0:
        up = after // rest
        return Effect(axis, Local(up=up, span=up - 1))
    if rest % after == 0:
        down = rest // after
        return Effect(axis, Local(down=down, span=down - 1), write=_write_fold)
    ctx.refuse("it folds time by a factor that is not a whole number")


@rule("SpaceToDepth")
def _space_to_depth(ctx: NodeContext) -> Effect:
    timeline, down = ctx.only_time(), ctx.int("blocksize", 1)
    if timeline.axis == 0:
        return Effect(0)  # the batch: every step has an image of its own
    if timeline.axis == 1:
        ctx.refuse("its channels lie along time")
    return Effect(timeline.axis, Local(down=down, span=down - 1), write=_write_fold)


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
    lag = writer.lag_after(name, down - 1, down)
    writer.set(node, copy.outputs[0], lag, writer.steps(name) // down)


@rule("Slice")
def _slice(ctx: NodeContext) -> Effect:
    if ctx.time(0) is None:
        return table_of_positions(ctx)
    timeline, bounds = ctx.only_time(), _bounds(ctx)
    if timeline.axis not in bounds:
        return Effect(timeline.axis)
    start, end, step = bounds.pop(timeline.axis)
    if step < 1:
        ctx.refuse("it turns time round, so that the last step comes first")
    if start < 0 or (0 <= end < FAR):
        ctx.refuse("it cuts at a place counted from the other end of the utterance")
    if step > 1 and timeline.phased and end < 0:
        ctx.refuse("it takes every few steps and cuts off the end behind a reduction of the rate")
    local = Local(down=step, pad_left=-start, pad_right=min(end, 0))
    # Behind a reduction of the rate how far a tensor trails depends on the phase: a segment sees to that.
    by_length = step > 1 or not (timeline.phased or local.pointwise)
    return Effect(timeline.axis, local, write=partial(_write_slice, bounds) if by_length else None)


def _bounds(ctx: NodeContext) -> dict[int, tuple[int, int, int]]:
    """Return the start, the end and the step of each axis that a slice cuts."""
    starts, ends = ctx.ints("starts", 1) or [], ctx.ints("ends", 2) or []
    axes, steps = ctx.ints("axes", 3), ctx.ints("steps", 4) or [1] * len(starts)
    if axes is None and set(steps) != {1}:
        ctx.refuse("it takes every few steps and names no axes: ONNX Runtime may take every step then")
    axes = [axis % ctx.rank(0) for axis in axes or range(len(starts))]
    return dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))


def _write_slice(
    others: Mapping[int, tuple[int, int, int]], writer: StreamWriter, node: ir.Node, effect: Effect
) -> None:
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
    cut = build.slice(value, axis, start, end)
    if others:  # these are as long in a push as in the whole run
        starts, ends, strides = zip(*others.values(), strict=True)
        cut = build.one("Slice", cut, *(build.ints(*each) for each in (starts, ends, others, strides)))
    right, down = n_start + n_held, effect.local.down
    if down > 1:
        cut = _every(writer, cut, axis, down)
    steps = (writer.steps(name) - right - 1) // down + 1
    writer.set(node, cut, writer.lag_after(name, right, down), steps)


def _every(writer: StreamWriter, value: ir.Value, axis: int, down: int) -> ir.Value:
    # The next one may be further away than this push goes: how far is the length of a state.
    build = writer.builder
    to_skip = build.state((0,), 0, down - 1, np.dtype(np.float32))
    n_skipped = build.length(to_skip, 0)
    taken = build.one("Slice", value, n_skipped, build.ints(FAR), build.ints(axis), build.ints(down))
    reached = build.one("Add", n_skipped, build.one("Mul", build.length(taken, axis), build.ints(down)))
    zeros = build.constant(np.zeros(down - 1, dtype=np.float32))
    build.keep(to_skip, build.slice(zeros, 0, 0, build.one("Sub", reached, build.length(value, axis))))
    return taken
