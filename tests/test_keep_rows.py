"""Tensors turned over for norms and products: what is turned over stays so, and streams exactly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import onnx
import pytest

from balacoon_tk.graph.streaming import streaming_spec
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from streaming_laws import assert_streams, make_streaming
from tiny_graphs import TinyGraph

N = 16


def turned(g: TinyGraph, x: str) -> str:
    return str(g.transpose(x, 0, 2, 1))


def feed_forward(g: TinyGraph, rows: str) -> str:
    hidden = g.op("Add", g.weight(2 * N), g.op("MatMul", rows, g.weight(N, 2 * N)))
    return str(g.op("MatMul", g.op("Tanh", hidden), g.weight(2 * N, N)))


def rms_norm(g: TinyGraph, rows: str) -> str:
    squares = g.op("Pow", rows, g.number(2))
    mean = g.op("ReduceMean", squares, axes=[-1], keepdims=1)
    root = g.op("Sqrt", g.op("Add", mean, g.number(1e-5)))
    return str(g.op("Mul", rows, g.op("Div", g.number(1), root)))


def conv_next(g: TinyGraph, x: str) -> str:
    """Liu et al. 2022: the norm and both products on rows, and a scale there."""
    y = g.conv(x, N, N, 7, groups=N, pads=[3, 3])
    y = g.op("LayerNormalization", turned(g, y), g.weight(N), g.weight(N), axis=-1)
    y = g.op("Mul", g.weight(N), feed_forward(g, y))
    return str(g.op("Add", x, turned(g, y)))


def causal(g: TinyGraph, x: str) -> str:
    """Two residuals: a padded convolution of what is normed, and products; scales before time."""
    y = turned(g, rms_norm(g, turned(g, x)))
    y = g.op("Pad", y, g.const([0, 0, 6, 0, 0, 0]))
    y = g.op("Mul", g.conv(y, N, N, 7, groups=N), g.weight(N, 1))
    x = g.op("Add", x, y)
    y = turned(g, feed_forward(g, rms_norm(g, turned(g, x))))
    return str(g.op("Add", x, g.op("Mul", y, g.weight(1, N, 1))))


def decoder(block: Callable[[TinyGraph, str], str]) -> onnx.ModelProto:
    """Return a decoder of two blocks, and two more behind a step up in rate."""
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3, pads=[1, 1])
    x = block(g, block(g, x))
    x = g.up(x, N, N, 4, 2, pads=[1, 1])
    x = block(g, block(g, x))
    return g.model(g.op("Tanh", g.conv(x, N, 1, 3, pads=[1, 1])))


def ways(model: onnx.ModelProto) -> Counter[tuple[int, ...]]:
    """Return how often tensors are turned in which way."""
    turns = (node for node in model.graph.node if node.op_type == "Transpose")
    return Counter(tuple(turn.attribute[0].ints) for turn in turns)


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("block", [conv_next, causal])
def test_nothing_is_turned_but_for_a_convolution(block) -> None:
    model = decoder(block)
    optimized = optimize_decoder(model)
    assert optimized.passes == ("lift_to_2d", "polyphase", "keep_rows")
    # Those of three axes are gone; those of four become part of what ONNX Runtime does around convolutions.
    assert ways(optimized.model).keys() == {(0, 2, 3, 1), (0, 3, 1, 2)}
    assert operators(optimized.model)["Squeeze"] == operators(optimized.model)["Unsqueeze"] == 1


@pytest.mark.parametrize("block", [conv_next, causal])
def test_what_stays_turned_over_streams_exactly(block) -> None:
    assert_streams(decoder(block), optimize=True)


def test_states_are_of_rows() -> None:
    stateful = make_streaming(optimize_decoder(decoder(conv_next)).model, "states")
    shapes = [state.shape for state in streaming_spec(stateful).states]
    # Of each block's convolution, with the padding on its left, but the first one: that reads an image.
    assert shapes.count((1, 1, 3, N)) == 3


def test_whoever_else_reads_a_tensor_gets_it_as_it_was() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3, pads=[1, 1])
    rows = g.op("LayerNormalization", turned(g, x), g.weight(N), axis=-1)
    grouped = g.op("Reshape", rows, g.const([1, -1, 4, N // 4]))  # a constant of rank 3 has no place in rows
    other = g.op("Mul", rows, g.weight(1, 1, N))
    model = g.model(
        g.op("ReduceSum", grouped, g.const([3]), keepdims=0),
        g.op("Softmax", rows, axis=-1),
        g.conv(turned(g, other), N, 1, 3, pads=[1, 1]),
    )
    optimized = optimize_decoder(model).model
    frames = np.random.default_rng(0).standard_normal((1, 4, 23)).astype(np.float32)
    wanted, got = (Session(each).run({"frames": frames}) for each in (model, optimized))
    assert wanted.keys() == got.keys()
    for name, array in wanted.items():
        assert got[name].shape == array.shape
        np.testing.assert_allclose(got[name], array, atol=1e-6)


def test_a_decoder_that_turns_nothing_over_stays_as_it_is() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3, pads=[1, 1])
    model = g.model(g.conv(g.op("Add", x, g.conv(g.op("Tanh", x), N, N, 1)), N, 1, 3))
    assert optimize_decoder(model).passes == ("lift_to_2d",)


def test_weights_in_common_do_not_lift_what_no_convolution_shares() -> None:
    g = TinyGraph()
    bias = g.weight(N)
    x = g.op("Conv", g.frames(4), g.weight(N, 4, 3), bias, pads=[1, 1])
    rows = g.op("MatMul", turned(g, x), g.weight(N, N))
    made = optimize_decoder(g.model(g.op("Tanh", g.op("Add", rows, bias))), leave_out=["keep_rows"]).model
    assert operators(made)["Unsqueeze"] == operators(made)["Squeeze"] == 1
