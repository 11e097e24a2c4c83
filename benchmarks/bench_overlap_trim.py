"""Trimming and joining the windows of a ten-second sentence, against NumPy's slices."""

import numpy as np
import pytest

import reference
from balacoon_tk.decoder.chunking import overlap_windows
from balacoon_tk.decoder.overlap_trim import join, trim
from timing import speedup

HOP_LENGTH, N_FRAMES, CONTEXT = 256, 878, 43


def decoded_windows(chunk_frames, dtype):
    windows = list(overlap_windows(N_FRAMES, chunk_frames, left_context=CONTEXT, lookahead=CONTEXT))
    samples = (np.arange(N_FRAMES * HOP_LENGTH) % 30_011).astype(dtype)
    return windows, [samples[w.start * HOP_LENGTH : w.stop * HOP_LENGTH].copy() for w in windows], samples


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
@pytest.mark.parametrize("chunk_frames", [7, 64])
def test_join(benchmark, chunk_frames, dtype):
    windows, decoded, samples = decoded_windows(chunk_frames, dtype)

    def oracle():
        return reference.join(decoded, windows, HOP_LENGTH)

    def kernel():
        return join(decoded, windows, hop_length=HOP_LENGTH)

    np.testing.assert_array_equal(oracle(), samples)
    np.testing.assert_array_equal(kernel(), samples)
    benchmark.extra_info["speedup"] = speedup(oracle, kernel)
    benchmark(kernel)


def test_trim(benchmark):
    windows, decoded, samples = decoded_windows(64, np.float32)
    window, of_window = windows[3], decoded[3]
    first, stop = (window.keep_start - window.start) * HOP_LENGTH, window.keep_stop * HOP_LENGTH

    def oracle():
        return of_window[first : first + window.n_kept * HOP_LENGTH].copy()

    def kernel():
        return trim(of_window, window, hop_length=HOP_LENGTH)

    np.testing.assert_array_equal(kernel(), oracle())
    np.testing.assert_array_equal(kernel(), samples[window.keep_start * HOP_LENGTH : stop])
    benchmark.extra_info["speedup"] = speedup(oracle, kernel)
    benchmark(kernel)
