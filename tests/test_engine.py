"""The seam: all that streams is written against the protocol of an engine, whatever runs the decoder."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from balacoon_tk.decoder import Engine, FullDecoder, OverlapDecoder, StatefulDecoder
from balacoon_tk.errors import ParameterError, StreamStateError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from decoder_streams import vocoder
from numpy_engine import Conv, NumpyEngine
from streaming_laws import make_streaming

N_FRAMES = 29
HOP_LENGTH = 6
LAG = ((0 + 2) * 2 + 1) * 3 + 1


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


@pytest.fixture(scope="module")
def engine() -> NumpyEngine:
    return NumpyEngine([Conv(random(4, 3, 5), up=2), Conv(random(4, 4, 3), up=3), Conv(random(1, 4, 3))])


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return random(1, 3, N_FRAMES)


def pushes(decoder, frames: np.ndarray, sizes: list[int]) -> np.ndarray:
    pieces, start = [], 0
    for k, size in enumerate(sizes):
        pieces.append(decoder.push(frames[..., start : start + size], last=k == len(sizes) - 1))
        start += size
    return np.concatenate(pieces, axis=-1)


CUTS = [[N_FRAMES], [0, N_FRAMES, 0], [1] * N_FRAMES, [2, 3, 5, 7, 11, 1], [10, 19], [28, 1]]


def test_both_engines_are_engines(engine: NumpyEngine) -> None:
    assert isinstance(engine, Engine)
    assert isinstance(OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1)), Engine)


@pytest.mark.parametrize("sizes", CUTS, ids=str)
def test_any_engine_streams_what_it_gives_whole(
    engine: NumpyEngine, frames: np.ndarray, sizes: list[int]
) -> None:
    whole = pushes(FullDecoder(engine, hop_length=HOP_LENGTH), frames, sizes)
    assert whole.shape == (1, 1, N_FRAMES * HOP_LENGTH)
    decoder = StatefulDecoder(engine)
    assert (decoder.hop_length, decoder.lag_samples) == (HOP_LENGTH, LAG)
    # NumPy adds up windows of other numbers of steps in another order.
    np.testing.assert_allclose(pushes(decoder, frames, sizes), whole, rtol=0, atol=1e-5)
    decoder.reset()
    np.testing.assert_allclose(pushes(decoder, frames, sizes[::-1]), whole, rtol=0, atol=1e-5)


def test_any_engine_streams_by_overlap_and_a_frame_less_is_seen(
    engine: NumpyEngine, frames: np.ndarray
) -> None:
    whole = engine.whole({"frames": frames})["samples"]
    context = 4  # frames: 2 + 1 / 2 + 1 / 6, rounded up
    exact = OverlapDecoder(engine, left_context=context, lookahead=context, hop_length=HOP_LENGTH)
    assert np.abs(pushes(exact, frames, [5, 9, 15]) - whole).max() <= 1e-6
    less = OverlapDecoder(engine, left_context=1, lookahead=context, hop_length=HOP_LENGTH)
    assert np.abs(pushes(less, frames, [9, 9, 11]) - whole).max() > 1e-3


def test_a_stream_moves_to_another_process_by_what_its_engine_saves(
    engine: NumpyEngine, frames: np.ndarray
) -> None:
    first, second = StatefulDecoder(engine), StatefulDecoder(engine)
    begun = first.push(frames[..., :11])
    second.restore(pickle.loads(pickle.dumps(first.snapshot())))
    np.testing.assert_array_equal(
        second.push(frames[..., 11:], last=True), first.push(frames[..., 11:], last=True)
    )
    assert begun.shape[-1] == 11 * HOP_LENGTH - LAG
    damaged = second.snapshot()
    damaged.tensors.pop("0")  # type: ignore[attr-defined]
    with pytest.raises(StreamStateError, match="the state is damaged: 2 arrays must be 3"):
        second.restore(damaged)


def test_a_step_leaves_the_state_that_it_is_given(frames: np.ndarray) -> None:
    engine = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
    given = random(1, engine.contract.inputs["frames"].shape[1], 40)
    _, state = engine.step(engine.start(), {"frames": given[..., :20]}, last=False)
    saved = engine.save(state)
    (name,) = engine.contract.outputs
    results = [engine.step(state, {"frames": given[..., 20:24]}, last=False)[0][name] for _ in range(3)]
    assert all(np.array_equal(results[0], other) for other in results)
    assert all(np.array_equal(saved[name], array) for name, array in engine.save(state).items())


def test_a_state_that_is_too_old_is_refused_and_not_decoded_from() -> None:
    engine = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
    frames = random(1, engine.contract.inputs["frames"].shape[1], 60)
    for _ in range(2):  # the second stream's state lies in a ring from the first push on
        state, states = engine.start(), []
        for start in range(0, 60, 15):
            _, state = engine.step(state, {"frames": frames[..., start : start + 15]}, last=False)
            states.append(state)
    with pytest.raises(StreamStateError, match="the state is too old"):
        engine.step(states[0], {"frames": frames[..., :15]}, last=False)


def test_options_say_how_graphs_are_run() -> None:
    with pytest.raises(ParameterError, match="n_threads=0 must be >= 1"):
        RuntimeOptions(n_threads=0)
    with pytest.raises(ParameterError, match=r"providers=\(\) must name at least one"):
        RuntimeOptions(providers=())
    with pytest.raises(ParameterError, match="device='' must be the name of a device"):
        RuntimeOptions(device="")
