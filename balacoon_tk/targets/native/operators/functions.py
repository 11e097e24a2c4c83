"""Functions of numbers, which join the chain of a stage."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.operators.predicted import add_bias
from balacoon_tk.targets.native.views import Operand, View

_BINARY = {"Add": "add", "Sub": "sub", "Mul": "mul", "Div": "div", "Max": "max", "Min": "min", "Sum": "add"}
_UNARY = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Log": "log",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sin": "sin",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Tanh": "tanh",
}


@operator(*_BINARY)
def _binary(ctx: Context) -> list[View]:
    function = _BINARY[ctx.node.op_type]
    if function == "add" and any(map(ctx.is_windowed, range(len(ctx.node.inputs)))):
        return [add_bias(ctx)]
    result = ctx.operand(0)
    for index in range(1, len(ctx.node.inputs)):
        result = _combine(ctx, function, result, ctx.operand(index))
    if not isinstance(result, View):
        ctx.refuse("it reads constants alone")
    return [result]


def _combine(ctx: Context, function: str, a: Operand, b: Operand) -> View:
    return ctx.builder.function(function, [a, b], ctx.name)


@operator(*_UNARY)
def _unary(ctx: Context) -> list[View]:
    return [ctx.builder.function(_UNARY[ctx.node.op_type], [ctx.view(0)], ctx.name)]


@operator("LeakyRelu")
def _leaky_relu(ctx: Context) -> list[View]:
    slope = ctx.node.attributes.get_float("alpha", 0.01)
    return [ctx.builder.function("leaky_relu", [ctx.view(0), slope], ctx.name)]


@operator("Elu")
def _elu(ctx: Context) -> list[View]:
    return [ctx.builder.function("elu", [ctx.view(0), ctx.node.attributes.get_float("alpha", 1.0)], ctx.name)]


@operator("PRelu")
def _prelu(ctx: Context) -> list[View]:
    below = ctx.builder.function("min", [ctx.view(0), 0.0], ctx.name)
    above = ctx.builder.function("max", [ctx.view(0), 0.0], ctx.name)
    scaled = ctx.builder.function("mul", [below, ctx.operand(1)], ctx.name)
    return [ctx.builder.function("add", [above, scaled], ctx.name)]


@operator("Gelu")
def _gelu(ctx: Context) -> list[View]:
    x = ctx.view(0)
    function = ctx.builder.function
    if ctx.node.attributes.get_string("approximate", "none") == "tanh":
        # x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))), Hendrycks and Gimpel, "Gaussian error linear
        # units", section 2.
        cube = function("mul", [function("mul", [x, x], ctx.name), x], ctx.name)
        inner = function("add", [x, function("mul", [cube, 0.044715], ctx.name)], ctx.name)
        risen = function("tanh", [function("mul", [inner, (2 / np.pi) ** 0.5], ctx.name)], ctx.name)
    else:
        risen = function("erf", [function("mul", [x, 0.5**0.5], ctx.name)], ctx.name)
    half = function("mul", [x, 0.5], ctx.name)
    return [function("mul", [half, function("add", [risen, 1.0], ctx.name)], ctx.name)]


@operator("Pow")
def _pow(ctx: Context) -> list[View]:
    exponent = ctx.operand(1)
    if exponent == 2.0:
        return [ctx.builder.function("mul", [ctx.view(0), ctx.view(0)], ctx.name)]
    if exponent == 0.5:
        return [ctx.builder.function("sqrt", [ctx.view(0)], ctx.name)]
    return [_combine(ctx, "pow", ctx.operand(0), exponent)]


@operator("Clip")
def _clip(ctx: Context) -> list[View]:
    result = ctx.view(0)
    for index, attribute, function in ((1, "min", "max"), (2, "max", "min")):
        if attribute in ctx.node.attributes:
            bound = ctx.node.attributes.get_float(attribute, 0.0)
        elif ctx.has(index):
            bound = float(ctx.constant(index).reshape(-1)[0])
        else:
            continue
        result = ctx.builder.function(function, [result, bound], ctx.name)
    return [result]


@operator("Identity", "Dropout")
def _identity(ctx: Context) -> list[View]:
    return [ctx.view(0, padded=True, windows=True)]


@operator("Cast")
def _cast(ctx: Context) -> list[View]:
    # Whole numbers are held in float32 as well, which has room for the symbols of any table.
    source, to = ctx.node.inputs[0], ctx.node.attributes.get_int("to", 1)
    kinds = {None if source is None else source.dtype, to}
    if not kinds <= {None, ir.DataType.FLOAT, ir.DataType.INT64, ir.DataType.INT32} or (
        to != ir.DataType.FLOAT and ir.DataType.FLOAT in kinds
    ):
        ctx.refuse("it casts to something else than float32")
    return [ctx.view(0)]
