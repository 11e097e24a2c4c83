"""What every benchmark's record says of the machine, and comparing records of two machines.

``pytest benchmarks/bench_*.py --benchmark-only --benchmark-compare=benchmarks/results/kernels.json``
compares with the committed record. Its times are those of another machine, or of this one on another
day, so they are multiplied by what sgemm takes here over what it took there: what is compared are
ratios to sgemm, read as times of this machine.
"""

import os
from importlib.metadata import version

from balacoon_tk.runtime.machine import n_processors
from speed.machine import sgemm_s

_TIMES = ("min", "max", "mean", "stddev", "median", "iqr", "q1", "q3", "ld15iqr", "hd15iqr", "total")


def pytest_benchmark_update_machine_info(config, machine_info):
    """Add what a figure depends on and pytest-benchmark doesn't note."""
    machine_info["n_cores"] = n_processors()
    machine_info["versions"] = {name: version(name) for name in ("balacoon_tk", "numpy", "onnxruntime")}
    machine_info["threads"] = {
        name: os.environ[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS") if name in os.environ
    }
    machine_info["sgemm_s"] = sgemm_s(1)


def pytest_benchmark_update_json(config, benchmarks, output_json):
    """Keep what a comparison needs, and each median as a ratio to sgemm."""
    machine_info = output_json["machine_info"]
    machine_info.pop("node", None)
    machine_info["cpu"] = {"brand_raw": machine_info["cpu"].get("brand_raw")}
    for name in ("commit_info", "datetime"):
        output_json.pop(name, None)
    for benchmark in output_json["benchmarks"]:
        benchmark["stats"].pop("data", None)
        benchmark["extra_info"]["ratio_to_sgemm"] = benchmark["stats"]["median"] / machine_info["sgemm_s"]


def pytest_benchmark_compare_machine_info(config, benchmarksession, machine_info, compared_benchmark):
    """Scale a record to this machine, once."""
    theirs = compared_benchmark["machine_info"]
    if theirs is machine_info or "sgemm_s" not in theirs:
        return
    factor = machine_info["sgemm_s"] / theirs["sgemm_s"]
    for benchmark in compared_benchmark["benchmarks"]:
        for name in _TIMES:
            benchmark["stats"][name] *= factor
        benchmark["stats"]["ops"] /= factor
    # What differs is accounted for, so there is nothing to warn of.
    compared_benchmark["machine_info"] = machine_info
