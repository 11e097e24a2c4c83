"""What commands share: messages, options and what is made of them, reports, and a line of progress.

An option that several commands have is declared here, once, with its words of help. Values are checked where
they are used, so that the library and the command line refuse the same ones by the same message; argparse
converts numbers and lists alone.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, get_args

from balacoon_tk._files import json_text, write_whole
from balacoon_tk._messages import give_up, tell
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.options import CPU_PROVIDER, Backend, RuntimeOptions

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

STANDARD_STREAM = "-"
"""The name that means stdin where a file is read, and stdout where one is written."""

_REFRESH_S = 0.1
_BAR_WIDTH = 24


# Not a BalacoonError: only a command line has a usage.
class UsageError(Exception):
    """The arguments contradict one another; ends with the usage and status 2."""


def say(message: str) -> None:
    """Print one line to stderr, whatever the message holds."""
    # stdout is for audio and reports alone; and a script that reads stderr counts on a line for a message.
    tell(f"balacoon-tk: {_printable(' '.join(message.split()))}")


def _printable(text: str) -> str:
    # What a voice calls itself and its speakers may hold a terminal's own commands.
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)


def positive_int(text: str) -> int:
    """Convert an argument that must be a whole number of at least 1."""
    with contextlib.suppress(ValueError):
        if (value := int(text)) >= 1:
            return value
    raise argparse.ArgumentTypeError(f"{text!r} must be a whole number >= 1")


def comma_separated(text: str) -> list[str]:
    """Convert an argument that is several."""
    return text.split(",")


# By name; all are options but "text". Where a command means something else by one, it declares its own.
_SHORT = {"voice": "-v", "file": "-f", "output": "-o"}
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "text": {"nargs": "*", "metavar": "TEXT", "help": "what to say; '-' reads stdin"},
    "file": {"metavar": "FILE", "help": "read the text from a UTF-8 file; '-' reads stdin"},
    "voice": {
        "metavar": "VOICE",
        "help": "voice folder or .addon file (default: the default voice, exported once into the cache)",
    },
    "sha256": {
        "metavar": "SHA256",
        "help": "that of the voice's voice.json, as `inspect` says it; another voice is refused",
    },
    "speaker": {"metavar": "NAME", "help": "speaker of a voice that has several"},
    "frontend": {
        "default": "auto",
        "metavar": "NAME",
        "help": "what turns text into phonemes: auto (the best that is installed), espeak, gruut …",
    },
    "threads": {"type": positive_int, "metavar": "N", "help": "threads for one run of a graph"},
    "backend": {
        "choices": get_args(Backend),
        "help": "what runs encoder and decoder (default: auto, for each the one that was faster here)",
    },
    "execution-provider": {
        "type": comma_separated,
        "metavar": "NAME[,NAME…]",
        "help": "ONNX Runtime's execution providers, in the order in which they are asked (default: "
        "CPUExecutionProvider)",
    },
    "strategy": {"metavar": "NAME", "help": "full, overlap or stateful (default: the best that it can do)"},
    "strategies": {
        "type": comma_separated,
        "metavar": "A,B",
        "help": "which to run beside full (default: all that every voice can do)",
    },
    "chunk-frames": {
        "type": lambda text: tuple(map(positive_int, comma_separated(text))),
        "metavar": "N[,N…]",
        "help": "frames in a chunk; 16,32,64 begins small and stays at 64 (default: as calibrated, or safe)",
    },
    "rounds": {
        "type": positive_int,
        "default": 5,
        "metavar": "N",
        "help": "timed runs of each (default: %(default)s)",
    },
    # Fixed unless asked for: two reports differ by what was changed alone. Only synthesize draws one.
    "seed": {"type": int, "default": 0, "metavar": "N", "help": "seed of every run (default: %(default)s)"},
    "json": {"action": "store_true", "help": "write JSON instead of a table"},
    "output": {"default": STANDARD_STREAM, "metavar": "FILE", "help": "write there (default: stdout)"},
    "overwrite": {"action": "store_true", "help": "replace what is in DIR already"},
}

RUNTIME = ("threads", "backend", "execution-provider")
"""The options that `runtime_options` reads."""


def add_options(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add options that several commands have, in the order of the help."""
    for name in names:
        flags = [_SHORT[name], f"--{name}"] if name in _SHORT else [f"--{name}"]
        parser.add_argument(*(["text"] if name == "text" else flags), **_OPTIONS[name])


def chosen(args: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Return those options that the library knows by the same name."""
    return {name: getattr(args, name) for name in names}


def open_tts(args: argparse.Namespace) -> TTS:
    """Return the TTS that the options voice, sha256, frontend and those of `runtime_options` describe."""
    from balacoon_tk.tts import TTS

    return TTS(args.voice, options=runtime_options(args), **chosen(args, "frontend", "sha256"))


def runtime_options(args: argparse.Namespace) -> RuntimeOptions:
    """Return how graphs are run, as the options threads, backend and execution-provider say it."""
    providers = args.execution_provider or [CPU_PROVIDER]
    return RuntimeOptions(n_threads=args.threads, backend=args.backend or "auto", providers=providers)


def read_text(args: argparse.Namespace, default: str | None = None) -> str:
    """Return the text that the options text and file give."""
    if default is not None and not args.text and args.file is None:
        return default
    source = _source(args)
    if args.file is None and source != STANDARD_STREAM:
        return source
    from_stdin = source == STANDARD_STREAM
    # Bytes, since Python would decode by the locale, which on Windows is none that can write any text.
    data = sys.stdin.buffer.read() if from_stdin else Path(source).read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        name, wrong = "stdin" if from_stdin else source, f"0x{data[error.start]:02x}"
        raise ParameterError(f"{name}: must be UTF-8, but byte {error.start} is {wrong}") from error


def read_pieces(args: argparse.Namespace) -> str | Iterator[str]:
    """Return the text that the options text and file give; from stdin, its pieces as they come."""
    from balacoon_tk.cli._live_input import stdin_pieces

    return stdin_pieces() if _source(args) == STANDARD_STREAM else read_text(args)


def _source(args: argparse.Namespace) -> str:
    """Return the text itself, or the name of the file that it is in."""
    if bool(args.text) == (args.file is not None):
        raise UsageError("give a TEXT, or a file with -f FILE, or '-' to read stdin")
    # Words that the shell has parted are one text: nobody has to quote.
    return args.file if args.file is not None else " ".join(args.text)


def write_report(record: object, table: str, *, as_json: bool, output: str = STANDARD_STREAM) -> None:
    """Write a report for a program or for a person: to a file, whole or not at all, or to stdout."""
    text = json_text(record) if as_json else f"{table}\n"
    if output == STANDARD_STREAM:
        sys.stdout.write(text if as_json else _printable(text))
    else:
        write_whole(output, text)


def format_size(n_bytes: float) -> str:
    """Return a size for a person to read."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e3:.1f} kB"


class ProgressLine:
    """One line on stderr that is written over while work goes on, if stderr is a terminal."""

    def __init__(self) -> None:
        # A log or an editor's shell would keep every refresh as a line of its own.
        self._shown = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._width = 0
        self._last_s = -math.inf

    def __enter__(self) -> Self:
        return self

    # Whether work is done or has failed, what is said next stands at the beginning of a line.
    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shown(self) -> bool:
        """Whether anybody can see it."""
        return self._shown

    def update(self, text: str) -> None:
        """Show a text; more often than ten times a second is ignored."""
        # A decoder pushes up to a hundred times a second; terminals far away would hold it up.
        now_s = time.monotonic()
        if self._shown and now_s - self._last_s >= _REFRESH_S:
            self._last_s = now_s
            self._write(text)

    def bar(self, label: str, share: float) -> None:
        """Show how much is done, from 0 to 1, as a bar."""
        filled = int(_BAR_WIDTH * share)
        self.update(f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {100 * share:3.0f} % {label}")

    def runs(self, n_done: int, n_all: int) -> None:
        """Show how many runs are done, as a bar."""
        self.bar(f"{n_done} of {n_all} runs", n_done / n_all)

    def close(self, summary: str = "") -> None:
        """Put a last line in its place, or nothing."""
        if self._shown:
            self._write("")
            if summary:
                say(summary)

    def _write(self, text: str) -> None:
        # Spaces over what a longer text left; carriage returns alone are known to every terminal.
        try:
            sys.stderr.write(f"\r{text.ljust(self._width)}" if text else f"\r{' ' * self._width}\r")
            sys.stderr.flush()
        except OSError:  # a terminal that has gone
            give_up(sys.stderr)
            self._shown = False
        self._width = len(text)
