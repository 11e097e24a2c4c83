"""Decoders that keep no state: windows with context around what is new, or all at the end."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from balacoon_tk.decoder import Decoder, FullDecoder, OverlapDecoder
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from decoder_streams import N_CHANNELS, close, push_all, two_rate_feeds, two_rates, vocoder
from streaming_laws import make_streaming
from tiny_graphs import TinyGraph

rng = np.random.default_rng(7)


@pytest.fixture(scope="module")
def plain() -> OrtEngine:
    return OrtEngine(vocoder(), RuntimeOptions(n_threads=1))


def integers(left: int, right: int, hop: int, n_out: int = 1) -> onnx.ModelProto:
    """A decoder with just this receptive field; sums of integers, so that every tap shows, unrounded."""
    g = TinyGraph()
    taps = np.arange(1, 2 * (left + right + 1) + 1).reshape(1, 2, -1)
    x = g.op("Conv", g.frames(2), g.const(taps, np.float32), pads=[left, right])
    kernel = np.arange(1, hop * n_out + 1).reshape(1, n_out, hop)
    return g.model(g.op("ConvTranspose", x, g.const(kernel, np.float32), strides=[hop]))


FIELDS = [(0, 0), (3, 0), (0, 3), (2, 5), (7, 1)]


@pytest.mark.parametrize(("left", "right"), FIELDS)
@pytest.mark.parametrize("n_out", [1, 2])
@pytest.mark.parametrize("stateful", [False, True])
def test_overlap_with_the_exact_context_gives_the_whole(
    left: int, right: int, n_out: int, stateful: bool
) -> None:
    model = integers(left, right, 3, n_out)
    graph = OrtEngine(make_streaming(model) if stateful else model, RuntimeOptions(n_threads=1))
    for n_frames in (0, 1, 2, left + right, left + right + 1, 29):
        x = rng.integers(-4, 5, (1, 2, n_frames)).astype(np.float32)
        whole = push_all(FullDecoder(graph, hop_length=3), x, [n_frames])
        assert whole.shape == (1, n_out, 3 * n_frames)
        for sizes in ([n_frames], [1] * n_frames, [n_frames, 0], [4] * (n_frames // 4) + [n_frames % 4]):
            decoder = OverlapDecoder(graph, left_context=left, lookahead=right, hop_length=3)
            assert np.array_equal(push_all(decoder, x, sizes or [0]), whole)


@pytest.mark.parametrize(("left", "right"), FIELDS)
def test_overlap_with_one_frame_less_does_not(left: int, right: int) -> None:
    graph = OrtEngine(integers(left, right, 3), RuntimeOptions(n_threads=1))
    x = rng.integers(1, 5, (1, 2, 29)).astype(np.float32)
    whole = push_all(FullDecoder(graph, hop_length=3), x, [29])
    for less_left, less_right in ((left - 1, right), (left, right - 1)):
        if min(less_left, less_right) >= 0:
            decoder = OverlapDecoder(graph, left_context=less_left, lookahead=less_right, hop_length=3)
            assert not np.array_equal(push_all(decoder, x, [4] * 7 + [1]), whole)


def test_overlap_trails_by_its_lookahead(plain: OrtEngine) -> None:
    decoder = OverlapDecoder(plain, left_context=6, lookahead=4, hop_length=6)
    assert decoder.lag_samples == 24
    n_given = 0
    for n_frames in range(1, 20):
        n_given += decoder.push(np.zeros((1, N_CHANNELS, 1), np.float32)).shape[-1]
        assert n_given == max(0, 6 * n_frames - decoder.lag_samples)


def push_by_fours(decoder: Decoder, feeds: dict[str, np.ndarray]) -> np.ndarray:
    parts = []
    for start in range(0, 20, 4):
        part = {
            "mel": feeds["mel"][..., start : start + 4],
            "f0": feeds["f0"][..., 3 * start : 3 * (start + 4)],
            "speaker": feeds["speaker"],
        }
        parts.append(decoder.push(part, last=start == 16))
    return np.concatenate(parts, axis=-1)


def test_overlap_and_full_take_inputs_of_several_rates() -> None:
    graph = OrtEngine(two_rates(), RuntimeOptions(n_threads=1))
    feeds = two_rate_feeds(20)
    whole = FullDecoder(graph, hop_length=3).push(feeds, last=True)
    assert whole.shape == (1, 1, 60)
    for decoder in (
        FullDecoder(graph, hop_length=3),
        OverlapDecoder(graph, left_context=3, lookahead=3, hop_length=3),
    ):
        assert close(push_by_fours(decoder, feeds), whole)


def test_the_fast_input_may_come_first_in_overlap() -> None:
    g = TinyGraph()
    f0, mel, speaker = g.frames(1, "f0"), g.frames(N_CHANNELS, "mel"), g.input("speaker", ["batch"], np.int64)
    row = g.unsqueeze(g.op("Gather", g.weight(5, N_CHANNELS), speaker, axis=0), 2)
    x = g.up(g.op("Add", mel, row), N_CHANNELS, 1, 3, 3)
    graph = OrtEngine(g.model(g.conv(g.op("Mul", x, f0), 1, 1, 5, pads=[2, 2])), RuntimeOptions(n_threads=1))
    # A batch has no name of its own here, but it is no time axis either: frames go on without it.
    feeds = two_rate_feeds(20) | {"speaker": np.array([3])}
    whole = FullDecoder(graph, hop_length=3).push(feeds, last=True)
    decoder = OverlapDecoder(graph, left_context=1, lookahead=1, hop_length=3)
    assert close(push_by_fours(decoder, feeds), whole)


@pytest.mark.parametrize(("left", "right"), [(-1, 0), (0, -1)])
def test_a_context_below_zero_is_an_error(left: int, right: int, plain: OrtEngine) -> None:
    with pytest.raises(ParameterError, match="=-1 must be >= 0"):
        OverlapDecoder(plain, left_context=left, lookahead=right, hop_length=6)


def test_overlap_of_several_outputs_is_refused() -> None:
    g = TinyGraph()
    x = g.frames()
    graph = OrtEngine(g.model(g.op("Tanh", x), g.op("Abs", x), names=("a", "b")), RuntimeOptions(n_threads=1))
    with pytest.raises(ParameterError, match="one output, not a, b"):
        OverlapDecoder(graph, left_context=0, lookahead=0, hop_length=1)
