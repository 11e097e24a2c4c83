"""Kill writers at random moments, and look for what is corrupt or left behind.

A writer is a fork of this process, or a whole ``balacoon-tk export``; SIGKILL comes at a moment of its run
that is drawn at random. Then what it was to replace must be whole, the old one or the new one, and after the
next write into the folder nothing else may be there. Of one that replaces a voice by two renames, what was
there may be missing until that next write. Half of the exports are ended by SIGTERM instead: they must leave
nothing.

  python tests/kills.py -n 2000 --out benchmarks/results/kills.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from balacoon_tk._files import write_whole
from balacoon_tk.voice import install as package
from installed_files import files_of, names_in, read_from

KINDS = ("folder", "replaced", "replaced by renames", "addon", "replaced addon", "text")
_EXPORT_SHARE = 0.1  # an export takes a thousand times as long as a write
_N_TIMED = 3
_SIZE = 300_000  # bytes of a file, so that writing takes longer than being started
_N_LINES = 2_000_000
_BETWEEN_S = 0.02
_DEAD_S = 20.0


@dataclass
class Report:
    """What came of many kills."""

    seed: int
    n_killed: int = 0
    n_too_late: int = 0
    """The writer was done before."""
    n_left: int = 0
    """Kills that left something for the next write to remove."""
    by_kind: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def count(self, kind: str, *, killed: bool) -> None:
        """Count a writer that was ended, or was done before."""
        self.n_killed += killed
        self.n_too_late += not killed
        self.by_kind[kind] = self.by_kind.get(kind, 0) + killed


def kill_often(folder: Path, *, n_kills: int, seed: int, exports: bool = False) -> Report:
    """Run this file as a program, since a process with threads shouldn't be forked; return what it says."""
    command = [sys.executable, __file__, "-n", str(n_kills), "--seed", str(seed), "--folder", str(folder)]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)]),
        "OPENBLAS_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [*command, *([] if exports else ["--no-exports"])], capture_output=True, text=True, env=environment
    )
    assert done.returncode in (0, 1), done.stderr
    return Report(**json.loads(done.stdout))


def contents(name: str) -> dict[str, bytes]:
    """Return a voice's files, large enough to be caught at being written."""
    return files_of(name) | {"weights.bin": name.encode() * (_SIZE // len(name))}


def writer_of(kind: str, target: Path) -> Callable[[], object]:
    """Return what writes the new thing."""
    if kind == "text":
        return lambda: write_whole(target, "new\n" * _N_LINES)
    return lambda: package.install(contents("new"), target, overwrite="replaced" in kind)


def rename_slowly() -> None:
    """Replace by renames, as systems do that exchange no folders, and let kills fall in between."""
    rename = Path.rename

    def slowly(self: Path, target: Path) -> Path:
        renamed = rename(self, target)
        time.sleep(_BETWEEN_S)
        return renamed

    package._exchange = lambda first, second: False
    Path.rename = slowly


def state_of(kind: str, target: Path) -> str:
    """Return ``old``, ``new`` or ``absent``; anything else is corrupt."""
    if not target.exists():
        return "absent"
    try:
        if kind == "text":
            text = target.read_text(encoding="utf-8")
            return text[:3] if text == f"{text[:3]}\n" * _N_LINES else "corrupt"
        for name in ("old", "new"):
            if all(read_from(target, file) == data for file, data in contents(name).items()):
                return name
    except Exception as error:
        return f"corrupt: {error!r}"
    return "corrupt"


def kill_writer(kind: str, folder: Path, rng: random.Random, duration_s: float, report: Report) -> float:
    """Let a fork write, kill it; return how long it took if it was not killed."""
    target = folder / ("voice.addon" if "addon" in kind else "voice")
    allowed = {"absent", "new"}
    if "replaced" in kind:
        package.install(contents("old"), target, overwrite=False)
        allowed = {"old", "new"}
    elif kind == "text":
        write_whole(target, "old\n" * _N_LINES)
        allowed = {"old", "new"}
    ready, started = os.pipe()
    child = os.fork()
    if not child:
        try:
            if kind == "replaced by renames":
                rename_slowly()
            os.write(started, b".")
            writer_of(kind, target)()
        finally:
            os._exit(0)
    os.read(ready, 1)
    start_s = time.perf_counter()
    if duration_s:
        time.sleep(rng.uniform(0.0, 1.1 * duration_s))
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    took_s = time.perf_counter() - start_s
    os.close(ready)
    os.close(started)
    if duration_s:
        killed = os.WIFSIGNALED(status)
        report.count(kind, killed=killed)
        if kind != "replaced by renames":
            check(kind, "after a kill", state_of(kind, target), allowed, report)
        report.n_left += bool(set(names_in(folder)) - {target.name})
    check_next_write(kind, folder, target, allowed, report)
    return took_s


def check_next_write(kind: str, folder: Path, target: Path, allowed: set[str], report: Report) -> None:
    """Write something else into the folder; then there must be nothing but that and the target."""
    write_whole(folder / "next", "text")
    check(kind, "after the next write", state_of(kind, target), allowed, report)
    if left := set(names_in(folder)) - {target.name, "next"}:
        report.problems.append(f"{kind}: left after the next write: {sorted(left)}")
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def check(kind: str, when: str, state: str, allowed: set[str], report: Report) -> None:
    """Note what must not be."""
    if state not in allowed:
        report.problems.append(f"{kind}, {when}: {state}")


def kill_export(source: Path, folder: Path, rng: random.Random, duration_s: float, report: Report) -> float:
    """Let a command export a voice, end it; return how long it took if it came to its end."""
    target = folder / "voice"
    command = [sys.executable, "-P", "-m", "balacoon_tk", "export", str(source), "-o", str(target)]
    start_s = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if not duration_s:
        _, err = process.communicate()
        assert process.returncode == 0, err
        shutil.rmtree(target)
        return time.perf_counter() - start_s
    number = rng.choice((signal.SIGKILL, signal.SIGTERM))
    # An interpreter that isn't up yet has written nothing.
    time.sleep(rng.uniform(0.1, 1.1) * duration_s)
    process.send_signal(number)
    _, err = process.communicate()
    took_s = time.perf_counter() - start_s
    killed = process.returncode not in (0, 1)
    report.count(f"export, {number.name}", killed=killed)
    if process.returncode == 1:
        report.problems.append(f"export failed: {err}")
    if running := outlives(folder):
        report.problems.append(f"export, {number.name}: still running: {running}")
    left = set(names_in(folder)) - {target.name}
    if number == signal.SIGTERM and left:
        report.problems.append(f"export, SIGTERM: left at once: {sorted(left)}")
    report.n_left += bool(left)
    if target.exists() and not {"voice.json", "weights.bin"} <= set(names_in(target)):
        report.problems.append(f"export, {number.name}: half a voice")
    shutil.rmtree(target, ignore_errors=True)
    write_whole(folder / "next", "text")
    if left := set(names_in(folder)) - {"next"}:
        report.problems.append(f"export, {number.name}: left after the next write: {sorted(left)}")
    (folder / "next").unlink()
    return 0.0 if killed else took_s


def outlives(folder: Path) -> list[str]:
    """Return commands of processes that were started for a folder and don't end."""
    end_s = time.monotonic() + _DEAD_S
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if os.fsencode(folder) in path.read_bytes():
                    found.append(path.with_name("cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        if not found or time.monotonic() > end_s:
            return found
        time.sleep(0.05)


def run(folder: Path, *, n_kills: int, seed: int, exports: bool, say: Callable[[str], None]) -> Report:
    """Kill until there were as many kills as asked for."""
    report, rng = Report(seed), random.Random(seed)
    n_exports = round(_EXPORT_SHARE * n_kills) if exports else 0
    place = folder / "writes"
    place.mkdir()
    times_s = {kind: [kill_writer(kind, place, rng, 0.0, report) for _ in range(_N_TIMED)] for kind in KINDS}
    while report.n_killed < n_kills - n_exports:
        for kind in KINDS:
            kill_writer(kind, place, rng, sorted(times_s[kind])[_N_TIMED // 2], report)
        if not report.n_killed % 100:
            say(f"{report.n_killed} kills, {len(report.problems)} problems")
    if n_exports:
        from tiny_vits import write_tiny_vits  # it imports a second's worth

        source, place = write_tiny_vits(folder / "source"), folder / "exports"
        place.mkdir()
        duration_s = kill_export(source, place, rng, 0.0, report)
        while report.n_killed < n_kills:
            # A machine that was busy when the first one was timed would be done before nearly every kill.
            duration_s = kill_export(source, place, rng, duration_s, report) or duration_s
            say(f"{report.n_killed} kills, {len(report.problems)} problems")
    return report


def main() -> int:
    """Run as a program; the status is 1 if there were problems."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-n", type=int, default=2000, help="kills")
    parser.add_argument(
        "--seed", type=int, default=None, help="of moments and signals (default: a random one)"
    )
    parser.add_argument("--folder", type=Path, help="where to write (default: a temporary one)")
    parser.add_argument(
        "--no-exports", action="store_true", help="leave out whole exports, which take seconds"
    )
    parser.add_argument("--out", type=Path, help="report, as JSON (default: stdout)")
    args = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if args.seed is None else args.seed
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        report = run(
            Path(folder),
            n_kills=args.n,
            seed=seed,
            exports=not args.no_exports,
            say=lambda text: print(text, file=sys.stderr, flush=True),
        )
    text = json.dumps(asdict(report), indent=2) + "\n"
    if args.out is None:
        sys.stdout.write(text)
    else:
        write_whole(args.out, text)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
