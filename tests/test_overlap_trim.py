import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from balacoon_tk.decoder.chunking import Window, overlap_windows
from balacoon_tk.decoder.overlap_trim import join, trim
from balacoon_tk.errors import ParameterError
from reference import FakeDecoder

DTYPES = [np.float32, np.int16]
WINDOW = Window(start=3, stop=9, keep_start=5, keep_stop=8)


def numbered(n_samples, dtype=np.float32):
    return np.arange(n_samples, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hop_length", [1, 2, 256])
def test_trim_keeps_the_samples_of_the_kept_frames(hop_length, dtype):
    decoded = numbered(6 * hop_length, dtype)
    kept = trim(decoded, WINDOW, hop_length=hop_length)
    assert kept.dtype == dtype
    assert np.array_equal(kept, decoded[2 * hop_length : 5 * hop_length])


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=4, max_size=4), st.integers(1, 9), st.sampled_from(DTYPES))
def test_trim_is_a_slice(edges, hop_length, dtype):
    start, keep_start, keep_stop, stop = sorted(edges)
    window = Window(start, stop, keep_start, keep_stop)
    decoded = numbered(window.n_frames * hop_length, dtype)
    expected = decoded[(keep_start - start) * hop_length :][: window.n_kept * hop_length]
    assert np.array_equal(trim(decoded, window, hop_length=hop_length), expected)


def test_what_is_kept_does_not_hold_the_rest_in_memory():
    kept = trim(numbered(6), WINDOW, hop_length=1)
    assert kept.base is None


def test_trim_reads_a_read_only_array_and_fills_out():
    decoded = numbered(12)
    decoded.flags.writeable = False
    result = np.full(8, -1, np.float32)
    out = result[1:7]
    assert trim(decoded, WINDOW, hop_length=2, out=out) is out
    assert result.tolist() == [-1, 4, 5, 6, 7, 8, 9, -1]


def test_an_empty_window_gives_no_samples():
    assert trim(numbered(0), Window(4, 4, 4, 4), hop_length=256).shape == (0,)
    assert trim(numbered(512), Window(4, 6, 5, 5), hop_length=256).shape == (0,)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_frames", [1, 2, 12, 13, 14, 101])
@pytest.mark.parametrize("chunk_frames", [1, 7, 13, 200, (2, 5)])
def test_joined_windows_are_the_whole_utterance(n_frames, chunk_frames, dtype):
    frames = np.arange(1, n_frames + 1)
    decoder = FakeDecoder(left_context=3, lookahead=2, hop_length=4)
    windows = list(overlap_windows(n_frames, chunk_frames, left_context=3, lookahead=2))
    decoded = [decoder(frames[w.start : w.stop]).astype(dtype) for w in windows]
    joined = join(decoded, windows, hop_length=4)
    assert joined.dtype == dtype
    assert np.array_equal(joined, decoder(frames).astype(dtype))
    assert np.array_equal(joined, reference.join(decoded, windows, 4))


def test_windows_that_keep_nothing_are_joined_as_nothing():
    windows = [
        Window(0, 0, 0, 0),
        Window(0, 4, 0, 2),
        Window(2, 2, 2, 2),
        Window(1, 3, 2, 3),
        Window(2, 5, 3, 3),
    ]
    decoded = [numbered(window.n_frames * 2) + 100 * i for i, window in enumerate(windows)]
    assert join(decoded, windows, hop_length=2).tolist() == [100, 101, 102, 103, 302, 303]
    assert join(decoded[:1], windows[:1], hop_length=2).shape == (0,)


def test_windows_from_the_middle_of_a_sentence_are_joined_without_what_is_before():
    windows = [Window(3, 8, 5, 7), Window(6, 10, 7, 9)]
    decoded = [numbered(10), numbered(8) + 100]
    assert join(decoded, windows, hop_length=2).tolist() == [4, 5, 6, 7, 102, 103, 104, 105]


@pytest.mark.parametrize(
    ("decoded", "message"),
    [
        (
            numbered(11),
            r"decoded.shape=\(11,\) must be \(n_samples,\)=\(12,\)",
        ),  # a decoder that came out short
        (numbered(13), r"decoded.shape=\(13,\)"),
        (numbered(12).reshape(1, 12), r"decoded.shape=\(1, 12\)"),
        (numbered(24)[::2], "decoded must be C-contiguous"),
        (numbered(12, np.float64), "decoded: float64 must be a float32 or int16 array"),
        (numbered(12, ">f4"), "decoded: .* must be a float32 or int16 array"),
        ([0.0] * 12, "decoded: list must be a float32 or int16 array"),
    ],
)
def test_samples_that_are_not_the_window_s_are_refused(decoded, message):
    with pytest.raises(ParameterError, match=message):
        trim(decoded, WINDOW, hop_length=2)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty(5, np.float32), r"out.shape=\(5,\) must be \(n_samples,\)=\(6,\)"),
        (np.empty(6, np.int16), "out: int16 array must be writeable and float32"),
        (np.empty(12, np.float32)[::2], "out must be C-contiguous"),
        (np.broadcast_to(np.zeros(6, np.float32), 6), "out: float32 array must be writeable"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, message):
    with pytest.raises(ParameterError, match=message):
        trim(numbered(12), WINDOW, hop_length=2, out=out)


def test_impossible_windows_and_hops_are_refused():
    with pytest.raises(ParameterError, match="hop_length=0 must be >= 1"):
        trim(numbered(0), WINDOW, hop_length=0)
    with pytest.raises(ParameterError, match="hop_length=-1 must be >= 1"):
        join([numbered(0)], [WINDOW], hop_length=-1)
    for wrong in (Window(3, 9, 2, 8), Window(3, 9, 4, 10), Window(3, 9, 5, 4), Window(-1, 5, 0, 3)):
        with pytest.raises(ParameterError, match="must satisfy 0 <= start <= keep_start <= keep"):
            trim(numbered(6), wrong, hop_length=1)


def test_windows_with_a_gap_or_an_overlap_between_them_are_refused():
    first, gap, overlap = Window(0, 4, 0, 4), Window(4, 8, 5, 8), Window(2, 8, 3, 8)
    for second in (gap, overlap):
        with pytest.raises(ParameterError, match="must keep frames from 4 on"):
            join([numbered(4), numbered(second.n_frames)], [first, second], hop_length=1)


@pytest.mark.parametrize("n_decoded", [0, 1, 3])
def test_every_window_needs_its_samples(n_decoded):
    windows = [Window(0, 4, 0, 4), Window(4, 8, 4, 8)]
    with pytest.raises(ParameterError, match=rf"len\(decoded\)={n_decoded} must be len\(windows\)=2"):
        join([numbered(4)] * n_decoded, windows, hop_length=1)
    with pytest.raises(ParameterError, match="at least 1"):
        join([], [], hop_length=1)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (numbered(3), r"decoded\[1\].shape=\(3,\) must be \(n_samples,\)=\(4,\)"),
        (numbered(4, np.int16), r"decoded\[1\]: int16 must be float32 as in decoded\[0\]"),
        (numbered(8)[::2], r"decoded\[1\] must be C-contiguous"),
    ],
)
def test_joined_samples_are_checked_one_by_one(second, message):
    windows = [Window(0, 4, 0, 4), Window(4, 8, 4, 8)]
    with pytest.raises(ParameterError, match=message):
        join([numbered(4), second], windows, hop_length=1)
