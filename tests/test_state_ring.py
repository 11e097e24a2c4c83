"""Where a stream's state lies between its pushes: bound tensors that streams use one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.binding import Binding
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from decoder_streams import N_CHANNELS, close, down_and_up, push_all, vocoder
from streaming_laws import make_streaming

N_FRAMES = 23


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(7).standard_normal((1, N_CHANNELS, N_FRAMES)).astype(np.float32)


@pytest.mark.parametrize(("sizes", "in_python"), [([20, 1, 1, 1], []), ([10, 3, 4, 1, 5], [False, False])])
def test_a_state_that_keeps_its_shape_does_not_pass_through_python(
    sizes: list[int], in_python: list[bool], frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = OrtEngine(
        make_streaming(vocoder()), RuntimeOptions(n_threads=1)
    )  # the state is full after 13 frames
    wanted = push_all(StatefulDecoder(graph), frames, sizes)
    runs: list[bool] = []
    run = OrtEngine._run
    monkeypatch.setattr(OrtEngine, "_run", lambda *args, last: runs.append(last) or run(*args, last=last))
    assert np.array_equal(push_all(StatefulDecoder(graph), frames, sizes), wanted)
    assert runs == [*in_python, True]


def test_a_stream_that_ends_or_begins_anew_leaves_its_place_to_the_next(frames: np.ndarray) -> None:
    graph = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
    wanted = push_all(StatefulDecoder(graph), frames, [10, 3, 5, 5])
    lease = graph.rings.borrow()
    assert lease is not None
    ring = lease.ring
    del lease  # nobody holds it any more, so another stream may have it
    for sizes in ([10, 3, 10], [20, 3], [12, 1, 2, 8]):
        decoder = StatefulDecoder(graph)
        assert close(push_all(decoder, frames, sizes), wanted)
        decoder.reset()
        decoder.push(frames)
        decoder.reset()
        assert close(push_all(decoder, frames, sizes), wanted)
        lease = graph.rings.borrow()
        assert lease is not None and lease.ring is ring
        del lease


@pytest.mark.parametrize("n_before", [0, 1, 2])
def test_a_run_that_fails_in_its_place_is_done_again_elsewhere(
    n_before: int, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
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
    assert graph.rings.borrow() is None
    assert np.array_equal(push_all(StatefulDecoder(graph), frames, sizes), wanted)
    assert n_runs == max(2, n_before + 1)  # a first push that fails says nothing of later ones


@pytest.mark.parametrize("name", ["bind_ortvalue_input", "bind_ortvalue_output"])
@pytest.mark.parametrize("interrupted", [0, 1, 2])
def test_a_push_that_is_interrupted_while_it_binds_may_be_made_again(
    interrupted: int, name: str, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
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
    assert graph.rings.borrow_for_first() is not None
    assert graph.rings.borrow() is not None


def test_first_pushes_of_many_lengths_are_bound_again_and_again(frames: np.ndarray) -> None:
    graph = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
    wanted = push_all(StatefulDecoder(graph), frames, [20, 1, 1, 1])
    assert graph.rings.borrow() is not None
    for first in [*range(13, 22), *range(21, 12, -1)] * 2:  # more lengths than are kept
        assert close(push_all(StatefulDecoder(graph), frames, [first, 1, N_FRAMES - first - 1]), wanted)
    assert graph.rings.borrow_for_first() is not None
    assert graph.rings.borrow() is not None


def test_lengths_that_were_never_bound_do_not_push_out_one_that_is(
    frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = OrtEngine(make_streaming(vocoder()), RuntimeOptions(n_threads=1))
    wanted = push_all(StatefulDecoder(graph), frames, [20, 1, 1, 1])
    push_all(StatefulDecoder(graph), frames, [20, 1, 1, 1])
    decoder = StatefulDecoder(graph)

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime.IOBinding, "bind_ortvalue_input", interrupt)
        for first in range(12, 20):
            with pytest.raises(KeyboardInterrupt):
                decoder.push(frames[..., :first])
            decoder.reset()
    assert np.array_equal(push_all(decoder, frames, [20, 1, 1, 1]), wanted)
    assert graph.rings.borrow_for_first() is not None


def test_a_state_that_changes_its_shape_is_streamed_as_well(frames: np.ndarray) -> None:
    graph = OrtEngine(make_streaming(down_and_up()), RuntimeOptions(n_threads=1))
    wanted = push_all(StatefulDecoder(graph), frames[..., :20], [20])
    for sizes in ([16, 4], [15, 1, 4], [12, 4, 4], [14, 2, 1, 1, 2]):
        assert close(push_all(StatefulDecoder(graph), frames, sizes), wanted)
