"""Say which lines of Python, Cython and C the suite went over, and fail where these are too few.

    make coverage

Python and Cython are measured by coverage.py, the native engine's C by gcov: a line that is compiled for
several instruction sets counts where one of them ran it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import coverage

REPOSITORY = Path(__file__).parents[1]
BUILD = REPOSITORY / "build/coverage"
RESULTS = REPOSITORY / "benchmarks/results/coverage.json"

Lines = dict[Path, dict[int, bool]]
"""Of each file the lines that do something, and whether they ran."""


def python_lines() -> Lines:
    """Read what coverage.py has gathered in all processes."""
    measured = coverage.Coverage(config_file=str(REPOSITORY / "pyproject.toml"))
    # What one run has combined is combined again with the next.
    measured.combine(keep=True)
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        measured.json_report(outfile=report.name)
        files = json.loads(Path(report.name).read_text(encoding="utf-8"))["files"]
    return {
        Path(name): dict.fromkeys(file["executed_lines"], True) | dict.fromkeys(file["missing_lines"], False)
        for name, file in files.items()
    }


def c_lines(objects: Path) -> Lines:
    """Read what gcov has counted in the folder of the compiled C."""
    lines: dict[Path, dict[int, bool]] = defaultdict(dict)
    for counts in sorted(objects.rglob("*.gcda")):
        command = ["gcov", "--json-format", "--stdout", str(counts)]
        output = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True).stdout
        for file in json.loads(output)["files"]:
            path = REPOSITORY / file["file"]
            if not path.is_relative_to(REPOSITORY / "balacoon_tk/runtime/native/src"):
                continue
            known = lines[path.relative_to(REPOSITORY)]
            for line in file["lines"]:
                known[line["line_number"]] = known.get(line["line_number"], False) or line["count"] > 0
    return dict(lines)


def ranges(numbers: Iterable[int]) -> str:
    """Write line numbers briefly."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def share(lines: Iterable[dict[int, bool]]) -> tuple[int, int, float]:
    """Lines that ran, all lines, and the first in percent of the second."""
    ran = [value for file in lines for value in file.values()]
    return sum(ran), len(ran), 100 * sum(ran) / max(len(ran), 1)


def main() -> int:
    """Print a table, keep its figures, and say by the status whether they suffice."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--least", type=float, default=95, help="percent of the lines of each kind")
    parser.add_argument("--out", type=Path, default=RESULTS)
    given = parser.parse_args()
    python = python_lines()
    kinds = {
        "Python": {path: lines for path, lines in python.items() if path.suffix == ".py"},
        "Cython": {path: lines for path, lines in python.items() if path.suffix in (".pyx", ".pxd")},
        "C": c_lines(BUILD / "temp"),
    }
    figures: dict[str, Any] = {}
    for kind, files in kinds.items():
        for path, lines in sorted(files.items()):
            ran, n_lines, percent = share([lines])
            if ran < n_lines:
                missing = ranges(number for number, value in lines.items() if not value)
                print(f"{path.as_posix():58} {ran:5} of {n_lines:4} {percent:6.1f} %  {missing}")
        ran, n_lines, percent = share(files.values())
        figures[kind] = {"files": len(files), "lines": n_lines, "covered": ran, "percent": round(percent, 2)}
    for kind, figure in figures.items():
        print(f"{kind}: {figure['covered']} of {figure['lines']} lines, {figure['percent']} %")
    found = {"version": version("balacoon_tk"), "lines": figures}
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return int(any(figure["percent"] < given.least for figure in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
