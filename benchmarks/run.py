"""Measure how fast the toolkit is, and write JSON, Markdown and pictures.

    python benchmarks/run.py                      # all parts, into benchmarks/results
    python benchmarks/run.py --only stages,start  # some parts; the others stay as they were measured here
    python benchmarks/run.py --resume             # goes on where a run was stopped
    python benchmarks/run.py --quick              # a few minutes, into out/bench/quick

Each part that is done is kept in out/bench, so that a run can be stopped at any time; of "quality", each
engine. Only parts that were measured on the same machine with the same versions are put together, and each
machine has a record of its own, benchmarks/results/bench/*.json. On a machine that does nothing else, all of
it takes about half an hour.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

from peers import JUDGED, TABLE
from speed.machine import facts
from speed.measure import Rounds
from speed.own_voice import WORK, use_its_variants, use_own_voice
from speed.public import docs_tables, readme_tables
from speed.results import (
    MARKS,
    PARTS,
    assemble,
    keep_part,
    kept_parts,
    read_records,
    write,
    write_between,
)

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
THREADS = (1, 2)

FULL = Rounds(n_tiny=25, n_short=9, n_long=5, n_minute=2, n_stream=1, n_process=7)
QUICK = Rounds(n_tiny=9, n_short=5, n_long=3, n_minute=1, n_stream=1, n_process=3)


def measure(part: str, *, quick: bool) -> dict[str, Any]:
    """Measure one part; what it needs is imported here, so that the rest can do without."""
    rounds = QUICK if quick else FULL
    if part == "stages":
        from speed import stages

        options = {"sentences": ("60", "440")} if quick else {}
        return stages.measure(rounds, threads=THREADS, **options)
    if part == "end_to_end":
        from speed import end_to_end

        options = {"texts": ("60", "440")} if quick else {}
        return end_to_end.measure(rounds, names=TABLE, threads=THREADS, **options)
    if part == "memory":
        from speed import memory

        # Not of two speakers: what has that voice made is still in memory.
        return memory.measure(names=JUDGED, threads=THREADS)
    if part == "sizes":
        from speed import sizes

        return sizes.measure(names=JUDGED)
    if part == "fidelity":
        from speed import fidelity

        return fidelity.measure(names=TABLE, text="440" if quick else "minute")
    if part == "growth":
        from speed import growth

        return growth.measure(rounds, lengths=growth.LENGTHS[:6:2] if quick else growth.LENGTHS)
    if part == "streams":
        from speed import streams

        return streams.measure(rounds, counts=(1, 16) if quick else streams.COUNTS)
    from speed import start

    return start.measure(rounds)


def judge(folder: Path, stamp: dict[str, Any], *, quick: bool, resume: bool) -> dict[str, Any]:
    """Measure the part "quality", going on with the engine at which it was stopped."""
    from speed import quality

    folder = folder / "quality"
    return quality.measure(
        names=JUDGED,
        texts=quality.sentences()[:: 10 if quick else 1],
        known=kept_parts(folder, stamp, JUDGED) if resume else {},
        keep=lambda name, record: keep_part(folder, name, record, stamp),
    )


def parse() -> argparse.Namespace:
    """Return the arguments, checked."""
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=summary, epilog=details, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", metavar="PART,…", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--resume", action="store_true", help="leave out what was measured already")
    parser.add_argument("--quick", action="store_true", help="see that it works; the figures say little")
    parser.add_argument("--out", type=Path, help="folder of the results")
    parser.add_argument("--readme", type=Path, help="file whose tables of engines are written anew")
    parser.add_argument("--docs", type=Path, help="the same, with what stands behind some columns")
    args = parser.parse_args()
    args.parts = args.only.split(",") if args.only else list(PARTS)
    if unknown := sorted(set(args.parts) - set(PARTS)):
        parser.error(f"--only={args.only}: {', '.join(unknown)} must be of {', '.join(PARTS)}")
    if args.out is None:
        args.out = WORK / "quick" if args.quick else RESULTS
    return args


def main() -> int:
    """Run the parts that are asked for, and write the results after each."""
    args = parse()
    folder = WORK / ("quick-parts" if args.quick else "parts")
    if not (args.resume or args.only or args.quick):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(WORK / "peers", ignore_errors=True)  # so that they are calibrated anew
    stamp = facts()
    use_own_voice(THREADS)
    if not {"end_to_end", "memory", "sizes", "fidelity", "quality"}.isdisjoint(args.parts):
        use_its_variants(THREADS)
    for part in args.parts:
        if not (args.resume and part in kept_parts(folder, stamp)):
            if part == "quality":
                data = judge(folder, stamp, quick=args.quick, resume=args.resume)
            else:
                data = measure(part, quick=args.quick)
            keep_part(folder, part, data, stamp)
        result = assemble(kept_parts(folder, stamp), stamp, quick=args.quick)
        write(result, args.out)
    for path, tables in ((args.readme, readme_tables), (args.docs, docs_tables)):
        if path is not None:
            write_between(path, MARKS, tables(read_records(args.out)))
    for target in result["targets"]:
        verdict = "met" if target["met"] else "MISSED"
        print(f"{verdict:<7}{target['value']:8.3g} {target['name']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
