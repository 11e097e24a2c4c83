"""How much a foreign model's export may take, by the size of the model."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from balacoon_tk.errors import ParameterError
from balacoon_tk.voice.install import bytes_of

# A voice of 63 MB takes 1.1 GB and a minute of two cores; what comes from torch takes most of it for torch.
_MEMORY_BYTES, _MEMORY_FACTOR = 4 << 30, 24
_WALL_S, _WALL_S_BY_BYTE = 1200.0, 20e-6
_FILE_BYTES, _FILE_FACTOR = 64 << 20, 6
_SHARE_OF_MEMORY = 0.9


@dataclass(frozen=True, slots=True)
class Limits:
    """What the export of a foreign model may take; None is a bound by the size of the model.

    Attributes
    ----------
    memory_bytes : int, optional
        4 GB and 24 times the model if None, and no more than nine tenths of the machine's.
    wall_s : float, optional
        20 minutes and 20 s for each MB of the model if None.
    """

    memory_bytes: int | None = None
    wall_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "wall_s"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ParameterError(f"{name}={value} must be > 0, or None")

    def of_model(self, path: Path) -> Bounds:
        """Return the bounds of the export of a model."""
        n_bytes = bytes_of(path)
        memory_bytes = self.memory_bytes
        if memory_bytes is None:
            memory_bytes = _MEMORY_BYTES + _MEMORY_FACTOR * n_bytes
            with suppress(AttributeError, ValueError, OSError):  # not every system says how much it has
                whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
                memory_bytes = min(memory_bytes, int(_SHARE_OF_MEMORY * whole))
        wall_s = self.wall_s or _WALL_S + _WALL_S_BY_BYTE * n_bytes
        return Bounds(
            memory_bytes=memory_bytes,
            wall_s=wall_s,
            # All cores, all the time: what the clock ends comes first, unless nobody looks at it any more.
            cpu_s=int(wall_s * (os.cpu_count() or 1)) + 1,
            file_bytes=_FILE_BYTES + _FILE_FACTOR * n_bytes,
        )


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one export may take."""

    memory_bytes: int
    wall_s: float
    cpu_s: int
    file_bytes: int
    """Of each file that it writes, and of the voice."""
