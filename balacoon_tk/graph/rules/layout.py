"""Operators that move elements about without computing: shapes, axes, channels."""

from __future__ import annotations

from math import prod

from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.timeline import Local

_TO_THE_END = 2**31 - 1


@rule("Transpose")
def _transpose(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    order = ctx.ints("perm") or list(reversed(range(ctx.rank(0))))
    return Effect(order.index(timeline.axis))


@rule("Unsqueeze")
def _unsqueeze(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    n_dims = len(ctx.output_shapes()[0])
    added = {axis % n_dims for axis in ctx.ints("axes", 1) or []}
    kept = [axis for axis in range(n_dims) if axis not in added]
    return Effect(kept[timeline.axis])


@rule("Squeeze")
def _squeeze(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    shape = ctx.shape(0)
    given = ctx.ints("axes", 1)
    if given is None:
        ctx.refuse("without axes it would also drop time when a push brings one step")
    dropped = {axis % len(shape) for axis in given}
    if timeline.axis in dropped:
        ctx.refuse("it drops the time axis")
    return Effect(timeline.axis - sum(axis < timeline.axis for axis in dropped))


@rule("Reshape", "Flatten")
def _reshape(ctx: NodeContext) -> Effect:
    """Follow time through a reshape: element (p, t, q) lies at ``(p * n_t + t) * n_q + q``."""
    timeline = ctx.only_time()
    shape = ctx.shape(0)
    before, after = prod(shape[: timeline.axis]), prod(shape[timeline.axis + 1 :])
    shapes = ctx.output_shapes()
    varying = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if len(varying) != 1:
        ctx.refuse("time can't be followed through it: not exactly one axis of the result varies with time")
    axis = varying[0]
    if prod(shapes[0][:axis]) != before:
        ctx.refuse("it mixes time with the axes before it")
    if ctx.node.op_type == "Reshape":
        target = ctx.const(1)
        if target is not None and (len(target) <= axis or int(target[axis]) not in (-1, 0)):
            ctx.refuse("its target shape fixes the length of time")
    rest = prod(shapes[0][axis + 1 :])
    if after % rest == 0:
        up = after // rest
        return Effect(axis, Local(up=up, span=up - 1))
    if rest % after == 0:
        down = rest // after
        return Effect(axis, Local(down=down, span=down - 1, valid=True))
    ctx.refuse("it folds time by a factor that is not a whole number")


@rule("Concat")
def _concat(ctx: NodeContext) -> Effect:
    n_dims = len(ctx.output_shapes()[0])
    axes = {t.axis for i in range(len(ctx.node.inputs)) if (t := ctx.time(i)) is not None}
    if len(axes) != 1:
        ctx.refuse("its inputs have time on different axes")
    axis = axes.pop()
    if ctx.int("axis", 0) % n_dims == axis:
        ctx.refuse("it joins tensors one after the other in time")
    for index in range(len(ctx.node.inputs)):
        if ctx.time(index) is None:
            ctx.refuse(f"its input {index} has a fixed length along time")
    return Effect(axis)


@rule("Split")
def _split(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.int("axis", 0) % ctx.rank(0) == timeline.axis:
        ctx.refuse("it cuts the utterance into pieces along time")
    return Effect(timeline.axis)


@rule("Slice")
def _slice(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    starts, ends = ctx.ints("starts", 1) or [], ctx.ints("ends", 2) or []
    axes = ctx.ints("axes", 3) or list(range(len(starts)))
    steps = ctx.ints("steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis % ctx.rank(0) != timeline.axis:
            continue
        if step != 1:
            ctx.refuse(f"it takes steps of {step} along time")
        if start < 0 or (0 <= end < _TO_THE_END):
            ctx.refuse("it cuts at a place counted from the other end of the utterance")
        tail = -end if end < 0 else 0
        return Effect(timeline.axis, Local(pad_left=-start, pad_right=-tail))
    return Effect(timeline.axis)


@rule("Gather")
def _gather(ctx: NodeContext) -> Effect:
    data, indices = ctx.time(0), ctx.time(1)
    axis = ctx.int("axis", 0) % ctx.rank(0)
    if indices is not None:
        if data is not None:
            ctx.refuse("it looks up steps of an utterance at computed places")
        return Effect(indices.axis + axis)
    if data is None or data.axis == axis:
        ctx.refuse("it picks steps of the utterance by their number")
    return Effect(data.axis if data.axis < axis else data.axis + ctx.rank(1) - 1)


@rule("Expand", "Tile")
def _expand(ctx: NodeContext) -> Effect:
    timeline = ctx.time(0)
    shapes = ctx.output_shapes()
    if timeline is None:
        return _sized(ctx)
    axis = timeline.axis + len(shapes[0]) - ctx.rank(0)
    if any(shape[axis] != n for shape, n in zip(shapes, timeline.lengths, strict=True)):
        ctx.refuse("it repeats the utterance along time")
    if ctx.input(1) in ctx.sized_by:
        ctx.refuse("the shape it expands to is computed from the number of frames")
    return Effect(axis)


@rule("ConstantOfShape")
def _sized(ctx: NodeContext) -> Effect:
    """Follow a constant made to the length of a tensor with time: it is known as far as that is."""
    shape_input = 0 if ctx.node.op_type == "ConstantOfShape" else 1
    name = ctx.input(shape_input)
    source = None if name is None else ctx.sized_by.get(name)
    if source is None:
        ctx.refuse("its shape can't be traced to a tensor with time")
    if name not in ctx.lengths:
        ctx.refuse("how its shape follows from the number of frames isn't known")
    lengths = ctx.timelines[source].lengths
    shapes = ctx.output_shapes()
    varying = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    if len(varying) != 1:
        ctx.refuse("not exactly one axis of the result varies with time")
    ratios = {shape[varying[0]] / n for shape, n in zip(shapes, lengths, strict=True)}
    up = ratios.pop()
    if ratios or up != int(up):
        ctx.refuse("its length is not a whole multiple of the length that it is made from")
    return Effect(varying[0], Local(up=int(up), span=int(up) - 1))


@rule("Resize")
def _resize(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.string("mode", "nearest") != "nearest":
        ctx.refuse("only nearest-neighbour resizing repeats steps exactly; others interpolate over the ends")
    scales = ctx.const(1 if ctx.opset == 10 else 2)
    if scales is None or not scales.size:
        ctx.refuse("it stretches time to a fixed length")
    given = ctx.ints("axes") or list(range(ctx.rank(0)))
    axes = [axis % ctx.rank(0) for axis in given]
    up = float(scales[axes.index(timeline.axis)]) if timeline.axis in axes else 1.0
    if up < 1 or up != int(up):
        ctx.refuse(f"it stretches time by {up:g}, which is not a whole number")
    if _mode(ctx)[0] == "tf_crop_and_resize":
        ctx.refuse("it crops by a share of the length")
    if up > 1 and ctx.opset > 10 and _mode(ctx) not in _REPEATING:
        ctx.refuse(f"with {' and '.join(_mode(ctx))} it doesn't repeat every step equally often")
    return Effect(timeline.axis, Local(up=int(up), span=int(up) - 1))


_REPEATING = {
    ("asymmetric", "floor"),
    *(
        (transform, nearest)
        for transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
        for nearest in ("round_prefer_floor", "round_prefer_ceil")
    ),
}
"""Where the steps ``up * n`` to ``up * n + up - 1`` are all made of step ``n``: with half pixels the place
is ``(i + 0.5) / up - 0.5``, less than half a step away; otherwise it is ``i / up``."""


def _mode(ctx: NodeContext) -> tuple[str, str]:
    return (
        ctx.string("coordinate_transformation_mode", "half_pixel"),
        ctx.string("nearest_mode", "round_prefer_floor"),
    )
