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
import onnxruntime
import pytest

from balacoon_tk.decoder import (
    Decoder,
    DecoderGraph,
    FullDecoder,
    OverlapDecoder,
    StatefulDecoder,
    StreamState,
    open_decoder,
)
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.session import Binding
from streaming_laws import make_streaming
from tiny_graphs import TinyGraph

N = 4
"""Channels."""
N_FRAMES = 23
rng = np.random.default_rng(7)


def vocoder(seed: int = 0) -> onnx.ModelProto:
    """Hop 6, lag 37 samples: 6.2 frames."""
    g = TinyGraph(seed=seed)
    x = g.conv(g.frames(), N, N, 5, pads=[2, 2])
    x = g.up(g.op("LeakyRelu", x), N, N, 4, 2, pads=[1, 1])
    x = g.conv(x, N, N, 7, pads=[3, 3])
    x = g.op("Add", x, g.conv(x, N, N, 5, pads=[4, 4], dilations=[2]))
    return g.model(g.op("Tanh", g.up(x, N, 1, 6, 3, pads=[1, 2])))


def two_rates() -> onnx.ModelProto:
    g = TinyGraph()
    mel, f0, speaker = g.frames(N, "mel"), g.frames(1, "f0"), g.input("speaker", [1, N, 1])
    x = g.up(g.op("Add", g.conv(mel, N, N, 3, pads=[1, 1]), speaker), N, 1, 6, 3, pads=[1, 2])
    return g.model(g.conv(g.op("Mul", x, f0), 1, 1, 5, pads=[2, 2]))


def folding() -> onnx.ModelProto:
    """Takes two frames at a time; a whole utterance of an odd number can't be decoded."""
    g = TinyGraph()
    x = g.op("Reshape", g.conv(g.frames(), N, 2, 3, pads=[1, 1]), g.const([1, 2, -1, 2]))
    x = g.op("Reshape", g.transpose(x, 0, 1, 3, 2), g.const([1, 4, -1]))
    return g.model(g.up(x, 4, 1, 4, 2, pads=[1, 1]))


def down_and_up() -> onnx.ModelProto:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    y = g.conv(x, N, N, 4, pads=[1, 1], strides=[2])
    z = g.conv(y, N, N, 6, pads=[2, 2], strides=[2])
    y = g.op("Add", y, g.up(z, N, N, 4, 2, pads=[1, 1]))
    return g.model(g.op("Add", x, g.up(y, N, N, 4, 2, pads=[1, 1])))


def recurrent() -> onnx.ModelProto:
    g = TinyGraph()
    x = g.transpose(g.op("CumSum", g.frames(), g.const(2)), 2, 0, 1)
    weights = [g.weight(1, 9, N), g.weight(1, 9, 3), g.weight(1, 18), "", g.weight(1, 1, 3)]
    y = g.squeeze(g.op("GRU", x, *weights, n_outputs=2, hidden_size=3)[0], 1)
    return g.model(g.conv(g.transpose(y, 1, 2, 0), 3, 1, 3, pads=[1, 1]))


@pytest.fixture(scope="module")
def plain() -> DecoderGraph:
    return DecoderGraph(vocoder(), n_threads=1)


@pytest.fixture(scope="module")
def graph() -> DecoderGraph:
    return DecoderGraph(make_streaming(vocoder()), n_threads=1)


@pytest.fixture(scope="module")
def rates_graph() -> DecoderGraph:
    return DecoderGraph(make_streaming(two_rates()), n_threads=1)


@pytest.fixture
def frames() -> np.ndarray:
    return rng.standard_normal((1, N, N_FRAMES)).astype(np.float32)


def push_all(decoder: Decoder, frames: np.ndarray, sizes: list[int]) -> np.ndarray:
    parts, position = [], 0
    for k, size in enumerate(sizes):
        parts.append(decoder.push(frames[..., position : position + size], last=k == len(sizes) - 1))
        position += size
    return np.concatenate(parts, axis=-1)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and bool(np.allclose(a, b, rtol=0, atol=1e-6))


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
    name: str, kind: Any, graph: DecoderGraph, frames: np.ndarray
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


def two_rate_feeds(n_frames: int) -> dict[str, np.ndarray]:
    return {
        "mel": rng.standard_normal((1, N, n_frames)).astype(np.float32),
        "f0": rng.standard_normal((1, 1, 3 * n_frames)).astype(np.float32),
        "speaker": np.ones((1, N, 1), np.float32),
    }


def test_inputs_must_be_equally_long_in_frames(rates_graph: DecoderGraph) -> None:
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
    graph = DecoderGraph(make_streaming(folding()), n_threads=1)
    frames = rng.standard_normal((1, N, 10)).astype(np.float32)
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
def test_the_buffer_of_a_push_may_be_used_again(kind: Any, graph: DecoderGraph, frames: np.ndarray) -> None:
    decoder = open_decoder(kind, graph, left_context=7, lookahead=7, hop_length=6)
    wanted = push_all(StatefulDecoder(graph), frames, [N_FRAMES])
    buffer = np.empty((1, N, 2), np.float32)
    parts = []
    for start in range(0, N_FRAMES - 1, 2):
        buffer[...] = frames[..., start : start + 2]
        parts.append(decoder.push(buffer))
    buffer[..., :1] = frames[..., -1:]
    parts.append(decoder.push(buffer[..., :1]))
    buffer[...] = 1e6
    parts.append(decoder.push(buffer[..., :0], last=True))
    assert close(np.concatenate(parts, axis=-1), wanted)


def test_the_samples_belong_to_the_caller(graph: DecoderGraph, frames: np.ndarray) -> None:
    decoder, parts = StatefulDecoder(graph), []
    for start in range(0, N_FRAMES, 4):
        samples = decoder.push(frames[..., start : start + 4], last=start + 4 >= N_FRAMES)
        parts.append(samples.copy())
        samples[...] = np.nan
    assert close(np.concatenate(parts, axis=-1), push_all(StatefulDecoder(graph), frames, [N_FRAMES]))


def test_frames_in_another_memory_order_are_taken(graph: DecoderGraph, frames: np.ndarray) -> None:
    wanted = push_all(StatefulDecoder(graph), frames, [10, 13])
    assert np.array_equal(push_all(StatefulDecoder(graph), np.asfortranarray(frames), [10, 13]), wanted)
    readonly = frames.copy()
    readonly.flags.writeable = False
    assert np.array_equal(push_all(StatefulDecoder(graph), readonly, [10, 13]), wanted)


# --- the order of pushes ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["full", "overlap", "stateful"])
def test_nothing_can_be_pushed_after_the_last_push_until_reset(
    kind: Any, graph: DecoderGraph, frames: np.ndarray
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
def test_an_utterance_of_no_frames_gives_no_samples(
    kind: Any, graph: DecoderGraph, frames: np.ndarray
) -> None:
    decoder = open_decoder(kind, graph, left_context=7, lookahead=7, hop_length=6)
    for sizes in ([0], [0, 0, 0]):
        samples = push_all(decoder, frames, sizes)
        assert samples.shape == (1, 1, 0)
        assert samples.dtype == np.float32
        decoder.reset()


@pytest.mark.parametrize("build", [vocoder, folding, down_and_up, recurrent, two_rates])
def test_the_samples_trail_by_the_lag_and_no_more(build: Callable[[], onnx.ModelProto]) -> None:
    graph = DecoderGraph(make_streaming(build()), n_threads=1)
    decoder = StatefulDecoder(graph)
    assert graph.streaming is not None
    first, push = graph.streaming.min_first_frames, graph.streaming.min_push_frames
    n_given = 0
    for n_frames in range(1, 40):
        feeds = {
            name: rng.standard_normal([n if isinstance(n, int) else 0 for n in spec.shape]).astype(np.float32)
            for name, spec in graph.inputs.items()
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


def test_a_vocoder_knows_its_lag_and_hop(graph: DecoderGraph) -> None:
    decoder = StatefulDecoder(graph)
    assert (decoder.hop_length, decoder.lag_samples) == (6, 37)


@pytest.mark.parametrize("build", [vocoder, folding, down_and_up, recurrent, two_rates])
def test_no_state_is_ever_longer_than_it_says(build: Callable[[], onnx.ModelProto]) -> None:
    graph = DecoderGraph(make_streaming(build()), n_threads=1)
    spec = graph.streaming
    assert spec is not None
    longest = dict.fromkeys((state.input for state in spec.states), 0)
    for trial in range(6):
        decoder = StatefulDecoder(graph)
        sizes = np.random.default_rng(trial).integers(0, 9, 12)
        for n_frames in sizes:
            feeds = {
                name: np.zeros([n if isinstance(n, int) else 0 for n in s.shape], np.float32)
                for name, s in graph.inputs.items()
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
    graph = DecoderGraph(make_streaming(build()), n_threads=1)
    frames = rng.standard_normal((1, N, 24)).astype(np.float32)
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


def test_a_snapshot_is_a_copy(graph: DecoderGraph, frames: np.ndarray) -> None:
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
model, state, frames = pickle.load(sys.stdin.buffer)
decoder = StatefulDecoder(model, n_threads=1)
decoder.restore(state)
sys.stdout.buffer.write(pickle.dumps(decoder.push(frames, last=True)))
"""


def test_a_snapshot_goes_on_in_another_process(frames: np.ndarray) -> None:
    model = make_streaming(vocoder()).SerializeToString()
    decoder = StatefulDecoder(model, n_threads=1)
    decoder.push(frames[..., :11])
    message = pickle.dumps((model, decoder.snapshot(), frames[..., 11:]))
    done = subprocess.run([sys.executable, "-c", CONTINUE], input=message, capture_output=True, check=True)
    assert np.array_equal(pickle.loads(done.stdout), decoder.push(frames[..., 11:], last=True))


def test_the_state_of_another_model_or_plan_is_refused(graph: DecoderGraph, frames: np.ndarray) -> None:
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
    graph: DecoderGraph, frames: np.ndarray
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


def test_streams_over_one_graph_do_not_know_of_each_other(graph: DecoderGraph) -> None:
    utterances = [rng.standard_normal((1, N, n)).astype(np.float32) for n in (1, 5, 17, 40)]
    wanted = [push_all(StatefulDecoder(graph), x, [x.shape[-1]]) for x in utterances]
    decoders = [StatefulDecoder(graph) for _ in utterances]
    parts: list[list[np.ndarray]] = [[] for _ in utterances]
    for start in range(0, 40, 3):
        for k, x in enumerate(utterances):
            if start < x.shape[-1]:
                parts[k].append(decoders[k].push(x[..., start : start + 3], last=start + 3 >= x.shape[-1]))
    for k, whole in enumerate(wanted):
        assert close(np.concatenate(parts[k], axis=-1), whole)


def test_streams_may_run_in_threads(graph: DecoderGraph) -> None:
    def one(seed: int) -> bool:
        x = np.random.default_rng(seed).standard_normal((1, N, 60)).astype(np.float32)
        sizes = [3, 0, 7] * 6
        return close(push_all(StatefulDecoder(graph), x, sizes), push_all(StatefulDecoder(graph), x, [60]))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(one, range(24)))


# --- the state's place -----------------------------------------------------------------------


@pytest.mark.parametrize(("sizes", "in_python"), [([20, 1, 1, 1], []), ([10, 3, 4, 1, 5], [False, False])])
def test_a_state_that_keeps_its_shape_does_not_pass_through_python(
    sizes: list[int], in_python: list[bool], frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = DecoderGraph(make_streaming(vocoder()), n_threads=1)  # the state is full after 13 frames
    wanted = push_all(StatefulDecoder(graph), frames, sizes)
    runs: list[bool] = []
    run = DecoderGraph.run
    monkeypatch.setattr(DecoderGraph, "run", lambda *args, last: runs.append(last) or run(*args, last=last))
    assert np.array_equal(push_all(StatefulDecoder(graph), frames, sizes), wanted)
    assert runs == [*in_python, True]


def test_a_stream_that_ends_or_begins_anew_leaves_its_place_to_the_next(frames: np.ndarray) -> None:
    graph = DecoderGraph(make_streaming(vocoder()), n_threads=1)
    wanted = push_all(StatefulDecoder(graph), frames, [10, 3, 5, 5])
    ring = graph.borrow_ring()
    assert ring is not None
    graph.return_ring(ring)
    for sizes in ([10, 3, 10], [20, 3], [12, 1, 2, 8]):
        decoder = StatefulDecoder(graph)
        assert close(push_all(decoder, frames, sizes), wanted)
        decoder.reset()
        decoder.push(frames)
        decoder.reset()
        assert close(push_all(decoder, frames, sizes), wanted)
        assert graph.borrow_ring() is ring
        graph.return_ring(ring)


@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_a_run_that_fails_in_its_place_is_done_again_elsewhere(
    n_before: int, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = DecoderGraph(make_streaming(vocoder()), n_threads=1)
    sizes = [20, 1, 1, 1]
    wanted = push_all(StatefulDecoder(graph), frames, sizes)
    bound_run, n_runs = Binding.run, 0

    def run(*args: Any) -> Any:
        nonlocal n_runs
        n_runs += 1
        outputs = bound_run(*args)
        if n_runs > n_before:  # it has written its state already
            raise ModelError("out of memory")
        return outputs

    monkeypatch.setattr(Binding, "run", run)
    assert np.array_equal(push_all(StatefulDecoder(graph), frames, sizes), wanted)
    assert graph.borrow_ring() is None
    assert np.array_equal(push_all(StatefulDecoder(graph), frames, sizes), wanted)
    assert n_runs == max(2, n_before + 1)  # a first push that fails says nothing of later ones


@pytest.mark.parametrize("name", ["bind_ortvalue_input", "bind_ortvalue_output"])
@pytest.mark.parametrize("interrupted", [0, 1, 2])
def test_a_push_that_is_interrupted_while_it_binds_may_be_made_again(
    interrupted: int, name: str, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = DecoderGraph(make_streaming(vocoder()), n_threads=1)
    wanted = push_all(StatefulDecoder(graph), frames, [20, 1, 1, 1])
    push_all(StatefulDecoder(graph), frames, [20, 1, 1, 1])  # what it has bound is of another size
    decoder, parts, stop = StatefulDecoder(graph), [], 0
    for k, size in enumerate([18, 2, 2, 1]):
        start, stop = stop, stop + size
        if k == interrupted:

            def interrupt(*_: Any) -> None:
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(onnxruntime.IOBinding, name, interrupt)
                with pytest.raises(KeyboardInterrupt):
                    decoder.push(frames[..., start:stop])
        parts.append(decoder.push(frames[..., start:stop], last=stop == N_FRAMES))
    assert close(np.concatenate(parts, axis=-1), wanted)
    assert graph.begins_in_ring
    assert graph.borrow_ring() is not None


def test_first_pushes_of_many_lengths_are_bound_again_and_again(frames: np.ndarray) -> None:
    graph = DecoderGraph(make_streaming(vocoder()), n_threads=1)
    wanted = push_all(StatefulDecoder(graph), frames, [20, 1, 1, 1])
    assert graph.borrow_ring() is not None
    for first in [*range(13, 22), *range(21, 12, -1)] * 2:  # more lengths than are kept
        assert close(push_all(StatefulDecoder(graph), frames, [first, 1, N_FRAMES - first - 1]), wanted)
    assert graph.begins_in_ring
    assert graph.borrow_ring() is not None


def test_a_state_that_changes_its_shape_is_streamed_as_well(frames: np.ndarray) -> None:
    graph = DecoderGraph(make_streaming(down_and_up()), n_threads=1)
    wanted = push_all(StatefulDecoder(graph), frames[..., :20], [20])
    for sizes in ([16, 4], [15, 1, 4], [12, 4, 4], [14, 2, 1, 1, 2]):
        assert close(push_all(StatefulDecoder(graph), frames, sizes), wanted)


# --- the graph -------------------------------------------------------------------------------


def test_a_graph_that_is_not_stateful_is_refused(plain: DecoderGraph) -> None:
    with pytest.raises(ModelError, match="not a stateful graph; make_streaming makes one"):
        StatefulDecoder(plain)
    with pytest.raises(ModelError, match="not a stateful graph"):
        StatefulDecoder(vocoder())
    with pytest.raises(ModelError, match="not a stateful graph"):
        plain.run({}, {}, last=True)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format_version": 99}', '{"format_version": 1}'])
def test_damaged_metadata_are_an_error(text: str) -> None:
    model = make_streaming(vocoder())
    model.metadata_props[0].value = text
    with pytest.raises(ModelError, match=r"balacoon_tk\.streaming"):
        DecoderGraph(model)


def test_a_graph_without_a_dynamic_last_axis_is_refused() -> None:
    g = TinyGraph()
    with pytest.raises(ModelError, match="no input has a time axis"):
        DecoderGraph(g.model(g.op("Tanh", g.input("frames", [1, 4, 9]))))


# --- full and overlap ------------------------------------------------------------------------


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
    graph = DecoderGraph(make_streaming(model) if stateful else model, n_threads=1)
    for n_frames in (0, 1, 2, left + right, left + right + 1, 29):
        x = rng.integers(-4, 5, (1, 2, n_frames)).astype(np.float32)
        whole = push_all(FullDecoder(graph, hop_length=3), x, [n_frames])
        assert whole.shape == (1, n_out, 3 * n_frames)
        for sizes in ([n_frames], [1] * n_frames, [n_frames, 0], [4] * (n_frames // 4) + [n_frames % 4]):
            decoder = OverlapDecoder(graph, left_context=left, lookahead=right, hop_length=3)
            assert np.array_equal(push_all(decoder, x, sizes or [0]), whole)


@pytest.mark.parametrize(("left", "right"), FIELDS)
def test_overlap_with_one_frame_less_does_not(left: int, right: int) -> None:
    graph = DecoderGraph(integers(left, right, 3), n_threads=1)
    x = rng.integers(1, 5, (1, 2, 29)).astype(np.float32)
    whole = push_all(FullDecoder(graph, hop_length=3), x, [29])
    for less_left, less_right in ((left - 1, right), (left, right - 1)):
        if min(less_left, less_right) >= 0:
            decoder = OverlapDecoder(graph, left_context=less_left, lookahead=less_right, hop_length=3)
            assert not np.array_equal(push_all(decoder, x, [4] * 7 + [1]), whole)


def test_overlap_trails_by_its_lookahead(plain: DecoderGraph) -> None:
    decoder = OverlapDecoder(plain, left_context=6, lookahead=4, hop_length=6)
    assert decoder.lag_samples == 24
    n_given = 0
    for n_frames in range(1, 20):
        n_given += decoder.push(np.zeros((1, N, 1), np.float32)).shape[-1]
        assert n_given == max(0, 6 * n_frames - decoder.lag_samples)


def test_overlap_and_full_take_inputs_of_several_rates() -> None:
    graph = DecoderGraph(two_rates(), n_threads=1)
    feeds = two_rate_feeds(20)
    whole = FullDecoder(graph, hop_length=3).push(feeds, last=True)
    assert whole.shape == (1, 1, 60)
    for decoder in (
        FullDecoder(graph, hop_length=3),
        OverlapDecoder(graph, left_context=3, lookahead=3, hop_length=3),
    ):
        parts = []
        for start in range(0, 20, 4):
            part = {
                "mel": feeds["mel"][..., start : start + 4],
                "f0": feeds["f0"][..., 3 * start : 3 * (start + 4)],
                "speaker": feeds["speaker"],
            }
            parts.append(decoder.push(part, last=start == 16))
        assert close(np.concatenate(parts, axis=-1), whole)


def test_the_fast_input_may_come_first_in_overlap() -> None:
    g = TinyGraph()
    f0, mel, speaker = g.frames(1, "f0"), g.frames(N, "mel"), g.input("speaker", ["batch"], np.int64)
    row = g.unsqueeze(g.op("Gather", g.weight(5, N), speaker, axis=0), 2)
    x = g.up(g.op("Add", mel, row), N, 1, 3, 3)
    graph = DecoderGraph(g.model(g.conv(g.op("Mul", x, f0), 1, 1, 5, pads=[2, 2])), n_threads=1)
    # A batch has no name of its own here, but it is no time axis either: frames go on without it.
    feeds = two_rate_feeds(20) | {"speaker": np.array([3])}
    whole = FullDecoder(graph, hop_length=3).push(feeds, last=True)
    decoder = OverlapDecoder(graph, left_context=1, lookahead=1, hop_length=3)
    parts = []
    for start in range(0, 20, 4):
        part = {
            "mel": feeds["mel"][..., start : start + 4],
            "f0": feeds["f0"][..., 3 * start : 3 * (start + 4)],
            "speaker": feeds["speaker"],
        }
        parts.append(decoder.push(part, last=start == 16))
    assert close(np.concatenate(parts, axis=-1), whole)


@pytest.mark.parametrize(("left", "right"), [(-1, 0), (0, -1)])
def test_a_context_below_zero_is_an_error(left: int, right: int, plain: DecoderGraph) -> None:
    with pytest.raises(ParameterError, match="=-1 must be >= 0"):
        OverlapDecoder(plain, left_context=left, lookahead=right, hop_length=6)


def test_overlap_of_several_outputs_is_refused() -> None:
    g = TinyGraph()
    x = g.frames()
    graph = DecoderGraph(g.model(g.op("Tanh", x), g.op("Abs", x), names=("a", "b")), n_threads=1)
    with pytest.raises(ParameterError, match="one output, not a, b"):
        OverlapDecoder(graph, left_context=0, lookahead=0, hop_length=1)


def test_several_outputs_come_by_name() -> None:
    g = TinyGraph()
    x = g.frames()
    model = g.model(g.conv(x, N, 2, 3, pads=[1, 1]), g.up(x, N, 1, 4, 2, pads=[1, 1]), names=("slow", "fast"))
    decoder = StatefulDecoder(make_streaming(model), n_threads=1)
    empty = decoder.push(np.zeros((1, N, 0), np.float32))
    assert {name: array.shape for name, array in empty.items()} == {"slow": (1, 2, 0), "fast": (1, 1, 0)}
    done = decoder.push(np.zeros((1, N, 9), np.float32), last=True)
    assert {name: array.shape for name, array in done.items()} == {"slow": (1, 2, 9), "fast": (1, 1, 18)}
