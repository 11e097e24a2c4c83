"""Run the notebooks from their first cell to their last, without a page, and keep what they show.

  python notebooks/run.py -o out/notebooks            all of them
  python notebooks/run.py notebooks/1_hear_it.ipynb   one of them

BALACOON_TK_FAST=1 makes each take seconds: short texts, few points, one round. Ends with status 1 if a
cell fails, and says which.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

FOLDER = Path(__file__).parent
CELL_LIMIT_S = 3600  # a search over a hundred sentences takes most of it


def execute(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Run a notebook's cells with `folder` as the working directory; return it with its outputs."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=CELL_LIMIT_S, resources={"metadata": {"path": str(folder)}}).execute()
    return notebook


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="DIR", help="keep them there, with their outputs"
    )
    args = parser.parse_args()
    status = 0
    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        begun_s = time.perf_counter()
        try:
            notebook = execute(path, Path.cwd())
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            print(f"{path.name}: failed\n{error}", file=sys.stderr)
            status = 1
            continue
        print(f"{path.name}: {time.perf_counter() - begun_s:.1f} s", flush=True)
        if args.output is not None:
            args.output.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, args.output / path.name)
    return status


if __name__ == "__main__":
    sys.exit(main())
