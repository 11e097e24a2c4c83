"""Operators that move elements about without computing: shapes, axes, channels.

Some raise the rate: a constant made to a length, and a repetition. Reshapes and slices stand in `stateful`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from balacoon_tk.graph.quasi_polynomial import QuasiPolynomial
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.timeline import Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.writer import StreamWriter


@rule("Transpose")
def _transpose(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    # Left out, it turns all axes round.
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
    timeline, shape = ctx.only_time(), ctx.shape(0)
    given = ctx.ints("axes", 1)
    if given is None:
        ctx.refuse("without axes it would also drop time when a push brings one step")
    dropped = {axis % len(shape) for axis in given}
    if timeline.axis in dropped:
        ctx.refuse("it drops the time axis")
    return Effect(timeline.axis - sum(axis < timeline.axis for axis in dropped))


@rule("Concat")
def _concat(ctx: NodeContext) -> Effect:
    axes = {t.axis for i in range(len(ctx.node.inputs)) if (t := ctx.time(i)) is not None}
    if len(axes) != 1:
        ctx.refuse("its inputs have time on different axes")
    axis = axes.pop()
    if ctx.int("axis", 0) % len(ctx.output_shapes()[0]) == axis:
        ctx.refuse("it joins tensors one after the other in time")
    for index in range(len(ctx.node.inputs)):
        # It would have to grow with each push.
        if ctx.time(index) is None:
            ctx.refuse(f"its input {index} has a fixed length along time")
    return Effect(axis)


@rule("Gather")
def _gather(ctx: NodeContext) -> Effect:
    data, indices = ctx.time(0), ctx.time(1)
    axis = ctx.int("axis", 0) % ctx.rank(0)
    # A table of embeddings, looked up by ids along time.
    if indices is not None:
        if data is not None:
            ctx.refuse("it looks up steps of an utterance at computed places")
        return Effect(indices.axis + axis)
    if data is None or data.axis == axis:
        ctx.refuse("it picks steps of the utterance by their number")
    # The axis that is looked up gives way to those of the indices.
    return Effect(data.axis if data.axis < axis else data.axis + ctx.rank(1) - 1)


@rule("Expand", "Tile")
def _expand(ctx: NodeContext) -> Effect:
    timeline, shapes = ctx.time(0), ctx.output_shapes()
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
    # A constant made to the length of a tensor with time is known as far as that is.
    name = ctx.input(0 if ctx.node.op_type == "ConstantOfShape" else 1)
    source = None if name is None else ctx.sized_by.get(name)
    if source is None:
        ctx.refuse("its shape can't be traced to a tensor with time")
    sizes = ctx.lengths.get(name or "")
    if sizes is None:
        ctx.refuse("how its shape follows from the number of frames isn't known")
    axis = ctx.varying_axis()
    # Aligned at the end, as what is expanded is.
    size = sizes.values.reshape(-1)[axis - len(ctx.output_shapes()[0])]
    lengths = QuasiPolynomial.through(dict(zip(sizes.n, ctx.timelines[source].lengths, strict=True)))
    up = (size / lengths).constant
    if up is None or up.denominator > 1:
        ctx.refuse(f"its length, {size}, is not a whole multiple of {lengths}, which it is made from")
    return Effect(axis, Local(up=int(up), span=int(up) - 1), write=_write_sized)


def _write_sized(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # As if it were pointwise: the length it is made to is that of what is newly known.
    writer.write_aligned(node, up=effect.local.up)


@rule("Resize")
def _resize(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.string("mode", "nearest") != "nearest":
        ctx.refuse("only nearest-neighbour resizing repeats steps exactly; others interpolate over the ends")
    scales = ctx.const(1 if ctx.opset == 10 else 2)
    if scales is None or not scales.size:
        ctx.refuse("it stretches time to a fixed length")
    axes = [axis % ctx.rank(0) for axis in ctx.ints("axes") or range(ctx.rank(0))]
    up = float(scales[axes.index(timeline.axis)]) if timeline.axis in axes else 1.0
    if up < 1 or up != int(up):
        ctx.refuse(f"it stretches time by {up:g}, which is not a whole number")
    transform = ctx.string("coordinate_transformation_mode", "half_pixel")
    mode = (transform, ctx.string("nearest_mode", "round_prefer_floor"))
    if transform == "tf_crop_and_resize":
        ctx.refuse("it crops by a share of the length")
    if up > 1 and ctx.opset > 10 and mode not in _REPEATING:
        ctx.refuse(f"with {' and '.join(mode)} it doesn't repeat every step equally often")
    return Effect(timeline.axis, Local(up=int(up), span=int(up) - 1))


# Where the steps ``up * n`` to ``up * n + up - 1`` are all made of step ``n``: with half pixels the place is
# ``(i + 0.5) / up - 0.5``, less than half a step away; otherwise it is ``i / up``.
_REPEATING = {
    ("asymmetric", "floor"),
    *(
        (transform, nearest)
        for transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
        for nearest in ("round_prefer_floor", "round_prefer_ceil")
    ),
}
