"""Looking for NaN and infinity in the samples of a chunk, against NumPy."""

import numpy as np

from balacoon_tk.runtime._checks import all_finite
from timing import speedup

CHUNK = np.random.default_rng(0).standard_normal(64 * 256).astype(np.float32)


def test_all_finite(benchmark):
    def oracle():
        return bool(np.isfinite(CHUNK).all())

    def kernel():
        return all_finite(CHUNK)

    assert kernel() is oracle() is True
    benchmark.extra_info["speedup"] = speedup(oracle, kernel)
    benchmark(kernel)
