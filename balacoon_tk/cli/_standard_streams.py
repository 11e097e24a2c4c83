"""Standard streams that whoever started the command has closed.

Python has None for them then, and the next file that is opened takes the number of the one that is missing:
what a library writes to "stderr" ends in a WAV file.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from balacoon_tk._messages import give_up
from balacoon_tk.errors import BalacoonError

if TYPE_CHECKING:
    from typing import BinaryIO

_N_STANDARD = 3
_NAMES = ("stdin", "stdout", "stderr")


class ClosedStreamError(BalacoonError, RuntimeError):
    """Something was to be read from stdin or written to stdout, which is closed."""


class _ClosedStream(io.TextIOBase):
    """Stands for a stream that is closed: nothing is lost until somebody wants to use it."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def buffer(self) -> BinaryIO:
        self._refuse()

    def write(self, _text: str) -> int:
        self._refuse()

    def read(self, _size: int | None = -1) -> str:
        self._refuse()

    def _refuse(self) -> NoReturn:
        what = "give a text or a file" if self.name == "stdin" else "give a file with -o, or open it"
        raise ClosedStreamError(f"{self.name} is closed: {what}")


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Put something in the place of streams that are closed, for as long as a command runs."""
    _occupy_descriptors()
    before = {name: getattr(sys, name) for name in _NAMES}
    missing = [name for name, stream in before.items() if stream is None]
    with contextlib.ExitStack() as stack:
        for name in missing:
            # Messages are for whoever wants them; input and output are what a command is for.
            stand_in: Any = _ClosedStream(name)
            if name == "stderr":
                stand_in = stack.enter_context(Path(os.devnull).open("w", encoding="utf-8"))
            setattr(sys, name, stand_in)
        try:
            yield
        finally:
            for name in missing:
                setattr(sys, name, None)


def finish_output() -> None:
    """Write what stdout still holds; an OSError says that it can't be, and then nothing of it is left."""
    try:
        sys.stdout.flush()
    except OSError:
        # Python's end would try again, complain, and end with a status of its own.
        give_up(sys.stdout)
        raise


def _occupy_descriptors() -> None:
    # From the lowest on, since the system gives the lowest that is free.
    for number in range(_N_STANDARD):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):
                os.open(os.devnull, os.O_RDWR)
