"""Break a module in every way that Cosmic Ray knows, one at a time, and see whether its tests notice.

    make mutants MODULE=balacoon_tk/decoder/chunking.py

No file is changed: a child of this process, which has imported what is slow to import, loads the mutant in
the module's place and runs the tests that went over the mutated line, those first that are fast. Mutants that
live are listed; `living_mutants.py` has the reason of each that is known.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import importlib.abc
import importlib.util
import itertools
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import coverage
import hypothesis
import pytest

from living_mutants import REASONS, SAME
from mutations import Mutant, mutants_of

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks/results/mutants.json"

RULE_TESTS = (
    "test_streaming_refusals",
    "test_streaming_operators",
    "test_streaming_convolutions",
    "test_streaming_recurrence",
    "test_streaming_interpolation",
    "test_streaming_positions",
    "test_streaming_attention",
    "test_streaming_noise",
    "test_streaming_inputs",
    "test_streaming_spectra",
    "test_streaming_graphs",
    "test_receptive_field",
)
"""Tests that stream tiny graphs; those of whole models see the same lines, and take minutes."""

TESTS = {
    "balacoon_tk/decoder/chunking.py": ("test_chunking",),
    "balacoon_tk/decoder/overlap_trim.py": ("test_overlap_trim",),
    "balacoon_tk/pacing/schedule.py": ("test_schedule", "test_tts_schedule"),
    "balacoon_tk/runtime/scheduler.py": ("test_scheduler",),
    "balacoon_tk/graph/timeline.py": ("test_timeline", *RULE_TESTS),
    "balacoon_tk/graph/rules/*.py": RULE_TESTS,
}
"""The files of tests that concern a module."""

SLOW_TO_IMPORT = ("numpy", "onnx", "onnx_ir", "onnxruntime", "hypothesis.strategies")
"""What every child has then."""

SECONDS = 60.0
"""Of tests for each mutant, the fast ones first: what no test sees in this time counts as living."""

MEMORY = 12 * 2**30
"""Bytes of addresses that a mutant may take."""


class Loader(importlib.abc.MetaPathFinder, importlib.abc.SourceLoader):
    """Gives one module another source."""

    def __init__(self, name: str, path: Path, source: str) -> None:
        self.name, self.path, self.source = name, path, source

    def find_spec(self, name, path, target=None):
        if name != self.name:
            return None
        return importlib.util.spec_from_file_location(name, self.path, loader=self)

    def get_filename(self, name):
        return str(self.path)

    def get_data(self, path):
        return self.source.encode()

    def path_stats(self, path):
        raise OSError  # so that nothing is kept on disk


class Recorder:
    """Notes which tests go over which lines of modules, and how long each of them takes."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self.coverage = coverage.Coverage(
            data_file=None, config_file=False, include=list(map(str, paths)), messages=False
        )
        self.paths, self.seconds = paths, {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        begin = time.process_time()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = time.process_time() - begin
            self.coverage.switch_context("")

    def lines(self) -> dict[str, dict[str, list[str]]]:
        self.coverage.stop()
        data = self.coverage.get_data()
        return {
            str(path): {
                str(line): [name for name in names if name]
                for line, names in data.contexts_by_lineno(str(path)).items()
            }
            for path in self.paths
        }


class Chosen:
    """Runs these tests alone, in this order."""

    def __init__(self, tests: Sequence[str]) -> None:
        self.order = {name: k for k, name in enumerate(tests)}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order), key=lambda item: self.order[item.nodeid]
        )


@dataclass(slots=True)
class Bench:
    """The tests of a module, and what is known about them."""

    path: Path
    seconds: dict[str, float]
    tests: dict[str, list[str]]

    @property
    def module(self) -> str:
        """The module's name."""
        return ".".join(self.path.relative_to(REPOSITORY).with_suffix("").parts)

    def chosen(self, mutant: Mutant) -> list[str]:
        """Tests that see a mutant's line, as many as fit into the time; any, where imports run it already."""
        tests = self.tests.get(str(mutant.line_number)) or list(self.seconds)
        tests = sorted(tests, key=self.seconds.__getitem__)
        ends = itertools.accumulate(self.seconds[name] for name in tests)
        return [name for name, end in zip(tests, ends, strict=True) if end <= SECONDS or name == tests[0]]

    def start(self, mutant: Mutant) -> tuple[int, float]:
        """Begin to test a mutant; return the child and how many seconds it has."""
        tests = self.chosen(mutant)
        expected = sum(self.seconds[name] for name in tests)

        def look() -> int:
            # Of the processor's time, which passes only while it works; the clock is for what waits forever.
            limit = int(20 + 5 * expected)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            sys.meta_path.insert(0, Loader(self.module, self.path, mutant.source))
            return run_tests(sorted({name.split("::")[0] for name in tests}), [Chosen(tests)])

        return in_child(look), 300 + 20 * expected


def prepare(paths: Sequence[Path]) -> Iterator[Bench]:
    """Run the tests of modules once on these as they are; they have to pass."""
    by_tests: dict[tuple[str, ...], list[Path]] = {}
    for path in paths:
        name = path.relative_to(REPOSITORY).as_posix()
        tests = next((tests for pattern, tests in TESTS.items() if fnmatch.fnmatch(name, pattern)), None)
        if tests is None:
            raise SystemExit(f"{name} has no tests in {Path(__file__).name}: it has {', '.join(TESTS)}")
        by_tests.setdefault(tests, []).append(path)
    for tests, modules in by_tests.items():
        files = [f"tests/{stem}.py" for stem in tests]
        with tempfile.TemporaryDirectory() as folder:
            report = Path(folder) / "tests.json"
            if os.waitpid(in_child(partial(look_at, modules, files, report)), 0)[1] != 0:
                raise SystemExit(f"{' '.join(files)} don't pass as they are")
            seconds, lines = json.loads(report.read_text(encoding="utf-8"))
        yield from (Bench(module, seconds, lines[str(module)]) for module in modules)


def look_at(modules: Sequence[Path], files: Sequence[str], report: Path) -> int:
    """Run tests and write down what they took and which lines they saw; return their status."""
    recorder = Recorder(modules)
    recorder.coverage.start()
    status = run_tests(files, [recorder])
    report.write_text(json.dumps([recorder.seconds, recorder.lines()]), encoding="utf-8")
    return status


def run_tests(files: Sequence[str], plugins: Sequence[object]) -> int:
    """Run tests until one fails, without other plugins: loading them takes longer than most tests."""
    # Nothing is kept from mutant to mutant, and no example is made small that nobody reads.
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
    hypothesis.settings.register_profile(
        "mutants", database=None, derandomize=True, deadline=None, phases=phases
    )
    hypothesis.settings.load_profile("mutants")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    return int(pytest.main(["-x", "-q", "--no-header", "--tb=no", *files], plugins=list(plugins)))


def in_child(work) -> int:
    """Do something in a forked process that says nothing; its status is what `work` returns."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        status = work()
    finally:
        os._exit(status)


def outcomes(bench: Bench, mutants: Sequence[Mutant], n_jobs: int) -> Iterator[tuple[Mutant, bool]]:
    """Test mutants, so many at a time; say of each whether it was killed."""
    waiting, running = list(reversed(mutants)), {}
    before = time.monotonic()
    while waiting or running:
        while waiting and len(running) < n_jobs:
            mutant = waiting.pop()
            pid, left_s = bench.start(mutant)
            running[pid] = (mutant, left_s)
        # Who is stopped for minutes, and its children with it, has used up none of their time.
        passed_s, before = min(time.monotonic() - before, 1.0), time.monotonic()
        for pid, (mutant, left_s) in list(running.items()):
            running[pid] = (mutant, left_s - passed_s)
            if left_s < passed_s:
                os.kill(pid, signal.SIGKILL)
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del running[pid]
                yield mutant, status != 0
        time.sleep(0.02)


def reason_of(name: str, mutant: Mutant) -> str:
    """Why a mutant lives, or nothing if nobody knows."""
    return next(
        (
            reason
            for pattern, line, becomes, reason in REASONS
            if fnmatch.fnmatch(name, pattern)
            and (line == mutant.line or fnmatch.fnmatchcase(mutant.line, line))
            and fnmatch.fnmatchcase(mutant.becomes, becomes)
        ),
        "",
    )


def examine(bench: Bench, *, n_jobs: int, every: int, before: dict | None = None) -> dict[str, object]:
    """Test the mutants of a module, or every so many of them; return what came of it, and print who lives.

    With what came of it `before`, only those are tried again that lived then.
    """
    name, begin = bench.path.relative_to(REPOSITORY).as_posix(), time.monotonic()
    source = bench.path.read_text(encoding="utf-8")
    mutants = sorted(mutants_of(source), key=lambda mutant: mutant.line_number)[::every]
    n_mutants = len(mutants)
    if before is not None:
        lived = {(each["line"], each["becomes"]) for each in before["living"]}
        mutants = [mutant for mutant in mutants if (mutant.line, mutant.becomes or mutant.operator) in lived]
    living = []
    for k, (mutant, killed) in enumerate(outcomes(bench, mutants, n_jobs)):
        print(f"\r{k + 1} of {len(mutants)}", end="\r", file=sys.stderr, flush=True)
        if not killed:
            reason = reason_of(name, mutant)
            becomes = mutant.becomes or mutant.operator
            living.append({"line": mutant.line, "becomes": becomes, "reason": reason})
            print(f"{name}:{mutant.line_number}: {mutant.line}\n    {becomes}", flush=True)
            print(f"    {reason or 'no reason is known'}", flush=True)
    n_same = sum(each["reason"].startswith(SAME) for each in living)
    n_killed = n_mutants - len(living)
    seconds = time.monotonic() - begin
    print(
        f"{name}: {n_killed} of {n_mutants - n_same} killed, {n_same} the same, in {seconds:.0f} s",
        flush=True,
    )
    return {"mutants": n_mutants, "every": every, "killed": n_killed, "same": n_same, "living": living}


def main() -> int:
    """Examine the modules that are named; fail where too many live, or one for no reason."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "modules", nargs="*", type=Path, help="files of modules; all that have tests, if none"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--every", type=int, default=1, help="try one mutant of so many")
    parser.add_argument("--again", action="store_true", help="try only those that lived the last time")
    parser.add_argument("--least", type=float, default=0.9, help="share to kill of those that differ")
    parser.add_argument("--out", type=Path, default=RESULTS, help="results by module; those of others stay")
    given = parser.parse_args()
    os.chdir(REPOSITORY)
    # A child compiles nothing that another one has compiled; mutants are never kept.
    sys.dont_write_bytecode, sys.pycache_prefix = False, str(REPOSITORY / "build/mutants")
    for name in SLOW_TO_IMPORT:
        importlib.import_module(name)
    modules = given.modules or [
        path for pattern in TESTS for path in sorted(REPOSITORY.glob(pattern)) if path.name != "__init__.py"
    ]
    status = 0
    for bench in prepare([module.resolve() for module in modules]):
        results = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else {}
        name = bench.path.relative_to(REPOSITORY).as_posix()
        before = results.get(name) if given.again else None
        every = before["every"] if before else given.every
        results[name] = result = examine(bench, n_jobs=given.jobs, every=every, before=before)
        given.out.write_text(
            json.dumps(dict(sorted(results.items())), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        unknown = [each for each in result["living"] if not each["reason"]]
        if result["killed"] < given.least * (result["mutants"] - result["same"]) or unknown:
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
