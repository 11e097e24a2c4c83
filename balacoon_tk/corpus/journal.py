"""What is done of a batch, on the disk: a worker that takes it over goes on where the other one ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from balacoon_tk._files import JsonLines, parse_lines
from balacoon_tk.corpus.plan import Batch

MAX_ATTEMPTS = 2
"""An utterance at which so many workers have ended is recorded as failed, and not tried again."""

# A worker that was cut off, and whose batch another one was given, ends with its utterance.
_WAIT_S = 60.0


class BatchJournal:
    """Rows of a batch by their place in the list, and how often each utterance was begun in this run.

    Only attempts of this run count: whoever stops a run twice at the same long utterance has not found that
    it ends workers.

    Parameters
    ----------
    folder : Path
        Of the corpus.
    batch : Batch
    run : str
        Tells this run from those before.
    """

    def __init__(self, folder: Path, batch: Batch, run: str) -> None:
        path = folder / batch.journal_path
        path.parent.mkdir(exist_ok=True)
        self._run = run
        self._lines = JsonLines(path, busy="another worker is writing to it", wait_s=_WAIT_S)
        self.rows = _done(self._lines.records, folder)
        begun = (record for record in self._lines.records if record.get("run") == run)
        self._attempts = Counter(record["begin"] for record in begun)

    def begin(self, index: int) -> bool:
        """Note that an utterance is begun; False if it has been as often as it may."""
        if self._attempts[index] >= MAX_ATTEMPTS:
            return False
        # Not synced: what it is to survive is the end of this process, and not that of the machine.
        self._lines.add({"begin": index, "run": self._run}, synced=False)
        return True

    def add(self, row: Mapping[str, Any]) -> None:
        """Keep the row of an utterance whose files are in place; it is on the disk when this returns."""
        self._lines.add({"row": row})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()


def rows_of(folder: Path, batch: Batch) -> dict[int, dict[str, Any]]:
    """Return what is done of a batch, by the place in the list."""
    with suppress(FileNotFoundError):
        path = folder / batch.journal_path
        return _done(parse_lines(path.read_bytes(), path), folder)
    return {}


def _done(records: Iterable[Mapping[str, Any]], folder: Path) -> dict[int, dict[str, Any]]:
    rows = {record["row"]["index"]: record["row"] for record in records if "row" in record}
    # A machine that went down may have kept the line and not the name of the file.
    return {
        index: row for index, row in rows.items() if "error" in row or (folder / row["file_name"]).is_file()
    }
