"""Checksums of large files that were read before and have not changed since.

Most of the time in which a voice is loaded would pass in reading its weights to compare their checksum once
more. A file counts as unchanged while the system says the same of it: device, inode, size, and the times at
which content and inode changed, of which the last follows the system's clock and nobody's wish. So does Git's
index, whose rule for files that changed a moment ago is kept as well: a second change within one tick of a
file system's clock would not show (Git, "Use of index and Racy Git problem").
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
import time
from pathlib import Path

from balacoon_tk._files import cache_folder, json_text, write_whole

_FORMAT_VERSION = 1
_LEAST_BYTES = 1 << 20  # of a smaller file the checksum is there as soon as the record
_SETTLED_NS = 2_000_000_000  # one tick of the coarsest clock: FAT's


class KnownDigests:
    """What is known of the files of one folder; kept in the cache, for all processes of a user."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._found: dict[str, list[int | str]] | None = None
        self._lock = threading.Lock()

    def digest(self, name: str, file: io.BufferedReader, expected: str) -> str:
        """Return the sha256 of an open file: `expected` if that is known, and else what its bytes give."""
        stat = os.fstat(file.fileno())
        identity = _identity(stat)
        if stat.st_size < _LEAST_BYTES:
            return _sum_up(file)
        # A record is believed where it says that nothing is wrong, and never where it says otherwise.
        with self._lock:
            if self._load().get(name) == [*identity, expected]:
                return expected
        found = _sum_up(file)
        is_settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS
        if found == expected and is_settled and _identity(os.fstat(file.fileno())) == identity:
            self._keep(name, [*identity, found])
        return found

    def _load(self) -> dict[str, list[int | str]]:
        if self._found is None:
            self._found = {}
            # It is summed up again; nothing here is worth a voice that can't speak.
            with contextlib.suppress(OSError, KeyError, TypeError, ValueError, RecursionError):
                data = json.loads(self._path().read_text(encoding="utf-8"))
                if data["format_version"] == _FORMAT_VERSION:
                    self._found = dict(data["digests"])
        return self._found

    def _keep(self, name: str, record: list[int | str]) -> None:
        with self._lock, contextlib.suppress(OSError):  # a cache that can't be written costs time alone
            path, digests = self._path(), {**self._load(), name: record}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json_text({"format_version": _FORMAT_VERSION, "digests": digests}))
            self._found = digests

    def _path(self) -> Path:
        key = hashlib.sha256(os.fsencode(self._folder)).hexdigest()[:16]
        return cache_folder() / "digests" / f"{key}.json"


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _sum_up(file: io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
