"""Stretching time by a fixed rate: what interpolates between steps, at both ends and in any pushes."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import onnx
import pytest

from balacoon_tk.export import NotStreamableError, make_streaming
from balacoon_tk.graph.prepare import analyse_model
from streaming_laws import Streamed, assert_same, assert_streams, stream
from tiny_graphs import TinyGraph

N = 4
"""Channels."""

TRANSFORMS = ("half_pixel", "pytorch_half_pixel", "asymmetric")


def stretch(g: TinyGraph, x: str, rate: float, *, mode: str, **attributes: Any) -> str:
    """Resize along the last axis; cubic interpolation is defined for images only."""
    if mode == "cubic":
        scales = g.const([1, 1, 1, rate], np.float32)
        return g.squeeze(g.op("Resize", g.unsqueeze(x, 2), "", scales, mode=mode, **attributes), 2)
    return str(g.op("Resize", x, "", g.const([1, 1, rate], np.float32), mode=mode, **attributes))


def stretched(rate: float, *, mode: str = "linear", opset: int = 19, **attributes: Any) -> onnx.ModelProto:
    """A stretch between two convolutions that look to both sides."""
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    return g.model(g.conv(stretch(g, x, rate, mode=mode, **attributes), N, 2, 5, pads=[2, 2]))


@pytest.mark.parametrize("transform", [*TRANSFORMS, "half_pixel_symmetric"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("rate", [2, 3, 4, 5])
def test_interpolation_by_a_whole_rate_streams(rate: int, mode: str, transform: str) -> None:
    model = stretched(rate, mode=mode, coordinate_transformation_mode=transform)
    assert_streams(model)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("rate", [3 / 2, 5 / 2, 4 / 3, 8 / 7, 24000 / 22050])
def test_interpolation_by_a_fraction_streams(rate: float, mode: str, transform: str) -> None:
    model = stretched(rate, mode=mode, coordinate_transformation_mode=transform)
    assert_streams(model, tolerance=1e-5)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("rate", [1 / 2, 1 / 4, 3 / 4, 2 / 5])
def test_interpolation_that_goes_down_in_rate_streams(rate: float, transform: str) -> None:
    g = TinyGraph(opset=19)
    x = g.up(g.frames(), N, N, 8, 4, pads=[2, 2])
    x = stretch(g, x, rate, mode="linear", coordinate_transformation_mode=transform)
    assert_streams(g.model(g.conv(x, N, 2, 3, pads=[1, 1])), tolerance=1e-5)


@pytest.mark.parametrize("rate", [1 / 2, 1 / 4, 2 / 5])
def test_the_first_step_of_a_longer_utterance_is_not_taken_for_its_only_one(rate: float) -> None:
    """Of one step of the output pytorch_half_pixel has the place elsewhere."""
    g = TinyGraph(opset=19)
    mode = {"coordinate_transformation_mode": "pytorch_half_pixel"}
    for pair in assert_streams(g.model(stretch(g, g.frames(), rate, mode="linear", **mode)), tolerance=1e-5):
        assert pair.spec.min_first_frames == ceil(2 / rate)


@pytest.mark.parametrize("rate", [3 / 4, 2 / 5])
def test_cubic_interpolation_by_a_fraction_below_one_streams(rate: float) -> None:
    g = TinyGraph(opset=19)
    x = g.up(g.frames(), N, N, 8, 4, pads=[2, 2])
    assert_streams(g.model(stretch(g, x, rate, mode="cubic")), tolerance=1e-5)


@pytest.mark.parametrize("transform", ["half_pixel", "asymmetric"])
def test_a_stretch_that_goes_down_waits_for_no_frame_that_it_does_not_read(transform: str) -> None:
    g = TinyGraph(opset=19)
    x = g.up(g.frames(), N, N, 8, 4, pads=[0, 4])
    x = stretch(g, x, 1 / 2, mode="linear", coordinate_transformation_mode=transform)
    for pair in assert_streams(g.model(x)):
        assert pair.spec.min_first_frames == 1


@pytest.mark.parametrize("rate", [1 / 2, 1 / 4])
def test_every_few_steps_are_taken_as_the_nearest(rate: float) -> None:
    mode = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    assert_streams(stretched(rate, mode="nearest", **mode))
    g = TinyGraph(opset=19)
    for pair in assert_streams(g.model(stretch(g, g.frames(), rate, mode="nearest", **mode))):
        assert pair.spec.min_first_frames == 1 / rate
        assert [state.max_length for state in pair.spec.states] == [2 / rate - 1]
    with pytest.raises(NotStreamableError, match="not a whole number"):
        make_streaming(stretched(1 / 3, mode="nearest", **mode))


def test_interpolation_of_a_long_utterance_streams() -> None:
    g = TinyGraph(opset=19)
    pair = Streamed(g.model(stretch(g, g.frames(), 4, mode="linear")), "states")
    feeds = pair.feeds(20_000)
    got, wanted = stream(pair, feeds, [1, 9_998, 10_001]), pair.run_whole(feeds)
    assert_same(got, wanted, tolerance=1e-6, note="long")


def test_interpolation_trails_by_half_a_step() -> None:
    g = TinyGraph(opset=19)
    analysis = analyse_model(g.model(stretch(g, g.frames(), 4, mode="linear")))
    assert analysis.timelines[analysis.outputs[0]].lag == 2


def test_stretches_follow_each_other_and_join() -> None:
    g = TinyGraph(opset=19)
    x = g.frames()
    y = stretch(g, g.conv(x, N, N, 5, pads=[2, 2]), 3, mode="cubic")
    y = stretch(g, y, 4 / 3, mode="linear")
    z = stretch(g, x, 4, mode="linear", coordinate_transformation_mode="asymmetric")
    assert_streams(g.model(g.op("Add", y, z)), tolerance=1e-5)


def test_stretches_of_tensors_that_trail_by_different_steps_join() -> None:
    g = TinyGraph(opset=19)
    x = g.frames()
    y, z = (stretch(g, each, 3, mode="linear") for each in (g.conv(x, N, N, 5, pads=[2, 2]), x))
    assert_streams(g.model(g.op("Add", y, z)))


@pytest.mark.parametrize(
    ("rate", "mode", "n_kept"),
    [(2, "linear", 2), (2, "cubic", 4), (3 / 2, "linear", 3), (2 / 5, "linear", 8)],
)
def test_a_stretch_keeps_the_steps_that_what_is_to_come_looks_at(rate: float, mode: str, n_kept: int) -> None:
    """The window of interpolation, what a step waits for that goes down, and the rest of a group of steps."""
    g = TinyGraph(opset=19)
    model = g.model(stretch(g, g.frames(), rate, mode=mode))
    (twin,) = assert_streams(model, plans=("states",), tolerance=1e-5)
    assert max(state.max_length for state in twin.spec.states) == n_kept


@pytest.mark.parametrize("rate", [3 / 2, 2])
def test_a_stretch_that_goes_up_has_nothing_to_smooth(rate: float) -> None:
    g = TinyGraph(opset=19)
    assert_streams(g.model(stretch(g, g.frames(), rate, mode="linear", antialias=1)), tolerance=1e-5)


def test_an_image_is_stretched_in_time_and_frequency() -> None:
    g = TinyGraph(opset=19)
    x = g.input("image", [1, 2, 6, "n"])
    x = g.op("Resize", x, "", g.const([1, 1, 1.5, 2], np.float32), mode="linear")
    assert_streams(g.model(x))


def test_a_stretch_names_its_axes() -> None:
    g = TinyGraph(opset=19)
    x = g.op(
        "Resize", g.unsqueeze(g.frames(), 2), "", g.const([1, 2], np.float32), mode="linear", axes=[2, 3]
    )
    assert_streams(g.model(g.squeeze(x, 2)))


def test_a_stretch_of_other_axes_leaves_time_alone() -> None:
    g = TinyGraph(opset=19)
    scales = g.const([2], np.float32)
    assert_streams(g.model(g.op("Resize", g.frames(), "", scales, mode="nearest", axes=[1])), tolerance=0)


def test_interpolation_streams_as_opset_10_has_it() -> None:
    g = TinyGraph(opset=10)
    x = g.op("Resize", g.frames(), g.const([1, 1, 3], np.float32), mode="linear")
    assert_streams(g.model(x))


def test_interpolation_to_a_computed_size_streams() -> None:
    g = TinyGraph(opset=19)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    size = g.op("Concat", g.const([1, N]), g.op("Mul", g.length(x), g.const([4])), axis=0)
    x = g.op("Resize", x, "", "", size, mode="linear", coordinate_transformation_mode="pytorch_half_pixel")
    assert_streams(g.model(g.conv(x, N, 2, 3, pads=[1, 1])))


def test_a_stretch_by_a_fraction_is_as_late_as_its_neighbours() -> None:
    """A fraction trails no more than the steps it reads and one of its own."""
    for rate in (3 / 2, 160 / 147):
        g = TinyGraph(opset=19)
        analysis = analyse_model(g.model(stretch(g, g.frames(), rate, mode="linear")))
        assert analysis.timelines[analysis.outputs[0]].lag < 2.5


REFUSED: dict[str, tuple[float, dict[str, Any], str]] = {
    "ends that meet the corners": (2, {"coordinate_transformation_mode": "align_corners"}, "length of the utterance"),
    "a share of the length": (2, {"coordinate_transformation_mode": "tf_crop_and_resize"}, "share of the length"),
    "a filter of its own": (1 / 2, {"antialias": 1}, "write it as a convolution"),
    "places counted from the middle": (
        1.5, {"coordinate_transformation_mode": "half_pixel_symmetric"}, "rate is a fraction"),
    "no ratio": (2**0.5, {}, "ratio of small whole numbers"),
    "cubic interpolation down": (1 / 2, {"mode": "cubic"}, "use linear"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_stretch_is_refused_that_depends_on_the_length(name: str) -> None:
    rate, attributes, reason = REFUSED[name]
    g = TinyGraph(opset=19)
    mode = attributes.pop("mode", "linear")
    if name == "a share of the length":
        x, scales = g.frames(), g.const([1, 1, rate], np.float32)
        roi = g.const([0, 0, 0, 1, 1, 1], np.float32)
        model = g.model(g.op("Resize", x, roi, scales, mode=mode, **attributes))
    else:
        model = g.model(stretch(g, g.frames(), rate, mode=mode, **attributes))
    with pytest.raises(NotStreamableError) as caught:
        make_streaming(model)
    assert reason in caught.value.reason
