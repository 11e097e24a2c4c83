"""The three decoders: one protocol, the same samples, and nothing lost when a push goes wrong."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest

from balacoon_tk.decoder import (
    StatefulDecoder,
    StreamState,
    open_decoder,
)
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from decoder_streams import (
    N_CHANNELS,
    close,
    down_and_up,
    push_all,
    two_rate_feeds,
    two_rates,
    vocoder,
)
from streaming_laws import make_streaming
from tiny_graphs import TinyGraph

N_FRAMES = 23
rng = np.random.default_rng(7)


def folding() -> onnx.ModelProto:
    """Takes two frames at a time; a whole utterance of an odd number can't be decoded."""
    g = TinyGraph()
    x = g.op("Reshape", g.conv(g.frames(), N_CHANNELS, 2, 3, pads=[1, 1]), g.const([1, 2, -1, 2]))
    x = g.op("Reshape", g.transpose(x, 0, 1, 3, 2), g.const([1, 4, -1]))
    return g.model(g.up(x, 4, 1, 4, 2, pads=[1, 1]))


def recurrent() -> onnx.ModelProto:
    g = TinyGraph()
    x = g.transpose(g.op("CumSum", g.frames(), g.const(2)), 2, 0, 1)
    weights = [g.weight(1, 9, N_CHANNELS), g.weight(1, 9, 3), g.weight(1, 18), "", g.weight(1, 1, 3)]
    y = g.squeeze(g.op("GRU", x, *weights, n_outputs=2, hidden_size=3)[0], 1)
    return g.model(g.conv(g.transpose(y, 1, 2, 0), 3, 1, 3, pads=[1, 1]))


@pytest.fixture(scope="module")
def plain() -> OrtEngine:
    return OrtEngine(vocoder(), RuntimeOptions(n_threads=1))


@pytest.fixture(scope="module")
def graph() -> OrtEngine:
    return OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))


@pytest.fixture(scope="module")
def rates_graph() -> OrtEngine:
    return OrtEngine(make_streaming(two_rates()), RuntimeOptions(n_threads=1))


@pytest.fixture
def frames() -> np.ndarray:
    return rng.standard_normal((1, N_CHANNELS, N_FRAMES)).astype(np.float32)


# --- what a push takes -----------------------------------------------------------------------

WRONG: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "another dtype": (lambda x: x.astype(np.float64), "frames has dtype float64: must be float32"),
    "too many channels": (
        lambda x: np.repeat(x, 2, axis=1),
        r"frames has shape \(1, 8, 3\): must be \(1, 4, n\)",
    ),
    "too few axes": (lambda x: x[0], r"frames has shape \(4, 3\): must be \(1, 4, n\)"),
    "two utterances": (lambda x: np.repeat(x, 2, axis=0), r"shape \(2, 4, 3\)"),
    "time first": (lambda x: np.moveaxis(x, 2, 0), r"shape \(3, 1, 4\)"),
    "NaN": (lambda x: np.where(x > 0, x, np.float32(np.nan)), "frames holds NaN or infinity"),
    "infinity": (lambda x: x / np.float32(0), "frames holds NaN or infinity"),
    "a list": (lambda x: x.tolist(), "frames must be an ndarray, not list"),
    "nothing": (lambda _: None, "frames must be an ndarray, not NoneType"),
    "an unknown input": (lambda x: {"mel": x}, r"inputs \['mel'\] must be \['frames'\]"),
    "one input too many": (
        lambda x: {"frames": x, "f0": x},
        r"inputs \['f0', 'frames'\] must be \['frames'\]",
    ),
    "no input": (lambda _: {}, r"inputs \[\] must be \['frames'\]"),
}


@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("kind", ["full", "overlap", "stateful"])
def test_a_wrong_push_says_so_and_leaves_the_stream_as_it_was(
    name: str, kind: Any, graph: OrtEngine, frames: np.ndarray
) -> None:
    spoil, message = WRONG[name]
    decoder = open_decoder(kind, graph, left_context=7, lookahead=7, hop_length=6)
    wanted = push_all(StatefulDecoder(graph), frames, [N_FRAMES])
    parts = []
    for start, stop in ((0, 2), (2, 9), (9, N_FRAMES)):  # before the first run, in the midst, at the end
        for last in (False, True):
            with pytest.raises(ParameterError, match=message):
                decoder.push(spoil(frames[..., :3]), last=last)
        parts.append(decoder.push(frames[..., start:stop], last=stop == N_FRAMES))
    assert close(np.concatenate(parts, axis=-1), wanted)


def test_inputs_must_be_equally_long_in_frames(rates_graph: OrtEngine) -> None:
    decoder = StatefulDecoder(rates_graph)
    feeds = two_rate_feeds(5)
    with pytest.raises(ParameterError, match="f0 has 14 steps: must be 5 frames of 3"):
        decoder.push(feeds | {"f0": feeds["f0"][..., 1:]})
    with pytest.raises(ParameterError, match="the decoder has the inputs mel, f0, speaker: push a dict"):
        decoder.push(feeds["mel"])
    with pytest.raises(ParameterError, match=r"inputs \['f0', 'mel'\] must be \['f0', 'mel', 'speaker'\]"):
        decoder.push({name: feeds[name] for name in ("mel", "f0")})
    whole = decoder.push(feeds, last=True)
    assert whole.shape == (1, 1, 15)


def test_a_run_that_fails_leaves_the_stream_as_it_was() -> None:
    graph = OrtEngine(make_streaming(folding()), RuntimeOptions(n_threads=1))
    frames = rng.standard_normal((1, N_CHANNELS, 10)).astype(np.float32)
    wanted = push_all(StatefulDecoder(graph), frames, [10])
    decoder = StatefulDecoder(graph)
    parts = [decoder.push(frames[..., :5])]
    with pytest.raises(ModelError, match="the run failed"):
        decoder.push(frames[..., 5:9], last=True)  # nine frames can't be folded
    parts.append(decoder.push(frames[..., 5:8]))
    with pytest.raises(ModelError, match="the run failed"):
        decoder.push(frames[..., 8:9], last=True)
    parts.append(decoder.push(frames[..., 8:], last=True))
    assert close(np.concatenate(parts, axis=-1), wanted)


@pytest.mark.parametrize("kind", ["full", "overlap", "stateful"])
def test_the_buffer_of_a_push_may_be_used_again(kind: Any, graph: OrtEngine, frames: np.ndarray) -> None:
    decoder = open_decoder(kind, graph, left_context=7, lookahead=7, hop_length=6)
    wanted = push_all(StatefulDecoder(graph), frames, [N_FRAMES])
    buffer = np.empty((1, N_CHANNELS, 2), np.float32)
    parts = []
    for start in range(0, N_FRAMES - 1, 2):
        buffer[...] = frames[..., start : start + 2]
        parts.append(decoder.push(buffer))
    buffer[..., :1] = frames[..., -1:]
    parts.append(decoder.push(buffer[..., :1]))
    buffer[...] = 1e6
    parts.append(decoder.push(buffer[..., :0], last=True))
    assert close(np.concatenate(parts, axis=-1), wanted)


def test_the_samples_belong_to_the_caller(graph: OrtEngine, frames: np.ndarray) -> None:
    decoder, parts = StatefulDecoder(graph), []
    for start in range(0, N_FRAMES, 4):
        samples = decoder.push(frames[..., start : start + 4], last=start + 4 >= N_FRAMES)
        parts.append(samples.copy())
        samples[...] = np.nan
    assert close(np.concatenate(parts, axis=-1), push_all(StatefulDecoder(graph), frames, [N_FRAMES]))


def test_frames_in_another_memory_order_are_taken(graph: OrtEngine, frames: np.ndarray) -> None:
    wanted = push_all(StatefulDecoder(graph), frames, [10, 13])
    assert np.array_equal(push_all(StatefulDecoder(graph), np.asfortranarray(frames), [10, 13]), wanted)
    readonly = frames.copy()
    readonly.flags.writeable = False
    assert np.array_equal(push_all(StatefulDecoder(graph), readonly, [10, 13]), wanted)


# --- the order of pushes ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "overlap", "stateful"])
def test_nothing_can_be_pushed_after_the_last_push_until_reset(
    kind: Any, graph: OrtEngine, frames: np.ndarray
) -> None:
    decoder = open_decoder(kind, graph, left_context=7, lookahead=7, hop_length=6)
    first = push_all(decoder, frames, [9, 0, 14])
    for part in (frames, frames[..., :0]):
        for last in (False, True):
            with pytest.raises(StreamStateError, match=r"push after the last push: call reset\(\)"):
                decoder.push(part, last=last)
    decoder.reset()
    assert np.array_equal(push_all(decoder, frames, [9, 0, 14]), first)
    decoder.reset()
    decoder.push(frames[..., :11])
    decoder.reset()
    assert np.array_equal(push_all(decoder, frames, [9, 0, 14]), first)


@pytest.mark.parametrize("kind", ["full", "overlap", "stateful"])
def test_an_utterance_of_no_frames_gives_no_samples(kind: Any, graph: OrtEngine, frames: np.ndarray) -> None:
    decoder = open_decoder(kind, graph, left_context=7, lookahead=7, hop_length=6)
    for sizes in ([0], [0, 0, 0]):
        samples = push_all(decoder, frames, sizes)
        assert samples.shape == (1, 1, 0)
        assert samples.dtype == np.float32
        decoder.reset()


@pytest.mark.parametrize("build", [vocoder, folding, down_and_up, recurrent, two_rates])
def test_the_samples_trail_by_the_lag_and_no_more(build: Callable[[], onnx.ModelProto]) -> None:
    graph = OrtEngine(make_streaming(build()), RuntimeOptions(n_threads=1))
    decoder = StatefulDecoder(graph)
    assert graph.streaming is not None
    first, push = graph.streaming.min_first_frames, graph.streaming.min_push_frames
    n_given = 0
    for n_frames in range(1, 40):
        feeds = {
            name: rng.standard_normal([n if isinstance(n, int) else 0 for n in spec.shape]).astype(np.float32)
            for name, spec in graph.contract.inputs.items()
        }
        for item in graph.streaming.inputs:
            shape = [*feeds[item.name].shape[:-1], item.steps_per_frame]
            feeds[item.name] = rng.standard_normal(shape).astype(np.float32)
        n_given += decoder.push(feeds).shape[-1]
        due = n_frames * decoder.hop_length - decoder.lag_samples
        if n_frames < first:
            assert n_given == 0
        elif push == 1:
            assert n_given == due > 0
        else:
            assert due - push * decoder.hop_length < n_given
        if n_frames == first:
            assert n_given > 0


def test_a_vocoder_knows_its_lag_and_hop(graph: OrtEngine) -> None:
    decoder = StatefulDecoder(graph)
    assert (decoder.hop_length, decoder.lag_samples) == (6, 37)


@pytest.mark.parametrize("build", [vocoder, folding, down_and_up, recurrent, two_rates])
def test_no_state_is_ever_longer_than_it_says(build: Callable[[], onnx.ModelProto]) -> None:
    graph = OrtEngine(make_streaming(build()), RuntimeOptions(n_threads=1))
    spec = graph.streaming
    assert spec is not None
    longest = dict.fromkeys((state.input for state in spec.states), 0)
    for trial in range(6):
        decoder = StatefulDecoder(graph)
        sizes = np.random.default_rng(trial).integers(0, 9, 12)
        for n_frames in sizes:
            feeds = {
                name: np.zeros([n if isinstance(n, int) else 0 for n in s.shape], np.float32)
                for name, s in graph.contract.inputs.items()
            }
            for item in spec.inputs:
                steps = n_frames * item.steps_per_frame
                feeds[item.name] = np.zeros([*feeds[item.name].shape[:-1], steps], np.float32)
            decoder.push(feeds)
            snapshot = decoder.snapshot()
            for state in spec.states:
                longest[state.input] = max(
                    longest[state.input], snapshot.tensors[state.input].shape[state.axis]
                )
    assert longest == {state.input: state.max_length for state in spec.states}


# --- snapshots -------------------------------------------------------------------------------


@pytest.mark.parametrize("build", [vocoder, folding, recurrent])
def test_a_stream_goes_on_from_a_snapshot_taken_anywhere(build: Callable[[], onnx.ModelProto]) -> None:
    graph = OrtEngine(make_streaming(build()), RuntimeOptions(n_threads=1))
    frames = rng.standard_normal((1, N_CHANNELS, 24)).astype(np.float32)
    sizes = [0, 1, 2, 9, 1, 0, 11, 0]
    ends = np.cumsum(sizes)
    decoder = StatefulDecoder(graph)
    parts, snapshots = [], [decoder.snapshot()]
    for k, end in enumerate(ends):
        parts.append(decoder.push(frames[..., end - sizes[k] : end], last=k == len(sizes) - 1))
        snapshots.append(decoder.snapshot())
    for k, snapshot in enumerate(snapshots):
        moved = pickle.loads(pickle.dumps(snapshot))
        other = StatefulDecoder(graph)
        other.push(frames[..., :7])  # what was there before is forgotten
        for state in (snapshot, moved):
            other.restore(state)
            for later in range(k, len(sizes)):
                end, last = ends[later], later == len(sizes) - 1
                again = other.push(frames[..., end - sizes[later] : end], last=last)
                assert np.array_equal(again, parts[later])
            with pytest.raises(StreamStateError, match="after the last push"):
                other.push(frames)


def test_a_snapshot_is_a_copy(graph: OrtEngine, frames: np.ndarray) -> None:
    decoder = StatefulDecoder(graph)
    buffer = frames[..., :9].copy()
    decoder.push(buffer)
    snapshot = decoder.snapshot()
    waiting = StatefulDecoder(graph)
    waiting.push(buffer[..., :2])
    waiting_snapshot = waiting.snapshot()
    wanted = decoder.push(frames[..., 9:], last=True)
    wanted_waiting = waiting.push(frames[..., 2:], last=True)
    buffer[...] = np.nan
    decoder.restore(snapshot)
    for array in snapshot.tensors.values():
        array[...] = 0
    assert np.array_equal(decoder.push(frames[..., 9:], last=True), wanted)
    waiting.restore(waiting_snapshot)
    assert np.array_equal(waiting.push(frames[..., 2:], last=True), wanted_waiting)


CONTINUE = """
import pickle, sys
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.runtime.options import RuntimeOptions
model, state, frames = pickle.load(sys.stdin.buffer)
decoder = StatefulDecoder(model, RuntimeOptions(n_threads=1))
decoder.restore(state)
sys.stdout.buffer.write(pickle.dumps(decoder.push(frames, last=True)))
"""


def test_a_snapshot_goes_on_in_another_process(frames: np.ndarray) -> None:
    model = make_streaming(vocoder()).SerializeToString()
    decoder = StatefulDecoder(model, RuntimeOptions(n_threads=1))
    decoder.push(frames[..., :11])
    message = pickle.dumps((model, decoder.snapshot(), frames[..., 11:]))
    done = subprocess.run([sys.executable, "-c", CONTINUE], input=message, capture_output=True, check=True)
    assert np.array_equal(pickle.loads(done.stdout), decoder.push(frames[..., 11:], last=True))


def test_the_state_of_another_model_or_plan_is_refused(graph: OrtEngine, frames: np.ndarray) -> None:
    wanted = push_all(StatefulDecoder(graph), frames, [9, 14])
    decoder = StatefulDecoder(graph)
    n_given = decoder.push(frames[..., :9]).shape[-1]
    plans = (make_streaming(vocoder(), "states"), make_streaming(vocoder(), "segments"))
    for model in (make_streaming(vocoder(seed=1)), *plans):
        stranger = StatefulDecoder(model)
        if stranger.snapshot().fingerprint == decoder.snapshot().fingerprint:
            continue  # the plan that was chosen anyway
        stranger.push(frames[..., :9])
        with pytest.raises(StreamStateError, match="another graph"):
            decoder.restore(stranger.snapshot())
    one, other = (StatefulDecoder(model) for model in plans)
    with pytest.raises(StreamStateError, match="another graph"):
        one.restore(other.snapshot())
    assert np.array_equal(decoder.push(frames[..., 9:], last=True), wanted[..., n_given:])


def damage(state: StreamState, **changes: Any) -> StreamState:
    return dataclasses.replace(state, **changes)


def test_a_damaged_state_is_refused_and_the_stream_left_as_it_was(
    graph: OrtEngine, frames: np.ndarray
) -> None:
    wanted = push_all(StatefulDecoder(graph), frames, [9, 14])
    decoder = StatefulDecoder(graph)
    n_given = decoder.push(frames[..., :9]).shape[-1]
    good = decoder.snapshot()
    name, array = next(iter(good.tensors.items()))
    assert graph.streaming is not None
    axis = next(s.axis for s in graph.streaming.states if s.input == name)
    assert good.before is not None
    bad = [
        None,
        {"fingerprint": good.fingerprint},
        damage(good, fingerprint=""),
        damage(good, tensors={}),
        damage(good, tensors={**good.tensors, "more": array}),
        damage(good, tensors={**good.tensors, name: None}),
        damage(good, tensors={**good.tensors, name: array.astype(np.float64)}),
        damage(good, tensors={**good.tensors, name: array[0]}),
        damage(good, tensors={**good.tensors, name: np.repeat(array, 2, axis=1)}),
        damage(good, tensors={**good.tensors, name: np.repeat(array, 3, axis=axis)}),
        damage(good, waiting={"frames": frames[0]}),
        damage(good, waiting={"mel": frames}),
        damage(good, before=({}, *good.before[1:])),
        damage(good, before=(good.before[0], {"frames": None}, good.before[2])),
        damage(good, before=(*good.before[:2], {})),
        damage(good, before=(*good.before[:2], dict.fromkeys(good.before[2], -1))),
        damage(good, before=good.before[:2]),
        damage(good, done="yes"),
    ]
    for state in bad:
        with pytest.raises(StreamStateError):
            decoder.restore(state)  # type: ignore[arg-type]
    assert np.array_equal(decoder.push(frames[..., 9:], last=True), wanted[..., n_given:])


# --- many streams ----------------------------------------------------------------------------


def test_streams_over_one_graph_do_not_know_of_each_other(graph: OrtEngine) -> None:
    utterances = [rng.standard_normal((1, N_CHANNELS, n)).astype(np.float32) for n in (1, 5, 17, 40)]
    wanted = [push_all(StatefulDecoder(graph), x, [x.shape[-1]]) for x in utterances]
    decoders = [StatefulDecoder(graph) for _ in utterances]
    parts: list[list[np.ndarray]] = [[] for _ in utterances]
    for start in range(0, 40, 3):
        for k, x in enumerate(utterances):
            if start < x.shape[-1]:
                parts[k].append(decoders[k].push(x[..., start : start + 3], last=start + 3 >= x.shape[-1]))
    for k, whole in enumerate(wanted):
        assert close(np.concatenate(parts[k], axis=-1), whole)


def test_streams_may_run_in_threads(graph: OrtEngine) -> None:
    def one(seed: int) -> bool:
        x = np.random.default_rng(seed).standard_normal((1, N_CHANNELS, 60)).astype(np.float32)
        sizes = [3, 0, 7] * 6
        return close(push_all(StatefulDecoder(graph), x, sizes), push_all(StatefulDecoder(graph), x, [60]))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(24)))


# --- the graph -------------------------------------------------------------------------------


def test_a_graph_that_is_not_stateful_is_refused(plain: OrtEngine) -> None:
    with pytest.raises(ModelError, match="not a stateful graph; make_streaming makes one"):
        StatefulDecoder(plain)
    with pytest.raises(ModelError, match="not a stateful graph"):
        StatefulDecoder(vocoder())
    with pytest.raises(ModelError, match="not a stateful graph"):
        plain.start()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 99}', '{"format_version": 1}'])
def test_damaged_metadata_are_an_error(text: str) -> None:
    model = make_streaming(vocoder())
    model.metadata_props[0].value = text
    with pytest.raises(ModelError, match=r"balacoon_tk\.streaming"):
        OrtEngine(model)


def test_a_graph_without_a_dynamic_last_axis_is_refused() -> None:
    g = TinyGraph()
    with pytest.raises(ModelError, match="no input has a time axis"):
        OrtEngine(g.model(g.op("Tanh", g.input("frames", [1, 4, 9]))))


def test_several_outputs_come_by_name() -> None:
    g = TinyGraph()
    x = g.frames()
    model = g.model(
        g.conv(x, N_CHANNELS, 2, 3, pads=[1, 1]),
        g.up(x, N_CHANNELS, 1, 4, 2, pads=[1, 1]),
        names=("slow", "fast"),
    )
    decoder = StatefulDecoder(make_streaming(model), RuntimeOptions(n_threads=1))
    empty = decoder.push(np.zeros((1, N_CHANNELS, 0), np.float32))
    assert {name: array.shape for name, array in empty.items()} == {"slow": (1, 2, 0), "fast": (1, 1, 0)}
    done = decoder.push(np.zeros((1, N_CHANNELS, 9), np.float32), last=True)
    assert {name: array.shape for name, array in done.items()} == {"slow": (1, 2, 9), "fast": (1, 1, 18)}
