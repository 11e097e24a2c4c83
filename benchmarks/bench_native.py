"""The native engine: what it reaches of a machine, beside ONNX Runtime and other engines; the default voice.

    python benchmarks/bench_native.py --docs docs/native.md               # and benchmarks/results; minutes
    python benchmarks/bench_native.py --only=decoding --rounds 2 --out DIR  # see that it works

Parts that aren't asked for stay as they were measured, if on the same machine with the same versions. The
first time it prepares what it measures, which takes some minutes more: it exports the voice, quantizes it for
each engine, exports one of two speakers, and lets other engines calibrate themselves. All of that is kept in
out/bench, and made anew where this code has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from balacoon_tk._files import write_whole
from native.report import TARGETS, to_markdown
from speed.machine import facts
from speed.own_voice import use_own_voice
from speed.results import compact_json, write_between
from speed.targets import check

PARTS = ("decoding", "encoding", "layers", "int8", "speaking")
THREADS = (1, 2)
N_ROUNDS = 9
MARKS = ("<!-- native -->", "<!-- end -->")
RESULTS = Path(__file__).parent / "results"


def measure(part: str, folder: Path, *, n_rounds: int) -> dict[str, Any]:
    """Measure one part; what it needs is imported here, so that the others can do without."""
    if part == "decoding":
        from native import decoding

        return decoding.measure(folder, n_rounds=n_rounds, threads=THREADS)
    if part == "encoding":
        from native import encoding

        return encoding.measure(folder, n_rounds=n_rounds, threads=THREADS)
    if part == "layers":
        from native import layers

        return layers.measure(n_rounds=n_rounds)
    if part == "int8":
        from native import rounded

        return rounded.measure(folder, n_rounds=n_rounds)
    from native import speaking

    # Each is short, and other processes are in the way of some.
    return speaking.measure(folder, n_rounds=2 * n_rounds, n_loads=n_rounds)


def main() -> int:
    """Measure, write JSON and the table, and say on stderr what is met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", help="some parts, with commas between: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--docs", type=Path, help="a file that has the tables between its marks")
    args = parser.parse_args()
    asked: list[str] = args.only.split(",") if args.only else list(PARTS)
    if unknown := sorted(set(asked) - set(PARTS)):
        parser.error(f"--only={args.only}: {', '.join(unknown)} must be of {', '.join(PARTS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    path, stamp = args.out / "native.json", facts()
    # Those that read the voice speak it as this code exports it, with chunks as each engine is fast.
    folder = use_own_voice((THREADS[-1],), ("native", "onnxruntime"))
    parts, load = _kept(path, stamp), [os.getloadavg()[0]]
    for part in asked:
        parts[part] = measure(part, folder, n_rounds=args.rounds)
        load.append(os.getloadavg()[0])
        ordered = {name: parts[name] for name in PARTS if name in parts}
        targets = check(ordered, TARGETS)
        result = {"facts": stamp, "n_rounds": args.rounds, "load": load, "parts": ordered, "targets": targets}
        # After each part, so that one that is stopped later has not been measured in vain.
        write_whole(path, compact_json(result))
    if args.docs is not None:
        # What is rounded in the file is rounded in the tables too.
        write_between(args.docs, MARKS, to_markdown(json.loads(path.read_text(encoding="utf-8"))))
    for target in targets:
        verdict = "met" if target["met"] else "MISSED"
        print(f"{verdict:<7}{target['value']:8.3g} {target['name']}", file=sys.stderr)
    return 0


def _kept(path: Path, stamp: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that were measured before, under the same stamp."""
    if not path.is_file():
        return {}
    known = json.loads(path.read_text(encoding="utf-8"))
    return dict(known["parts"]) if known["facts"] == stamp else {}


if __name__ == "__main__":
    sys.exit(main())
