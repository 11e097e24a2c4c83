"""What a machine is called, for what was measured on it and is believed on no other, and its processors."""

import contextlib
import functools
import os
import platform
from pathlib import Path


@functools.cache
def cpu_name() -> str:
    """Return what the processor is called; the plain architecture where the system doesn't say."""
    # `platform.processor` is empty on most Linux systems. All processors of a machine are taken for the same.
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
        for line in text.splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def n_processors() -> int:
    """Return how many processors this process may use: in a container fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
