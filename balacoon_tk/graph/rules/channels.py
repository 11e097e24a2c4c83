"""Operators that leave time alone: those that treat every element alone, and those that mix channels.

The former are a class, not a list of cases; of the latter time must not be what they mix. Those that can't be
exact in a stream, whatever they are given, are at the end, each with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable

from balacoon_tk.graph.errors import DRAWS_NOISE
from balacoon_tk.graph.lengths import RANDOM
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule

# fmt: off
_ONE_INPUT = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Cos",
    "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu",
    "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
    "ThresholdedRelu",
)
_BROADCAST = (
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "CastLike", "Clip", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow",
    "Sub", "Sum", "Where", "Xor",
)
_REDUCTIONS = (
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
    "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)
# fmt: on
_WHOLE = "it looks at the whole time axis"

# Passes move a turn or a reshape past these, which treat every element alone and broadcast their inputs.
ELEMENTWISE = frozenset({*_ONE_INPUT, *_BROADCAST})


def broadcast_axis(ctx: NodeContext) -> int:
    """Return the time axis of the output of inputs that are broadcast; they must agree on it."""
    n_dims = len(ctx.output_shapes()[0])
    axes = {
        timeline.axis + n_dims - ctx.rank(index)
        for index in range(len(ctx.node.inputs))
        if (timeline := ctx.time(index)) is not None
    }
    if len(axes) != 1:
        ctx.refuse("its inputs have time on different axes, so every step meets every other")
    return axes.pop()


@rule(*_ONE_INPUT, *_BROADCAST)
@rule("QLinearAdd", "QLinearLeakyRelu", domain="com.microsoft")
def _pointwise(ctx: NodeContext) -> Effect:
    return Effect(broadcast_axis(ctx))


@rule("Dropout")
def _dropout(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    training = ctx.const(2)
    if training is not None and bool(training.any()):
        ctx.refuse("in training it draws its own noise, other in each run")
    return Effect(timeline.axis)


@rule("QuantizeLinear", "DequantizeLinear")
def _quantize(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    # A single scale has no axis.
    if ctx.rank(1) and ctx.int("axis", 1) % ctx.rank(0) == timeline.axis:
        ctx.refuse("its scale varies along time")
    return Effect(timeline.axis)


@rule("BatchNormalization")
def _batch_norm(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.int("training_mode", 0):
        ctx.refuse("in training mode it takes the mean over time")
    if timeline.axis == 1:
        ctx.refuse("its channels lie along time")
    return Effect(timeline.axis)


@rule("MatMul", "MatMulInteger")
def _matmul(ctx: NodeContext) -> Effect:
    n_dims = len(ctx.output_shapes()[0])
    left, right = ctx.time(0), ctx.time(1)
    # What is summed over is as long in both, so the left one tells.
    if left is not None and left.axis == ctx.rank(0) - 1:
        ctx.refuse(f"{_WHOLE}: the product sums over time, as attention does")
    if left is not None and right is not None:
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
    if timeline.axis != (1 if ctx.int("transA", 0) else 0):
        ctx.refuse(f"{_WHOLE}: the product sums over time")
    return Effect(0)


def _along(ctx: NodeContext, axes: Iterable[int], reason: str) -> Effect:
    """Return the effect of an operator that mixes what lies along some axes; time must not be one."""
    timeline = ctx.only_time()
    if timeline.axis in {axis % ctx.rank(0) for axis in axes}:
        ctx.refuse(reason)
    return Effect(timeline.axis)


# What is done along one axis, which is by default the one that is named.
_ALONG_ONE = {
    "LpNormalization": (-1, f"{_WHOLE}: it normalises over time"),
    "Split": (0, "it cuts the utterance into pieces along time"),
    "TopK": (-1, f"{_WHOLE}: it picks the largest values over time"),
}


@rule(*_ALONG_ONE)
def _along_one(ctx: NodeContext) -> Effect:
    default, reason = _ALONG_ONE[ctx.node.op_type]
    return _along(ctx, [ctx.int("axis", default)], reason)


@rule("Softmax", "LogSoftmax", "Hardmax")
def _softmax(ctx: NodeContext) -> Effect:
    # Before opset 13 every axis from `axis` on is normalised together.
    axes = [ctx.int("axis", -1)] if ctx.opset >= 13 else _from(ctx, ctx.int("axis", 1))
    return _along(ctx, axes, f"{_WHOLE}: it normalises over time, as attention does")


def _from(ctx: NodeContext, axis: int) -> range:
    """Return an axis and all behind it."""
    return range(axis % ctx.rank(0), ctx.rank(0))


@rule("LayerNormalization", "RMSNormalization")
def _layer_norm(ctx: NodeContext) -> Effect:
    effect = _along(ctx, _from(ctx, ctx.int("axis", -1)), f"{_WHOLE}: it normalises over time")
    if len([value for value in ctx.node.outputs if value.name]) > 1:
        ctx.refuse("its mean and deviation are outputs too, which is not supported")
    return effect


@rule(*_REDUCTIONS)
def _reduce(ctx: NodeContext) -> Effect:
    rank = ctx.rank(0)
    if ctx.node.op_type.startswith("Arg"):
        axes = [ctx.int("axis", 0)]
    else:
        axes = ctx.ints("axes", 1) or ([] if ctx.int("noop_with_empty_axes", 0) else list(range(rank)))
    axis = _along(ctx, axes, f"{_WHOLE}: it reduces over time").axis
    # Each axis before it that goes brings it one forward.
    n_gone = 0 if ctx.int("keepdims", 1) else sum(n < axis for n in {n % rank for n in axes})
    return Effect(axis - n_gone)


@rule("Einsum")
def _einsum(ctx: NodeContext) -> Effect:
    terms, result = _written_out(ctx, ctx.string("equation", "").replace(" ", ""))
    letters = {
        term[timeline.axis] for index, term in enumerate(terms) if (timeline := ctx.time(index)) is not None
    }
    if len(letters) != 1 or (letter := letters.pop()) not in result:
        ctx.refuse(f"{_WHOLE}: it sums over time, or lets every step meet every other")
    return Effect(result.index(letter))


def _written_out(ctx: NodeContext, equation: str) -> tuple[list[str], str]:
    """Return an equation's terms and its result, a letter for each axis, also for those of an ellipsis."""
    given, arrow, result = equation.partition("->")
    terms = given.split(",")
    if not arrow:  # the letters that stand once, by the alphabet, behind what an ellipsis stands for
        once = sorted(letter for letter in set(given) - set(",.") if given.count(letter) == 1)
        result = ("..." if "..." in given else "") + "".join(once)
    n_hidden = [ctx.rank(index) - len(term.replace("...", "")) for index, term in enumerate(terms)]
    # Broadcast from the right: the last of its axes is the same in all. Digits are no letters of an equation.
    hidden = "".join(map(str, range(max(0, *n_hidden))))
    written = [
        term.replace("...", hidden[len(hidden) - n :]) for term, n in zip(terms, n_hidden, strict=True)
    ]
    return written, result.replace("...", hidden)


@rule("DFT")
def _dft(ctx: NodeContext) -> Effect:
    # The axis is an attribute before opset 20, and has another default.
    given = ctx.const(2)
    axis = int(given) if given is not None else ctx.int("axis", 1 if ctx.opset < 20 else -2)
    return _along(ctx, [axis], f"{_WHOLE}: the transform runs over time")


# What takes in all axes behind the channels, and norms those as well: with time as the batch a step is alone.
_BESIDE_THE_BATCH = {
    "InstanceNormalization": "it normalises over the whole time axis (as AdaIN does)",
    "GroupNormalization": "it normalises over the whole time axis",
    "GlobalAveragePool": "it takes the mean over the whole time axis",
    "GlobalMaxPool": "it takes the largest value over the whole time axis",
    "GlobalLpPool": "it takes a norm over the whole time axis",
}


@rule(*_BESIDE_THE_BATCH)
def _beside_the_batch(ctx: NodeContext) -> Effect:
    first = 2 if ctx.node.op_type.startswith("Global") else 1
    return _along(ctx, range(first, ctx.rank(0)), _BESIDE_THE_BATCH[ctx.node.op_type])


@rule("MeanVarianceNormalization")
def _mean_variance(ctx: NodeContext) -> Effect:
    return _along(ctx, ctx.ints("axes") or [0, 2, 3], "it normalises over the whole time axis")


_REASONS = {
    "DynamicQuantizeLinear": "its scale comes from the whole tensor, also from steps that are not there yet",
    "Attention": "every step looks at every other",
    **dict.fromkeys(RANDOM, DRAWS_NOISE),
    **dict.fromkeys(("NonZero", "Compress"), "how many steps it gives depends on their values"),
    "Unique": _WHOLE,
    "If": "its branches are not followed: fold the condition before",
    "Loop": "its body is not followed",
    # What these refuse is what `balacoon_tk.graph.simplify.spectra` has left of them.
    "STFT": "only that of a real signal, by steps and frames of a constant length, is followed",
    "Col2Im": "only one row of blocks, with constant sizes, is followed",
}


@rule(*_REASONS)
def _refused(ctx: NodeContext) -> Effect:
    ctx.refuse(_REASONS[ctx.node.op_type])
