"""What a machine is called, for what was measured on it and is believed on no other."""

import contextlib
import functools
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
