"""What make_streaming says to a model, an input or an argument that doesn't fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import make_streaming
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.runtime.ort_engine import OrtEngine
from tiny_graphs import TinyGraph


def convolution(shape: list[Any], *, opset: int = 17) -> onnx.ModelProto:
    g = TinyGraph(opset=opset)
    return g.model(g.conv(g.input("frames", shape), 4, 2, 3, pads=[1, 1]))


def test_a_graph_without_a_time_axis_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"no input has a time axis.*dynamic axis"):
        make_streaming(convolution([1, 4, 50]))


def test_two_candidates_for_the_time_axis_are_an_error() -> None:
    g = TinyGraph()
    model = g.model(g.op("Tanh", g.input("frames", ["batch", "channels", "n"])))
    with pytest.raises(ModelError, match=r"'frames' has several axes.*\(1, 2\).*time_inputs=\{'frames': 2\}"):
        make_streaming(model)
    assert make_streaming(model, time_inputs={"frames": 2})
    assert make_streaming(model, time_inputs={"frames": -2})


@pytest.mark.parametrize(
    ("time_inputs", "message"),
    [
        ({"mel": 2}, "names 'mel': the graph's inputs are frames"),
        ({"frames": 3}, r"time_inputs\['frames'\]=3 must be an axis of a tensor of rank 3"),
        ({"frames": -4}, r"time_inputs\['frames'\]=-4 must be an axis"),
        ({"frames": 1}, r"time_inputs\['frames'\]=1 has the fixed length 4"),
        ({}, "must name at least one input"),
        ({"frames": "time"}, "must be an int"),
        ({"frames": True}, "must be an int"),
        (["frames"], "must be a mapping"),
    ],
)
def test_time_inputs_that_do_not_fit_are_errors(time_inputs: Any, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        make_streaming(convolution([1, 4, "n"]), time_inputs=time_inputs)


@pytest.mark.parametrize("chunk_frames", [0, -1, 2.5, "many"])
def test_a_chunk_of_no_frames_is_an_error(chunk_frames: Any) -> None:
    with pytest.raises(ParameterError, match=f"chunk_frames={chunk_frames!r} must be"):
        make_streaming(convolution([1, 4, "n"]), chunk_frames=chunk_frames)


def test_costs_that_are_none_are_an_error() -> None:
    costs: Any = {"per_byte": 1.0}
    with pytest.raises(ParameterError, match="must be PlanCosts"):
        make_streaming(convolution([1, 4, "n"]), costs=costs)


@pytest.mark.parametrize("model", [None, "decoder.onnx", b"onnx", {}])
def test_what_is_no_model_is_an_error(model: Any) -> None:
    with pytest.raises(ParameterError, match=r"must be an onnx\.ModelProto"):
        make_streaming(model)


def test_an_empty_model_is_an_error() -> None:
    with pytest.raises(ModelError):
        make_streaming(onnx.ModelProto())


def test_a_graph_that_is_stateful_already_is_an_error() -> None:
    stateful = make_streaming(convolution([1, 4, "n"]))
    with pytest.raises(ModelError, match="stateful already"):
        make_streaming(stateful)


def test_a_graph_that_cannot_be_loaded_is_an_error() -> None:
    g = TinyGraph()
    with pytest.raises(ModelError, match="can't load it"):
        make_streaming(g.model(g.op("NoSuchOperator", g.frames())))


def test_a_graph_that_cannot_be_run_is_an_error() -> None:
    g = TinyGraph()
    x = g.input("frames", [1, "channels", "n"])
    model = g.model(g.conv(x, 4, 2, 3, pads=[1, 1]))
    with pytest.raises(ModelError, match="runs at none of the lengths tried"):
        make_streaming(model, time_inputs={"frames": 2})


def test_an_old_opset_is_an_error() -> None:
    with pytest.raises(ModelError, match="opset 9: 10 or newer is needed"):
        make_streaming(convolution([1, 4, "n"], opset=9))


def test_dynamic_axes_that_do_not_scale_are_errors() -> None:
    g = TinyGraph()
    x = g.frames()
    model = g.model(g.op("Add", x, g.input("other", [1, 4, "n"])))
    shifted = TinyGraph()
    x = shifted.op("Concat", shifted.frames(), shifted.op("Abs", shifted.input("other", [1, 4, 1])), axis=2)
    shifted_model = shifted.model(shifted.op("Add", x, shifted.input("longer", [1, 4, "m"])))
    assert make_streaming(model)
    with pytest.raises(ModelError):
        make_streaming(shifted_model)


def test_an_input_without_a_shape_is_an_error() -> None:
    model = convolution([1, 4, "n"])
    g = TinyGraph()
    x = g.op("Add", g.frames(), g.input("speaker", [1, 4, 1]))
    model = g.model(x)
    model.graph.input[1].type.tensor_type.ClearField("shape")
    with pytest.raises(ModelError, match="'speaker' has no declared shape"):
        make_streaming(model)


def test_an_output_without_time_is_an_error() -> None:
    g = TinyGraph()
    x, speaker = g.frames(), g.input("speaker", [1, 4, 1])
    with pytest.raises(ModelError, match="output 'embedding' has no time axis"):
        make_streaming(g.model(g.op("Add", x, speaker), g.op("Tanh", speaker), names=("y", "embedding")))


def test_the_model_is_not_changed() -> None:
    model = convolution([1, 4, "n"])
    before = model.SerializeToString()
    make_streaming(model)
    analyse_model(model)
    assert model.SerializeToString() == before


def test_the_same_model_gives_the_same_stateful_graph() -> None:
    model = convolution([1, 4, "n"])
    assert make_streaming(model).SerializeToString() == make_streaming(model).SerializeToString()


def test_the_metadata_of_the_model_are_kept() -> None:
    model = convolution([1, 4, "n"])
    model.metadata_props.add(key="speaker", value="joe")
    stateful = make_streaming(model)
    assert {item.key for item in stateful.metadata_props} == {"speaker", "balacoon_tk.streaming"}
    onnx.checker.check_model(stateful)


def test_the_batch_is_one_frame_of_one_utterance() -> None:
    """A batch is found by its name or its place; every other dynamic axis must be told."""
    for shape in (["batch", 4, "n"], ["b", 4, "n"], [None, 4, None]):
        graph = OrtEngine(make_streaming(convolution(shape)))
        assert graph.contract.inputs["frames"].shape[:2] == (1, 4)
    g = TinyGraph()
    x = g.transpose(g.input("frames", ["n", "batch_size", 4]), 1, 2, 0)
    y = g.input("speaker", ["batch_size"], np.int64)
    y = g.unsqueeze(g.op("Gather", g.weight(5, 4), y, axis=0), 2)
    graph = OrtEngine(make_streaming(g.model(g.op("Add", x, y))))
    assert graph.contract.time_inputs == ("frames",)
    assert graph.contract.inputs["frames"].shape[:2] == (1, 4)
    assert graph.contract.inputs["speaker"].shape == (1,)
