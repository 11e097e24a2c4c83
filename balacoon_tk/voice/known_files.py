"""What was found of a voice's files before, and need not be found again while they have not changed.

A third of the time in which a voice is loaded would pass in reading its weights for their checksum and in
looking at its graphs. A file counts as unchanged while the system says the same of it: device, inode, size,
and the times at which content and inode changed, of which the last follows the system's clock and nobody's
wish. So does Git's index, whose rule for files that changed a moment ago is kept as well: a second change
within one tick of a file system's clock would not show (Git, "Use of index and Racy Git problem"). A graph is
read and compared with its checksum each time, and what was found of these bytes holds for them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from balacoon_tk._files import cache_folder, write_whole

_FORMAT_VERSION = 1
_LEAST_BYTES = 1 << 20  # of a smaller file the checksum is there as soon as the record
_LEAST_GRAPH_BYTES = 1 << 16
_KINDS = ("digests", "graphs")
_MOST_OF_A_KIND = 64
_SETTLED_NS = 2_000_000_000  # one tick of the coarsest clock: FAT's


class KnownFiles:
    """What is known of one voice, in the user's cache; where that is lost it costs time alone."""

    def __init__(self, voice: Path) -> None:
        self._voice = voice
        self._found: dict[str, dict[str, Any]] | None = None
        self._lock = threading.Lock()

    def digest(self, name: str, file: io.BufferedReader, expected: str) -> str:
        """Return the sha256 of an open file: `expected` if that is known, and else what its bytes give."""
        stat = os.fstat(file.fileno())
        identity = _identity(stat)
        if stat.st_size < _LEAST_BYTES:
            return _sum_up(file)
        # A record is believed where it says that nothing is wrong, and never where it says otherwise.
        if self._recall("digests", name) == [*identity, expected]:
            return expected
        found = _sum_up(file)
        is_settled = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED_NS
        if found == expected and is_settled and _identity(os.fstat(file.fileno())) == identity:
            self._keep("digests", name, [*identity, found])
        return found

    def op_types(self, graph: str, n_bytes: int, look: Callable[[], frozenset[str]]) -> frozenset[str]:
        """Return the operators of a graph that may be run, as `look` finds them or found them before.

        `graph` is all that this depends on. What `look` raises is not kept.
        """
        if n_bytes < _LEAST_GRAPH_BYTES:
            return look()
        # Another version may allow less.
        key = f"{graph} {version('balacoon_tk')}"
        known = self._recall("graphs", key)
        if isinstance(known, list) and all(isinstance(op_type, str) for op_type in known):
            return frozenset(known)
        found = look()
        self._keep("graphs", key, sorted(found))
        return found

    def _recall(self, kind: str, key: str) -> object:
        with self._lock:
            return self._load()[kind].get(key)

    def _load(self) -> dict[str, dict[str, Any]]:
        if self._found is None:
            self._found = {kind: {} for kind in _KINDS}
            # It is found again; nothing here is worth a voice that can't speak.
            with contextlib.suppress(OSError, KeyError, TypeError, ValueError, RecursionError):
                data = json.loads(self._path().read_text(encoding="utf-8"))
                if data["format_version"] == _FORMAT_VERSION:
                    self._found = {kind: dict(data[kind]) for kind in _KINDS}
        return self._found

    def _keep(self, kind: str, key: str, value: list[Any]) -> None:
        with self._lock:
            found = self._load()
            # Where voices come and go in one folder, the last ones alone are of use.
            latest = list(found[kind].items())[1 - _MOST_OF_A_KIND :]
            self._found = {**found, kind: {**dict(latest), key: value}}
            with contextlib.suppress(OSError):  # a cache that can't be written
                path = self._path()
                path.parent.mkdir(parents=True, exist_ok=True)
                # In ASCII, which holds whatever a damaged record may have given.
                write_whole(path, json.dumps({"format_version": _FORMAT_VERSION, **self._found}))

    def _path(self) -> Path:
        key = hashlib.sha256(os.fsencode(self._voice)).hexdigest()[:16]
        return cache_folder() / "known_files" / f"{key}.json"


def _identity(stat: os.stat_result) -> list[int]:
    return [stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]


def _sum_up(file: io.BufferedReader) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()
