"""The confined process as its parent has it: started, listened to, ended with all that it has started."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import IO

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sandbox import confine
from balacoon_tk.export.sandbox.bounds import Bounds
from balacoon_tk.export.sandbox.messages import MAX_LINE_BYTES, clean

_POLL_S, _JOIN_S = 0.5, 1.0
_N_WAITING = 256  # messages; a child that floods waits
_N_SAID = 40  # lines of stderr that are kept
_KEPT = frozenset({"HOME", "LANG", "LOGNAME", "PATH", "SYSTEMROOT", "TERM", "TZ", "USER", "USERPROFILE"})
_KEPT_BEGINNINGS = (
    *("BALACOON_TK_", "DYLD_", "KMP_", "LC_", "LD_", "MKL_", "OMP_", "OPENBLAS_", "ORT_"),
    *("ASAN_", "CONDA_", "PYTHON", "TORCH_", "VIRTUAL_"),
)


class Child:
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


def environment(scratch: Path) -> dict[str, str]:
    """Return the parent's environment without what may be secret, with `scratch` for temporary files."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _KEPT or name.upper().startswith(_KEPT_BEGINNINGS)
    }
    # Nothing else can be written to, and nobody is there to be asked.
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP", "XDG_CACHE_HOME"), str(scratch.absolute()))
    return kept | temporary | {"HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
