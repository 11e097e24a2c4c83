"""Foreign models are read and run in a process of their own, that can do little else (`confine`).

    parent                                 child, confined
    request, as a line of JSON     ──────▶ reads the model, cuts, verifies, compiles, writes into its folder
    shows progress, raises errors  ◀────── messages
    checks every file by its hash  ◀────── the voice, in the folder
    puts it in place

The child is a fresh interpreter and no fork, so that it works in notebooks and beside threads. It has the
parent's environment without what may be secret, and ends with its parent.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from balacoon_tk._leftovers import beside, remove, remove_leftovers
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sandbox import confine
from balacoon_tk.export.sandbox.bounds import Bounds, Limits
from balacoon_tk.export.sandbox.collect import collect
from balacoon_tk.export.sandbox.messages import (
    MAX_LINE_BYTES,
    Confined,
    Done,
    Failed,
    Progressed,
    clean,
    decode,
    to_error,
)
from balacoon_tk.export.sources.source import Progress

__all__ = ["Limits", "Request", "export_apart"]

_LOGGER = logging.getLogger(__name__)
_POLL_S = 0.5
_JOIN_S = 1.0
_N_WAITING = 256  # messages; a child that floods waits
_N_SAID = 40  # lines of stderr that are kept
_KEPT = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "SYSTEMROOT", "TERM", "TZ", "USER", "USERPROFILE"})
_KEPT_BEGINNINGS = (
    *("BALACOON_TK_", "DYLD_", "KMP_", "LC_", "LD_", "MKL_", "OMP_", "OPENBLAS_", "ORT_"),
    *("ASAN_", "CONDA_", "PYTHON", "TORCH_", "VIRTUAL_"),
)


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be exported; the arguments of `export_voice` of these names."""

    source: str
    config: str | None
    name: str | None
    license: str | None
    speakers: list[str] | None
    max_frames: int | None
    trust: bool


def export_apart(request: Request, folder: Path, *, limits: Limits, progress: Progress) -> dict[str, bytes]:
    """Export a model in a process of its own, and return the files of the voice by name.

    In `folder` a hidden folder is made, and gone in the end. Errors are those of the export; a `ModelError`
    also says that the process was ended, or what it has left is no voice.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        raise ModelError(
            "there is no Python to run the export in a process of its own: sandbox=False runs it in this one"
        )
    bounds = limits.of_model(Path(request.source))
    remove_leftovers(folder)
    work = beside(folder / "export")
    voice, scratch = work / "voice", work / "tmp"
    try:
        scratch.mkdir(parents=True)
        _run(request, work, voice, scratch, bounds, progress)
        return collect(voice, max_bytes=bounds.file_bytes)
    finally:
        remove(work)


def _run(
    request: Request, work: Path, voice: Path, scratch: Path, bounds: Bounds, progress: Progress
) -> None:
    line = {
        "folder": str(work.absolute()),
        "bounds": asdict(bounds),
        "path": sys.path,
        "export": {**asdict(request), "out": str(voice)},
    }
    child = _Child(_environment(scratch))
    try:
        child.send(json.dumps(line).encode() + b"\n")
        end_s = time.monotonic() + bounds.wall_s
        while True:
            data = child.receive()
            if time.monotonic() > end_s:
                raise ModelError(
                    f"{request.source}: the export took longer than {bounds.wall_s / 60:.0f} minutes and was "
                    "ended: sandbox=Limits(wall_s=...) or --max-minutes allows more"
                )
            if data is None:
                if _bytes_in(work) > 2 * bounds.file_bytes:
                    raise ModelError(
                        f"{request.source}: the export wrote more than {2 * bounds.file_bytes / 1e9:.1f} GB "
                        "and was ended"
                    )
                continue
            if not data:
                raise child.died(request.source, bounds)
            message = decode(data)
            if isinstance(message, Progressed):
                progress(message.stage, message.share)
            elif isinstance(message, Confined):
                _log(message, bounds)
            elif isinstance(message, Failed):
                raise to_error(message, source=request.source)
            elif isinstance(message, Done):
                return
    finally:
        child.end()


class _Child:
    """The confined process: what it says, and its end, with that of all that it has started."""

    def __init__(self, environment: dict[str, str]) -> None:
        # In a group of its own, Ctrl-C in a terminal reaches the parent alone, which ends it.
        self._process = subprocess.Popen(
            [sys.executable, "-P", confine.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=os.name == "posix",
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._lines: queue.Queue[bytes] = queue.Queue(_N_WAITING)
        self._said: deque[str] = deque(maxlen=_N_SAID)
        readers = ((self._read_lines, self._process.stdout), (self._read_said, self._process.stderr))
        self._threads = [threading.Thread(target=read, args=(pipe,), daemon=True) for read, pipe in readers]
        for thread in self._threads:
            thread.start()

    def send(self, data: bytes) -> None:
        """Write to its stdin; one that has died already says so by its end."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.write(data)
            self._process.stdin.flush()

    def receive(self) -> bytes | None:
        """Return a line, an empty one at the end, or None after a while without any."""
        try:
            return self._lines.get(timeout=_POLL_S)
        except queue.Empty:
            return None

    def end(self) -> None:
        """End it, however it goes on."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        end_s = time.monotonic() + _JOIN_S
        while any(thread.is_alive() for thread in self._threads) and time.monotonic() < end_s:
            with suppress(queue.Empty):
                self._lines.get(timeout=0.01)  # which a reader may be waiting to put another into
        if any(thread.is_alive() for thread in self._threads):
            return  # something holds the pipes that got away: to close them would be to wait for it
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()

    def died(self, source: str, bounds: Bounds) -> ModelError:
        """Return the error that says of what it has died."""
        status = self._process.wait()
        how = f"ended with status {status}"
        if status < 0:
            how = f"was ended by {signal.Signals(-status).name}"
            if -status == getattr(signal, "SIGXCPU", 0):
                how = f"took more than {bounds.cpu_s / 60:.0f} minutes of processor time"
        self._threads[1].join(_JOIN_S)
        last = f": {self._said[-1]}" if self._said else ""
        return ModelError(
            f"{source}: the process that exported it {how}{last} (it may use "
            f"{bounds.memory_bytes / 1e9:.1f} GB of memory: sandbox=Limits(...) allows more)"
        )

    def _read_lines(self, pipe: IO[bytes]) -> None:
        line = b"."
        while line:
            try:
                line = pipe.readline(MAX_LINE_BYTES)
            except (OSError, ValueError):
                line = b""
            self._lines.put(line)

    def _read_said(self, pipe: IO[bytes]) -> None:
        with suppress(OSError, ValueError):
            while line := pipe.readline(MAX_LINE_BYTES):
                self._said.append(clean(line.decode("utf-8", "replace").rstrip()))


def _environment(scratch: Path) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_BEGINNINGS)
    }
    # Nothing else can be written to, and nobody is there to be asked.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME"), str(scratch.absolute()))
    return kept | temporary | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def _bytes_in(folder: Path) -> int:
    n_bytes = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                n_bytes += Path(parent, name).lstat().st_size
    return n_bytes


def _log(confined: Confined, bounds: Bounds) -> None:
    held = [*confined.held, f"at most {bounds.wall_s / 60:.0f} min"]
    without = f"; this system can't give: {', '.join(confined.missing)}" if confined.missing else ""
    _LOGGER.info("sandbox: %s%s", ", ".join(held), without)
