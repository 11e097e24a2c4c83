"""Operators that treat every element alone: a class, not a list of cases."""

from __future__ import annotations

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
# fmt: on

ELEMENTWISE = frozenset({*_ONE_INPUT, *_BROADCAST})
"""Operators that treat every element alone, and broadcast their inputs."""


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
