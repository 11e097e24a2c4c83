"""verify_streaming must see what is subtly wrong: one step of one state, one frame of the end."""

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import make_streaming
from balacoon_tk.graph.streaming import streaming_spec
from balacoon_tk.graph.streaming.equivalence import verify_streaming
from streaming_laws import make_streaming as make_streaming_by
from tiny_graphs import TinyGraph


def vocoder():
    """Convolutions, a transposed one, a residual join: a state of every kind."""
    graph = TinyGraph()
    x = graph.frames(4)
    x = graph.op("Add", x, graph.conv(x, 4, 4, 5, pads=[2, 2]))
    x = graph.op("LeakyRelu", graph.conv(x, 4, 8, 3, pads=[1, 1]), alpha=0.1)
    x = graph.up(x, 8, 4, 8, 4, pads=[2, 2])
    x = graph.op("Add", x, graph.conv(x, 4, 4, 3, dilations=[3], pads=[3, 3]))
    return graph.model(graph.op("Tanh", graph.conv(x, 4, 1, 7, pads=[3, 3])))


@pytest.fixture(scope="module")
def original():
    return vocoder()


@pytest.fixture(scope="module")
def streaming(original):
    return make_streaming(original)


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def shorten(model, state):
    """Return the graph with one step less of what a state keeps."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    node = producers(changed)[state.output]
    assert node.op_type == "Slice"
    tensors = {tensor.name: tensor for tensor in changed.graph.initializer}
    start = int(numpy_helper.to_array(tensors[node.input[1]])[0])
    assert start < 0
    shorter = numpy_helper.from_array(np.array([start + 1 if start < -1 else 2**31 - 1]), "one_step_less")
    changed.graph.initializer.append(shorter)
    node.input[1] = "one_step_less"
    return changed


def test_a_rewritten_graph_passes_with_its_difference(original, streaming):
    check = verify_streaming(original, streaming)
    assert check.max_abs_diff <= 2e-6
    assert check.max_abs_diff_whole == 0.0
    assert check.n_runs >= 20


@pytest.mark.parametrize(("plan", "n_states"), [("states", 5), ("segments", 5), ("longest segments", 1)])
def test_any_state_that_is_one_step_too_short_is_caught(original, plan, n_states):
    streaming = make_streaming_by(original, plan)
    states = streaming_spec(streaming).states
    assert len(states) >= n_states
    for state in states:
        with pytest.raises(ModelError, match=r"differ from the whole run|has \d+ steps|the run failed"):
            verify_streaming(original, shorten(streaming, state))


def test_a_weight_that_differs_is_caught(original, streaming):
    changed = onnx.ModelProto()
    changed.CopyFrom(streaming)
    weight = next(t for t in changed.graph.initializer if len(t.dims) == 3)
    array = numpy_helper.to_array(weight).copy()
    array.flat[0] += 0.01
    weight.CopyFrom(numpy_helper.from_array(array, weight.name))
    with pytest.raises(ModelError, match="differ from the whole run by"):
        verify_streaming(original, changed)


def test_the_utterances_that_are_given_are_run_too(original, streaming):
    quiet = verify_streaming(original, streaming)
    frames = {"frames": np.full((1, 4, 30), 3, np.float32)}
    assert verify_streaming(original, streaming, utterances=[frames]).n_runs > quiet.n_runs
    with pytest.raises(ParameterError, match="NaN"):
        verify_streaming(
            original, streaming, utterances=[{"frames": np.full((1, 4, 30), np.nan, np.float32)}]
        )


@pytest.mark.parametrize("max_frames", [1, 4, 30, 500])
def test_nothing_longer_than_the_longest_utterance_is_run(original, streaming, max_frames):
    long = {"frames": np.zeros((1, 4, max_frames + 1), np.float32)}
    alone = verify_streaming(original, streaming, max_frames=max_frames)
    assert verify_streaming(original, streaming, utterances=[long], max_frames=max_frames) == alone
    assert alone.n_runs >= 2
    with pytest.raises(ParameterError, match="max_frames=0 must be >= 1"):
        verify_streaming(original, streaming, max_frames=0)


def test_a_plain_graph_is_no_stateful_one(original):
    with pytest.raises(ModelError, match="make_streaming makes one"):
        verify_streaming(original, original)
    with pytest.raises(ModelError, match="make_streaming makes one"):
        streaming_spec(original)


def test_a_tolerance_below_zero_is_refused(original, streaming):
    with pytest.raises(ParameterError, match="tolerance=-1 must be >= 0"):
        verify_streaming(original, streaming, tolerance=-1)
