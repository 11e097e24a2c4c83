"""What an evaluation has measured so far, a line each, so that it goes on where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from balacoon_tk._files import JsonLines, short_repr
from balacoon_tk.errors import ParameterError

JOURNAL_FILE = "measured.jsonl"
_FORMAT = 1


class Journal:
    """Results by voice and sentence, on disk where a folder is given.

    A line is written and flushed to the disk when a sentence is done. Whatever ends the process, at
    most its last line is cut, and that is dropped when the file is opened again. The first line holds
    the settings, all that results depend on: results of other settings are never mixed in.

    The folder is made if it isn't there, but not its parent; None keeps results in memory alone. A
    `ParameterError` says that it can't be made, is damaged or of other settings, or in use.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, settings: Mapping[str, object]) -> None:
        self._results: dict[tuple[str, int], dict[str, Any]] = {}
        self._lines: JsonLines | None = None
        if folder is None:
            return
        folder = Path(folder)
        try:
            folder.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise ParameterError(
                f"{folder}: can't be made, because there is no folder {folder.parent}"
            ) from None
        except FileExistsError:
            raise ParameterError(f"{folder}: must be a folder, and is a file") from None
        self._lines = JsonLines(folder / JOURNAL_FILE, busy="another evaluation is writing to it")
        try:
            # As they come back from a file: tuples are lists there, and would differ from themselves.
            self._read(self._lines, json.loads(json.dumps(settings)))
        except BaseException:
            self._lines.close()
            raise

    def get(self, voice: str, index: int) -> dict[str, Any] | None:
        """Return the results of a sentence, or None if it is still to be done."""
        return self._results.get((voice, index))

    def add(self, voice: str, index: int, results: dict[str, Any]) -> None:
        """Keep the results of a sentence; they are on the disk when this returns."""
        self._results[voice, index] = results
        if self._lines is not None:
            self._lines.add({"voice": voice, "sentence": index, "results": results})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._lines is not None:
            self._lines.close()

    def _read(self, lines: JsonLines, settings: Mapping[str, object]) -> None:
        path = lines.path
        if not lines.records:
            lines.add({"format": _FORMAT, "settings": settings})
            return
        head = lines.records[0]
        if head.get("format") != _FORMAT or not isinstance(head.get("settings"), dict):
            raise ParameterError(f"{path}: not a journal of this version; give another folder")
        # One name is enough for a person to see what differs; the first one by alphabet is always the same.
        for name in sorted({*settings, *head["settings"]}):
            before, now = head["settings"].get(name), settings.get(name)
            if before != now:
                raise ParameterError(
                    f"{path.parent}: holds an evaluation with other settings: {name} was "
                    f"{short_repr(before)} and is {short_repr(now)}; give another folder"
                )
        for number, record in enumerate(lines.records[1:], 2):
            try:
                self._results[record["voice"], record["sentence"]] = record["results"]
            except KeyError as error:
                raise ParameterError(f"{path}: line {number} has no {error}") from error
