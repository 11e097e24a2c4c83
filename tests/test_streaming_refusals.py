"""What can't be exact is refused: with the node, its operator, the reason, and what still works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError, make_streaming
from tiny_graphs import TO_THE_END, TinyGraph

N = 4
"""Channels."""

Build = Callable[[TinyGraph, str], Any]


def refusal(model: onnx.ModelProto, **options: Any) -> NotStreamableError:
    with pytest.raises(NotStreamableError) as caught:
        make_streaming(model, **options)
    return caught.value


def attention(g: TinyGraph, x: str) -> str:
    steps = g.transpose(x, 0, 2, 1)
    scores = g.op("MatMul", steps, x)
    return g.op("MatMul", g.op("Softmax", scores), steps)


def lstm(g: TinyGraph, x: str, **attributes: Any) -> Any:
    n = 2 if attributes.get("direction") == "bidirectional" else 1
    weights = [g.weight(n, 12, N), g.weight(n, 12, 3)]
    return g.op("LSTM", g.transpose(x, 2, 0, 1), *weights, n_outputs=3, hidden_size=3, **attributes)


def adain(g: TinyGraph, x: str) -> str:
    centred = g.op("Sub", x, g.reduce("ReduceMean", x, 2))
    variance = g.reduce("ReduceMean", g.op("Mul", centred, centred), 2)
    return g.op("Div", centred, g.op("Sqrt", variance))


def positions(g: TinyGraph, x: str) -> str:
    steps = g.op("Squeeze", g.length(x), g.const([0]))
    limit = g.op("Mul", g.op("Cast", steps, to=TensorProto.FLOAT), g.number(0.5))
    return g.op("Add", x, g.op("Range", g.number(0), limit, g.number(0.5)))


def mean_by_length(g: TinyGraph, x: str) -> str:
    return g.op("Div", x, g.op("Cast", g.length(x), to=TensorProto.FLOAT))


def branch(g: TinyGraph, x: str, *, condition: str) -> str:
    """An If whose branches read time from outside."""
    value = helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)
    yes, no = (
        helper.make_graph([helper.make_node(op, [x], ["inner"])], op, [], [value]) for op in ("Neg", "Abs")
    )
    return g.op("If", condition, then_branch=yes, else_branch=no)


def branch_on_flag(g: TinyGraph, x: str) -> str:
    return branch(g, x, condition=g.input("flag", [], np.bool_))


def loop(g: TinyGraph, x: str) -> str:
    body = helper.make_graph(
        [helper.make_node("Abs", ["v_in"], ["v_out"]), helper.make_node("Identity", ["c_in"], ["c_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("c_in", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_in", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("c_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_out", TensorProto.FLOAT, None),
        ],
    )
    return g.op("Loop", g.const(2), "", x, body=body)


def scan(g: TinyGraph, x: str) -> Any:
    step = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("s", "v", "t", "w")]
    nodes = [helper.make_node("Add", ["s", "v"], ["t"]), helper.make_node("Identity", ["t"], ["w"])]
    body = helper.make_graph(nodes, "body", step[:2], step[2:])
    first = g.const(np.zeros((1, N)), np.float32)
    return g.op("Scan", first, g.transpose(x, 2, 0, 1), n_outputs=2, body=body, num_scan_inputs=1)


def flattened(g: TinyGraph, x: str) -> str:
    return g.op("Reshape", x, g.const([1, 1, -1]))


WHOLE = "whole time axis"

REFUSED: dict[str, tuple[Build, str, str]] = {
    "attention": (attention, "MatMul", "every step meets every other"),
    "a product that sums over time": (
        lambda g, x: g.op("MatMul", x, g.transpose(x, 0, 2, 1)), "MatMul", "sums over time"),
    "a product with a number for every step": (
        lambda g, x: g.op("MatMul", x, g.op("ConstantOfShape", g.length(x))), "MatMul", "sums over time"),
    "softmax over time": (lambda g, x: g.op("Softmax", x), "Softmax", "normalises over time"),
    "softmax over channels and all behind them": (
        lambda g, x: g.op("Softmax", x, axis=1), "Softmax", "normalises over time"),
    "softmax over all axes behind the batch, by default": (
        lambda g, x: g.op("Softmax", g.transpose(x, 0, 2, 1)), "Softmax", "normalises over time"),
    "log softmax over time": (lambda g, x: g.op("LogSoftmax", x, axis=2), "LogSoftmax", "normalises over time"),
    "hardmax over time": (lambda g, x: g.op("Hardmax", x), "Hardmax", "normalises over time"),
    "instance norm": (
        lambda g, x: g.op("InstanceNormalization", x, g.weight(N), g.weight(N)),
        "InstanceNormalization", WHOLE),
    "group norm": (
        lambda g, x: g.op("GroupNormalization", x, g.weight(N), g.weight(N), num_groups=2),
        "GroupNormalization", WHOLE),
    "group norm of steps": (
        lambda g, x: g.op(
            "GroupNormalization", g.transpose(x, 0, 2, 1), g.weight(1), g.weight(1), num_groups=1),
        "GroupNormalization", WHOLE),
    "group norm as torch writes it": (
        lambda g, x: g.op("InstanceNormalization", g.op("Reshape", x, g.const([1, 2, -1])), g.weight(2), g.weight(2)),
        "Reshape", "as group norm does"),
    "mean variance norm": (
        lambda g, x: g.op("MeanVarianceNormalization", x, axes=[0, 2]),
        "MeanVarianceNormalization", WHOLE),
    **{
        f"mean variance norm over axis {axis}, by default": (
            lambda g, x, turn=turn: g.op("MeanVarianceNormalization", g.transpose(g.unsqueeze(x, 3), *turn)),
            "MeanVarianceNormalization", WHOLE)
        for axis, turn in ((0, (2, 1, 0, 3)), (2, (0, 1, 2, 3)), (3, (0, 1, 3, 2)))
    },
    "adaptive instance norm written out": (adain, "ReduceMean", "reduces over time"),
    "a mean over time": (lambda g, x: g.op("Sub", x, g.reduce("ReduceMean", x, 2)), "ReduceMean", "reduces over time"),
    "a mean over everything": (lambda g, x: g.op("Sub", x, g.op("ReduceMean", x)), "ReduceMean", "reduces over time"),
    "the largest step": (
        lambda g, x: g.op("Add", x, g.op("Cast", g.op("ArgMax", x, axis=2), to=TensorProto.FLOAT)),
        "ArgMax", "reduces over time"),
    "the largest step, which comes first by default": (
        lambda g, x: g.op("ArgMax", g.transpose(x, 2, 0, 1)), "ArgMax", "reduces over time"),
    "a norm over time": (lambda g, x: g.op("LpNormalization", x), "LpNormalization", "normalises over time"),
    "layer norm over time": (
        lambda g, x: g.op("LayerNormalization", g.transpose(x, 2, 0, 1), g.weight(1, N), axis=0),
        "LayerNormalization", "normalises over time"),
    "global average pool": (
        lambda g, x: g.op("Add", x, g.op("GlobalAveragePool", x)), "GlobalAveragePool", WHOLE),
    "global max pool": (lambda g, x: g.op("Add", x, g.op("GlobalMaxPool", x)), "GlobalMaxPool", WHOLE),
    "global norm pool": (lambda g, x: g.op("Add", x, g.op("GlobalLpPool", x)), "GlobalLpPool", WHOLE),
    "dynamic quantization": (
        lambda g, x: g.op("DequantizeLinear", *g.op("DynamicQuantizeLinear", x, n_outputs=3)),
        "DynamicQuantizeLinear", "whole tensor"),
    "a bidirectional recurrence": (
        lambda g, x: lstm(g, x, direction="bidirectional")[0], "LSTM", "from the utterance's end"),
    "a reversed recurrence": (
        lambda g, x: lstm(g, x, direction="reverse")[0], "LSTM", "from the utterance's end"),
    "the final state of a recurrence": (
        lambda g, x: g.op("Mul", x, g.reduce("ReduceSum", lstm(g, x)[1], 0, 1, 2)), "LSTM", "final state"),
    "a reversed sum": (lambda g, x: g.op("CumSum", x, g.const(2), reverse=1), "CumSum", "from the utterance's end"),
    "the first steps": (lambda g, x: g.slice(x, 0, 30, 2), "Slice", "counted from the other end"),
    "no steps": (lambda g, x: g.slice(x, 0, 0, 2), "Slice", "counted from the other end"),
    "the last step": (lambda g, x: g.slice(x, -1, TO_THE_END, 2), "Slice", "counted from the other end"),
    "the last steps": (lambda g, x: g.slice(x, -30, TO_THE_END, 2), "Slice", "counted from the other end"),
    "time backwards": (lambda g, x: g.slice(x, -1, -TO_THE_END, 2, -1), "Slice", "turns time round"),
    "time backwards, every second step": (
        lambda g, x: g.slice(x, -1, -TO_THE_END, 2, -2), "Slice", "turns time round"),
    "every second channel of axes that are not named": (
        lambda g, x: g.op("Slice", x, g.const([0] * 3), g.const([TO_THE_END] * 3), "", g.const([1, 2, 1])),
        "Slice", "names no axes"),
    "one step by its number": (lambda g, x: g.op("Gather", x, g.const([3]), axis=2), "Gather", "by their number"),
    "positions that are no whole numbers": (positions, "Range", "fractions"),
    "a division by the number of frames": (mean_by_length, "Div", "computed from the number of frames"),
    "an operator of another domain": (
        lambda g, x: g.op("Gelu", x, domain="com.microsoft"), "Gelu", "no rule"),
    "an operator without a rule": (lambda g, x: g.op("LRN", g.unsqueeze(x, 3), size=3), "LRN", "no rule"),
    "noise like a tensor": (
        lambda g, x: g.op("Add", x, g.op("RandomNormalLike", x)), "RandomNormalLike", "make the noise an input"),
    "uniform noise like a tensor": (
        lambda g, x: g.op("Add", x, g.op("RandomUniformLike", x)), "RandomUniformLike", "make the noise an input"),
    "noise of a fixed shape": (
        lambda g, x: g.op("Add", x, g.op("RandomNormal", shape=[1, N, 1])), "RandomNormal", "make the noise an input"),
    "uniform noise of a fixed shape": (
        lambda g, x: g.op("Add", x, g.op("RandomUniform", shape=[1, N, 1])),
        "RandomUniform",
        "make the noise an input",
    ),
    "draws": (
        lambda g, x: g.op("Multinomial", g.squeeze(g.transpose(x, 0, 2, 1), 0), sample_size=2),
        "Multinomial",
        "make the noise an input",
    ),
    "some of the steps": (
        lambda g, x: g.op("Compress", x, g.op("Greater", g.op("Reshape", g.slice(x, 0, 1, 1), g.const([-1])),
                                              g.number(0)), axis=2),
        "Compress",
        "depends on their values",
    ),
    "different steps": (lambda g, x: g.op("Unique", x, axis=2), "Unique", WHOLE),
    "frames cut out of complex samples": (
        lambda g, x: g.op(
            "STFT", g.transpose(g.slice(x, 0, 2, 1), 0, 2, 1), g.const(4), "", g.const(8), onesided=0),
        "STFT", "a real signal"),
    "attention in one operator": (
        lambda g, x: g.op("Attention", *[g.unsqueeze(g.transpose(x, 0, 2, 1), 1)] * 3),
        "Attention",
        "every step looks at every other",
    ),
    "coins": (lambda g, x: g.op("Bernoulli", g.op("Sigmoid", x)), "Bernoulli", "make the noise an input"),
    "dropout in training": (
        lambda g, x: g.op("Dropout", x, g.number(0.5), g.const(True, np.bool_)), "Dropout", "training"),
    "batch norm in training": (
        lambda g, x: g.op("BatchNormalization", x, *(g.weight(N) for _ in range(3)), g.const([1] * N, np.float32),
                          n_outputs=3, training_mode=1)[0],
        "BatchNormalization", "training"),
    "places of what isn't zero": (lambda g, x: g.op("NonZero", x), "NonZero", "depends on their values"),
    "the largest values": (lambda g, x: g.op("TopK", x, g.const([3]), n_outputs=2)[1], "TopK", "over time"),
    "a loop": (loop, "Loop", "not followed"),
    "a scan that gives its final state": (
        lambda g, x: g.op("Add", g.transpose(x, 2, 0, 1), scan(g, x)[0]), "Scan", "final state"),
    "a branch": (branch_on_flag, "If", "from outside"),
    "joining in time": (lambda g, x: g.op("Concat", x, x, axis=2), "Concat", "one after the other in time"),
    "joining a fixed piece and twice the utterance": (
        lambda g, x: g.op("Concat", x, g.weight(1, N, 2), g.op("Neg", x), axis=2), "Concat", "one after the other in time"),
    "cutting in time": (
        lambda g, x: g.op("Concat", *g.op("Split", x, n_outputs=2, axis=2, num_outputs=2), axis=1), "Split", "along time"),
    "repeating in time": (lambda g, x: g.op("Tile", x, g.const([1, 1, 2])), "Tile", "along time"),
    "time mixed with channels": (flattened, "Reshape", "mixes time"),
    "blocks whose channels are time": (
        lambda g, x: g.op("SpaceToDepth", g.unsqueeze(g.transpose(x, 0, 2, 1), 3), blocksize=1),
        "SpaceToDepth", "its channels lie along time"),
    "a shape that another input decides": (
        lambda g, x: g.op("Reshape", x, g.op(
            "Add", g.const([1, N, -1]), g.op("Mul", g.input("shape", [3], np.int64), g.const([0])))),
        "Reshape", "its input 1 ('Add_2') must be a constant"),
    "interpolation from corner to corner": (
        lambda g, x: g.op("Resize", x, "", g.const([1, 1, 2], np.float32), mode="linear",
                          coordinate_transformation_mode="align_corners"), "Resize", "length of the utterance"),
    "a stretch by a fraction": (
        lambda g, x: g.op("Resize", x, "", g.const([1, 1, 1.5], np.float32), mode="nearest"), "Resize", "whole number"),
    "a pool with ceil_mode": (
        lambda g, x: g.op("AveragePool", x, kernel_shape=[2], strides=[2], ceil_mode=1), "AveragePool", "ceil_mode"),
    "a pool that pads and reduces the rate": (
        lambda g, x: g.op("AveragePool", x, kernel_shape=[3], strides=[2], pads=[1, 1]), "AveragePool", "pad before it"),
    "places of the largest": (
        lambda g, x: g.op("MaxPool", x, kernel_shape=[2], n_outputs=2)[1], "MaxPool", "counted from"),
    "automatic padding with a stride": (
        lambda g, x: g.conv(x, N, N, 3, strides=[2], auto_pad="SAME_UPPER"), "Conv", "automatic padding"),
    "a transposed convolution to a fixed length": (
        lambda g, x: g.up(x, N, N, 4, 2, output_shape=[80]), "ConvTranspose", "fixes the length"),
    "padding by what comes at the other end": (
        lambda g, x: g.pad(x, 2, 1, mode="wrap"), "Pad", "continues the utterance's end"),
    "a scale for every step": (
        lambda g, x: g.op("QuantizeLinear", x, g.squeeze(g.reduce("ReduceMax", g.op("Abs", x), 1), 0, 1), axis=2),
        "QuantizeLinear", "must not depend on time"),
    "an outer sum": (
        lambda g, x: g.op("Add", g.unsqueeze(x, 2), g.unsqueeze(x, 3)), "Add", "every step meets every other"),
    "an outer product by Einsum": (
        lambda g, x: g.op("Einsum", x, x, equation="bct,bcs->bts"), "Einsum", "every step meet every other"),
    "a sum over time by Einsum": (
        lambda g, x: g.op("Einsum", x, g.weight(N, 2), equation="bct,cd->bd"), "Einsum", "sums over time"),
    "a transform over time": (
        lambda g, x: g.op("DFT", g.unsqueeze(x, 3), "", g.const(2)), "DFT", "runs over time"),
    "a transform over time, which is its default": (
        lambda g, x: g.op("DFT", g.transpose(g.slice(x, 0, 1, 1), 0, 2, 1)), "DFT", "runs over time"),
    "squeezing whatever has length one": (lambda g, x: g.op("Squeeze", x), "Squeeze", "without axes"),
    "a length that is bounded": (
        lambda g, x: g.op("Slice", x, g.const([0]), g.op("Min", g.length(x), g.const([100])), g.const([2])),
        "Slice", "computed from the number of frames"),
    "a start that is bounded": (
        lambda g, x: g.op(
            "Slice", x, g.op("Max", g.op("Sub", g.length(x), g.const([100])), g.const([0])),
            g.const([TO_THE_END]), g.const([2])),
        "Slice", "computed from the number of frames"),
    "a tensor as long as the utterance, but not below a minimum": (
        lambda g, x: g.op(
            "Add", x, g.op("Expand", g.weight(1, N, 1), g.op(
                "Concat", g.const([1, 1]), g.op("Max", g.length(x), g.const([10])), axis=0))),
        "Expand", "its length, n from n = 10 on,"),
    "a tensor rounded up to an even length": (
        lambda g, x: g.op(
            "Add", g.op("Reshape", x, g.const([1, 2 * N, -1])), g.op("ConstantOfShape", g.op(
                "Concat", g.const([1, 1]), g.op("Div", g.op("Add", g.length(x), g.const([1])), g.const([2])),
                axis=0))),
        "Reshape", "mixes time"),
    "a number that is bounded by the length": (
        lambda g, x: g.op("Mul", x, g.op("Cast", g.op("Min", g.length(x), g.const([40])), to=TensorProto.FLOAT)),
        "Mul", "computed from the number of frames"),
    "a sum of a tensor and its shift, of another length": (
        lambda g, x: g.op("Add", g.reduce("ReduceSum", x, 2), g.slice(x, 1, TO_THE_END, 2)), "ReduceSum", "reduces over time"),
}  # fmt: skip

OPSETS = {
    "softmax over channels and all behind them": 12,
    "softmax over all axes behind the batch, by default": 12,
    "group norm": 21,
    "group norm of steps": 18,
    "attention in one operator": 23,
}
"""Of operators that are newer, or were others before."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_exact_is_refused(name: str) -> None:
    build, op_type, reason = REFUSED[name]
    g = TinyGraph(opset=OPSETS.get(name, 20))
    x = g.op("Tanh", g.frames())
    g.domains["com.microsoft"] = 1
    y = build(g, x)
    node = next(n for n in g.nodes if n.op_type == op_type)
    error = refusal(g.model(y))
    assert error.op_type == op_type
    assert error.node in [n.name for n in g.nodes if n.op_type == op_type], node.name
    assert reason in error.reason
    assert error.reason in str(error)
    assert repr(error.node) in str(error)
    assert 'strategy="overlap"' in str(error)
    assert isinstance(error, ModelError)
