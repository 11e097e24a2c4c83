"""What sees all steps before: running sums that leave the newest out, and loops over time."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from balacoon_tk.export import NotStreamableError, make_streaming
from streaming_laws import assert_streams
from tiny_graphs import TinyGraph

N = 4
"""Channels."""


@pytest.mark.parametrize("axis", [2, -1])
@pytest.mark.parametrize("exclusive", [0, 1])
def test_a_running_sum_streams_with_or_without_the_newest_step(exclusive: int, axis: int) -> None:
    g = TinyGraph()
    x = g.op("Mul", g.conv(g.frames(), N, N, 3, pads=[1, 1]), g.number(0.1))
    y = g.op("CumSum", x, g.const(axis), exclusive=exclusive)
    twin = assert_streams(g.model(g.op("Concat", x, y, axis=1)), tolerance=1e-5)[0]
    # Two steps that the convolution sees once more, and the last sum.
    assert sorted(state.max_length for state in twin.spec.states) == [1, 2]


def cell(extra: str = "") -> onnx.GraphProto:
    """A leaky sum of two tensors: its state, and what it gives, twice, the second time the other way round."""
    step = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("s", "a", "b")]
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("t", "y", "z")]
    nodes = [
        helper.make_node("Add", ["a", "b"], ["ab"]),
        helper.make_node("Mul", ["s", extra], ["kept"])
        if extra
        else helper.make_node("Tanh", ["s"], ["kept"]),
        helper.make_node("Add", ["kept", "ab"], ["t"]),
        helper.make_node("Sigmoid", ["t"], ["y"]),
        helper.make_node("Neg", ["t"], ["z"]),
    ]
    return helper.make_graph(nodes, "cell", step, made)


def scan(g: TinyGraph, *, first: str = "", extra: str = "", lag: int = 0, **attributes: Any) -> list[str]:
    """A scan over two tensors with time, one of which may trail."""
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    y = g.conv(x, N, N, 1 + 2 * lag, pads=[lag, lag])
    first = first or g.const(np.full((1, N), 0.3), np.float32)
    return list(
        g.op("Scan", first, x, y, n_outputs=3, body=cell(extra), num_scan_inputs=2, scan_input_axes=[2, 2],
             **attributes))  # fmt: skip


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("axis", [0, 2])
def test_a_scan_over_time_streams(axis: int, lag: int) -> None:
    g = TinyGraph()
    _, y, z = scan(g, lag=lag, scan_output_axes=[axis, axis])
    x = g.op("Add", y, z)
    assert_streams(g.model(g.conv(g.transpose(x, 1, 2, 0) if axis == 0 else x, N, 2, 3, pads=[1, 1])))


@pytest.mark.parametrize("what", ["weight", "speaker", "computed"])
def test_a_scan_reads_from_outside_what_has_no_time(what: str) -> None:
    g = TinyGraph()
    if what == "weight":
        extra = g.const([0.5], np.float32)
    else:
        extra = g.input("speaker", [1, N])
        extra = g.op("Sigmoid", extra) if what == "computed" else extra
    first = g.op("Tanh", extra) if what == "computed" else ""
    assert_streams(g.model(scan(g, first=first, extra=extra)[1]))


def test_a_scan_behind_a_reduction_of_the_rate_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 4, strides=[2], pads=[1, 1])
    first = g.const(np.zeros((1, N)), np.float32)
    y = g.op("Scan", first, x, x, n_outputs=3, body=cell(), num_scan_inputs=2, scan_input_axes=[2, 2])[1]
    assert_streams(g.model(y))


def test_a_scan_may_keep_a_state_of_several_rows() -> None:
    g = TinyGraph()
    first = g.const(np.linspace(-0.5, 0.5, 2 * N).reshape(2, N), np.float32)
    assert_streams(g.model(scan(g, first=first, scan_output_axes=[2, 2])[1]))


@pytest.mark.parametrize("given", [False, True])
def test_a_recurrence_may_look_at_its_cells_as_well(given: bool) -> None:
    """The peepholes of an LSTM stand behind its first states, whether these are given or not."""
    g = TinyGraph()
    weights = [g.weight(1, 12, N), g.weight(1, 12, 3)]
    first = [g.const(np.full((1, 1, 3), value), np.float32) for value in (0.3, -0.2)] if given else ["", ""]
    x = g.transpose(g.frames(), 2, 0, 1)
    y = g.op("LSTM", x, *weights, "", "", *first, g.const(np.full((1, 9), 0.7), np.float32), hidden_size=3)
    assert_streams(g.model(g.transpose(g.squeeze(y, 1), 1, 2, 0)), tolerance=1e-5)


@pytest.mark.parametrize("which", [0, 1])
def test_a_first_state_that_counts_the_frames_is_refused(which: int) -> None:
    g = TinyGraph()
    frames = g.frames()
    weights = [g.weight(1, 12, N), g.weight(1, 12, 3)]
    count = g.op("Cast", g.length(frames), to=TensorProto.FLOAT)
    first = [g.const(np.zeros((1, 1, 3)), np.float32)] * 2
    first[which] = g.op("Mul", count, g.const(np.full((1, 1, 3), 0.1), np.float32))
    y = g.op("LSTM", g.transpose(frames, 2, 0, 1), *weights, "", "", *first, hidden_size=3)
    with pytest.raises(NotStreamableError, match="number of frames"):
        make_streaming(g.model(y))


def final_state(g: TinyGraph) -> str:
    state, y, _ = scan(g)
    return g.op("Add", y, state)


def over_channels(g: TinyGraph) -> str:
    a, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "ay")
    body = helper.make_graph([helper.make_node("Neg", ["a"], ["y"])], "body", [a], [y])
    return g.op("Scan", g.frames(), body=body, num_scan_inputs=1, scan_input_axes=[1])


def drawing_noise(g: TinyGraph) -> str:
    body = cell()
    body.node.insert(0, helper.make_node("RandomNormalLike", ["s"], ["noise"]))
    body.node[1].input[1] = "noise"
    first = g.const(np.zeros((1, N)), np.float32)
    x = g.frames()
    return g.op("Scan", first, x, x, n_outputs=3, body=body, num_scan_inputs=2, scan_input_axes=[2, 2])[1]


REFUSED = {
    "its final state": (final_state, "final state"),
    "time backwards": (lambda g: scan(g, scan_input_directions=[1, 1])[1], "forward direction alone"),
    "what comes out backwards": (lambda g: scan(g, scan_output_directions=[1, 1])[1], "forward direction alone"),
    "a walk over channels": (over_channels, "doesn't walk along time"),
    "two ways of joining what comes out": (
        lambda g: g.op("Add", (y := scan(g, scan_output_axes=[0, 2]))[2], g.transpose(y[1], 1, 2, 0)),
        "time on different axes"),
    "noise of its own": (drawing_noise, "draws its own noise"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_scan_is_refused_that_sees_the_end(name: str) -> None:
    build, reason = REFUSED[name]
    g = TinyGraph()
    with pytest.raises(NotStreamableError) as caught:
        make_streaming(g.model(build(g)))
    assert caught.value.op_type == "Scan"
    assert reason in caught.value.reason


def test_a_recurrence_in_both_directions_says_what_would_stream() -> None:
    g = TinyGraph()
    weights = [g.weight(2, 12, N), g.weight(2, 12, 3)]
    x = g.transpose(g.frames(), 2, 0, 1)
    y = g.op("LSTM", x, *weights, hidden_size=3, direction="bidirectional")
    with pytest.raises(NotStreamableError, match="forward direction alone"):
        make_streaming(g.model(y))
