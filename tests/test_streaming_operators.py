"""Every operator that has a rule and no window over time: a tiny graph each, streamed against the whole run.

Each stands between two convolutions, so that it is run on pieces, inside a segment and at a cut.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError, make_streaming
from balacoon_tk.graph.rules import Effect
from balacoon_tk.graph.rules.base import _RULES
from balacoon_tk.runtime.session import Session
from streaming_laws import assert_streams
from tiny_graphs import TO_THE_END, TinyGraph

N = 4
"""Channels before the operator."""

PLAIN = (
    *("Abs", "Acos", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp", "Floor"),
    *("HardSwish", "Identity", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid"),
    *("Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Tan", "Tanh", "Gelu", "Dropout"),
)

ELEMENTWISE: dict[str, dict[str, Any]] = {
    **{op_type: {} for op_type in PLAIN},
    "Celu": {"alpha": 0.7},
    "Elu": {"alpha": 0.5},
    "HardSigmoid": {"alpha": 0.3},
    "LeakyRelu": {"alpha": 0.1},
    "Shrink": {"lambd": 0.4},
    "ThresholdedRelu": {"alpha": 0.2},
}


def between(build: Callable[[TinyGraph, str], str], *, n_after: int = N, opset: int = 20) -> onnx.ModelProto:
    """An operator between two convolutions; it takes N channels and gives `n_after`."""
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    return g.model(g.conv(build(g, x), n_after, 2, 4, pads=[2, 1]))


def test_elementwise_operators_stream() -> None:
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    x = g.op("Sigmoid", x)  # where every one of them is defined
    parts = [g.op(op_type, x, **attributes) for op_type, attributes in ELEMENTWISE.items()]
    parts.append(g.op("Acosh", g.op("Add", x, g.number(1))))
    parts.append(g.op("Cast", g.op("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT))
    joined = g.op("Concat", *parts, axis=1)
    assert_streams(g.model(g.conv(joined, N * len(parts), 2, 4, pads=[2, 1])))


def test_logical_operators_stream() -> None:
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    zero, half = g.number(0), g.number(0.5)
    a, b = g.op("Greater", x, zero), g.op("Less", x, half)
    masks = [a, b, g.op("GreaterOrEqual", x, half), g.op("LessOrEqual", x, zero), g.op("Equal", x, zero)]
    masks += [g.op("And", a, b), g.op("Or", a, b), g.op("Xor", a, b), g.op("Not", a)]
    masks += [g.op("IsNaN", x), g.op("IsInf", x)]
    whole = g.op("Cast", x, to=TensorProto.INT32)
    three = g.const(3, np.int32)
    bits = [g.op(op, whole, three) for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor")]
    bits += [g.op("BitwiseNot", whole), g.op("Mod", whole, three)]
    parts = [g.op("Cast", y, to=TensorProto.FLOAT) for y in [*masks, *bits]]
    parts.append(g.op("Where", a, x, half))
    joined = g.op("Concat", *parts, axis=1)
    assert_streams(g.model(g.conv(joined, N * len(parts), 2, 4, pads=[2, 1])))


def test_broadcasting_operators_stream_branches_of_different_lag() -> None:
    g = TinyGraph(opset=20)
    x = g.frames()
    y = g.conv(x, N, N, 7, pads=[3, 3])
    z = g.conv(x, N, 1, 5, pads=[0, 4])
    channel = g.weight(N, 1)
    parts = [g.op(op, x, y) for op in ("Add", "Sub", "Mul")]
    parts += [g.op("Div", y, g.op("Exp", x)), g.op("Pow", g.op("Abs", y), g.op("Sigmoid", x))]
    parts += [g.op(op, x, y, z) for op in ("Sum", "Mean", "Max", "Min")]
    parts += [g.op("PRelu", x, channel), g.op("Clip", y, g.number(-0.5), g.number(0.6))]
    parts += [g.op("Where", g.op("Less", x, z), y, channel), g.op("CastLike", y, channel)]
    joined = g.op("Concat", *parts, axis=1)
    assert_streams(g.model(g.conv(joined, N * len(parts), 2, 4, pads=[2, 1])))


def by_steps(build: Callable[[TinyGraph, str], str]) -> Callable[[TinyGraph, str], str]:
    """Put the channels last for an operator that works on the last axis."""
    return lambda g, x: g.transpose(build(g, g.transpose(x, 0, 2, 1)), 0, 2, 1)


def quantized(g: TinyGraph, x: str) -> str:
    scale, zero = g.const([0.02, 0.03, 0.04, 0.05], np.float32), g.const([1, 2, 3, 4], np.uint8)
    y = g.op("QuantizeLinear", x, scale, zero, axis=1)
    return g.op("DequantizeLinear", y, scale, zero, axis=1)


def quantized_by_its_default_axis(g: TinyGraph, x: str) -> str:
    scale, steps = g.const([0.02, 0.03, 0.04, 0.05], np.float32), g.transpose(g.squeeze(x, 0), 1, 0)
    y = g.op("DequantizeLinear", g.op("QuantizeLinear", steps, scale), scale)
    return g.unsqueeze(g.transpose(y, 1, 0), 0)


def integer_product(g: TinyGraph, x: str) -> str:
    y = g.op("QuantizeLinear", x, g.number(0.02), g.const(7, np.uint8))
    y = g.op("MatMulInteger", y, g.const(np.arange(12).reshape(4, 3) - 6, np.int8), g.const(7, np.uint8))
    return g.op("Mul", g.op("Cast", y, to=TensorProto.FLOAT), g.number(0.01))


def layer_norm_written_out(g: TinyGraph, x: str) -> str:
    centred = g.op("Sub", x, g.reduce("ReduceMean", x, 1))
    variance = g.reduce("ReduceMean", g.op("Pow", centred, g.number(2)), 1)
    y = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.number(1e-5))))
    return g.op("Add", g.op("Mul", y, g.weight(N, 1)), g.weight(N, 1))


def gated_by_slices(g: TinyGraph, x: str) -> str:
    return g.op("Mul", g.op("Tanh", g.slice(x, 0, 2, 1)), g.op("Sigmoid", g.slice(x, 2, TO_THE_END, 1)))


def gated_by_split(g: TinyGraph, x: str) -> str:
    a, b = g.split(x, 2, 2)
    return g.op("Mul", a, g.op("Sigmoid", b))


def snake(g: TinyGraph, x: str) -> str:
    alpha = g.weight(1, N, 1)
    sine = g.op("Sin", g.op("Mul", x, alpha))
    ratio = g.op("Reciprocal", g.op("Add", alpha, g.number(1e-9)))
    return g.op("Add", x, g.op("Mul", ratio, g.op("Pow", sine, g.number(2))))


def batch_norm(g: TinyGraph, x: str) -> str:
    statistics = [g.weight(N), g.weight(N), g.weight(N), g.const([0.5, 1, 1.5, 2], np.float32)]
    return g.op("BatchNormalization", x, *statistics)


def folded(g: TinyGraph, x: str) -> str:
    y = g.op("Reshape", g.transpose(x, 0, 2, 1), g.const([1, -1, 2, 2]))
    return g.op("Reshape", g.transpose(y, 0, 2, 3, 1), g.const([0, 4, -1]))


def flattened(g: TinyGraph, x: str) -> str:
    y = g.op("Flatten", g.op("Squeeze", g.transpose(x, 2, 1, 0), g.const([2])), axis=1)
    return g.unsqueeze(g.transpose(y, 1, 0), 0)


def discrete_fourier(g: TinyGraph, x: str) -> str:
    y = g.unsqueeze(g.transpose(x, 0, 2, 1), 3)
    y = g.op("DFT", y, "", g.const(2), onesided=1)
    y = g.op("Reshape", y, g.const([1, -1, 6]))
    return g.transpose(y, 0, 2, 1)


def by_frames(normalise: Callable[[TinyGraph, str], str]) -> Callable[[TinyGraph, str], str]:
    """Make time the batch of an operator that looks at all that is behind the channels."""

    def build(g: TinyGraph, x: str) -> str:
        y = g.op("Reshape", g.transpose(x, 0, 2, 1), g.const([-1, 2, 2]))
        return g.transpose(g.op("Reshape", normalise(g, y), g.const([1, -1, N])), 0, 2, 1)

    return build


def pooled_by_frames(op_type: str) -> Callable[[TinyGraph, str], str]:
    def build(g: TinyGraph, x: str) -> str:
        y = g.op("Reshape", g.transpose(x, 0, 2, 1), g.const([-1, 2, 2]))
        return g.transpose(g.op("Reshape", g.op(op_type, y), g.const([1, -1, 2])), 0, 2, 1)

    return build


MIXING: dict[str, tuple[Callable[[TinyGraph, str], str], int]] = {
    "MatMul by steps": (by_steps(lambda g, x: g.op("MatMul", x, g.weight(N, 3))), 3),
    "MatMul by channels": (lambda g, x: g.op("MatMul", g.weight(3, N), x), 3),
    "MatMul with a vector": (
        by_steps(lambda g, x: g.unsqueeze(g.op("MatMul", g.op("Tanh", x), g.weight(N)), 2)), 1),
    "MatMul of a vector by channels": (lambda g, x: g.unsqueeze(g.op("MatMul", g.weight(N), x), 1), 1),
    "MatMul by a matrix for every step": (
        lambda g, x: g.transpose(g.op("MatMul", g.weight(3, N), g.transpose(x, 2, 1, 0)), 2, 1, 0), 3),
    "MatMul of a vector by a matrix for every step": (
        lambda g, x: g.unsqueeze(g.transpose(g.op("MatMul", g.weight(N), g.transpose(x, 2, 1, 0)), 1, 0), 0), 1),
    "MatMul of two with time": (
        lambda g, x: g.transpose(
            g.squeeze(g.op("MatMul", *[g.unsqueeze(g.transpose(x, 0, 2, 1), 2), g.unsqueeze(
                g.transpose(g.op("Exp", x), 0, 2, 1), 3)]), 3), 0, 2, 1), 1),
    "MatMulInteger": (by_steps(integer_product), 3),
    "Gemm": (
        lambda g, x: g.unsqueeze(
            g.transpose(g.op("Gemm", g.squeeze(x, 0), g.weight(N, 3), g.weight(3), transA=1), 1, 0), 0), 3),
    "Gemm, steps first": (
        lambda g, x: g.unsqueeze(g.transpose(
            g.op("Gemm", g.squeeze(g.transpose(x, 0, 2, 1), 0), g.weight(3, N), transB=1), 1, 0), 0), 3),
    "Softmax over channels": (lambda g, x: g.op("Softmax", x, axis=1), N),
    "LogSoftmax over channels": (by_steps(lambda g, x: g.op("LogSoftmax", x)), N),
    "Hardmax": (lambda g, x: g.op("Hardmax", x, axis=1), N),
    "LayerNormalization": (
        by_steps(lambda g, x: g.op("LayerNormalization", x, g.weight(N), g.weight(N))), N),
    "layer norm written out": (layer_norm_written_out, N),
    "LpNormalization": (lambda g, x: g.op("LpNormalization", x, axis=1, p=2), N),
    "BatchNormalization": (batch_norm, N),
    "Einsum": (lambda g, x: g.op("Einsum", g.weight(3, N), x, equation="dc, bct -> bdt"), 3),
    "Einsum that moves time": (
        lambda g, x: g.transpose(g.op("Einsum", x, g.weight(N, 3), equation="bct,cd->tbd"), 1, 2, 0), 3),
    "Einsum of two with time": (
        lambda g, x: g.unsqueeze(g.op("Einsum", x, g.op("Exp", x), equation="bct,bct->bt"), 1), 1),
    "Einsum with an ellipsis": (
        lambda g, x: g.op("Einsum", g.weight(3, N), x, equation="dc,...ct->...dt"), 3),
    "Einsum with an ellipsis of no axes": (
        lambda g, x: g.unsqueeze(g.op("Einsum", g.weight(3, N), g.squeeze(x, 0), equation="dc,...ct->...dt"), 0), 3),
    "Einsum with an ellipsis over time": (
        lambda g, x: g.transpose(g.op(
            "Einsum", g.transpose(x, 0, 2, 1), g.weight(N, 3), equation="...c,cd->d..."), 1, 0, 2), 3),
    "Einsum with an ellipsis between": (
        lambda g, x: g.op("Reshape", g.transpose(g.op(
            "Einsum", x, g.weight(1, 2), equation="b...t,bd->t...d"), 1, 2, 0), g.const([1, 2 * N, -1])), 2 * N),
    "Einsum without a result": (  # its letters by the alphabet, so that time comes first
        lambda g, x: g.unsqueeze(g.transpose(g.op("Einsum", x, g.weight(N), equation="zct,c"), 1, 0), 0), 1),
    "Einsum with an ellipsis and no result": (
        lambda g, x: g.unsqueeze(g.op("Einsum", g.transpose(x, 0, 2, 1), g.weight(N), equation="...c,c"), 1), 1),
    "GroupNormalization by frames": (by_frames(
        lambda g, y: g.op("GroupNormalization", y, g.weight(2), g.weight(2), num_groups=2)), N),
    "InstanceNormalization by frames": (
        by_frames(lambda g, y: g.op("InstanceNormalization", y, g.weight(2), g.weight(2))), N),
    "MeanVarianceNormalization by frames": (
        by_frames(lambda g, y: g.op("MeanVarianceNormalization", y, axes=[2])), N),
    "MeanVarianceNormalization by frames, over its default axes": (by_steps(
        lambda g, x: g.squeeze(g.op("MeanVarianceNormalization", g.unsqueeze(x, 3)), 3)), N),
    **{f"{op_type} by frames": (pooled_by_frames(op_type), 2)
       for op_type in ("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")},
    "GlobalAveragePool of every channel, which is a step": (
        by_steps(lambda g, x: g.op("GlobalAveragePool", x)), 1),
    "DFT over channels": (discrete_fourier, 6),
    "DFT over another axis than its default": (
        lambda g, x: g.squeeze(g.op("ReduceSum", g.op("DFT", g.unsqueeze(x, 3), "", g.const(1)), g.const([3])), 3), N),
    "BatchNormalization of every step": (
        lambda g, x: g.unsqueeze(g.transpose(batch_norm(g, g.transpose(g.squeeze(x, 0), 1, 0)), 1, 0), 0), N),
    "QuantizeLinear": (quantized, N),
    "QuantizeLinear by steps, along its default axis": (quantized_by_its_default_axis, N),
    **{
        op_type: (lambda g, x, op_type=op_type: g.reduce(op_type, g.op("Exp", x), 1), 1)
        for op_type in (
            *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
            *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare"),
        )
    },
    "a reduction that drops its axis": (
        lambda g, x: g.unsqueeze(g.reduce("ReduceMax", x, 1, keepdims=0), 1), 1),
    "a reduction of nothing": (
        lambda g, x: g.op("ReduceSum", x, g.const([], np.int64), noop_with_empty_axes=1), N),
    "ArgMax": (lambda g, x: g.op("Cast", g.op("ArgMax", x, axis=1), to=TensorProto.FLOAT), 1),
    "ArgMax of the batch, which is its default": (
        lambda g, x: g.op("Cast", g.op("ArgMax", x), to=TensorProto.FLOAT), N),
    "ArgMin": (
        lambda g, x: g.op(
            "Cast", g.unsqueeze(g.op("ArgMin", x, axis=1, keepdims=0), 1), to=TensorProto.FLOAT), 1),
    "gates by slices": (gated_by_slices, 2),
    "gates by Split": (gated_by_split, 2),
    "Split of the batch, which is its default": (by_steps(
        lambda g, x: g.op("Mul", *g.op(
            "Split", g.op("Concat", x, g.op("Exp", x), axis=0), g.const([1, 1]), n_outputs=2))), N),
    "Split into single channels": (lambda g, x: g.op("Sum", *g.split(x, 1, 1, 2)[:2]), 1),
    "snake": (snake, N),
    "flip by Slice": (lambda g, x: g.slice(x, -1, -TO_THE_END, 1, -1), N),
    "flip by Gather": (lambda g, x: g.op("Gather", x, g.const([3, 2, 1, 0]), axis=1), N),
    "one channel by Gather": (lambda g, x: g.unsqueeze(g.op("Gather", x, g.const(2), axis=1), 1), 1),
    "Gather of the batch, which is its default": (
        lambda g, x: g.transpose(g.unsqueeze(g.op("Gather", g.transpose(x, 0, 2, 1), g.const(0)), 0), 0, 2, 1), N),
    "Gather with two axes of indices": (
        lambda g, x: g.op("Reshape", g.op("Gather", x, g.const([[3, 2], [1, 0]]), axis=1), g.const([1, 4, -1])), N),
    "Gather behind time": (by_steps(lambda g, x: g.op("Gather", x, g.const([2, 0]), axis=2)), 2),
    "Squeeze and Unsqueeze": (lambda g, x: g.squeeze(g.unsqueeze(g.squeeze(x, 0), 0, 3), 3), N),
    "Reshape": (folded, N),
    "Flatten": (flattened, N),
    "Tile over channels": (lambda g, x: g.op("Tile", x, g.const([1, 2, 1])), 2 * N),
    "Expand over channels": (
        lambda g, x: g.op("Expand", g.reduce("ReduceSum", x, 1), g.const([1, 3, 1])), 3),
    "Concat with itself": (lambda g, x: g.op("Concat", x, g.op("Neg", x), axis=1), 2 * N),
    "Concat with a constant before": (lambda g, x: g.op("Concat", g.weight(1, N, 3), x, axis=2), N),
    "Concat with constants behind": (
        lambda g, x: g.op("Concat", x, g.weight(1, N, 2), g.weight(1, N, 1), axis=-1), N),
    "Concat with constants on both sides": (
        lambda g, x: g.op("Concat", g.weight(1, N, 4), x, g.weight(1, N, 2), axis=2), N),
    "Concat with zeros made from shapes": (
        lambda g, x: g.op("Concat", g.op("ConstantOfShape", g.op(
            "Concat", g.const([1]), g.op("Gather", g.op("Shape", x), g.const([1])), g.const([20]), axis=0)),
            x, axis=2), N),
    "DepthToSpace": (
        lambda g, x: g.op("Reshape", g.transpose(
            g.op("DepthToSpace", g.unsqueeze(x, 3), blocksize=2), 0, 1, 3, 2), g.const([1, 2, -1])), 2),
    "DepthToSpace of images along the batch": (
        lambda g, x: g.transpose(g.op("Reshape", g.op(
            "DepthToSpace", g.unsqueeze(g.transpose(x, 2, 1, 0), 3), blocksize=2, mode="CRD"),
            g.const([1, -1, N])), 0, 2, 1), N),
    "a repetition by Expand": (
        lambda g, x: g.op("Reshape", g.op("Expand", g.unsqueeze(x, 3), g.const([1, 1, 1, 3])), g.const([1, N, -1])), N),
    "a repetition by Tile": (
        lambda g, x: g.op("Reshape", g.op("Tile", g.unsqueeze(x, 3), g.const([1, 1, 1, 3])), g.const([1, N, -1])), N),
    "a repetition by Concat": (
        lambda g, x: g.op("Reshape", g.op("Concat", *[g.unsqueeze(x, 3)] * 2, axis=3), g.const([1, N, -1])), N),
}  # fmt: skip


def test_a_softmax_runs_over_all_axes_behind_the_batch_by_default_before_opset_13() -> None:
    def every_step(g: TinyGraph, x: str) -> str:
        return g.transpose(g.op("Softmax", g.transpose(x, 2, 0, 1)), 1, 2, 0)

    assert_streams(between(every_step, opset=12))


@pytest.mark.parametrize("opset", [17, 20])
def test_a_transform_runs_over_the_axis_that_is_its_default(opset: int) -> None:
    def transform(g: TinyGraph, x: str) -> str:
        y = g.unsqueeze(x if opset < 20 else g.transpose(x, 0, 2, 1), 3)
        y = g.squeeze(g.reduce("ReduceSum", g.op("DFT", y), 3), 3)
        return y if opset < 20 else g.transpose(y, 0, 2, 1)

    assert_streams(between(transform, opset=opset))


DECIMATIONS = {
    "every second step": (0, TO_THE_END, 2),
    "every second step from the second on": (1, TO_THE_END, 2),
    "every third step from the fifth on": (4, TO_THE_END, 3),
    "every fifth step but the last": (0, -1, 5),
    "every second step between the ends": (3, -2, 2),
}


@pytest.mark.parametrize("phased", [False, True])
@pytest.mark.parametrize("name", DECIMATIONS)
def test_a_slice_that_takes_every_few_steps_streams(name: str, phased: bool) -> None:
    start, end, step = DECIMATIONS[name]
    g = TinyGraph(opset=17)
    x = g.conv(g.up(g.frames(), N, N, 4, 2, pads=[1, 1]), N, N, 3, pads=[1, 1])
    if phased:
        x = g.conv(x, N, N, 3, strides=[3], pads=[1, 1])
    model = g.model(g.conv(g.slice(x, start, end, 2, step), N, 2, 3, pads=[1, 1]))
    if phased and end < 0:
        with pytest.raises(NotStreamableError, match="behind a reduction of the rate"):
            make_streaming(model)
    else:
        assert_streams(model)


def test_a_slice_takes_every_few_steps_and_some_channels() -> None:
    g = TinyGraph()
    bounds = (g.const(values) for values in ([1, 1], [3, TO_THE_END], [1, 2], [1, 2]))
    assert_streams(g.model(g.conv(g.op("Slice", g.frames(), *bounds), 2, 2, 3, pads=[1, 1])))


def test_a_slice_of_time_takes_every_second_channel() -> None:
    g = TinyGraph()
    bounds = (g.const(values) for values in ([2, 0], [-1, N], [2, 1], [1, 2]))
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    assert_streams(g.model(g.conv(g.op("Slice", x, *bounds), N // 2, 2, 3, pads=[1, 1])))


@pytest.mark.parametrize("steps", [None, [1, 1, 1]])
def test_a_slice_of_all_axes_need_not_name_them(steps: list[int] | None) -> None:
    g = TinyGraph()
    bounds = [g.const(values) for values in ([0, 1, 2], [TO_THE_END, 3, -1])]
    bounds += [] if steps is None else ["", g.const(steps)]
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    assert_streams(g.model(g.conv(g.op("Slice", x, *bounds), 2, 2, 3, pads=[1, 1])))


def test_a_slice_cuts_off_the_end_behind_a_reduction_of_the_rate() -> None:
    g = TinyGraph()
    x = g.conv(g.up(g.frames(), N, N, 4, 2, pads=[1, 1]), N, N, 3, strides=[3], pads=[1, 1])
    assert_streams(g.model(g.conv(g.slice(x, 1, -1, 2), N, 2, 3, pads=[1, 1])))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_time_goes_into_channels_and_back_by_blocks(mode: str) -> None:
    g = TinyGraph()
    x = g.input("image", [1, 2, 4, "n"])
    x = g.op("SpaceToDepth", g.op("Conv", x, g.weight(2, 2, 3, 3), pads=[1] * 4), blocksize=2)
    x = g.op("Conv", x, g.weight(8, 8, 1, 3), pads=[0, 1, 0, 1])
    assert_streams(g.model(g.op("DepthToSpace", x, blocksize=2, mode=mode)), multiple=2)


def test_blocks_of_every_steps_own_image_leave_time_where_it_is() -> None:
    g = TinyGraph()
    images = g.op("Reshape", g.transpose(g.frames(8), 2, 1, 0), g.const([-1, 2, 2, 2]))
    blocks = g.op("SpaceToDepth", images, blocksize=2)
    x = g.transpose(g.op("Reshape", blocks, g.const([-1, 8, 1])), 2, 1, 0)
    assert_streams(g.model(g.conv(x, 8, 1, 3, pads=[1, 1])))


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_a_squeeze_without_axes_leaves_time_where_a_push_brings_one_step(opset: int) -> None:
    g = TinyGraph(opset=opset)
    x = g.up(g.frames(), N, 1, 4, 2, pads=[1, 1])
    assert_streams(g.model(g.op("Tanh", g.op("Squeeze", x))))


def test_a_squeeze_without_axes_may_have_nothing_to_drop() -> None:
    g = TinyGraph()
    x = g.conv(g.up(g.frames(), N, 2, 4, 2, pads=[1, 1]), 2, 2, 3, pads=[1, 1])
    assert_streams(g.model(g.op("Squeeze", g.squeeze(x, 0))))


def in_bytes(*, channels_last: bool):
    """An activation, a convolution and a residual connection on bytes whose zero point is not zero."""

    def build(g, x):
        step, zero = g.const(0.05, np.float32), g.const(100, np.uint8)
        bytes_ = (step, zero)
        x = g.op("QuantizeLinear", x, *bytes_)
        if channels_last:
            x = g.op("Transpose", g.unsqueeze(x, 2), perm=[0, 2, 3, 1])
        y = g.op("QLinearLeakyRelu", x, *bytes_, *bytes_, domain="com.microsoft", alpha=0.1)
        shape, attributes = (
            ((N, N, 1, 3), {"pads": [0, 2, 0, 0]}) if channels_last else ((N, N, 3), {"pads": [2, 0]})
        )
        kernel = np.random.default_rng(0).integers(-127, 128, shape)
        weights = (g.const(kernel, np.int8), g.const([0.004] * N, np.float32), g.const([0] * N, np.int8))
        extra = {"channels_last": 1, "domain": "com.microsoft"} if channels_last else {}
        y = g.op("QLinearConv", y, *bytes_, *weights, *bytes_, **attributes, **extra)
        y = g.op("QLinearAdd", y, *bytes_, x, *bytes_, *bytes_, domain="com.microsoft")
        if channels_last:
            y = g.squeeze(g.op("Transpose", y, perm=[0, 3, 1, 2]), 2)
        return g.op("DequantizeLinear", y, *bytes_)

    return build


@pytest.mark.parametrize("channels_last", [False, True])
def test_bytes_stream_with_their_channels_first_or_last(channels_last: bool) -> None:
    assert_streams(between(in_bytes(channels_last=channels_last)), plans=("planned", "states"))


@pytest.mark.parametrize(("auto_pad", "stride"), [("SAME_UPPER", 3), ("SAME_LOWER", 5)])
def test_bytes_with_their_channels_last_are_padded_by_the_length_of_their_own_axes(
    auto_pad: str, stride: int
) -> None:
    g = TinyGraph()
    g.domains["com.microsoft"] = 1
    bytes_ = (g.const(0.05, np.float32), g.const(100, np.uint8))
    weights = [g.const(np.arange(-12, 12).reshape(2, 1, 4, 3), np.int8), g.const([0.02] * 2, np.float32)]
    x = g.op("Reshape", g.conv(g.frames(), N, 12, 3, pads=[1, 1]), g.const([1, 1, 12, -1]))
    x = g.op("QuantizeLinear", g.transpose(x, 0, 2, 3, 1), *bytes_)
    x = g.op("QLinearConv", x, *bytes_, *weights, g.const([0] * 2, np.int8), *bytes_, channels_last=1,
             auto_pad=auto_pad, strides=[stride, 1], domain="com.microsoft")  # fmt: skip
    assert_streams(g.model(g.op("DequantizeLinear", x, *bytes_)), plans=("states",))


NEW = {
    "RMSNormalization": (23, by_steps(lambda g, x: g.op("RMSNormalization", x, g.weight(N)))),
    "Swish": (24, lambda g, x: g.op("Swish", x)),
}


@pytest.mark.parametrize("name", NEW)
def test_an_operator_of_a_new_opset_streams_where_onnx_and_the_runtime_have_it(name: str) -> None:
    opset, build = NEW[name]
    if opset > onnx.defs.onnx_opset_version():
        pytest.skip(f"onnx doesn't know {name} yet")
    model = between(build, opset=opset)
    try:
        Session(model)
    except ModelError:
        pytest.skip(f"ONNX Runtime doesn't run {name} yet")
    assert_streams(model)


def test_every_rule_has_a_tiny_graph() -> None:
    """An operator that the registry knows is named in one of these files."""
    here = Path(__file__).parent
    text = "".join(path.read_text() for path in [*here.glob("test_streaming_*.py"), here / "tiny_graphs.py"])
    assert [op_type for _, op_type in _RULES if f'"{op_type}"' not in text] == []


@pytest.mark.parametrize("name", MIXING)
def test_an_operator_streams_that_leaves_time_alone(name: str) -> None:
    build, n_after = MIXING[name]
    assert_streams(between(build, n_after=n_after))


@pytest.mark.parametrize("n_late", [0, 1])
def test_a_rule_may_bring_the_writer_of_its_operator(n_late: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new kind of operator is a rule alone, and what its writer says of the frontier is believed."""
    written = []

    def write(writer, node, effect) -> None:
        name = writer.source(node)
        written.append(node.op_type)
        value = writer.copy_on(node, writer.values[name]).outputs[0]
        writer.set(node, value, writer.lag(name) + n_late, writer.steps(name) - n_late)

    monkeypatch.setitem(_RULES, ("", "Neg"), lambda ctx: Effect(ctx.only_time().axis, write=write))
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    model = g.model(g.op("Add", g.op("Neg", x), x))
    if n_late:
        with pytest.raises((AssertionError, ModelError)):
            assert_streams(model, plans=("states",))
    else:
        assert_streams(model, plans=("states",))
    assert "Neg" in written


@pytest.mark.parametrize("step", [2, 3, 7])
def test_what_a_slice_by_steps_has_yet_to_skip_is_shorter_than_a_step(step: int) -> None:
    g = TinyGraph()
    twin = assert_streams(g.model(g.slice(g.frames(), 0, TO_THE_END, 2, step)))[0]
    assert [state.max_length for state in twin.spec.states] == [step - 1]
