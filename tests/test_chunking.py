from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.decoder.chunking import Push, Window, overlap_window, overlap_windows, push_schedule
from balacoon_tk.errors import ParameterError
from reference import FakeDecoder, tiles

sizes = st.integers(0, 300)
chunk_sizes = st.one_of(st.integers(1, 80), st.lists(st.integers(1, 80), min_size=1, max_size=5))
contexts = st.integers(0, 60)


def kept_spans(windows):
    return [(w.keep_start, w.keep_stop) for w in windows if w.n_kept]


@settings(deadline=None)
@given(sizes, chunk_sizes, contexts)
def test_pushes_tile_the_sentence_and_only_the_final_one_is_last(n_frames, chunk_frames, lag_frames):
    pushes = list(push_schedule(n_frames, chunk_frames, lag_frames=lag_frames))
    assert tiles([(push.start, push.stop) for push in pushes], n_frames)
    assert [push.last for push in pushes] == [False] * (len(pushes) - 1) + [True] * bool(pushes)
    assert all(push.n_frames == push.stop - push.start > 0 for push in pushes)


@settings(deadline=None)
@given(sizes, chunk_sizes, contexts)
def test_each_push_but_the_last_gives_exactly_its_chunk(n_frames, chunk_frames, lag_frames):
    growing = [chunk_frames] if isinstance(chunk_frames, int) else chunk_frames
    *pushes, _ = [None, *push_schedule(n_frames, chunk_frames, lag_frames=lag_frames)]
    given_back = [0] + [push.stop - lag_frames for push in pushes[1:]]
    for i, (before, after) in enumerate(pairwise(given_back)):
        assert after - before == growing[min(i, len(growing) - 1)]


@settings(deadline=None)
@given(sizes, chunk_sizes, contexts)
def test_the_last_audio_is_no_sliver_and_no_push_is_delayed_by_more_than_a_quarter(
    n_frames, chunk_frames, lag_frames
):
    growing = [chunk_frames] if isinstance(chunk_frames, int) else chunk_frames
    pushes = list(push_schedule(n_frames, chunk_frames, lag_frames=lag_frames))
    for i, push in enumerate(pushes):
        size = growing[min(i, len(growing) - 1)]
        asked = size + (lag_frames if i == 0 else 0)
        assert push.n_frames <= asked + size / 4
        if push.last and i:
            before = growing[min(i - 1, len(growing) - 1)]
            assert push.n_frames + lag_frames >= before / 4


@pytest.mark.parametrize(
    ("n_frames", "lag_frames", "expected"),
    [
        (0, 0, []),
        (0, 5, []),
        (1, 0, [(0, 1)]),
        (15, 0, [(0, 15)]),
        (16, 0, [(0, 16)]),
        (19, 0, [(0, 19)]),  # 3 frames are less than a quarter of 16
        (20, 0, [(0, 16), (16, 20)]),
        (35, 0, [(0, 16), (16, 35)]),
        (21, 5, [(0, 21)]),
        (22, 5, [(0, 21), (21, 22)]),  # 1 frame and the lag of 5 are worth a push
        (38, 5, [(0, 21), (21, 37), (37, 38)]),
        (18, 1, [(0, 18)]),
        (20, 1, [(0, 17), (17, 20)]),
    ],
)
def test_schedule_of_16_frame_chunks(n_frames, lag_frames, expected):
    pushes = push_schedule(n_frames, 16, lag_frames=lag_frames)
    assert [(push.start, push.stop) for push in pushes] == expected


def test_growing_chunks_repeat_their_last_size():
    pushes = push_schedule(100, (4, 8, 20), lag_frames=3)
    assert [push.n_frames for push in pushes] == [7, 8, 20, 20, 20, 20, 5]
    assert next(push_schedule(9, [4, 8])) == Push(0, 4, last=False)


def test_a_single_chunk_longer_than_the_sentence_is_one_push():
    assert list(push_schedule(7, 1000, lag_frames=42)) == [Push(0, 7, last=True)]


def test_schedule_of_a_long_sentence_is_lazy():
    assert [p.stop for p in islice(push_schedule(2**40, 64), 2)] == [64, 128]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_frames": -1, "chunk_frames": 4}, "n_frames=-1 must be >= 0"),
        ({"n_frames": 5, "chunk_frames": 0}, "chunk_frames=0 must be >= 1"),
        ({"n_frames": 5, "chunk_frames": (4, 0)}, r"chunk_frames\[1\]=0 must be >= 1"),
        ({"n_frames": 5, "chunk_frames": ()}, r"chunk_frames=\(\) must have at least one number"),
        ({"n_frames": 5, "chunk_frames": 4, "lag_frames": -2}, "lag_frames=-2 must be >= 0"),
    ],
)
def test_a_wrong_schedule_is_refused_at_the_call(arguments, message):
    with pytest.raises(ParameterError, match=message):
        push_schedule(**arguments)


@settings(deadline=None)
@given(st.lists(st.integers(0, 40), max_size=20), contexts, contexts)
def test_kept_frames_tile_the_sentence_for_pushes_of_any_size(push_sizes, left_context, lookahead):
    edges = np.cumsum([0, *push_sizes]).tolist()
    windows = [
        overlap_window(before, after, i == len(push_sizes), left_context=left_context, lookahead=lookahead)
        for i, (before, after) in enumerate(pairwise(edges), start=1)
    ]
    assert tiles(kept_spans(windows), edges[-1])
    for window, pushed in zip(windows, edges[1:], strict=True):
        assert 0 <= window.start <= window.keep_start <= window.keep_stop <= window.stop <= pushed
        assert window.n_frames == 0 or window.n_kept > 0


@settings(deadline=None)
@given(sizes, chunk_sizes, contexts, contexts)
def test_planned_windows_tile_the_sentence(n_frames, chunk_frames, left_context, lookahead):
    windows = list(overlap_windows(n_frames, chunk_frames, left_context=left_context, lookahead=lookahead))
    assert tiles(kept_spans(windows), n_frames)
    assert all(window.n_kept for window in windows)


@pytest.mark.parametrize(
    ("pushed", "expected"),
    [
        ((0, 0, False), Window(0, 0, 0, 0)),
        ((0, 0, True), Window(0, 0, 0, 0)),
        ((0, 1, False), Window(0, 0, 0, 0)),
        ((0, 2, False), Window(0, 0, 0, 0)),  # the lookahead, and nothing before it
        ((0, 3, False), Window(0, 3, 0, 1)),
        ((0, 1, True), Window(0, 1, 0, 1)),
        ((1, 2, True), Window(0, 2, 0, 2)),
        ((6, 10, False), Window(1, 10, 4, 8)),
        ((10, 13, True), Window(5, 13, 8, 13)),
        ((10, 10, True), Window(5, 10, 8, 10)),  # only the end is new
        ((10, 10, False), Window(8, 8, 8, 8)),
    ],
)
def test_window_with_3_frames_before_and_2_after(pushed, expected):
    assert overlap_window(*pushed, left_context=3, lookahead=2) == expected


def test_a_window_and_a_push_count_their_frames():
    window = Window(1, 10, 4, 8)
    assert (window.n_frames, window.n_kept) == (9, 4)
    assert Push(6, 10, last=False).n_frames == 4


def stream(frames, decoder, chunk_frames, *, left_context, lookahead):
    parts = []
    windows = overlap_windows(len(frames), chunk_frames, left_context=left_context, lookahead=lookahead)
    for w in windows:
        samples = decoder(frames[w.start : w.stop]).reshape(-1, decoder.hop_length)
        parts.append(samples[w.keep_start - w.start : w.keep_stop - w.start])
    return np.concatenate(parts).reshape(-1)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 9), st.integers(0, 9))
def test_the_exact_context_gives_the_whole_utterance(n_frames, chunk_frames, left_context, lookahead):
    frames = np.arange(1, n_frames + 1)
    decoder = FakeDecoder(left_context, lookahead, hop_length=3)
    streamed = stream(frames, decoder, chunk_frames, left_context=left_context, lookahead=lookahead)
    assert np.array_equal(streamed, decoder(frames))


@pytest.mark.parametrize("chunk_frames", [1, 7, 16])
@pytest.mark.parametrize(("missing_before", "missing_after"), [(1, 0), (0, 1)])
def test_one_frame_of_context_less_is_seen(chunk_frames, missing_before, missing_after):
    frames = np.arange(1, 61)
    decoder = FakeDecoder(5, 4, hop_length=3)
    streamed = stream(
        frames, decoder, chunk_frames, left_context=5 - missing_before, lookahead=4 - missing_after
    )
    assert len(streamed) == 180
    assert not np.array_equal(streamed, decoder(frames))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 5, 3, 2), "n_before=-1 must be >= 0"),
        ((6, 5, 3, 2), "n_after=5 must be >= n_before=6"),
        ((0, 5, -3, 2), "left_context=-3 must be >= 0"),
        ((0, 5, 3, -2), "lookahead=-2 must be >= 0"),
    ],
)
def test_a_wrong_window_is_refused(arguments, message):
    n_before, n_after, left_context, lookahead = arguments
    with pytest.raises(ParameterError, match=message):
        overlap_window(n_before, n_after, False, left_context=left_context, lookahead=lookahead)


def test_a_wrong_plan_is_refused_at_the_call():
    with pytest.raises(ParameterError, match="lookahead=-2 must be >= 0"):
        overlap_windows(5, 4, left_context=3, lookahead=-2)
