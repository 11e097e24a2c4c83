"""Resident memory of this process, now and at most."""

from __future__ import annotations

import gc
import resource
import sys
from pathlib import Path

from balacoon_tk.runtime.process import give_back_memory

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_PEAK = "5"  # proc(5): what to write into clear_refs for the peak to begin anew


def resident_bytes() -> int:
    """Return the resident set in bytes; outside of Linux the largest so far."""
    return _of_status("VmRSS") if _STATUS.exists() else peak_bytes()


def peak_bytes() -> int:
    """Return the largest resident set in bytes.

    Not by getrusage on Linux, where a new process begins with the peak of the one that started it.
    """
    if _STATUS.exists():
        return _of_status("VmHWM")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts in bytes, others in KiB


class PeakMemory:
    """What a piece of work takes at most beyond what was there before; on Linux whatever came before it."""

    def __init__(self) -> None:
        # What is free and not given back would be taken again, and not be seen.
        gc.collect()
        give_back_memory()
        if _CLEAR.exists():
            _CLEAR.write_text(_PEAK)
        self._before = resident_bytes()

    def n_bytes(self) -> int:
        """Return the most so far; the kernel counts to some hundred KiB."""
        return max(0, peak_bytes() - self._before)


def _of_status(name: str) -> int:
    lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines())
    return int(lines[name].split()[0]) * 1024
