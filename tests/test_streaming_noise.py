"""Noise that a decoder draws becomes an input, and with it the decoder streams."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import NotStreamableError, make_streaming, noise_inputs
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.simplify.noise import METADATA_KEY
from balacoon_tk.runtime.session import Session
from streaming_laws import assert_streams
from tiny_graphs import TinyGraph

N = 4
"""Channels."""


def noise_block(g: TinyGraph, x: str, n_channels: int) -> str:
    """Noise of one channel at the rate of a tensor, loud as the tensor says."""
    like = g.op("ConstantOfShape", g.op("Concat", g.const([1, 1]), g.length(x), axis=0))
    loud = g.conv(x, n_channels, n_channels, 1, bias=False)
    return str(g.op("Add", x, g.op("Mul", loud, g.op("RandomNormalLike", like))))


def noisy(**attributes: Any) -> onnx.ModelProto:
    g = TinyGraph()
    x = noise_block(g, g.conv(g.frames(), N, N, 3, pads=[1, 1]), N)
    x = noise_block(g, g.up(x, N, 2, 8, 4, pads=[2, 2]), 2)
    drawn = g.op("RandomUniformLike", x, **attributes)
    return g.model(g.conv(g.op("Add", x, drawn), 2, 1, 5, pads=[2, 2]), names=["samples"])


def test_a_decoder_that_draws_noise_streams_once_the_noise_is_an_input() -> None:
    model = noisy(low=-1.0, high=1.0)
    with pytest.raises(NotStreamableError, match="noise_inputs"):
        make_streaming(model)
    quiet = noise_inputs(model)
    assert [value.name for value in quiet.graph.input] == ["frames", "noise", "noise_1", "noise_2"]
    assert analyse_model(quiet).inputs.steps_per_frame == {
        "frames": 1,
        "noise": 1,
        "noise_1": 4,
        "noise_2": 4,
    }
    assert_streams(quiet)
    assert [node.op_type for node in model.graph.node].count("RandomNormalLike") == 2  # the original stays


def metadata(model: onnx.ModelProto) -> dict[str, Any]:
    return json.loads({item.key: item.value for item in model.metadata_props}[METADATA_KEY])


def test_the_metadata_say_what_the_noise_is_drawn_from() -> None:
    quiet = noise_inputs(noisy())
    normal, uniform = (
        {"distribution": "normal", "mean": 0.0, "scale": 1.0},
        {"distribution": "uniform", "low": 0.0, "high": 1.0},
    )
    assert metadata(quiet) == {"noise": normal, "noise_1": normal, "noise_2": uniform}
    assert metadata(make_streaming(quiet)) == metadata(quiet)
    assert metadata(noise_inputs(quiet)) == metadata(quiet)


DRAWS = {
    "RandomNormalLike": ({"mean": 0.5, "scale": 2.0}, (2.0, 0.5)),
    "RandomUniformLike": ({"low": -1.0, "high": 3.0}, (4.0, -1.0)),
    "RandomNormalLike by itself": ({}, (1.0, 0.0)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_the_scale_of_the_noise_stays_in_the_graph(name: str) -> None:
    attributes, (scale, offset) = DRAWS[name]
    g = TinyGraph()
    model = noise_inputs(g.model(g.op(name.split()[0], g.frames(), **attributes), names=["samples"]))
    noise = np.random.default_rng(0).standard_normal((1, N, 7)).astype(np.float32)
    # The frames gave their shape only.
    feeds = {"frames": np.zeros_like(noise), "noise": noise}
    np.testing.assert_array_equal(Session(model).run(feeds)["samples"], noise * np.float32(scale) + offset)


def test_an_output_of_noise_alone_keeps_its_name() -> None:
    g = TinyGraph()
    g.op("RandomNormalLike", g.frames())
    model = noise_inputs(g.model("RandomNormalLike_0"))
    assert [value.name for value in model.graph.output] == ["RandomNormalLike_0"]
    onnx.checker.check_model(model)


@pytest.mark.parametrize("op_type", ["RandomNormal", "RandomUniform"])
def test_noise_of_a_fixed_shape_becomes_an_input_without_time(op_type: str) -> None:
    g = TinyGraph()
    x = g.op("Add", g.frames(), g.op(op_type, shape=[1, N, 1]))
    model = noise_inputs(g.model(g.conv(x, N, 2, 3, pads=[1, 1])))
    assert "noise" not in analyse_model(model).inputs.axes
    assert_streams(model)


def test_a_name_that_is_taken_is_left_to_its_owner() -> None:
    g = TinyGraph()
    x = g.op("Add", g.frames(name="noise"), g.op("RandomNormalLike", "noise"))
    model = noise_inputs(g.model(x))
    assert [value.name for value in model.graph.input] == ["noise", "noise_1"]
    assert_streams(model)


def test_a_decoder_without_noise_stays_as_it_is() -> None:
    g = TinyGraph()
    model = noise_inputs(g.model(g.conv(g.frames(), N, 2, 3)))
    assert [value.name for value in model.graph.input] == ["frames"]
    assert not [item for item in model.metadata_props if item.key == METADATA_KEY]


def test_noise_for_every_pair_of_steps_is_refused() -> None:
    g = TinyGraph()
    x = g.frames()
    pairs = g.op("MatMul", g.transpose(x, 0, 2, 1), x)
    with pytest.raises(ModelError, match="several axes"):
        noise_inputs(g.model(g.op("Add", pairs, g.op("RandomNormalLike", pairs))))


def test_noise_that_is_not_as_long_as_the_frames_is_refused() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3)
    with pytest.raises(ModelError, match="as many for each frame"):
        noise_inputs(g.model(g.op("Add", x, g.op("RandomNormalLike", x))))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(ParameterError, match="ModelProto"):
        noise_inputs(helper.make_node("Relu", ["x"], ["y"]))  # type: ignore[arg-type]
