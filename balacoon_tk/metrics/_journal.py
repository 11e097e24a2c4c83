"""What an evaluation has measured so far, a line each, so that it goes on where it was stopped."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Self

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
        self._file: IO[bytes] | None = None
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
        self._path = folder / JOURNAL_FILE
        # Never truncated by opening it: until the lock is had, the file may be another process's.
        self._file = self._path.open("a+b")
        try:
            _lock(self._file, self._path)
            # As they come back from a file: tuples are lists there, and would differ from themselves.
            self._read(json.loads(json.dumps(settings)))
        except BaseException:
            self._file.close()
            raise

    def get(self, voice: str, index: int) -> dict[str, Any] | None:
        """Return the results of a sentence, or None if it is still to be done."""
        return self._results.get((voice, index))

    def add(self, voice: str, index: int, results: dict[str, Any]) -> None:
        """Keep the results of a sentence; they are on the disk when this returns."""
        self._results[voice, index] = results
        self._write({"voice": voice, "sentence": index, "results": results})

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()

    def _write(self, record: Mapping[str, object]) -> None:
        if self._file is not None:
            # NaN and infinity stay what they are here; reports, which other programs read, say null.
            self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            self._file.flush()
            # Flushed is not kept: a machine that goes down would take the last minutes with it.
            os.fsync(self._file.fileno())

    def _read(self, settings: Mapping[str, object]) -> None:
        assert self._file is not None
        self._file.seek(0)
        data = self._file.read()
        n_whole = data.rfind(b"\n") + 1
        if n_whole < len(data):
            # The process ended within this line, so nobody was told that the sentence is done.
            self._file.truncate(n_whole)
        lines = data[:n_whole].splitlines()
        if not lines:
            self._write({"format": _FORMAT, "settings": settings})
            return
        head = self._record(lines[0], 1)
        if head.get("format") != _FORMAT or not isinstance(head.get("settings"), dict):
            raise ParameterError(f"{self._path}: not a journal of this version; give another folder")
        # One name is enough for a person to see what differs; the first one by alphabet is always the same.
        for name in sorted({*settings, *head["settings"]}):
            before, now = head["settings"].get(name), settings.get(name)
            if before != now:
                raise ParameterError(
                    f"{self._path.parent}: holds an evaluation with other settings: {name} was "
                    f"{_short(before)} and is {_short(now)}; give another folder"
                )
        for number, line in enumerate(lines[1:], 2):
            record = self._record(line, number)
            try:
                self._results[record["voice"], record["sentence"]] = record["results"]
            except KeyError as error:
                raise ParameterError(f"{self._path}: line {number} has no {error}") from error

    def _record(self, line: bytes, number: int) -> dict[str, Any]:
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("no object")
        except ValueError as error:
            raise ParameterError(f"{self._path}: line {number} is damaged: {error}") from error
        return record


def _lock(file: IO[bytes], path: Path) -> None:
    """Refuse a second writer; the lock goes with the process, however that ends."""
    with contextlib.suppress(ImportError):  # only there where locks are released like that
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ParameterError(f"{path}: another evaluation is writing to it") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
