"""Operators that mix or reduce channels and leave time alone, if time isn't what they mix."""

from __future__ import annotations

from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.rules.pointwise import broadcast_axis

_WHOLE = "it looks at the whole time axis"


@rule("MatMul", "MatMulInteger")
def _matmul(ctx: NodeContext) -> Effect:
    n_dims = len(ctx.output_shapes()[0])
    left, right = ctx.time(0), ctx.time(1)
    if left is not None and left.axis == ctx.rank(0) - 1:
        ctx.refuse(f"{_WHOLE}: the product sums over time, as attention does")
    if right is not None and right.axis == ctx.rank(1) - 2:
        ctx.refuse(f"{_WHOLE}: the product sums over time, as attention does")
    if left is not None and right is not None:
        if left.axis == ctx.rank(0) - 2 or right.axis == ctx.rank(1) - 1:
            ctx.refuse(f"{_WHOLE}: every step meets every other, as in attention")
        return Effect(broadcast_axis(ctx))
    n_vectors = (ctx.rank(0) == 1) + (ctx.rank(1) == 1)  # a vector's axis is not in the result
    if left is not None:
        return Effect(left.axis + n_dims + n_vectors - ctx.rank(0))
    if right is None:
        ctx.refuse("it has no time axis")
    if right.axis == ctx.rank(1) - 1:
        return Effect(n_dims - 1)
    return Effect(right.axis + n_dims + n_vectors - ctx.rank(1))


@rule("Gemm")
def _gemm(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    axis = 1 - timeline.axis if ctx.int("transA", 0) else timeline.axis
    if axis != 0:
        ctx.refuse(f"{_WHOLE}: the product sums over time")
    return Effect(0)


@rule("Softmax", "LogSoftmax", "Hardmax")
def _softmax(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    whole_tail = ctx.opset < 13  # then every axis from `axis` on is normalised together
    axis = ctx.int("axis", 1 if whole_tail else -1) % ctx.rank(0)
    if timeline.axis == axis or (whole_tail and timeline.axis > axis):
        ctx.refuse(f"{_WHOLE}: it normalises over time, as attention does")
    return Effect(timeline.axis)


@rule("LayerNormalization", "RMSNormalization")
def _layer_norm(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if timeline.axis >= ctx.int("axis", -1) % ctx.rank(0):
        ctx.refuse(f"{_WHOLE}: it normalises over time")
    if len([value for value in ctx.node.outputs if value.name]) > 1:
        ctx.refuse("its mean and deviation are outputs too, which is not supported")
    return Effect(timeline.axis)


@rule("TopK")
def _top_k(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.int("axis", -1) % ctx.rank(0) == timeline.axis:
        ctx.refuse(f"{_WHOLE}: it picks the largest values over time")
    return Effect(timeline.axis)


@rule("LpNormalization")
def _lp_norm(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.int("axis", -1) % ctx.rank(0) == timeline.axis:
        ctx.refuse(f"{_WHOLE}: it normalises over time")
    return Effect(timeline.axis)


@rule(
    *(
        "ArgMax",
        "ArgMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "ReduceMax",
        "ReduceMean",
    ),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
)
def _reduce(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    rank = ctx.rank(0)
    if ctx.node.op_type.startswith("Arg"):
        axes = [ctx.int("axis", 0)]
    else:
        axes = ctx.ints("axes", 1) or ([] if ctx.int("noop_with_empty_axes", 0) else list(range(rank)))
    reduced = {axis % rank for axis in axes}
    if timeline.axis in reduced:
        ctx.refuse(f"{_WHOLE}: it reduces over time")
    if ctx.int("keepdims", 1):
        return Effect(timeline.axis)
    return Effect(timeline.axis - sum(axis < timeline.axis for axis in reduced))


@rule("Einsum")
def _einsum(ctx: NodeContext) -> Effect:
    equation = ctx.string("equation", "").replace(" ", "")
    if "->" not in equation or "." in equation:
        ctx.refuse("its equation must be written out, with an arrow and without an ellipsis")
    terms, result = equation.split("->")
    letters = {
        term[timeline.axis]
        for index, term in enumerate(terms.split(","))
        if (timeline := ctx.time(index)) is not None
    }
    if len(letters) != 1 or (letter := letters.pop()) not in result:
        ctx.refuse(f"{_WHOLE}: it sums over time, or lets every step meet every other")
    return Effect(result.index(letter))


@rule("DFT")
def _dft(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    given = ctx.const(2) if len(ctx.node.inputs) > 2 else None
    axis = int(given) if given is not None else ctx.int("axis", 1 if ctx.opset < 20 else -2)
    if axis % ctx.rank(0) == timeline.axis:
        ctx.refuse(f"{_WHOLE}: the transform runs over time")
    return Effect(timeline.axis)
