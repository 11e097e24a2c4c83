"""Expansion against NumPy, which draws the noise by the same kernel, and the noise on its own.

The sizes are those of a ten-second sentence of a medium Piper voice.
"""

import numpy as np
import pytest

import reference
from balacoon_tk.stages import _upsampler
from balacoon_tk.stages.random import frame_noise
from balacoon_tk.stages.upsampler import Upsampler
from timing import speedup

N_PHONEMES, N_CHANNELS, N_FRAMES = 443, 192, 878
NOISE_SCALE = 0.667

rng = np.random.default_rng(0)
DURATIONS = rng.multinomial(N_FRAMES, np.full(N_PHONEMES, 1 / N_PHONEMES))
ENCODINGS = rng.standard_normal((N_PHONEMES, N_CHANNELS), np.float32)
LOG_SCALES = rng.standard_normal((N_PHONEMES, N_CHANNELS), np.float32) / 4
STARTS = np.concatenate([[0], np.cumsum(DURATIONS)])


def draw(start, stop):
    return frame_noise(start, stop, n_channels=N_CHANNELS)


def whole_by_kernel():
    starts = np.zeros(N_PHONEMES + 1, np.int64)
    np.cumsum(DURATIONS, out=starts[1:])
    scales = np.exp(LOG_SCALES)
    scales *= np.float32(NOISE_SCALE)
    out = np.empty((N_CHANNELS, N_FRAMES), np.float32)
    _upsampler.expand(ENCODINGS, scales, 1.0, 0, 0, starts, 0, out)
    return out


@pytest.mark.parametrize("by", ["kernel", "numpy"])
def test_expansion_of_the_whole_sentence(benchmark, by):
    """All that `Upsampler` does but its checks: exponential, starts, new array, noise."""
    sentence = ENCODINGS, LOG_SCALES, DURATIONS

    def oracle():
        return reference.expand_with_noise(*sentence, draw(0, N_FRAMES), NOISE_SCALE)

    def best_of_numpy():
        return reference.expand_with_noise_fast(*sentence, draw(0, N_FRAMES), NOISE_SCALE)

    np.testing.assert_allclose(whole_by_kernel(), oracle(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(whole_by_kernel(), best_of_numpy())
    if by == "numpy":
        benchmark(oracle)
        return
    benchmark.extra_info["speedup"] = speedup(oracle, whole_by_kernel)
    benchmark.extra_info["speedup_over_best_of_numpy"] = speedup(best_of_numpy, whole_by_kernel)
    benchmark(whole_by_kernel)


@pytest.mark.parametrize("by", ["kernel", "numpy"])
def test_expansion_of_a_window(benchmark, by):
    """What every chunk costs, 64 frames from the middle: what is done once per sentence is done already."""
    start, stop = 400, 464
    scales = np.exp(LOG_SCALES) * np.float32(NOISE_SCALE)

    def cut_by_numpy():
        first, last = np.searchsorted(STARTS, (start, stop - 1), side="right") - 1
        return slice(first, last + 1), np.diff(STARTS[first : last + 2].clip(start, stop))

    def oracle():
        phonemes, durations = cut_by_numpy()
        return reference.expand_with_noise(
            ENCODINGS[phonemes], LOG_SCALES[phonemes], durations, draw(start, stop), NOISE_SCALE
        )

    def best_of_numpy():
        phonemes, durations = cut_by_numpy()
        return reference.expand_with_scaled_noise(
            ENCODINGS[phonemes], scales[phonemes], durations, draw(start, stop)
        )

    def kernel():
        out = np.empty((N_CHANNELS, stop - start), np.float32)
        _upsampler.expand(ENCODINGS, scales, 1.0, 0, 0, STARTS, start, out)
        return out

    np.testing.assert_allclose(kernel(), oracle(), rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(kernel(), best_of_numpy())
    np.testing.assert_array_equal(kernel(), whole_by_kernel()[:, start:stop])
    if by == "numpy":
        benchmark(oracle)
        return
    benchmark.extra_info["speedup"] = speedup(oracle, kernel, n_turns=200)
    benchmark.extra_info["speedup_over_best_of_numpy"] = speedup(best_of_numpy, kernel, n_turns=200)
    benchmark(kernel)


def test_expansion_without_noise(benchmark):
    upsampler = Upsampler(ENCODINGS, DURATIONS)

    def oracle():
        return reference.expand(ENCODINGS, DURATIONS)

    def kernel():
        return upsampler.window(0, N_FRAMES)

    np.testing.assert_array_equal(kernel(), oracle())
    benchmark.extra_info["speedup"] = speedup(oracle, kernel)
    benchmark(kernel)


def test_noise(benchmark):
    generator = np.random.default_rng(0)

    def numpy_s_generator():
        return generator.standard_normal((N_FRAMES, N_CHANNELS), np.float32)

    def kernel():
        return frame_noise(0, N_FRAMES, n_channels=N_CHANNELS)

    expected = reference.frame_noise(0, 5, n_channels=N_CHANNELS)
    np.testing.assert_allclose(kernel()[:5], expected, rtol=0, atol=1.5e-6)
    benchmark.extra_info["speedup_over_generator"] = speedup(numpy_s_generator, kernel)
    benchmark(kernel)
    if benchmark.stats is not None:  # timing may be switched off
        benchmark.extra_info["ns_per_value"] = benchmark.stats.stats.median * 1e9 / (N_FRAMES * N_CHANNELS)


@pytest.mark.parametrize("window_frames", [N_FRAMES, 64])
def test_upsampler_with_its_checks_and_noise(benchmark, window_frames):
    def run():
        upsampler = Upsampler(ENCODINGS, DURATIONS, log_scales=LOG_SCALES, noise_scale=NOISE_SCALE)
        starts = range(0, N_FRAMES, window_frames)
        return [upsampler.window(start, min(start + window_frames, N_FRAMES)) for start in starts]

    np.testing.assert_array_equal(np.hstack(run()), whole_by_kernel())
    benchmark(run)
