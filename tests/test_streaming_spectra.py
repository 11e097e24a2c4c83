"""Spectra in graphs: transforms and overlapping frames become convolutions, and stream to both ends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto

from balacoon_tk.export import NotStreamableError, make_streaming
from balacoon_tk.graph.prepare import prepare
from balacoon_tk.runtime.session import Session
from streaming_laws import assert_streams
from tiny_graphs import TO_THE_END, TinyGraph

N, N_FFT, HOP = 4, 16, 4
N_BINS = N_FFT // 2 + 1
WINDOW = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)
TOLERANCE = 1e-5
"""Of the largest sample; kernels that were merged round otherwise than the steps they are made of."""


def operators(model: onnx.ModelProto) -> Counter[str]:
    """What a graph is made of once it is prepared; it must say the same."""
    prepared, inputs = prepare(model)
    proto = ir.to_proto(prepared)
    for n_frames in (3, 29):
        feeds = {
            name: np.random.default_rng(n_frames).standard_normal((1, N, n_frames * steps)).astype(np.float32)
            for name, steps in inputs.steps_per_frame.items()
        }
        (wanted,), (found,) = (Session(each).run(feeds).values() for each in (model, proto))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max(initial=1))
    return Counter(node.op_type for node in prepared.graph)


def spectrum(g: TinyGraph) -> str:
    """A spectrum (1, n_bins, n_frames, 2)."""
    x = g.conv(g.frames(N), N, 2 * N_BINS, 3, pads=[1, 1])
    return g.transpose(g.op("Reshape", x, g.const([1, 2, N_BINS, -1])), 0, 2, 3, 1)


def col2im(
    g: TinyGraph, frames: str, *, n_more: int = 0, pads=(0, 0), stride: int = HOP, row: bool = True
) -> str:
    """What fold becomes: frames (1, n_fft, n_frames) to a row or a column of samples."""
    length = g.op("Mul", g.op("Sub", g.length(frames), g.const([1])), g.const([stride]))
    length = g.op("Add", length, g.const([N_FFT + n_more - sum(pads)]))
    parts = [g.const([1]), length] if row else [length, g.const([1])]
    image = g.op("Concat", *parts, axis=0)
    attributes = {"strides": [1, stride] if row else [stride, 1]}
    if any(pads):
        attributes["pads"] = [0, pads[0], 0, pads[1]] if row else [pads[0], 0, pads[1], 0]
    block = [1, N_FFT] if row else [N_FFT, 1]
    return str(g.op("Col2Im", frames, image, g.const(block), **attributes))


def real_frames(g: TinyGraph, spectra: str, *, inverse: str = "irfft") -> str:
    """Frames (1, n_fft, n_frames) of a spectrum, without the window."""
    n_fft, axis = g.const(N_FFT), g.const(1)
    onesided = int(inverse == "irfft")
    y = g.op("DFT", spectra, n_fft, axis, inverse=1, onesided=onesided)
    return g.squeeze(y if onesided else g.slice(y, 0, 1, 3), 3)


def windows_of(g: TinyGraph, frames: str, *, axis: int = 2) -> str:
    """Squared windows (1, n_fft, n_frames), as many as frames."""
    shape = g.op("Concat", g.const([1]), g.length(frames, axis), g.const([N_FFT]), axis=0)
    squared = g.const(WINDOW[None, None] ** 2, np.float32)
    return g.transpose(g.op("Expand", squared, shape), 0, 2, 1)


def vocos_head(*, inverse: str = "irfft", opset: int = 20) -> onnx.ModelProto:
    """Frames by DFT, window, Col2Im, divided by the Col2Im of squared windows, both cut at the ends."""
    g = TinyGraph(opset=opset)
    spectra = spectrum(g)
    framed = g.op("Mul", real_frames(g, spectra, inverse=inverse), g.const(WINDOW[None, :, None], np.float32))
    pad = (N_FFT - HOP) // 2
    samples, sums = (
        g.slice(g.squeeze(col2im(g, each), 1, 2), pad, -pad, 1) for each in (framed, windows_of(g, spectra))
    )
    return g.model(g.op("Div", samples, sums))


@pytest.mark.parametrize("inverse", ["irfft", "ifft"])
def test_a_head_of_fourier_transforms_is_two_transposed_convolutions_and_streams(inverse: str) -> None:
    model = vocos_head(inverse=inverse)
    found = operators(model)
    assert found["ConvTranspose"] == 2
    assert not {"DFT", "Col2Im"} & set(found)
    assert_streams(model, tolerance=TOLERANCE)


@pytest.mark.parametrize("optimize", [False, True])
def test_a_head_streams_whose_windows_are_squeezed_without_axes(optimize: bool) -> None:
    g = TinyGraph(opset=20)
    frames = g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1])
    sums = g.op("Squeeze", col2im(g, windows_of(g, frames)))
    samples = g.op("Squeeze", col2im(g, frames), g.const([1, 2]))
    pad = (N_FFT - HOP) // 2
    model = g.model(g.op("Div", g.slice(samples, pad, -pad, 1), g.slice(sums, pad, -pad, 0)))
    assert_streams(model, tolerance=TOLERANCE, optimize=optimize)


@pytest.mark.parametrize(
    "options",
    [{"row": False}, {"n_more": 3}, {"pads": (6, 6)}, {"pads": (2, 5), "n_more": 1}, {"stride": 1}],
    ids=str,
)
def test_overlapping_blocks_stream(options) -> None:
    g = TinyGraph(opset=18)
    added = col2im(g, g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1]), **options)
    model = g.model(g.squeeze(added, 3 if not options.get("row", True) else 2))
    assert operators(model)["ConvTranspose"] == 1
    assert_streams(model, tolerance=TOLERANCE)


def test_blocks_of_several_channels_stay_apart() -> None:
    g = TinyGraph(opset=18)
    added = col2im(g, g.conv(g.frames(N), N, 3 * N_FFT, 3, pads=[1, 1]))
    model = g.model(g.conv(g.squeeze(added, 2), 3, 1, 5, pads=[2, 2]))
    assert operators(model)["ConvTranspose"] == 1
    assert_streams(model, tolerance=TOLERANCE)


def test_blocks_of_an_area_are_refused() -> None:
    g = TinyGraph(opset=18)
    x = g.conv(g.frames(N), N, 6, 3, pads=[1, 1])
    model = g.model(g.op("Col2Im", g.transpose(x, 2, 1, 0), g.const([2, 3]), g.const([2, 3])))
    with pytest.raises(NotStreamableError) as caught:
        make_streaming(model)
    assert caught.value.op_type == "Col2Im"
    assert caught.value.reason.startswith("only one row of blocks")


def signal(g: TinyGraph) -> str:
    """A signal (1, n_samples) of 8 samples a frame."""
    return g.squeeze(g.conv(g.up(g.frames(N), N, 3, 16, 8, pads=[4, 4]), 3, 1, 5, pads=[2, 2]), 1)


@pytest.mark.parametrize("onesided", [1, 0])
@pytest.mark.parametrize("has_length", [True, False])
@pytest.mark.parametrize("has_unit_axis", [True, False])
def test_a_short_time_transform_streams(onesided: int, has_length: bool, has_unit_axis: bool) -> None:
    g = TinyGraph(opset=17)
    x = g.pad(signal(g), 8, 8, axis=1, rank=2, mode="reflect")
    x = g.unsqueeze(x, 2) if has_unit_axis else x
    length = [g.const(N_FFT)] if has_length else []
    y = g.op("STFT", x, g.const(HOP), g.const(WINDOW, np.float32), *length, onesided=onesided)
    power = g.reduce("ReduceSumSquare", y, 3, keepdims=0)
    n_bins = N_BINS if onesided else N_FFT
    model = g.model(g.conv(g.transpose(power, 0, 2, 1), n_bins, 2, 3, pads=[1, 1]))
    assert not operators(model)["STFT"]
    assert_streams(model, tolerance=TOLERANCE)


def test_a_window_that_is_computed_of_constants_is_taken_as_it_is() -> None:
    g = TinyGraph(opset=17)
    window = g.op("Cast", g.const(WINDOW, np.float64), to=TensorProto.FLOAT)
    y = g.op("STFT", g.unsqueeze(signal(g), 2), g.const(HOP), window, g.const(N_FFT))
    model = g.model(g.transpose(g.slice(y, 0, 1, 3), 0, 2, 3, 1))
    assert operators(model)["Conv"] == 2
    assert_streams(model, tolerance=TOLERANCE)


def test_frames_without_a_window_are_as_long_as_is_said() -> None:
    g = TinyGraph(opset=17)
    y = g.op("STFT", g.unsqueeze(signal(g), 2), g.const(HOP), "", g.const(N_FFT))
    model = g.model(g.transpose(g.slice(y, 1, 2, 3), 0, 2, 3, 1))
    assert operators(model)["Conv"] == 2
    assert_streams(model, tolerance=TOLERANCE)


def test_steps_are_left_alone_that_somebody_else_reads() -> None:
    """What is merged would be computed twice."""
    g = TinyGraph(opset=20)
    x = g.op("MatMul", g.weight(6, N), g.frames(N))
    model = g.model(g.op("Add", g.up(x, 6, 6, 1, 1), x))
    assert operators(model) == {"MatMul": 1, "ConvTranspose": 1, "Add": 1}


@pytest.mark.parametrize(
    "build",
    [
        lambda g, x: g.op("Mul", x, g.op("Exp", x)),
        lambda g, x: g.slice(g.op("Mul", x, g.number(2)), 1, TO_THE_END, 2),
        lambda g, x: g.op("Add", g.op("Mul", x, g.number(2)), g.number(1)),
        lambda g, x: g.transpose(
            g.op("Reshape", g.transpose(g.op("Mul", x, g.number(2)), 0, 2, 1), g.const([1, -1, 2])), 0, 2, 1
        ),
    ],
    ids=["not linear", "cuts time", "adds a constant", "folds time"],
)
def test_what_is_not_a_linear_step_is_not_merged(build) -> None:
    g = TinyGraph(opset=20)
    x = build(g, g.conv(g.frames(N), N, N, 3, pads=[1, 1]))
    n = 2 if g.nodes[-1].op_type == "Transpose" else N
    model = g.model(g.up(x, n, 1, 8, 4))
    assert sum(operators(model).values()) == len(g.nodes)
    assert_streams(model, tolerance=TOLERANCE)


def places(g: TinyGraph, x: str, *, by_frame: bool, step: str | None = None) -> str:
    """Where each element of frames goes, (n_frames, n_fft) or the other way round, flattened."""
    n_frames = g.op("Squeeze", g.length(x), g.const([0]))
    starts = g.op("Mul", g.op("Range", g.const(0), n_frames, g.const(1)), step or g.const(HOP))
    within = g.op("Range", g.const(0), g.const(N_FFT), g.const(1))
    both = g.op("Add", g.unsqueeze(starts, 1 if by_frame else 0), g.unsqueeze(within, 0 if by_frame else 1))
    return str(g.op("Reshape", both, g.const([-1])))


def zeros(g: TinyGraph, x: str, *shape: int, n_more: int = 0, value: float = 0.0) -> str:
    """Zeros as many as the samples, which stand at -1 in the shape."""
    steps = g.op("Mul", g.op("Sub", g.length(x), g.const([1])), g.const([HOP]))
    steps = g.op("Add", steps, g.const([N_FFT + n_more]))
    sizes = g.op("Concat", *(steps if n < 0 else g.const([n]) for n in shape), axis=0)
    return str(g.op("Expand", g.number(value), sizes))


def scattered(
    g: TinyGraph, x: str, op_type: str, *, by_frame: bool = True, n_more: int = 0, value: float = 0.0,
    step: str | None = None, reduction: str = "add",
) -> str:  # fmt: skip
    """Frames (1, n_fft, n_frames) added up at computed places, to (1, n_samples)."""
    where = places(g, x, by_frame=by_frame, step=step)
    ordered = g.transpose(x, 0, 2, 1) if by_frame else x
    if op_type == "ScatterND":
        start = zeros(g, x, -1, n_more=n_more, value=value)
        updates = g.op("Reshape", ordered, g.const([-1]))
        added = g.op("ScatterND", start, g.unsqueeze(where, 1), updates, reduction=reduction)
        return g.unsqueeze(added, 0)
    start = zeros(g, x, 1, -1, n_more=n_more, value=value)
    updates = g.op("Reshape", ordered, g.const([1, -1]))
    return str(g.op("ScatterElements", start, g.unsqueeze(where, 0), updates, axis=1, reduction=reduction))


@pytest.mark.parametrize("op_type", ["ScatterND", "ScatterElements"])
@pytest.mark.parametrize("options", [{}, {"by_frame": False}, {"n_more": 3}], ids=str)
def test_frames_that_are_scattered_stream(op_type: str, options) -> None:
    g = TinyGraph(opset=18)
    x = g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1])
    model = g.model(scattered(g, x, op_type, **options))
    found = operators(model)
    assert found["ConvTranspose"] == 1
    assert not {op_type, "Range"} & set(found)
    assert_streams(model, tolerance=TOLERANCE)


def test_a_head_of_scattered_frames_and_windows_streams() -> None:
    """As the newer exporter takes torch's own inverse transform apart."""
    g = TinyGraph(opset=20)
    spectra = spectrum(g)
    frames = g.op("Mul", real_frames(g, spectra), g.const(WINDOW[None, :, None], np.float32))
    samples, sums = (scattered(g, each, "ScatterND") for each in (frames, windows_of(g, spectra)))
    half = N_FFT // 2
    samples, sums = (g.slice(each, half, -half, 1) for each in (samples, sums))
    model = g.model(g.op("Div", samples, sums))
    assert operators(model)["ConvTranspose"] == 2
    assert_streams(model, tolerance=TOLERANCE)


@pytest.mark.parametrize(
    ("options", "op_type"),
    [
        ({"value": 1.0}, "Range"),
        ({"reduction": "max"}, "Range"),
        ({"n_more": HOP}, "Range"),
        ({"step": "given"}, "Range"),
    ],
    ids=str,
)
def test_what_is_scattered_in_other_ways_is_refused(options, op_type: str) -> None:
    g = TinyGraph(opset=18)
    x = g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1])
    if "step" in options:
        options = {"step": g.op("Cast", g.op("Abs", g.input("step", [1])), to=TensorProto.INT64)}
    with pytest.raises(NotStreamableError) as caught:
        make_streaming(g.model(scattered(g, x, "ScatterND", **options)))
    assert caught.value.op_type == op_type
