"""Parse, run one command, and turn whatever happens into an exit status and at most one line."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from typing import Final, Protocol, TextIO

from balacoon_tk.cli import (
    bench,
    calibrate,
    compare,
    deploy,
    evaluate,
    export,
    inspect,
    quantize,
    resynthesize,
    synthesize,
)
from balacoon_tk.cli._common import UsageError, say
from balacoon_tk.errors import BalacoonError

_OK, _FAILED, _INTERRUPTED = 0, 1, 130
_TRACEBACK_VARIABLE = "BALACOON_TK_TRACEBACK"


class Command(Protocol):
    """What a module of this package offers; argparse itself ends a wrong usage with status 2."""

    NAME: str
    """The word on the command line."""
    HELP: str
    """One line for the list of commands; the module's docstring is the command's own help."""
    __doc__: str | None

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare options and positional arguments."""
        ...

    def run(self, args: argparse.Namespace) -> None:
        """Do it; audio and reports go to stdout, everything else to stderr."""
        ...


COMMANDS: Final[tuple[Command, ...]] = (
    synthesize,
    compare,
    evaluate,
    export,
    quantize,
    deploy,
    resynthesize,
    inspect,
    calibrate,
    bench,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process if None.

    Returns
    -------
    int
        0 if all went well, 1 if not, 130 if interrupted. Wrong usage raises ``SystemExit(2)``, as
        argparse does.
    """
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        with _warnings_as_lines():
            args.run(args)
            sys.stdout.flush()
    except UsageError as error:
        args.parser.error(str(error))
    except KeyboardInterrupt:
        # Python remembers an interrupt that came while a text was executed (as imports of dataclasses do)
        # as one that nobody caught, and would end by the signal; executing another makes it forget.
        exec("")
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read stdout has gone; a second flush at exit must not complain about it.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _FAILED
    except Exception as error:
        if os.environ.get(_TRACEBACK_VARIABLE):
            raise
        say(f"error: {_describe(error)}")
        return _FAILED
    return _OK


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, (BalacoonError, OSError)):
        return str(error) or type(error).__name__
    return f"unexpected {type(error).__name__}: {error} (set {_TRACEBACK_VARIABLE}=1 to see where)"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="balacoon-tk",
        description=(
            "Streaming neural text-to-speech: speak, compare, evaluate, export, inspect and time voices."
        ),
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        sub = commands.add_parser(
            command.NAME,
            help=command.HELP,
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, parser=sub)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"balacoon-tk {version('balacoon_tk')}")
        parser.exit()


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        say(f"warning: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
