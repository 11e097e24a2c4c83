import zlib
from math import erf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import reference
from balacoon_tk.errors import ParameterError
from balacoon_tk.stages import _random
from balacoon_tk.stages.random import frame_noise, noise_stream

# Published with Random123 (Salmon et al. 2011), file kat_vectors: counter, key, output.
KNOWN_ANSWERS = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]

# frame_noise(1000, 1002, n_channels=4, seed=2024, stream=3)
GOLDEN = [
    "0x1.eacfec0000000p-1",
    "-0x1.f5a78c0000000p-1",
    "-0x1.0948a80000000p-1",
    "0x1.625b700000000p+0",
    "-0x1.e564ec0000000p-2",
    "0x1.6b2c160000000p-2",
    "0x1.d1726a0000000p-3",
    "-0x1.dd76240000000p-2",
]


def words(text):
    return [int(word, 16) for word in text.split()]


def philox(counters, key):
    counters = np.asarray(counters, np.uint32)
    out = np.empty_like(counters)
    _random.philox4x32(counters, key[0] | key[1] << 32, out)
    return out


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS)
def test_kernel_and_oracle_give_the_published_answers(counter, key, expected):
    assert philox([words(counter)], words(key)).tolist() == [words(expected)]
    assert reference.philox4x32([words(counter)], words(key)).tolist() == [words(expected)]


def test_every_lane_encrypts_like_the_oracle():
    rng = np.random.default_rng(0)
    counters = rng.integers(0, 2**32, (1000, 4), np.uint32)
    key = (0xDEADBEEF, 0x01234567)
    assert np.array_equal(philox(counters, key), reference.philox4x32(counters, key))


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4, 5, 17, 64, 192])
@pytest.mark.parametrize("start", [0, 1, 15, 2**32 - 3, 2**40])
def test_noise_is_the_documented_function_of_its_position(n_channels, start):
    where = {"n_channels": n_channels, "seed": 0xFEDCBA9876543210, "stream": 0x89ABCDEF}
    noise = frame_noise(start, start + 7, **where)
    assert noise.shape == (7, n_channels)
    assert noise.dtype == np.float32
    assert noise.flags.c_contiguous
    np.testing.assert_allclose(noise, reference.frame_noise(start, start + 7, **where), rtol=0, atol=1.5e-6)


def test_noise_has_the_same_bits_on_every_platform():
    noise = frame_noise(1000, 1002, n_channels=4, seed=2024, stream=3)
    assert [value.hex() for value in noise.ravel().tolist()] == GOLDEN
    more = frame_noise(0, 5000, n_channels=8, seed=2024, stream=3)
    assert zlib.crc32(more.astype("<f4").tobytes()) == 0xAF524243


@settings(deadline=None)
@given(st.integers(0, 70), st.integers(0, 70), st.integers(1, 70), st.integers(1, 70))
def test_any_window_is_the_slice_of_the_whole(start, n_frames, n_channels, more_channels):
    whole = frame_noise(0, 140, n_channels=n_channels + more_channels, seed=3, stream=9)
    window = frame_noise(start, start + n_frames, n_channels=n_channels, seed=3, stream=9)
    assert np.array_equal(window, whole[start : start + n_frames, :n_channels])


@pytest.mark.parametrize("first", [0, 2**31, 2**32 - 1])
def test_the_extreme_words_give_finite_normals(first):
    # The cipher can be undone: look for a position in reach whose first word is the wanted one.
    key = (123, 456)
    wanted = np.random.default_rng(first).integers(0, 2**32, (600_000, 4), np.uint32)
    wanted[:, 0] = first
    counters = reference.philox4x32_inverse(wanted, key)
    found = np.flatnonzero((counters[:, 0] < 2**17) & (counters[:, 2] < 2**31))[0]
    block, low, high, stream = counters[found].tolist()
    frame = low | high << 32
    noise = frame_noise(frame, frame + 1, n_channels=4 * block + 4, seed=123 | 456 << 32, stream=stream)
    expected = reference.box_muller(wanted[found, [0, 2]], wanted[found, [1, 3]])
    np.testing.assert_allclose(noise[0, -4:], np.stack(expected, axis=1).ravel(), rtol=0, atol=1.5e-6)
    assert np.hypot(*noise[0, -4:-2]) < 6.67


def test_seed_stream_and_frame_each_change_every_value():
    def draw(start=0, seed=5, stream=5):
        return frame_noise(start, start + 50, n_channels=6, seed=seed, stream=stream)

    others = [draw(start=50), draw(seed=6), draw(seed=5 + 2**32), draw(seed=5 + 2**63), draw(stream=6)]
    others += [draw(start=2**32), draw(stream=5 + 2**31)]
    for other in others:
        assert (draw() != other).mean() > 0.99


def test_noise_is_standard_normal():
    noise = frame_noise(0, 10_000, n_channels=192, seed=1).astype(np.float64).ravel()
    n = noise.size
    # Five standard errors each; the draw is fixed, so this passes or fails for good.
    assert abs(noise.mean()) < 5 / n**0.5
    assert abs(noise.var() - 1) < 5 * (2 / n) ** 0.5
    assert abs((noise**3).mean()) < 5 * (15 / n) ** 0.5
    assert abs((noise**4).mean() - 3) < 5 * (96 / n) ** 0.5
    ordered = np.sort(noise)
    grid = np.linspace(-5, 5, 2001)
    distribution = np.array([(1 + erf(x / 2**0.5)) / 2 for x in grid])
    kolmogorov = abs(np.searchsorted(ordered, grid) / n - distribution).max()
    assert kolmogorov < 1.95 / n**0.5  # exceeded once in a thousand


@pytest.mark.parametrize("power", [1, 2])
def test_frames_channels_and_streams_are_not_correlated(power):
    n = 20_000
    streams = [frame_noise(0, n, n_channels=16, seed=11, stream=stream) for stream in (0, 1)]
    columns = np.hstack(streams).astype(np.float64) ** power
    limit = 5 / n**0.5
    assert abs(np.corrcoef(columns.T) - np.eye(32)).max() < limit
    for shift in (1, 2, 4, 64):
        shifted = np.corrcoef(columns[shift:].T, columns[:-shift].T)[:32, 32:]
        assert abs(shifted).max() < limit


@pytest.mark.parametrize(("start", "stop"), [(0, 0), (7, 7), (2**63, 2**63)])
def test_no_frames_give_an_empty_array(start, stop):
    assert frame_noise(start, stop, n_channels=5).shape == (0, 5)


def test_streams_of_an_utterance_differ():
    streams = [noise_stream(sentence, use) for sentence in range(50) for use in ("durations", "frames")]
    assert streams == list(range(100))
    assert noise_stream(2**31 - 1, "frames") == 2**32 - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1}, r"\[start, stop\)=\[-1, 5\) must satisfy 0 <= start <= stop"),
        ({"start": 6}, r"\[start, stop\)=\[6, 5\)"),
        ({"stop": 2**63 + 1}, r"must satisfy 0 <= start <= stop <= 2\*\*63"),
        ({"n_channels": 0}, "n_channels=0 must be in"),
        ({"seed": -1}, r"seed=-1 must be in \[0, 2\*\*64\)"),
        ({"seed": 2**64}, "seed=18446744073709551616 must be in"),
        ({"stream": -1}, r"stream=-1 must be in \[0, 2\*\*32\)"),
        ({"stream": 2**32}, "stream=4294967296 must be in"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ParameterError, match=message):
        frame_noise(**({"start": 0, "stop": 5, "n_channels": 2} | arguments))


def test_wrong_streams_are_refused():
    with pytest.raises(ParameterError, match="use='pitch' must be one of durations, frames"):
        noise_stream(0, "pitch")
    with pytest.raises(ParameterError, match="sentence=-1 must be in"):
        noise_stream(-1, "frames")
