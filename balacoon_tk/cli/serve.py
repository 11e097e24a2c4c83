"""Serve voices over HTTP, a WebSocket and Wyoming.

OpenAI's clients are answered at /v1/audio/speech, text in pieces at the WebSocket /v1/speech, and with
--wyoming Home Assistant on a port of its own. There is no password: nobody but this machine is listened to
unless --host says so. One thread for each run, as it is by default, serves most listeners. After an interrupt
or SIGTERM what is being said is said to its end, but for no longer than --grace. Needs the extra 'serve'.

  balacoon-tk serve
  balacoon-tk serve -v voices/joe -v voices/eve --port 8080 --max-streams 16
  balacoon-tk serve --wyoming
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import ipaddress
import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

from balacoon_tk.cli._common import (
    RUNTIME,
    UsageError,
    add_options,
    chosen,
    positive_int,
    runtime_options,
    say,
)
from balacoon_tk.errors import MissingExtraError

_NEEDED = ("soundfile", "soxr", "starlette", "uvicorn", "websockets", "wyoming")
_WYOMING = "tcp://127.0.0.1:10200"
_BACKLOG = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare where to listen, the voices and how many may speak."""
    add = parser.add_argument
    several = "voice folder or .addon file, once for each; the first speaks where none is named"
    add("-v", "--voice", action="append", metavar="VOICE", help=f"{several} (default: the default voice)")
    add("--host", default="127.0.0.1", metavar="HOST", help="address to listen on (default: %(default)s)")
    add("--port", type=_port, default=8000, metavar="N", help="0 takes a free one (default: %(default)s)")
    where = f"listen for Wyoming as well (default, where only --wyoming is given: {_WYOMING})"
    add("--wyoming", nargs="?", const=_WYOMING, metavar="URI", help=where)
    most = "streams of a voice that play at once (default: as many as this machine serves without a gap)"
    add("--max-streams", type=positive_int, metavar="N", help=most)
    add("--max-waiting", type=int, default=64, metavar="N", help="streams that wait (default: %(default)s)")
    grace = "seconds that streams under way have at the end (default: %(default)s)"
    add("--grace", type=positive_int, default=10, metavar="S", help=grace)
    add_options(parser, "frontend", *RUNTIME)
    parser.set_defaults(threads=1)


def run(args: argparse.Namespace) -> None:
    """Serve until a signal ends it."""
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):
        raise MissingExtraError("serving", extra="serve")
    places = [("http", args.host, args.port)]
    if args.wyoming is not None:
        places.append(_place(args.wyoming))
    with contextlib.ExitStack() as stack:
        # Before the voices are loaded, which would be in vain where a port is taken.
        listeners = [stack.enter_context(_listen(host, port)) for _, host, port in places]
        _serve(args, places, listeners)


def _serve(
    args: argparse.Namespace, places: Sequence[tuple[str, str, int]], listeners: Sequence[socket.socket]
) -> None:
    from balacoon_tk.cli._server import make_server
    from balacoon_tk.serve import Service
    from balacoon_tk.tts import TTS

    settings = {
        "options": runtime_options(args),
        **chosen(args, "frontend", "max_streams", "max_waiting"),
    }
    service = Service([TTS(voice, **settings) for voice in args.voice or [None]])

    def say_ready() -> None:
        for (scheme, host, _), listener in zip(places, listeners, strict=True):
            say(
                f"serving {', '.join(service.voices)} at {scheme}://{_shown(host)}:{listener.getsockname()[1]}"
            )
            if not _is_loopback(host):
                say(f"warning: whoever reaches {host} may use it, since there is no password")

    make_server(service, listeners[1:], grace_s=args.grace, on_ready=say_ready).run([listeners[0]])


def _port(text: str) -> int:
    with contextlib.suppress(ValueError):
        if 0 <= (number := int(text)) < 2**16:
            return number
    raise argparse.ArgumentTypeError(f"{text!r} must be a whole number below 65536")


def _place(uri: str) -> tuple[str, str, int]:
    with contextlib.suppress(ValueError):  # of a port that is none
        found = urlsplit(uri)
        if found.scheme == "tcp" and found.hostname and found.port is not None:
            return "tcp", found.hostname, found.port
    raise UsageError(f"--wyoming {uri} must be tcp://HOST:PORT")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(f"can't listen at {host}, port {port}: {error}") from error


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
