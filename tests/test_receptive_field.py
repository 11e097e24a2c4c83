"""The receptive field, worked out from the graph, against what perturbing one frame really changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from balacoon_tk.decoder import FullDecoder, OverlapDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError, make_streaming
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.receptive_field import receptive_field
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from streaming_laws import Streamed
from tiny_graphs import TO_THE_END, TinyGraph

N = 3
"""Channels."""
N_FRAMES = 60


def resblock(g: TinyGraph, x: str, kernel: int, *dilations: int) -> str:
    for dilation in dilations:
        pad = dilation * (kernel - 1) // 2
        y = g.conv(g.op("LeakyRelu", x), N, N, kernel, pads=[pad, pad], dilations=[dilation])
        x = g.op("Add", x, g.conv(y, N, N, kernel, pads=[kernel // 2, kernel // 2]))
    return x


def hifigan(g: TinyGraph, x: str) -> str:
    x = g.conv(x, N, N, 7, pads=[3, 3])
    for stride, kernel in ((5, 11), (2, 4)):
        pad = (kernel - stride) // 2
        x = g.up(g.op("LeakyRelu", x), N, N, kernel, stride, pads=[pad, pad])
        x = g.op("Add", resblock(g, x, 3, 1, 3), resblock(g, x, 5, 1, 2))
    return g.conv(x, N, 1, 7, pads=[3, 3])


def wavenet(g: TinyGraph, x: str) -> str:
    for dilation in (1, 2, 4):
        y = g.conv(x, N, 2 * N, 3, pads=[dilation, dilation], dilations=[dilation])
        y = g.op("Add", g.slice(y, 0, N, 1), g.slice(y, N, TO_THE_END, 1))
        x = g.op("Add", x, y)
    return x


def vocos(g: TinyGraph, x: str) -> str:
    for _ in range(2):
        y = g.conv(x, N, N, 7, pads=[3, 3], groups=N)
        y = g.transpose(g.op("MatMul", g.transpose(y, 0, 2, 1), g.weight(N, N)), 0, 2, 1)
        x = g.op("Add", x, y)
    x = g.op("ConvTranspose", x, g.weight(N, 1, 16), strides=[4])
    return g.slice(x, 6, -6, 2)


def space_to_depth(g: TinyGraph, x: str) -> str:
    y = g.unsqueeze(g.conv(g.up(x, N, N, 2, 2), N, N, 2, pads=[0, 1]), 2)
    blocks = g.op("SpaceToDepth", g.op("Concat", y, y, axis=2), blocksize=2)
    return g.conv(g.squeeze(blocks, 2), 4 * N, 1, 1)


FIELDS: dict[str, Callable[[TinyGraph, str], str]] = {
    "nothing": lambda g, x: g.op("Relu", x),
    "same": lambda g, x: g.conv(x, N, 1, 5, pads=[2, 2]),
    "causal": lambda g, x: g.conv(x, N, 1, 5, pads=[4, 0]),
    "ahead": lambda g, x: g.conv(x, N, 1, 5, pads=[0, 4]),
    "even": lambda g, x: g.conv(x, N, 1, 4, pads=[1, 2]),
    "dilated": lambda g, x: g.conv(x, N, 1, 3, pads=[5, 5], dilations=[5]),
    "SAME_UPPER": lambda g, x: g.conv(x, N, 1, 4, auto_pad="SAME_UPPER"),
    "SAME_LOWER": lambda g, x: g.conv(x, N, 1, 4, auto_pad="SAME_LOWER"),
    "padded before": lambda g, x: g.conv(g.pad(x, 3, 1), N, 1, 5),
    "mirrored before": lambda g, x: g.conv(g.pad(x, 2, 2, mode="reflect"), N, 1, 5),
    "two branches": lambda g, x: g.op(
        "Add", g.conv(x, N, 1, 5, pads=[4, 0]), g.conv(x, N, 1, 7, pads=[0, 6])),
    "pool": lambda g, x: g.op("AveragePool", x, kernel_shape=[4], pads=[1, 2]),
    "largest": lambda g, x: g.op("AveragePool", x, kernel_shape=[3], pads=[2, 0], count_include_pad=1),
    "upsampled": lambda g, x: g.up(x, N, 1, 4, 2, pads=[1, 1]),
    "upsampled by 5": lambda g, x: g.up(x, N, 1, 11, 5, pads=[3, 3]),
    "upsampled with output padding": lambda g, x: g.up(x, N, 1, 10, 5, pads=[3, 3], output_padding=[1]),
    "upsampled, causal": lambda g, x: g.up(x, N, 1, 6, 3, pads=[0, 3]),
    "upsampled, kernel no multiple": lambda g, x: g.up(x, N, 1, 7, 3, pads=[2, 2]),
    "repeated": lambda g, x: g.conv(
        g.op("Resize", x, "", g.const([1, 1, 3], np.float32), mode="nearest"), N, 1, 5, pads=[2, 2]),
    **{
        f"interpolated by {up}, {transform}": lambda g, x, up=up, transform=transform: g.conv(
            g.op("Resize", x, "", g.const([1, 1, up], np.float32), mode="linear",
                 coordinate_transformation_mode=transform), N, 1, 3, pads=[1, 1])
        for up in (2, 3, 4) for transform in ("half_pixel", "asymmetric")
    },
    "interpolated, cubic": lambda g, x: g.squeeze(g.op(
        "Resize", g.unsqueeze(x, 2), "", g.const([1, 1, 1, 4], np.float32), mode="cubic"), 2),
    "up and down again": lambda g, x: g.conv(
        g.op("Relu", g.up(x, N, N, 4, 2, pads=[1, 1])), N, 1, 4, strides=[2], pads=[1, 1]),
    "up, cut, and down by half as much": lambda g, x: g.conv(g.slice(g.up(
        g.pad(x, 2, 2, mode="edge"), N, N, 12, 4), 12, -12, 2), N, 1, 3, strides=[2], pads=[1, 0]),
    "shuffled": lambda g, x: g.conv(g.op("Reshape", g.transpose(
        g.op("Reshape", g.conv(x, N, 4, 3, pads=[1, 1]), g.const([1, 2, 2, -1])), 0, 1, 3, 2),
        g.const([1, 2, -1])), 2, 1, 3, pads=[1, 1]),
    "looking ahead, and folded": lambda g, x: g.transpose(g.op("Reshape", g.transpose(
        g.conv(g.up(x, N, N, 2, 2), N, N, 2, pads=[0, 1]), 0, 2, 1), g.const([1, -1, 2 * N])), 0, 2, 1),
    "looking ahead, and folded by blocks": space_to_depth,
    "hifigan": hifigan,
    "wavenet": wavenet,
    "vocos": vocos,
}  # fmt: skip


def positive(build: Callable[[TinyGraph, str], str]) -> onnx.ModelProto:
    """Weights that can't cancel: what may depend on a frame does."""
    g = TinyGraph(positive=True)
    return g.model(build(g, g.frames(N)))


def changed(model: onnx.ModelProto, frame: int, n_frames: int = N_FRAMES) -> tuple[int, int]:
    """The first and last sample that another value of one frame changes."""
    session = Session(model, RuntimeOptions(n_threads=1))
    x = np.ones((1, N, n_frames), np.float32)
    (name, before), *_ = session.run({"frames": x}).items()
    x[..., frame] = 1000
    found = np.flatnonzero((session.run({"frames": x})[name] != before).any(axis=(0, 1)))
    return int(found[0]), int(found[-1])


@pytest.mark.parametrize("name", FIELDS)
def test_the_field_is_attained_to_the_sample(name: str) -> None:
    model = positive(FIELDS[name])
    field = receptive_field(model)
    left = analyse_model(model).timelines[analyse_model(model).outputs[0]].left
    for frame in (N_FRAMES // 2, N_FRAMES // 2 + 1):
        first, last = changed(model, frame)
        assert first == frame * field.hop_length - field.lag_samples
        assert last == (frame + 1) * field.hop_length + left - 1
        assert first // field.hop_length == frame - field.lookahead
        assert last // field.hop_length == frame + field.left_context
    assert field.n_frames == field.left_context + 1 + field.lookahead


@pytest.mark.parametrize("name", FIELDS)
def test_an_overlap_needs_the_field_and_no_less(name: str) -> None:
    model = positive(FIELDS[name])
    field = receptive_field(model)
    graph = OrtEngine(model, RuntimeOptions(n_threads=1))
    rng = np.random.default_rng(0)
    x = rng.uniform(0.5, 2, (1, N, N_FRAMES)).astype(np.float32)
    x[..., ::7] *= 100
    hop = field.hop_length
    whole = FullDecoder(graph, hop_length=hop).push(x, last=True)

    def overlapped(left: int, right: int) -> float:
        decoder = OverlapDecoder(graph, left_context=left, lookahead=right, hop_length=hop)
        parts = [decoder.push(x[..., k : k + 4], last=k + 4 == N_FRAMES) for k in range(0, N_FRAMES, 4)]
        return float(np.abs(np.concatenate(parts, axis=-1) / whole - 1).max())

    assert overlapped(field.left_context, field.lookahead) < 1e-5
    if field.left_context:
        assert overlapped(field.left_context - 1, field.lookahead) > 1e-4
    if field.lookahead:
        assert overlapped(field.left_context, field.lookahead - 1) > 1e-4


@pytest.mark.parametrize("name", FIELDS)
def test_the_stateful_graph_trails_by_the_same_lag(name: str) -> None:
    model = positive(FIELDS[name])
    field = receptive_field(model)
    for kind in ("states", "longest segments"):
        (output,) = Streamed(model, kind).spec.outputs  # type: ignore[arg-type]
        assert (output.lag, output.hop_length) == (field.lag_samples, field.hop_length)


def test_a_decoder_that_gives_no_whole_number_of_samples_has_no_field() -> None:
    with pytest.raises(ModelError, match="not a whole number of samples for each frame"):
        receptive_field(positive(lambda g, x: g.conv(x, N, 1, 3)))
    with pytest.raises(ModelError, match="not a whole number of samples for each frame"):
        receptive_field(positive(lambda g, x: g.conv(x, N, 1, 2, strides=[2])))


def test_a_recurrence_has_no_bounded_field() -> None:
    model = positive(lambda g, x: g.conv(g.op("CumSum", x, g.const(2)), N, 1, 3, pads=[1, 1]))
    with pytest.raises(ModelError, match="a recurrence looks back"):
        receptive_field(model)
    assert make_streaming(model)


def test_folded_frames_have_no_field_of_their_own() -> None:
    def fold(g: TinyGraph, x: str) -> str:
        y = g.op("Reshape", x, g.const([1, N, -1, 2]))
        y = g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, 2 * N, -1]))
        return g.up(y, 2 * N, 1, 2, 2)

    with pytest.raises(ModelError, match="the rate falls on the way"):
        receptive_field(positive(fold))


def test_what_cannot_be_streamed_has_no_field() -> None:
    with pytest.raises(NotStreamableError, match="reduces over time"):
        receptive_field(positive(lambda g, x: g.op("Sub", x, g.reduce("ReduceMean", x, 2))))
