"""What is still being written: beside its place, named after its process, and removed once that is dead.

    .joe.3f2a9c-51ab77-0c81de-12345-8812345-a1b2c3d4.tmp
     name host   boot   space  pid   start   token    kind

A process that is killed can't clean up after itself; the next one that writes into the same folder does. It
must be sure that nobody is at it any more. A process number alone doesn't say so: numbers are given again,
start again with the machine, and mean nothing on another machine or in another container of this one. Where
it can't be known, what is left stays for a week.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

Kind = Literal["old", "part", "tmp"]
"""``old`` is what was there before, and goes back if nothing has taken its place; the others are halves."""

MAX_NAME_BYTES = 190
"""Of a name that what is written beside it is named after; file systems take 255 bytes."""

_FOREIGN_S = 7 * 24 * 3600.0  # no write takes a day
_OWNED = re.compile(
    r"\.(?P<name>.+)\.(?P<owner>[0-9a-f]{6}-[0-9a-f]{6}-[0-9a-f]{6}-\d{1,9}-\d{1,20})-[0-9a-f]{8}\.(?P<kind>old|part|tmp)"
)
# Of versions that didn't say whose it is.
_UNOWNED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<kind>old|part|tmp)")
_UNKNOWN_START = 0
_swept: dict[str, float] = {}


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, so that another one can tell whether it still runs."""

    host: str
    boot: str
    space: str
    """Where its number counts: containers have process numbers of their own."""
    pid: int
    start: int
    """When it was started, in ticks since the machine was; 0 where the system doesn't say."""

    @classmethod
    def here(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        return cls(_host(), _boot(), _space(), pid, _start_of(pid))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `str` gives."""
        host, boot, space, pid, start = text.split("-")
        return cls(host, boot, space, int(pid), int(start))

    def __str__(self) -> str:
        return f"{self.host}-{self.boot}-{self.space}-{self.pid}-{self.start}"

    def runs(self) -> bool | None:
        """Say whether the process still runs; None where that can't be known from here."""
        here = Owner.here()
        if self.host != here.host:
            return None
        if self.boot != here.boot:
            return False
        if self.space != here.space:
            return None
        if not _exists(self.pid):
            return False
        start = _start_of(self.pid)
        return _UNKNOWN_START in (start, self.start) or start == self.start


def beside(path: Path, kind: Kind = "part") -> Path:
    """Return a path beside another that nobody else has, and that says whose it is."""
    name = path.name
    if kind != "old":  # which must say where it goes back to
        name = os.fsencode(name)[:MAX_NAME_BYTES].decode(sys.getfilesystemencoding(), "ignore")
    return path.with_name(f".{name}.{Owner.here()}-{os.urandom(4).hex()}.{kind}")


def remove(path: Path) -> None:
    """Remove a file, or a folder with all that is in it; nothing that goes wrong is raised."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def remove_leftovers(folder: Path, *, at_most_every_s: float = 0.0) -> None:
    """Remove what dead processes have left in a folder; nothing that goes wrong is raised.

    A folder of thousands of files that is written to file by file is looked through once in
    `at_most_every_s`.
    """
    key, now_s = os.fspath(folder.absolute()), time.monotonic()
    if now_s - _swept.get(key, -float("inf")) < at_most_every_s:
        return
    _swept[key] = now_s
    with suppress(OSError):
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(".")]
        for name in names:
            found = _OWNED.fullmatch(name) or _UNOWNED.fullmatch(name)
            if found is not None and _is_nobodys(folder / name, found.groupdict().get("owner")):
                _clear(folder / name, folder / found["name"], kind=found["kind"])


def _is_nobodys(path: Path, owner: str | None) -> bool:
    runs = None if owner is None else Owner.parse(owner).runs()
    if runs is not None:
        return not runs
    with suppress(OSError):
        # By the clock of the machine that has the folder, which is not always this one, nor right.
        with tempfile.TemporaryFile(dir=path.parent) as file:
            now_s = os.fstat(file.fileno()).st_mtime
        return now_s - _changed_s(path) > _FOREIGN_S
    return False


def _changed_s(path: Path) -> float:
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    times_s: list[float] = [each.lstat().st_mtime for each in (path, *inside)]
    return max(times_s)


def _clear(path: Path, target: Path, *, kind: str) -> None:
    if kind == "old" and not os.path.lexists(target):
        # Its process was killed between two renames: the voice of before is better than none.
        with suppress(OSError):
            path.rename(target)
    else:
        remove(path)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "replace")).hexdigest()[:6]


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    return ""


@functools.cache
def _host() -> str:
    import platform  # it reads its own files; who only speaks needs none of it

    # Machines in a network may have one name, and containers the number of their machine.
    return _digest(platform.node(), _read("/etc/machine-id"))


@functools.cache
def _boot() -> str:
    return _digest(_read("/proc/sys/kernel/random/boot_id"))


@functools.cache
def _space() -> str:
    try:
        return _digest(str(Path("/proc/self/ns/pid").readlink()))
    except OSError:
        return _digest("")


def _start_of(pid: int) -> int:
    with suppress(IndexError, ValueError):
        # The name before it is in brackets, and may hold brackets and blanks.
        return int(_read(f"/proc/{pid}/stat").rpartition(")")[2].split()[19])
    return _UNKNOWN_START


def _exists(pid: int) -> bool:
    if sys.platform == "win32":  # where os.kill would end it
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x1000, 0, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if not handle:
            return bool(kernel.GetLastError() == 5)  # access denied: it is there
        status = ctypes.c_ulong()
        kernel.GetExitCodeProcess(handle, ctypes.byref(status))
        kernel.CloseHandle(handle)
        return status.value == 259  # STILL_ACTIVE
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    # What was killed keeps its number until its parent has asked for its status.
    state = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return not state or state[0] not in "ZX"
