"""Operators that look at a window of time: convolutions, pooling, padding, repetition."""

from __future__ import annotations

from itertools import product

import numpy as np
import onnx
import pytest

from balacoon_tk.export import NotStreamableError, make_streaming
from streaming_laws import assert_streams
from tiny_graphs import TinyGraph

CONVOLUTIONS = {
    "same padding": {"kernel": 5, "pads": [2, 2]},
    "one tap": {"kernel": 1},
    "one tap with padding": {"kernel": 1, "pads": [2, 3]},
    "dilation": {"kernel": 3, "pads": [3, 3], "dilations": [3]},
    "groups": {"kernel": 3, "pads": [1, 1], "groups": 2},
    "depthwise": {"kernel": 5, "pads": [2, 2], "groups": 4},
    "depthwise without bias": {"kernel": 7, "pads": [3, 3], "groups": 4, "bias": False},
    "even kernel": {"kernel": 4, "pads": [1, 2]},
    "even kernel, padded left": {"kernel": 4, "pads": [2, 1]},
    "causal": {"kernel": 5, "pads": [4, 0]},
    "causal and dilated": {"kernel": 3, "pads": [8, 0], "dilations": [4]},
    "looking ahead only": {"kernel": 5, "pads": [0, 4]},
    "no padding": {"kernel": 4},
    "padding on the left that is too small": {"kernel": 5, "pads": [1, 0]},
    "more padding than kernel": {"kernel": 3, "pads": [5, 4]},
    "more padding than kernel on the left": {"kernel": 3, "pads": [4, 0]},
    "more padding than kernel on the right": {"kernel": 3, "pads": [0, 4]},
    "SAME_UPPER": {"kernel": 4, "auto_pad": "SAME_UPPER"},
    "SAME_LOWER": {"kernel": 4, "auto_pad": "SAME_LOWER"},
    "VALID": {"kernel": 3, "auto_pad": "VALID"},
}

STRIDED = {
    "stride 2": {"kernel": 5, "pads": [2, 2], "strides": [2]},
    "stride 2, no padding": {"kernel": 4, "strides": [2]},
    "stride 2, padded left": {"kernel": 4, "pads": [3, 0], "strides": [2]},
    "stride 2, padded right": {"kernel": 4, "pads": [0, 3], "strides": [2]},
    "stride 3, kernel 3": {"kernel": 3, "strides": [3]},
    "stride 4, kernel 9, dilated": {"kernel": 5, "dilations": [2], "pads": [3, 1], "strides": [4]},
    "stride 2, kernel 1": {"kernel": 1, "strides": [2]},
    "stride 3, kernel 2": {"kernel": 2, "pads": [1, 0], "strides": [3]},
    "stride 5, kernel 2": {"kernel": 2, "pads": [0, 1], "strides": [5]},
    "stride 7, kernel 3, padded": {"kernel": 3, "pads": [3, 3], "strides": [7]},
    "stride 2, more padding than kernel": {"kernel": 3, "pads": [5, 5], "strides": [2]},
}

TRANSPOSED = {
    "stride 1": {"kernel": 5, "stride": 1, "pads": [2, 2]},
    "stride 1, uncropped": {"kernel": 3, "stride": 1},
    "stride 2": {"kernel": 4, "stride": 2, "pads": [1, 1]},
    "stride 4, kernel 16": {"kernel": 16, "stride": 4, "pads": [6, 6]},
    "stride 5, output padding": {"kernel": 11, "stride": 5, "pads": [3, 3], "output_padding": [1]},
    "stride 5, kernel 10, output padding": {"kernel": 10, "stride": 5, "pads": [3, 3], "output_padding": [1]},
    "kernel as wide as the stride": {"kernel": 3, "stride": 3},
    "kernel below the stride": {"kernel": 2, "stride": 3},
    "kernel below the stride, output padding": {"kernel": 2, "stride": 3, "output_padding": [1]},
    "kernel 1, stride 3": {"kernel": 1, "stride": 3},
    "kernel not a multiple": {"kernel": 7, "stride": 3, "pads": [2, 2]},
    "cropped on the left": {"kernel": 4, "stride": 2, "pads": [2, 0]},
    "cropped on the right (causal)": {"kernel": 4, "stride": 2, "pads": [0, 2]},
    "cropped by more than the kernel": {"kernel": 3, "stride": 2, "pads": [5, 4]},
    "uncropped": {"kernel": 6, "stride": 2},
    "dilated": {"kernel": 3, "stride": 2, "dilations": [3], "pads": [2, 3]},
    "groups": {"kernel": 4, "stride": 2, "groups": 2, "pads": [1, 1]},
    "depthwise": {"kernel": 4, "stride": 2, "groups": 4, "pads": [1, 1], "bias": False},
    "VALID": {"kernel": 4, "stride": 2, "auto_pad": "VALID"},
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_streams(name: str) -> None:
    g = TinyGraph()
    assert_streams(g.model(g.conv(g.frames(), 4, 4, **CONVOLUTIONS[name])))


@pytest.mark.parametrize("name", STRIDED)
def test_a_strided_convolution_streams(name: str) -> None:
    g = TinyGraph()
    assert_streams(g.model(g.conv(g.frames(), 4, 4, **STRIDED[name])))


@pytest.mark.parametrize(("kernel", "stride", "held"), [(3, 3, [2]), (2, 3, [1, 1]), (1, 4, [0, 3])])
def test_a_strided_convolution_counts_only_steps_that_no_window_sees(
    kernel: int, stride: int, held: list[int]
) -> None:
    g = TinyGraph()
    model = g.model(g.conv(g.frames(), 4, 4, kernel, strides=[stride]))
    (twin, *_) = assert_streams(model, plans=("states",))
    assert [state.max_length for state in twin.spec.states] == held


@pytest.mark.parametrize("name", TRANSPOSED)
def test_a_transposed_convolution_streams(name: str) -> None:
    g = TinyGraph()
    assert_streams(g.model(g.up(g.frames(), 4, 4, **TRANSPOSED[name])))


def test_a_causal_convolution_has_no_lag() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), 4, 4, 3, pads=[2, 0])
    x = g.conv(x, 4, 4, 5, pads=[8, 0], dilations=[2])
    x = g.conv(x, 4, 4, 3, pads=[2, 0])
    for pair in assert_streams(g.model(x)):
        assert pair.spec.outputs[0].lag == 0
        assert pair.spec.min_first_frames == 1


@pytest.mark.parametrize("pads", [(3, 0), (0, 3), (2, 3), (-2, 0), (0, -3), (-1, -2), (-2, 3), (3, -2)])
@pytest.mark.parametrize("value", [None, 0.5])
def test_an_explicit_padding_streams(pads: tuple[int, int], value: float | None) -> None:
    g = TinyGraph()
    assert_streams(g.model(g.pad(g.frames(), *pads, value=value)), tolerance=0)


@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize(
    ("left", "right", "n_first"), [(3, 0, 4), (0, 3, 4), (2, 3, 4), (-2, 3, 6), (3, -2, 6)]
)
def test_a_padding_that_repeats_the_ends_streams(mode: str, left: int, right: int, n_first: int) -> None:
    g = TinyGraph()
    for pair in assert_streams(g.model(g.pad(g.frames(), left, right, mode=mode)), tolerance=0):
        assert pair.spec.min_first_frames == n_first


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
def test_a_padding_beside_time_keeps_nothing(mode: str) -> None:
    g = TinyGraph()
    for pair in assert_streams(g.model(g.pad(g.frames(), 2, 1, axis=1, mode=mode)), tolerance=0):
        assert not pair.spec.states


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize("pads", [(4, 0), (2, 2), (0, 4), (3, 5)])
def test_a_convolution_behind_a_padding_streams(mode: str, pads: tuple[int, int]) -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), 4, 4, 3, pads=[1, 1])
    x = g.conv(g.pad(x, *pads, mode=mode), 4, 4, 5)
    assert_streams(g.model(g.up(x, 4, 2, 4, 2, pads=[1, 1])))


@pytest.mark.parametrize("mode", ["reflect", "edge"])
def test_a_padding_behind_a_convolution_sees_its_ends(mode: str) -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), 4, 4, 7, pads=[3, 3])
    x = g.up(x, 4, 4, 6, 3, pads=[1, 2])
    x = g.conv(g.pad(x, 5, 4, mode=mode), 4, 2, 5, pads=[1, 0], dilations=[2])
    assert_streams(g.model(x))


POOLS = {
    "mean": ("AveragePool", {"kernel_shape": [3]}),
    "mean, padded": ("AveragePool", {"kernel_shape": [3], "pads": [1, 1]}),
    "mean, padded left": ("AveragePool", {"kernel_shape": [3], "pads": [2, 0]}),
    "mean, padding counted": ("AveragePool", {"kernel_shape": [4], "pads": [2, 1], "count_include_pad": 1}),
    "mean, strided": ("AveragePool", {"kernel_shape": [2], "strides": [2]}),
    "mean, strided, overlapping": ("AveragePool", {"kernel_shape": [4], "strides": [2]}),
    "mean, SAME_UPPER": ("AveragePool", {"kernel_shape": [4], "auto_pad": "SAME_UPPER"}),
    "largest": ("MaxPool", {"kernel_shape": [3]}),
    "largest, padded": ("MaxPool", {"kernel_shape": [3], "pads": [1, 1]}),
    "largest, padded right": ("MaxPool", {"kernel_shape": [3], "pads": [0, 2]}),
    "largest, dilated": ("MaxPool", {"kernel_shape": [3], "dilations": [2], "pads": [2, 2]}),
    "largest, strided": ("MaxPool", {"kernel_shape": [3], "strides": [2]}),
    "largest, kernel below stride": ("MaxPool", {"kernel_shape": [2], "strides": [3]}),
    "mean, kernel below stride": ("AveragePool", {"kernel_shape": [1], "strides": [2]}),
    "norm": ("LpPool", {"kernel_shape": [3], "pads": [1, 1], "p": 2}),
}


@pytest.mark.parametrize("name", POOLS)
def test_a_pool_streams(name: str) -> None:
    op_type, attributes = POOLS[name]
    g = TinyGraph()
    assert_streams(g.model(g.op(op_type, g.frames(), **attributes)))


TRANSFORMS = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")
NEAREST = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


@pytest.mark.parametrize("factor", [1, 2, 3, 5])
def test_repeating_every_step_streams_and_anything_else_is_refused(factor: int) -> None:
    n_streamed = 0
    for transform, nearest in product(TRANSFORMS, NEAREST):
        g = TinyGraph(opset=19)
        scales = g.const([1, 1, factor], np.float32)
        mode = {"coordinate_transformation_mode": transform, "nearest_mode": nearest}
        model = g.model(g.op("Resize", g.frames(), "", scales, mode="nearest", **mode))
        try:
            make_streaming(model)
        except NotStreamableError as error:
            assert "equally often" in error.reason, mode
            continue
        n_streamed += 1
        if factor > 1 or n_streamed == 1:
            assert_streams(model, tolerance=0, plans=("segments",))
    assert n_streamed == (20 if factor == 1 else 7)


def test_repeating_every_step_streams_as_opset_10_has_it() -> None:
    g = TinyGraph(opset=10)
    assert_streams(g.model(g.op("Resize", g.frames(), g.const([1, 1, 3], np.float32))), tolerance=0)


def test_a_stretch_over_channels_is_nothing_to_time() -> None:
    g = TinyGraph()
    x = g.op("Resize", g.frames(), "", g.const([1, 2, 1], np.float32), mode="nearest")
    assert_streams(g.model(x), tolerance=0)


def two_dimensional(axis: int, opset: int = 17) -> onnx.ModelProto:
    g = TinyGraph(opset=opset)
    x = g.input("image", [1, 2, 6, "n"] if axis == 3 else [1, 2, "n", 6])
    pads = [1, 2, 1, 1] if axis == 3 else [2, 1, 1, 1]
    x = g.op("Conv", x, g.weight(3, 2, 3, 3), g.weight(3), pads=pads)
    strides, shape = ([1, 2], (3, 2, 3, 4)) if axis == 3 else ([2, 1], (3, 2, 4, 3))
    x = g.op("ConvTranspose", x, g.weight(*shape), strides=strides, pads=[1, 1, 1, 1])
    return g.model(g.op("LeakyRelu", x))


@pytest.mark.parametrize("axis", [2, 3])
def test_a_convolution_over_frequency_and_time_streams(axis: int) -> None:
    assert_streams(two_dimensional(axis))


@pytest.mark.parametrize("auto_pad", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 1), (4, 3), (1, 4)])
def test_automatic_padding_of_several_axes_streams_where_time_is_one_of_them(
    kernel: int, stride: int, auto_pad: str
) -> None:
    g = TinyGraph()
    x = g.input("image", [1, 2, 7, "n"])
    weight = g.weight(3, 2, kernel, 3)
    assert_streams(g.model(g.op("Conv", x, weight, auto_pad=auto_pad, strides=[stride, 1])))


@pytest.mark.parametrize("auto_pad", ["NOTSET", "VALID"])
def test_a_convolution_over_frequency_and_time_without_padding_streams(auto_pad: str) -> None:
    g = TinyGraph()
    x = g.input("image", [1, 2, 6, "n"])
    assert_streams(g.model(g.op("Conv", x, g.weight(3, 2, 3, 3), auto_pad=auto_pad)))


def test_a_convolution_and_what_is_added_to_it_wait_in_one_state() -> None:
    g = TinyGraph()
    x = g.frames()
    (twin,) = assert_streams(g.model(g.op("Add", x, g.conv(x, 4, 4, 5, pads=[2, 2]))), plans=("states",))
    assert len(twin.spec.states) == 1


def test_a_convolution_over_other_axes_with_time_as_the_batch_streams() -> None:
    g = TinyGraph()
    x = g.input("spectra", ["n", 2, 9])
    x = g.conv(x, 2, 3, 3, pads=[1, 1], strides=[2])
    assert_streams(g.model(g.up(x, 3, 2, 4, 2, pads=[1, 1])))
