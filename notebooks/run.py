"""Run the notebooks from their first cell to their last, without a page, and keep what they show.

  python notebooks/run.py -o out/notebooks            all of them
  python notebooks/run.py notebooks/1_hear_it.ipynb   one of them
  python notebooks/run.py --record --mode look        and write down how long each takes, in it too

As they are committed they give a first look. BALACOON_TK_FULL=1 (`--mode full`) makes those that have more to
show take their time; BALACOON_TK_FAST=1 (`--mode fast`) makes each take seconds: short texts, few points, one
round. Ends with status 1 if a cell fails, and says which.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

FOLDER = Path(__file__).parent
RESULTS = FOLDER.parent / "benchmarks" / "results" / "notebooks.json"
CELL_LIMIT_S = 3600  # a search over a hundred sentences takes most of it
MODES = {
    "look": "as it is",
    "full": "with `FULL = True`",
    "fast": "in fast mode (`BALACOON_TK_FAST=1`)",
}
_SENTENCE = re.compile(r"^It takes .*$", flags=re.MULTILINE)


class Client(NotebookClient):
    """A client that notes for how long a cell was silent: it showed nothing new, and no bar moved."""

    longest_silence_s = 0.0
    silent_cell = 0
    _heard_s = 0.0

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        """Take a message of the kernel's."""
        now_s = time.perf_counter()
        # The first one says that the kernel has begun; between two cells nobody waits.
        began = msg["msg_type"] == "status" and msg["content"]["execution_state"] == "busy"
        if not began and now_s - self._heard_s > self.longest_silence_s:
            self.longest_silence_s, self.silent_cell = now_s - self._heard_s, cell_index
        self._heard_s = now_s
        return super().process_message(msg, cell, cell_index)


def execute(path: Path, folder: Path) -> tuple[nbformat.NotebookNode, dict[str, float]]:
    """Run a notebook's cells with `folder` as the working directory; return it with outputs, and times."""
    notebook = nbformat.read(path, as_version=4)
    client = Client(notebook, timeout=CELL_LIMIT_S, resources={"metadata": {"path": str(folder)}})
    begun_s = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - begun_s
    silence = {"longest_silence_s": client.longest_silence_s, "silent_cell": client.silent_cell}
    # Beside the time, which other work on the machine makes longer.
    return notebook, {"seconds": seconds, **silence, "load": os.getloadavg()[0]}


def takes(name: str, result: dict[str, Any]) -> str:
    """Return the sentence of a notebook's first cell that says how long it takes."""
    times = {each: part[name] for each, part in result["modes"].items() if name in part}
    told = ", ".join(f"{_spoken(times[each]['seconds'])} {MODES[each]}" for each in MODES if each in times)
    n_cpus = result["facts"]["n_cpus"]
    # A notebook alone is two or three at once, most of the time.
    busy = any(each["load"] > 2.0 * n_cpus for each in times.values())
    on = f"on {n_cpus} cores{' that had other work meanwhile' if busy else ''}"
    return f"It takes {told}, {on}; exporting the voice, once, takes a minute more."


def record(name: str, mode: str, times: dict[str, float]) -> None:
    """Write a notebook's times into `RESULTS`, and say them in its first cell."""
    sys.path.append(str(FOLDER.parent / "benchmarks"))
    from balacoon_tk._files import write_whole
    from speed.machine import facts
    from speed.results import compact_json

    stamp, kept = facts(), {"facts": {}, "modes": {}}
    if RESULTS.exists():
        kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    # Times of two machines in one table would be compared.
    same = all(kept["facts"].get(each) == stamp[each] for each in ("cpu", "n_cpus"))
    modes = kept["modes"] if same else {}
    modes = modes | {mode: modes.get(mode, {}) | {name: times}}
    modes = {each: dict(sorted(modes[each].items())) for each in MODES if each in modes}
    result = {"facts": stamp, "modes": modes}
    write_whole(RESULTS, compact_json(result))
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].source = _SENTENCE.sub(takes(name, result), notebook.cells[0].source)
    write_whole(path, nbformat.writes(notebook) + "\n")


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="keep them there, with their outputs"
    )
    parser.add_argument("--mode", choices=MODES, action="append", help="again for others; default: look")
    parser.add_argument("--record", action="store_true", help="write down how long each takes")
    args = parser.parse_args()
    status = 0
    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        for mode in args.mode or (["look"] if args.record else [None]):
            status |= run(path, mode, output=args.output, recorded=args.record)
    return status


def run(path: Path, mode: str | None, *, output: Path | None, recorded: bool) -> int:
    """Run a notebook in a mode, or as the environment says; return the status."""
    if mode == "full" and "BALACOON_TK_FULL" not in path.read_text(encoding="utf-8"):
        return 0  # it shows all there is already
    if mode is not None:
        os.environ.update({f"BALACOON_TK_{each.upper()}": str(int(each == mode)) for each in MODES})
    try:
        notebook, times = execute(path, Path.cwd())
    except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
        print(f"{path.name}: failed\n{error}", file=sys.stderr)
        return 1
    silence_s, cell = times["longest_silence_s"], times["silent_cell"]
    print(f"{path.name}: {times['seconds']:.1f} s, silent for {silence_s:.1f} s in cell {cell}", flush=True)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook, output / path.name)
    if recorded:
        record(path.stem, str(mode), times)
    return 0


def _spoken(seconds: float) -> str:
    if seconds >= 100.0:
        return f"{seconds / 60.0:.0f} minutes"
    # Two digits would say more than is known: the next machine is another one.
    step = 5 if seconds >= 10.0 else 1
    return f"{max(1, round(seconds / step)) * step} s"


if __name__ == "__main__":
    sys.exit(main())
