"""Lines for a person on stderr, which a program may have closed."""

import contextlib
import os
import sys
from typing import IO


def tell(line: str) -> None:
    """Print a line to stderr, if there is one; that nobody can read it is no reason to fail."""
    # With None for a file, `print` would write to stdout, which is for audio.
    if sys.stderr is None:
        return
    try:
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        give_up(sys.stderr)


def give_up(stream: IO[str]) -> None:
    """Let a stream that can't be written to lead nowhere, so that Python's end doesn't fail at it."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
