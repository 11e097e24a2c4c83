from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from balacoon_tk.errors import ParameterError
from balacoon_tk.stages import upsampler
from balacoon_tk.stages.random import frame_noise
from balacoon_tk.stages.upsampler import MAX_FRAMES, Upsampler

SIZES = [0, 1, 2, 7, 15, 16, 17, 63, 64, 65, 191, 193]


def sentence(durations, n_channels, seed=0):
    rng = np.random.default_rng(seed)
    durations = np.array(durations, np.int64)
    encodings, log_scales = rng.standard_normal((2, len(durations), n_channels), np.float32)
    return encodings, log_scales, durations


def durations_of(n_frames, n_phonemes):
    return np.random.default_rng(n_frames).multinomial(n_frames, np.full(n_phonemes, 1 / n_phonemes))


@pytest.mark.parametrize("n_channels", [1, 3, 16, 63, 64, 65, 192])
@pytest.mark.parametrize("n_frames", SIZES)
def test_without_noise_frames_are_exact_copies(n_frames, n_channels):
    encodings, log_scales, durations = sentence(durations_of(n_frames, 31), n_channels)
    encodings[::2] *= 0  # among them -0.0, which no sum would leave
    expected = reference.expand(encodings, durations)
    for arguments in ({}, {"log_scales": log_scales, "noise_scale": 0.0}, {"noise_scale": 0.667}):
        frames = Upsampler(encodings, durations, **arguments).window(0, n_frames)
        assert frames.shape == (n_channels, n_frames)
        assert frames.dtype == np.float32
        assert frames.flags.c_contiguous
        assert frames.tobytes() == expected.tobytes()


@pytest.mark.parametrize("n_channels", [1, 3, 16, 63, 64, 65, 192])
@pytest.mark.parametrize("n_frames", SIZES)
def test_noise_is_scaled_by_phoneme_and_added(n_frames, n_channels):
    encodings, log_scales, durations = sentence(durations_of(n_frames, 31), n_channels)
    noise = frame_noise(0, n_frames, n_channels=n_channels, seed=5, stream=2)
    frames = Upsampler(
        encodings, durations, log_scales=log_scales, noise_scale=0.667, seed=5, stream=2
    ).window(0, n_frames)
    assert np.array_equal(
        frames, reference.expand_with_noise_fast(encodings, log_scales, durations, noise, 0.667)
    )
    np.testing.assert_allclose(
        frames, reference.expand_with_noise(encodings, log_scales, durations, noise, 0.667), 1e-5, 1e-6
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=30), st.integers(1, 70), st.data())
def test_any_window_is_the_slice_of_the_whole(durations, n_channels, data):
    encodings, log_scales, durations = sentence(durations, n_channels)
    for arguments in ({}, {"log_scales": log_scales, "noise_scale": 1.0, "seed": 2**64 - 1}):
        whole = Upsampler(encodings, durations, **arguments)
        start = data.draw(st.integers(0, whole.n_frames))
        stop = data.draw(st.integers(start, whole.n_frames))
        window = whole.window(start, stop)
        assert np.array_equal(window, whole.window(0, whole.n_frames)[:, start:stop])


def test_more_phonemes_later_leave_the_frames_before_as_they_are():
    encodings, log_scales, durations = sentence([3, 0, 2, 4], 8)
    arguments = {"noise_scale": 0.5, "seed": 1}
    whole = Upsampler(encodings, durations, log_scales=log_scales, **arguments)
    part = Upsampler(encodings[:3], durations[:3], log_scales=log_scales[:3], **arguments)
    assert np.array_equal(part.window(0, 5), whole.window(0, 5))


def test_seed_and_stream_choose_the_noise():
    encodings, log_scales, durations = sentence([5, 5], 4)

    def frames(seed, stream):
        arguments = {"log_scales": log_scales, "noise_scale": 1.0, "seed": seed, "stream": stream}
        return Upsampler(encodings, durations, **arguments).window(0, 10)

    assert np.array_equal(frames(1, 2), frames(1, 2))
    assert (frames(1, 2) != frames(2, 2)).all()
    assert (frames(1, 2) != frames(1, 3)).all()


def test_phoneme_starts_are_where_the_phonemes_are():
    encodings, _, durations = sentence([0, 3, 0, 0, 2, 1, 0], 2)
    whole = Upsampler(encodings, durations)
    assert (whole.n_phonemes, whole.n_channels, whole.n_frames) == (7, 2, 6)
    assert whole.phoneme_starts.tolist() == [0, 0, 3, 3, 3, 5, 6, 6]
    assert whole.phoneme_starts.dtype == np.int64
    frames = whole.window(0, 6)
    for phoneme, (start, stop) in enumerate(
        zip(whole.phoneme_starts, whole.phoneme_starts[1:], strict=False)
    ):
        assert (frames[:, start:stop] == encodings[phoneme, :, None]).all()
    with pytest.raises(ValueError, match="read-only"):
        whole.phoneme_starts[0] = 1


@pytest.mark.parametrize("durations", [[], [0], [0, 0, 0]])
def test_a_sentence_without_frames_has_an_empty_window(durations):
    encodings, log_scales, durations = sentence(durations, 3)
    whole = Upsampler(encodings, durations, log_scales=log_scales, noise_scale=1.0)
    assert whole.n_frames == 0
    assert whole.window(0, 0).shape == (3, 0)


def test_out_is_filled_and_returned():
    encodings, _, durations = sentence([2, 3], 3)
    out = np.full((3, 4), np.nan, np.float32)
    assert Upsampler(encodings, durations).window(1, 5, out) is out
    assert np.array_equal(out, reference.expand(encodings, durations)[:, 1:])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32, np.uint64, ">i8"])
def test_durations_of_any_integer_dtype_are_taken(dtype):
    encodings, _, durations = sentence([2, 3], 3)
    whole = Upsampler(encodings, durations.astype(dtype))
    assert np.array_equal(whole.window(0, 5), reference.expand(encodings, durations))


def test_encodings_of_any_layout_are_taken():
    encodings, log_scales, durations = sentence([2, 3, 4, 5], 6)
    for view in (encodings[::-1], np.asfortranarray(encodings), encodings[:, ::2]):
        view.flags.writeable = False
        scales = log_scales[:, : view.shape[1]]
        whole = Upsampler(view, durations, log_scales=scales, noise_scale=0.1)
        plain = Upsampler(view.copy(), durations, log_scales=scales.copy(), noise_scale=0.1)
        assert np.array_equal(whole.window(1, 14), plain.window(1, 14))


def test_the_longest_sentence_works_and_one_frame_more_is_refused():
    encodings, _, _ = sentence([0, 0], 1)
    whole = Upsampler(encodings, np.array([MAX_FRAMES - 1, 1]))
    assert whole.window(MAX_FRAMES - 2, MAX_FRAMES).tolist() == [encodings[:, 0].tolist()]
    with pytest.raises(ParameterError, match=r"sum\(durations\)=1048577 must be <= MAX_FRAMES=1048576"):
        Upsampler(encodings, np.array([MAX_FRAMES, 1]))


def test_windows_from_many_threads_are_the_same():
    encodings, log_scales, durations = sentence([4] * 50, 64)
    whole = Upsampler(encodings, durations, log_scales=log_scales, noise_scale=1.0)
    expected = whole.window(0, 200)
    with ThreadPoolExecutor(8) as pool:
        windows = pool.map(lambda start: whole.window(start, start + 37), range(160))
        assert all(np.array_equal(w, expected[:, i : i + 37]) for i, w in enumerate(windows))


# --- Gaussian upsampling -----------------------------------------------------------------------------


@pytest.mark.parametrize("n_channels", [1, 63, 64, 65, 192])
@pytest.mark.parametrize("n_frames", SIZES)
@pytest.mark.parametrize("delta", [0.001, 0.1, 5.0])
def test_gaussian_frames_are_those_of_the_full_softmax(n_frames, n_channels, delta):
    encodings, _, durations = sentence(durations_of(n_frames, 31), n_channels)
    frames = Upsampler(encodings, durations, gaussian_delta=delta).window(0, n_frames)
    assert frames.shape == (n_channels, n_frames)
    expected = reference.expand_gaussian(encodings, durations, delta)
    np.testing.assert_allclose(frames, expected, rtol=0, atol=2e-6)


def test_what_is_left_out_of_a_mixture_is_within_the_tolerance():
    """A phoneme so loud that its smallest share shows: all shares of it that are left out together."""
    durations = np.full(400, 2)
    for loud in (0, 7, 200, 399):
        encodings = np.zeros((400, 1), np.float32)
        encodings[loud] = 1.0
        frames = Upsampler(encodings, durations, gaussian_delta=0.1).window(0, 800)
        full = reference.expand_gaussian(encodings, durations, 0.1)
        left_out = (frames == 0) & (full > 0)
        assert left_out.any()
        assert full[left_out].max() * len(durations) <= upsampler.GAUSSIAN_TOLERANCE
        assert (frames[~left_out] > 0).any()


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 9), max_size=30), st.integers(1, 70), st.sampled_from([0.01, 0.1, 3.0]), st.data()
)
def test_any_gaussian_window_is_the_slice_of_the_whole(durations, n_channels, delta, data):
    encodings, _, durations = sentence(durations, n_channels)
    whole = Upsampler(encodings, durations, gaussian_delta=delta)
    start = data.draw(st.integers(0, whole.n_frames))
    stop = data.draw(st.integers(start, whole.n_frames))
    window = whole.window(start, stop)
    assert np.array_equal(window, whole.window(0, whole.n_frames)[:, start:stop])


def test_a_sharp_gaussian_copies_the_nearest_encoding():
    encodings, _, durations = sentence([3, 5, 1, 7], 4)
    frames = Upsampler(encodings, durations, gaussian_delta=1e6).window(0, 16)
    centres = np.cumsum(durations) - durations / 2
    distances = np.abs(np.arange(16)[:, None] - centres)
    clear = np.sort(distances, axis=1)[:, 0] < np.sort(distances, axis=1)[:, 1]  # no two are as near
    assert clear.sum() > 12
    assert np.array_equal(frames[:, clear], encodings[distances.argmin(axis=1)[clear]].T)


ENCODINGS, LOG_SCALES, DURATIONS = sentence([2, 3, 1, 4], 5)


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"durations": np.array([1, 2, 3, -2])}, r"durations\[3\]=-2 must be in \[0, MAX_FRAMES=1048576\]"),
        (
            {"durations": np.array([1, 2**62, 2**62, 2**62])},
            r"durations\[1\]=4611686018427387904 must be in",
        ),
        (
            {"durations": np.array([1, 2, 2**64 - 1, 4], np.uint64)},
            r"durations\[2\]=18446744073709551615 must",
        ),
        (
            {"durations": np.array([1.0, 2, 3, 4])},
            r"durations: float64 array of shape \(4,\) must be an integer",
        ),
        ({"durations": np.array([True] * 4)}, "durations: bool array"),
        ({"durations": [1, 2, 3, 4]}, "durations: list must be an integer array"),
        ({"durations": np.array([1, 2, 3])}, r"durations.shape=\(3,\) must be \(n_phonemes,\)=\(4,\)"),
        ({"durations": np.ones((4, 1), np.int64)}, r"durations.shape=\(4, 1\)"),
        (
            {"encodings": ENCODINGS.astype(np.float64)},
            r"encodings: float64 array of shape \(4, 5\) must be a float32",
        ),
        ({"encodings": ENCODINGS.astype(">f4")}, "encodings: >f4 array|encodings: float32 array"),
        ({"encodings": None}, "encodings: NoneType must be a float32 array"),
        ({"encodings": ENCODINGS[0]}, r"encodings.shape=\(5,\) must be \(n_phonemes, n_channels\)"),
        ({"encodings": ENCODINGS[:, :0]}, r"encodings.shape=\(4, 0\) must be"),
        ({"encodings": changed(ENCODINGS, (2, 3), np.nan)}, r"encodings\[2, 3\]=nan must be finite"),
        ({"log_scales": LOG_SCALES[:3]}, r"log_scales.shape=\(3, 5\) must be encodings.shape=\(4, 5\)"),
        ({"log_scales": LOG_SCALES.astype(np.float16)}, "log_scales: float16 array"),
        ({"log_scales": changed(LOG_SCALES, (0, 1), -np.inf)}, r"log_scales\[0, 1\]=-inf must be finite"),
        (
            {"log_scales": changed(LOG_SCALES, (3, 0), 100)},
            r"exp\(log_scales\) \* noise_scale\[3, 0\]=inf must",
        ),
        (
            {"log_scales": changed(LOG_SCALES, (3, 0), 88), "noise_scale": 5.0},
            r"exp\(log_scales\) \* noise_scale\[3, 0\]=inf must",
        ),
        ({"noise_scale": -0.1}, "noise_scale=-0.1 must be finite and >= 0"),
        ({"noise_scale": np.nan}, "noise_scale=nan must be"),
        ({"noise_scale": np.inf, "log_scales": None}, "noise_scale=inf must be"),
        ({"seed": -1}, "seed=-1 must be in"),
        ({"stream": 2**32}, "stream=4294967296 must be in"),
        ({"gaussian_delta": 0.1}, "log_scales must be None with gaussian_delta"),
        ({"gaussian_delta": 0.0, "log_scales": None}, "gaussian_delta=0.0 must be finite and > 0"),
        ({"gaussian_delta": np.inf, "log_scales": None}, "gaussian_delta=inf must be finite and > 0"),
        ({"gaussian_delta": np.nan, "log_scales": None}, "gaussian_delta=nan must be finite and > 0"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    right = {
        "encodings": ENCODINGS,
        "durations": DURATIONS,
        "log_scales": LOG_SCALES,
        "noise_scale": 0.5,
    }
    with pytest.raises(ParameterError, match=message):
        Upsampler(**(right | arguments))


@pytest.mark.parametrize("window", [(-1, 3), (3, 2), (0, 11), (11, 11), (10, 12)])
def test_a_window_outside_the_sentence_is_refused(window):
    with pytest.raises(ParameterError, match=r"must satisfy 0 <= start <= stop <= n_frames=10"):
        Upsampler(ENCODINGS, DURATIONS).window(*window)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (
            np.empty((5, 4), np.float32),
            r"out: float32 array of shape \(5, 4\) must be a float32 array of shape \(5, 3\)",
        ),
        (np.empty((3, 5), np.float32), r"must be a float32 array of shape \(5, 3\)"),
        (np.empty((5, 3)), r"out: float64 array"),
        (np.empty((3, 5), np.float32).T, "out must be C-contiguous and writeable"),
        (np.empty((5, 6), np.float32)[:, ::2], "out must be C-contiguous and writeable"),
        ([[0.0] * 3] * 5, "out: list must be"),
        (np.broadcast_to(np.zeros((5, 3), np.float32), (5, 3)), "out must be C-contiguous and writeable"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(out, message):
    with pytest.raises(ParameterError, match=message):
        Upsampler(ENCODINGS, DURATIONS).window(2, 5, out)
