"""Text from stdin while it is written: whoever writes it may be a program that takes its time."""

from __future__ import annotations

import codecs
import io
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from balacoon_tk.errors import ParameterError

_N_BYTES = 65536
_BUSY_S = 0.01  # how long a pipe that doesn't wait is left alone


def stdin_pieces() -> Iterator[str]:
    """Return the text on stdin, piece by piece as it comes, for another thread to take.

    Raises
    ------
    ParameterError
        After all text before it, if there is a byte that isn't UTF-8.
    ClosedStreamError
        At the call, if stdin is closed.
    """
    stream: Any = sys.stdin.buffer
    # Past the buffer: it would wait until it is full, and a thread that waits in it can't be left at the end
    # of the program, which wants its lock.
    raw = getattr(stream, "raw", None)
    return _decoded(raw.read if isinstance(raw, io.RawIOBase) else stream.read1)


def _decoded(read: Callable[[int], bytes | None]) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    n_decoded, is_beginning = 0, True
    while (data := read(_N_BYTES)) != b"":
        if data is None:
            time.sleep(_BUSY_S)
            continue
        text, n_bytes, error = _decode(decoder, data)
        if is_beginning and text:
            # The mark that some editors begin a file with is no text.
            text, is_beginning = text.removeprefix("\ufeff"), False
        if text:
            yield text
        if error is not None:
            raise _refusal(n_decoded + error.start, error)
        n_decoded += n_bytes
    try:
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise _refusal(n_decoded + error.start, error) from error


def _decode(decoder: codecs.IncrementalDecoder, data: bytes) -> tuple[str, int, UnicodeDecodeError | None]:
    """Return the text, how many bytes it stands for, and what is wrong with the next ones."""
    held, _ = decoder.getstate()
    try:
        text = decoder.decode(data)
    except UnicodeDecodeError as error:
        return error.object[: error.start].decode(), error.start, error
    still_held, _ = decoder.getstate()
    return text, len(held) + len(data) - len(still_held), None


def _refusal(place: int, error: UnicodeDecodeError) -> ParameterError:
    return ParameterError(f"stdin: must be UTF-8, but byte {place} is 0x{error.object[error.start]:02x}")
