"""The user's cache, files that are there whole or not at all, records line by line, and JSON for programs."""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from balacoon_tk._leftovers import beside, remove_leftovers
from balacoon_tk.errors import ParameterError

CACHE_VARIABLE = "BALACOON_TK_CACHE"
"""Environment variable that names another cache folder."""


def cache_folder() -> Path:
    """Return the folder for what can be made again; it may not exist yet."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen)
    import platformdirs

    return platformdirs.user_cache_path("balacoon_tk", appauthor=False)


def json_text(data: object) -> str:
    """Return data as the JSON text that a program reads: finite numbers, names as they are."""
    return json.dumps(_finite(data), ensure_ascii=False, indent=2) + "\n"


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file beside its place and put it there when it is complete."""
    write_bytes_whole(Path(path), text.encode())


def write_bytes_whole(path: Path, data: bytes, *, sweep_every_s: float = 0.0) -> None:
    """Do so with bytes; a folder of many files is looked through for leftovers once in `sweep_every_s`."""
    # In the same folder, since a file can be put in place at once on its own file system only.
    remove_leftovers(path.parent, at_most_every_s=sweep_every_s)
    part = beside(path)
    try:
        with part.open("xb") as file:
            file.write(data)
            file.flush()
            # A rename may reach the disk before the content does, and a power cut would leave an empty file.
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def parse_lines(data: bytes, path: Path) -> list[dict[str, Any]]:
    """Return the records of a file that `JsonLines` has written; a last line that was cut is none."""
    return [_parse(line, path, number) for number, line in enumerate(data.split(b"\n")[:-1], 1)]


class JsonLines:
    """Records in a file, a line each, for one writer at a time.

    Whatever ends the process, at most the last line is cut, and that is dropped when the file is opened
    again. A `ParameterError` says that a line is damaged, or, by what `busy` says, that another one writes.

    Attributes
    ----------
    path : Path
    records : list of dict
        Those that were there.
    """

    def __init__(self, path: Path, *, busy: str, wait_s: float = 0.0) -> None:
        self.path = path
        # Never truncated by opening it: until the lock is had, the file may be another process's.
        self._file = path.open("a+b")
        try:
            lock(self._file, f"{path}: {busy}", wait_s=wait_s)
            self._file.seek(0)
            data = self._file.read()
            n_whole = data.rfind(b"\n") + 1
            if n_whole < len(data):
                # The process ended within this line, so nobody was told of it.
                self._file.truncate(n_whole)
            self.records = parse_lines(data, path)
        except BaseException:
            self._file.close()
            raise

    def add(self, record: Mapping[str, object], *, synced: bool = True) -> None:
        """Write a record; if `synced` it is on the disk when this returns."""
        # NaN and infinity stay what they are here; reports, which other programs read, say null.
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        # Flushed is not kept: a machine that goes down would take the last minutes with it.
        if synced:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Let others write."""
        self._file.close()


def lock(file: IO[bytes], message: str, *, wait_s: float = 0.0) -> None:
    """Refuse a second writer by a `ParameterError`; the lock goes with the process, however that ends."""
    with contextlib.suppress(ImportError):  # only there where locks are released like that
        import fcntl

        due_s = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() >= due_s:
                    raise ParameterError(message) from None
            time.sleep(0.05)


def short_repr(value: object) -> str:
    """Return a setting as a message shows it."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _parse(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise ParameterError(f"{path}: line {number} is damaged: {error}") from error
    return record


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    # Python writes NaN and Infinity, which are no JSON: other programs refuse all of the file.
    return None if isinstance(data, float) and not math.isfinite(data) else data
