"""Operators that move elements about without computing: shapes, axes, channels.

Some raise the rate: a constant made to a length, and channels brought into time. Reshapes and slices stand in
`stateful`, what stretches time in `interpolation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx_ir as ir

from balacoon_tk.graph.quasi_polynomial import QuasiPolynomial, UnprovenError
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
        ctx.refuse("without axes it would also drop time of one step: name its axes")
    dropped = {axis % len(shape) for axis in given}
    if timeline.axis in dropped:
        ctx.refuse("it drops the time axis")
    return Effect(timeline.axis - sum(axis < timeline.axis for axis in dropped))


@rule("Concat")
def _concat(ctx: NodeContext) -> Effect:
    node = ctx.node
    axes = {t.axis for i in range(len(node.inputs)) if (t := ctx.time(i)) is not None}
    if len(axes) != 1:
        ctx.refuse("its inputs have time on different axes")
    axis = axes.pop()
    timed = [index for index in range(len(node.inputs)) if ctx.time(index) is not None]
    if ctx.int("axis", 0) % len(ctx.output_shapes()[0]) == axis:
        if len(timed) > 1:
            ctx.refuse("it joins tensors one after the other in time")
        # What is the same in every run, before or behind the utterance, is padding.
        n_steps = [ctx.shape(index)[axis] for index in range(len(node.inputs))]
        left, right = sum(n_steps[: timed[0]]), sum(n_steps[timed[0] + 1 :])
        return Effect(axis, Local(pad_left=left, pad_right=right))
    if len(timed) < len(node.inputs):
        # It would have to grow with each push.
        fixed = next(index for index in range(len(node.inputs)) if index not in timed)
        ctx.refuse(f"its input {fixed} has a fixed length along time")
    return Effect(axis)


@rule("DepthToSpace")
def _depth_to_space(ctx: NodeContext) -> Effect:
    timeline, up = ctx.only_time(), ctx.int("blocksize", 1)
    if timeline.axis == 1:
        ctx.refuse("its channels lie along time")
    if timeline.axis == 0:
        return Effect(0)  # the batch: every step has an image of its own
    return Effect(timeline.axis, Local(up=up, span=up - 1))


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
    back = axis - len(ctx.output_shapes()[0])
    # Aligned at the end, as what is expanded is; what is tiled has a length already.
    own = ctx.shape(0)[back] if ctx.node.op_type == "Tile" else 1
    try:
        lengths = QuasiPolynomial.through(dict(zip(sizes.n, ctx.timelines[source].lengths, strict=True)))
        size = sizes.values.reshape(-1)[back] * QuasiPolynomial.of(own)
    except UnprovenError:
        ctx.refuse("how its length follows from the number of frames isn't known")
    up = ctx.output_shapes()[0][axis] // ctx.timelines[source].lengths[0]
    if size != lengths * QuasiPolynomial.of(up):
        ctx.refuse(f"its length, {size}, is not a whole multiple of {lengths}, which it is made from")
    return Effect(axis, Local(up=up, span=up - 1), write=_write_sized)


def _write_sized(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # As if it were pointwise: the length it is made to is that of what is newly known.
    writer.write_aligned(node, up=effect.local.up)
