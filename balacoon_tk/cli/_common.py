"""What commands share: messages, the options for voice and text, reports, and a line of progress."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from balacoon_tk._files import write_whole
from balacoon_tk.errors import ParameterError

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

STANDARD_STREAM = "-"
"""The name that means stdin where a file is read, and stdout where one is written."""

_REFRESH_S = 0.1
_BAR_WIDTH = 24


class UsageError(Exception):
    """The arguments contradict one another; ends with the usage and status 2."""


def say(message: str) -> None:
    """Print one line to stderr, whatever the message holds."""
    line = " ".join(message.split())
    print(f"balacoon-tk: {line}", file=sys.stderr)


def add_voice_arguments(parser: argparse.ArgumentParser, *, speaker: bool = True) -> None:
    """Add the options that choose a voice and how it runs; `speaker` where one of several speaks."""
    parser.add_argument(
        "-v",
        "--voice",
        metavar="VOICE",
        help="voice folder or .addon file (default: the default voice, exported once into the cache)",
    )
    if speaker:
        parser.add_argument("--speaker", metavar="NAME", help="speaker of a voice that has several")
    parser.add_argument(
        "--frontend",
        default="auto",
        metavar="NAME",
        help="what turns text into phonemes: auto (the best that is installed), espeak, gruut …",
    )
    parser.add_argument("--threads", type=positive_int, metavar="N", help="threads for one run of a graph")


def open_tts(args: argparse.Namespace) -> TTS:
    """Return the TTS that `add_voice_arguments` describes."""
    from balacoon_tk.tts import TTS

    return TTS(args.voice, frontend=args.frontend, n_threads=args.threads)


def add_text_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the ways to give a text."""
    parser.add_argument("text", nargs="*", metavar="TEXT", help="what to say; '-' reads stdin")
    parser.add_argument(
        "-f", "--file", metavar="FILE", help="read the text from a UTF-8 file; '-' reads stdin"
    )


def read_text(args: argparse.Namespace) -> str:
    """Return the text that `add_text_arguments` describes.

    Raises
    ------
    UsageError
        If there is none, or two.
    ParameterError
        If the file isn't UTF-8.
    """
    if bool(args.text) == (args.file is not None):
        raise UsageError("give a TEXT, or a file with -f FILE, or '-' to read stdin")
    source = args.file if args.file is not None else " ".join(args.text)
    if args.file is None and source != STANDARD_STREAM:
        return str(source)
    name = "stdin" if source == STANDARD_STREAM else source
    data = sys.stdin.buffer.read() if source == STANDARD_STREAM else Path(source).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"{name}: must be UTF-8, but byte {error.start} is 0x{data[error.start]:02x}"
        ) from error


def positive_int(text: str) -> int:
    """Convert an argument that must be a whole number of at least 1."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a whole number >= 1")
    return value


def format_size(n_bytes: float) -> str:
    """Return a size for a person to read."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.1f} kB"


def add_chunk_argument(parser: argparse.ArgumentParser) -> None:
    """Add the option for the size of chunks."""
    parser.add_argument(
        "--chunk-frames",
        type=_frame_counts,
        metavar="N[,N…]",
        help="frames in a chunk; 16,32,64 begins small and stays at 64 (default: as calibrated, or safe)",
    )


def _frame_counts(text: str) -> tuple[int, ...]:
    return tuple(positive_int(part) for part in text.split(","))


def write_text(output: str, text: str) -> None:
    """Write a report to a file, whole or not at all, or to stdout."""
    if output == STANDARD_STREAM:
        sys.stdout.write(text)
        return
    write_whole(output, text)


class ProgressLine:
    """One line on stderr that is written over while work goes on, if stderr is a terminal."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._width = 0
        self._last_s = -math.inf

    def update(self, text: str) -> None:
        """Show a text; more often than ten times a second is ignored."""
        now_s = time.monotonic()
        if self._shown and now_s - self._last_s >= _REFRESH_S:
            self._last_s = now_s
            self._write(text)

    def bar(self, share: float, label: str) -> None:
        """Show how much is done, from 0 to 1, as a bar."""
        filled = int(_BAR_WIDTH * share)
        self.update(f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {100 * share:3.0f} % {label}")

    def close(self, summary: str = "") -> None:
        """Put a last line in its place, or nothing."""
        if self._shown:
            self._write("")
            if summary:
                say(summary)

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r{text.ljust(self._width)}" if text else f"\r{' ' * self._width}\r")
        sys.stderr.flush()
        self._width = len(text)
