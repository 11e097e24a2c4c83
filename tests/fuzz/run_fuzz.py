"""Fuzzes everything that reads what a stranger wrote, and reports how it ended.

::

    python tests/fuzz/run_fuzz.py --runs 20000 --seed 1 --out benchmarks/results/fuzz.json
    python tests/fuzz/run_fuzz.py --runs 20000 --seed 2 --add --out benchmarks/results/fuzz.json

Each target runs in a child process with limits of memory and time. A crash or a hang ends that process and
not the run: the input is written down, and another child goes on with the next seed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from child import HEADER

from balacoon_tk._files import json_text, write_whole

HERE = Path(__file__).parent
# Each with the share of the inputs that it gets: a text takes gruut a hundred times as long as the others.
TARGETS: dict[str, tuple[str, float]] = {
    "texts espeak": ("piper", 1.0),
    "texts gruut": ("gruut", 0.02),
    "texts text": ("", 1.0),
    "texts characters": ("", 1.0),
    "reading": ("", 1.0),
    "voice": ("onnx", 1.0),
    "manifest": ("onnx", 1.0),
    "piper_json": ("onnx", 1.0),
    "addon": ("onnx", 0.1),
    "graph": ("onnx", 0.1),
}
INPUT_S = 20.0
"""Seconds of processor time that one input may take."""
_PACKAGES = ("balacoon_tk", "atheris", "piper-tts", "gruut", "onnx", "onnxruntime", "numpy")
_STILL_S = 180  # without a new input; a pause of the whole machine isn't a hang
_MOST_DEATHS = 40  # after which a target has said enough


def fuzz(
    target: str,
    runs: int,
    seed: int,
    *,
    guided_share: float = 0.0,
    seconds: float = 600.0,
    input_s: float = INPUT_S,
) -> dict[str, Any]:
    """Run one target to its number of inputs or its time, and return how they ended.

    A share of the inputs is guided by coverage, which takes several times as long; the others are at random.
    """
    begun, left = time.monotonic(), runs
    guided = min(runs, math.ceil(runs * guided_share))
    found: dict[str, Any] = {"inputs": 0, "guided": 0, "refused": 0, "untyped": 0}
    deaths: list[dict[str, object]] = []
    places: dict[str, dict[str, str]] = {}
    peak_kib = 0
    while left > 0 and len(deaths) < _MOST_DEATHS and time.monotonic() - begun < seconds:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
            folder = Path(name)
            is_guided = found["guided"] < guided
            n = guided - found["guided"] if is_guided else left
            # Half of the time at most, so that those at random have the rest.
            end = begun + (seconds / 2 if is_guided and guided < runs else seconds)
            start = len(deaths) if is_guided else found["inputs"] - found["guided"]
            command = [*target.split(" "), ""][:2]
            command[0] = f"target_{command[0]}"
            command += [str(folder), "atheris" if is_guided else "random"]
            command += [str(seed), str(start), str(n), str(input_s)]
            status, peak, output = _run_child(command, folder, end)
            state = (folder / "state").read_bytes() if (folder / "state").is_file() else b""
            if not state and status == "out of time":  # while it still imported what it runs
                state = HEADER.pack(0, 0, 0, 0)
            if not state:
                raise RuntimeError(
                    f"{target}: the child ended with {status} before its first input:\n{output}"
                )
            n_begun, refused, untyped, size = HEADER.unpack_from(state)
            last = state[HEADER.size : HEADER.size + size]
            journal = folder / "untyped.jsonl"
            for line in journal.read_text("ascii").splitlines() if journal.is_file() else ():
                entry = json.loads(line)
                places.setdefault(entry["place"], entry)
        peak_kib = max(peak_kib, peak)
        found["inputs"] += n_begun
        found["refused"] += refused
        found["untyped"] += untyped
        left -= n_begun
        if is_guided:
            found["guided"] += n_begun
            # A child that had no time for more leaves the rest to chance.
            guided = guided if n_begun and status != "out of time" else found["guided"]
        if status in ("finished", "out of time"):
            if not n_begun and not is_guided:
                break
            continue
        # A crash of C says nothing; a child that ends by itself says why.
        said = output[-500:] if status.startswith("exit") and "-" not in status else ""
        deaths.append({"end": status, "input": last[:500].hex(), "input_bytes": len(last), "said": said})
    ends = Counter("hangs" if death["end"] == "hang" else "crashes" for death in deaths)
    return {
        **found,
        "crashes": ends["crashes"],
        "hangs": ends["hangs"],
        "peak_memory_mb": round(peak_kib / 1024),
        "seconds": round(time.monotonic() - begun, 1),
        "untyped_places": [places[place] for place in sorted(places)],
        "deaths": deaths,
    }


def _run_child(arguments: Sequence[str], folder: Path, end: float) -> tuple[str, int, str]:
    """Run a child to its end; return how it ended, its peak memory in KiB and what it wrote."""
    # What a loaded voice leaves in the user's cache belongs to nobody here.
    environment = {**os.environ, "BALACOON_TK_CACHE": str(folder / "cache")}
    paths = [str(HERE), str(HERE.parent), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    with (folder / "output").open("wb") as output:
        command = [sys.executable, str(HERE / "child.py"), *arguments]
        child = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
    status, peak = "", 0
    moved, before = time.monotonic(), b""
    while True:
        pid, code, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(code)
            peak = usage.ru_maxrss
            break
        time.sleep(0.05)
        state = (folder / "state").read_bytes()[: HEADER.size] if (folder / "state").is_file() else b""
        if state != before:
            moved, before = time.monotonic(), state
        # What is imported first takes its time too, on a busy machine.
        is_still = before != b"" and time.monotonic() - moved > _STILL_S
        if not status and (time.monotonic() > end or is_still):
            status = "out of time" if time.monotonic() > end else "hang"
            os.kill(child.pid, signal.SIGKILL)  # Popen.kill would wait for it, and so take its usage
    said = (folder / "output").read_text("utf-8", "replace")[-2000:]
    if not status:
        how = {0: "finished", -signal.SIGPROF: "hang"}
        status = how.get(child.returncode, f"exit {child.returncode}")
    return status, peak, said


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets and write the report; return 1 if anything crashed, hung or raised an untyped error."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--runs", type=int, default=2000, help="inputs of a target that is fast (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600, help="at most, for each target")
    parser.add_argument("--jobs", type=int, default=2, help="targets at a time (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=list(TARGETS), metavar="TARGET")
    parser.add_argument("--guided", type=float, default=0.1, help="share that coverage guides, with atheris")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--add", action="store_true", help="keep the runs of other seeds that --out has")
    given = parser.parse_args(arguments)
    if given.add and not given.out:
        parser.error("--add needs --out, the report to add to")
    kept = json.loads(given.out.read_bytes())["runs"] if given.add and given.out.is_file() else []
    if any(run["seed"] == given.seed and {*run["targets"]} & {*given.only} for run in kept):
        parser.error(f"--seed {given.seed}: {given.out} has a run of that seed; another one is wanted")
    guided = given.guided if importlib.util.find_spec("atheris") else 0.0

    def run_target(target: str) -> dict[str, Any]:
        package, share = TARGETS[target]
        if package and importlib.util.find_spec(package) is None:
            return {"not_run": f"{package} is not installed"}
        n = max(1, round(given.runs * share))
        try:
            result = fuzz(target, n, given.seed, guided_share=guided, seconds=given.seconds)
        except RuntimeError as error:  # one target that can't begin doesn't cost the report on the others
            result = {"failed": str(error)}
        counts = ", ".join(f"{name} {value}" for name, value in result.items() if not isinstance(value, list))
        print(f"{target}: {counts}", flush=True)
        return result

    with ThreadPoolExecutor(given.jobs) as pool:
        results = dict(zip(given.only, pool.map(run_target, given.only), strict=True))
    run_report = {
        "inputs_wanted": given.runs,
        "seed": given.seed,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
        "system": platform.platform(),
        "targets": results,
    }
    if given.out:
        runs = [*kept, run_report]
        write_whole(given.out, json_text({"totals": _totals(runs), "runs": runs}))
    return int(
        any(
            result.get(bad)
            for result in results.values()
            for bad in ("crashes", "hangs", "untyped", "failed")
        )
    )


def _totals(runs: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Add up what the targets of several runs counted; of their memory the largest."""
    totals: dict[str, Counter[str]] = {}
    for target, result in (pair for run in runs for pair in run["targets"].items()):
        total = totals.setdefault(target, Counter())
        for name in ("inputs", "guided", "refused", "untyped", "crashes", "hangs"):
            total[name] += result.get(name, 0)
        total["peak_memory_mb"] = max(total["peak_memory_mb"], result.get("peak_memory_mb", 0))
    return totals


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
