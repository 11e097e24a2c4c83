"""Parse, run one command, and turn whatever happens into an exit status and at most one line."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence

from balacoon_tk._messages import give_up
from balacoon_tk.cli._common import UsageError, say
from balacoon_tk.cli._standard_streams import ClosedStreamError, finish_output, standard_streams
from balacoon_tk.errors import BalacoonError

_OK, _FAILED, _INTERRUPTED = 0, 1, 130
_SIGNALLED = 128  # and the signal's number, as a shell says
_ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
# For whoever looks for a bug; a user is told of it in one line.
_TRACEBACK_VARIABLE = "BALACOON_TK_TRACEBACK"

# In the order of the help. What the module of each holds, `balacoon_tk.cli` says.
COMMANDS = (
    *("synthesize", "compare", "evaluate", "corpus", "export", "quantize"),
    *("deploy", "resynthesize", "inspect", "calibrate", "bench", "serve"),
)


class _EndedError(BaseException):
    """The process was told to end; no ``except Exception`` on the way takes it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def _ending_orderly() -> Iterator[None]:
    """Let signals that end the process raise, so that what is being written is removed."""

    def end(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one ends it at once
        raise _EndedError(number)

    # Only those that nobody else has taken or, as nohup does, had ignored.
    taken = [number for number in _ENDING if signal.getsignal(number) == signal.SIG_DFL]
    if threading.current_thread() is not threading.main_thread():
        taken = []  # nobody else may
    try:
        for number in taken:
            signal.signal(number, end)
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _wait_for_threads() -> None:
    """Wait for threads, also for one that was interrupted as it was started, which Python's end misses."""
    # It would come back from ONNX Runtime into an interpreter that is gone: the process would end by SIGABRT.
    current = threading.current_thread()
    while others := [each for each in threading.enumerate() if each is not current and not each.daemon]:
        for thread in others:
            with contextlib.suppress(RuntimeError):  # not started yet
                thread.join(0.1)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments after the program's name; those of the process if None.

    Returns
    -------
    int
        0 if all went well, 1 if not, 130 if interrupted, 143 if terminated. Wrong usage raises
        ``SystemExit(2)``, as argparse does.
    """
    with standard_streams():
        try:
            try:
                # argparse's own SystemExit, with usage and status 2, goes through.
                args = make_parser().parse_args(argv)
            finally:
                finish_output()  # a help that nobody could read has failed
        except (ClosedStreamError, OSError) as error:
            say(f"error: {error}")
            return _FAILED
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    try:
        with _ending_orderly(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
            args.run(args)
            finish_output()  # here, where a pipe that is closed is still caught
    except UsageError as error:
        args.parser.error(str(error))
    except KeyboardInterrupt:
        # `python -m` ends by the signal, whatever the status, if the interrupt came while a text was
        # executed, as it is for each dataclass that is imported: the interpreter notes it as one that nobody
        # caught, in a flag that only the next text resets. A shell sees 130 either way, but a parent
        # process sees -2.
        exec("")
        _wait_for_threads()
        return _INTERRUPTED
    except _EndedError as ended:
        _wait_for_threads()
        return _SIGNALLED + ended.number
    except BrokenPipeError:
        # Whoever read stdout has gone; a second flush at exit must not complain about it.
        give_up(sys.stdout)
        return _FAILED
    except Exception as error:
        if os.environ.get(_TRACEBACK_VARIABLE):
            raise
        say(f"error: {_describe(error)}")
        with contextlib.suppress(OSError):
            finish_output()
        return _FAILED
    return _OK


def _describe(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, (BalacoonError, OSError)):
        return str(error) or type(error).__name__
    return f"unexpected {type(error).__name__}: {error} (set {_TRACEBACK_VARIABLE}=1 to see where)"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line, each command a part of it."""
    parser = argparse.ArgumentParser(
        prog="balacoon-tk",
        description=(
            "Streaming neural text-to-speech: speak, compare, evaluate, export, inspect and time voices."
        ),
        allow_abbrev=False,  # an abbreviation in a script would break when another option begins like it
    )
    parser.add_argument("--version", action=_Version, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = importlib.import_module(f"balacoon_tk.cli.{name}")
        summary = (command.__doc__ or "").partition("\n")[0]
        sub = commands.add_parser(
            name,
            help=summary[:1].lower() + summary[1:].removesuffix("."),
            description=command.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(sub)
        sub.set_defaults(run=command.run, parser=sub)
    return parser


class _Version(argparse.Action):
    """Looks the version up when it is asked for: argparse's own action wants it at every start."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"balacoon-tk {version('balacoon_tk')}")
        parser.exit()
