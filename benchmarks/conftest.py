"""What every benchmark's record says of the machine and of what ran on it."""

import os
from importlib.metadata import version


def pytest_benchmark_update_machine_info(config, machine_info):
    """Add what a figure depends on and pytest-benchmark doesn't note."""
    machine_info["n_cores"] = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    machine_info["versions"] = {name: version(name) for name in ("balacoon_tk", "numpy", "onnxruntime")}
    machine_info["threads"] = {
        name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ
    }
