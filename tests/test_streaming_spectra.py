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
from spectral_graphs import INVERSES, OVERLAPS, Head, Inverse, N, Overlap
from streaming_laws import assert_streams
from tiny_graphs import TO_THE_END, TinyGraph

HEAD = Head()
N_FFT, HOP, N_BINS = HEAD.n_fft, HEAD.hop, HEAD.n_bins
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


def inverse_transform(
    head: Head, inverse: Inverse, overlap: Overlap, *, cut: int, divided: bool = True, opset: int = 20
) -> onnx.ModelProto:
    """Frames by an inverse transform, windowed and added up, divided by the sums of windows, cut at the ends."""
    g = TinyGraph(opset=opset)
    spectrum = head.spectrum(g)
    frames = head.windowed(g, head.frames(g, spectrum, inverse))
    samples = head.add_up(g, frames, overlap)
    parts = [samples, head.add_up(g, head.windows(g, spectrum), overlap)] if divided else [samples]
    parts = [g.slice(part, cut, -cut, 1) for part in parts] if cut else parts
    return g.model(g.op("Div", *parts) if divided else g.op("Neg", *parts))


@pytest.mark.parametrize("opset", [18, 20])
@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("inverse", INVERSES)
def test_a_head_is_two_transposed_convolutions_and_streams(
    inverse: Inverse, overlap: Overlap, opset: int
) -> None:
    model = inverse_transform(HEAD, inverse, overlap, cut=(N_FFT - HOP) // 2, opset=opset)
    found = operators(model)
    assert found["ConvTranspose"] == 2
    # The halves of a spectrum that is mirrored meet in a Concat: two things are nothing to merge.
    assert not {*OVERLAPS, *([] if inverse == "mirrored" else ["DFT"])} - {"ConvTranspose"} & set(found)
    assert_streams(model, tolerance=TOLERANCE, plans=("planned", "states"))


@pytest.mark.parametrize("seed", range(16))
def test_random_heads_stream(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n_fft = int(rng.integers(4, 21))
    hop = int(rng.integers(1, n_fft // 2 + 1))
    head = Head(n_fft, hop, n_more=int(rng.integers(0, hop)))
    inverse, overlap = str(rng.choice(INVERSES)), str(rng.choice(OVERLAPS))
    cut = int(rng.integers(0, n_fft // 2))
    model = inverse_transform(
        head, inverse, overlap, cut=cut, divided=bool(rng.integers(2)) and not head.n_more
    )
    assert_streams(model, tolerance=TOLERANCE, plans=("planned", "states", "segments"))


@pytest.mark.parametrize("optimize", [False, True])
def test_a_head_streams_whose_windows_are_squeezed_without_axes(optimize: bool) -> None:
    g = TinyGraph(opset=20)
    frames = g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1])
    sums = g.op("Squeeze", HEAD.col2im(g, HEAD.windows(g, frames)))
    samples = g.op("Squeeze", HEAD.col2im(g, frames), g.const([1, 2]))
    pad = (N_FFT - HOP) // 2
    model = g.model(g.op("Div", g.slice(samples, pad, -pad, 1), g.slice(sums, pad, -pad, 0)))
    assert_streams(model, tolerance=TOLERANCE, optimize=optimize)


@pytest.mark.parametrize("row", [True, False])
@pytest.mark.parametrize("pads", [(0, 0), (6, 6), (2, 5)])
@pytest.mark.parametrize("head", [HEAD, Head(n_more=3), Head(hop=1)], ids=str)
def test_overlapping_blocks_stream(head: Head, pads: tuple[int, int], row: bool) -> None:
    g = TinyGraph(opset=18)
    added = head.col2im(g, g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1]), row=row, pads=pads)
    model = g.model(g.squeeze(added, 2 if row else 3))
    assert operators(model)["ConvTranspose"] == 1
    assert_streams(model, tolerance=TOLERANCE, plans=("planned", "states"))


def test_blocks_of_several_channels_stay_apart() -> None:
    g = TinyGraph(opset=18)
    added = HEAD.col2im(g, g.conv(g.frames(N), N, 3 * N_FFT, 3, pads=[1, 1]))
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
    y = g.op("STFT", x, g.const(HOP), g.const(HEAD.window, np.float32), *length, onesided=onesided)
    power = g.reduce("ReduceSumSquare", y, 3, keepdims=0)
    n_bins = N_BINS if onesided else N_FFT
    model = g.model(g.conv(g.transpose(power, 0, 2, 1), n_bins, 2, 3, pads=[1, 1]))
    assert not operators(model)["STFT"]
    assert_streams(model, tolerance=TOLERANCE)


def test_a_window_that_is_computed_of_constants_is_taken_as_it_is() -> None:
    g = TinyGraph(opset=17)
    window = g.op("Cast", g.const(HEAD.window, np.float64), to=TensorProto.FLOAT)
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


@pytest.mark.parametrize(
    "options", [{"value": 1.0}, {"reduction": "max"}, {"hop": "given"}, {"n_more": HOP}], ids=str
)
def test_what_is_scattered_in_other_ways_is_refused(options) -> None:
    g = TinyGraph(opset=18)
    x = g.conv(g.frames(N), N, N_FFT, 3, pads=[1, 1])
    head = Head(n_more=options.pop("n_more", 0))
    if "hop" in options:
        options = {"hop": g.op("Cast", g.op("Abs", g.input("hop", [1])), to=TensorProto.INT64)}
    with pytest.raises(NotStreamableError):
        make_streaming(g.model(head.scatter(g, x, "ScatterND", **options)))


def gathered(
    g: TinyGraph,
    x: str,
    *,
    axis: int,
    hop: int = HOP,
    by_frame: bool = True,
    n_frames: str = "all",
    odd: bool = False,
) -> str:
    """Frames looked up in a signal, whose time is on an axis; where time was are frames and places, or turned."""
    length = g.op("Squeeze", g.length(x, axis), g.const([0]))
    if n_frames == "all":
        count = g.op("Add", g.op("Div", g.op("Sub", length, g.const(N_FFT)), g.const(hop)), g.const(1))
    else:
        count = g.op("Div", length, g.const(2 * hop))
    starts = g.op("Mul", g.op("Range", g.const(0), count, g.const(1)), g.const(hop))
    if n_frames == "by steps":
        starts = g.op("Range", g.const(0), g.op("Sub", length, g.const(N_FFT - 1)), g.const(hop))
    within = g.op("Range", g.const(0), g.const(N_FFT), g.const(1))
    within = g.op("Mul", within, within) if odd else within
    places = g.op("Add", g.unsqueeze(starts, int(by_frame)), g.unsqueeze(within, int(not by_frame)))
    return str(g.op("Gather", x, places, axis=axis))


@pytest.mark.parametrize("n_frames", ["all", "by steps"])
@pytest.mark.parametrize("by_frame", [True, False])
@pytest.mark.parametrize("axis", [1, 2])
def test_frames_that_are_looked_up_stream(axis: int, by_frame: bool, n_frames: str) -> None:
    """A short-time transform written out: frames by their places, a window, a transform of each."""
    g = TinyGraph(opset=20)
    x = g.pad(g.up(g.frames(N), N, 2, 16, 8, pads=[4, 4]), 6, 6, mode="reflect")
    x = g.transpose(x, 0, 2, 1) if axis == 1 else x
    y = gathered(g, x, axis=axis, by_frame=by_frame, n_frames=n_frames)
    order = [0, 3, 1, 2] if axis == 1 else [0, 1, 2, 3]
    y = g.transpose(y, *order)  # (1, 2 channels, then frames and places or turned)
    y = y if by_frame else g.transpose(y, 0, 1, 3, 2)
    y = g.unsqueeze(g.op("Mul", y, g.const(HEAD.window, np.float32)), 4)
    y = g.op("DFT", y, "", g.const(3), onesided=1)
    power = g.reduce("ReduceSumSquare", y, 4, keepdims=0)  # (1, 2, n_frames, n_bins)
    power = g.op("Reshape", g.transpose(power, 0, 1, 3, 2), g.const([1, 2 * N_BINS, -1]))
    model = g.model(g.conv(power, 2 * N_BINS, 2, 3, pads=[1, 1]))
    assert not {"Gather", "Range"} & set(operators(model))
    assert_streams(model, tolerance=TOLERANCE, plans=("planned", "states"))


def test_fewer_frames_than_fit_are_refused() -> None:
    g = TinyGraph(opset=20)
    x = g.up(g.frames(N), N, 2, 16, 8, pads=[4, 4])
    with pytest.raises(NotStreamableError):
        make_streaming(g.model(gathered(g, x, axis=2, n_frames="half")))
