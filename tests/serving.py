"""A server in a thread of the tests' own process, over real sockets."""

import asyncio
import contextlib
import itertools
import socket
import threading
from dataclasses import dataclass

import uvicorn

from balacoon_tk.cli._server import make_server
from balacoon_tk.serve import Service
from gate import TIMEOUT_S, Gate

__all__ = ["PiecesGate", "Served", "served"]


class PiecesGate(Gate):
    """A gate for text in pieces, which it doesn't read, with little behind it."""

    takes_pieces = True

    def phonemize(self, text, reading=None):
        return itertools.islice(super().phonemize(text), 5)


@dataclass
class Served:
    service: Service
    server: uvicorn.Server
    thread: threading.Thread
    loop: asyncio.AbstractEventLoop
    port: int
    wyoming_port: int

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def tasks(self):
        """Return those of the loop, whose number is the same whenever nobody is there."""
        return asyncio.all_tasks(self.loop)

    def figures(self):
        """Return what was counted, by name and labels."""
        lines = [line for line in self.service.metrics().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


@contextlib.contextmanager
def served(*voices, grace_s=2, send_buffer=None):
    """Serve voices until the block ends; the system keeps `send_buffer` bytes for who reads slowly."""
    service, ready, loops = Service(voices), threading.Event(), []

    def on_ready():
        loops.append(asyncio.get_running_loop())
        ready.set()

    with socket.create_server(("127.0.0.1", 0)) as http, socket.create_server(("127.0.0.1", 0)) as wyoming:
        if send_buffer is not None:
            for each in (http, wyoming):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        ports = [each.getsockname()[1] for each in (http, wyoming)]
        server = make_server(service, [wyoming], grace_s=grace_s, on_ready=on_ready)
        thread = threading.Thread(target=server.run, args=([http],), daemon=True)
        thread.start()
        try:
            assert ready.wait(TIMEOUT_S)
            yield Served(service, server, thread, loops[0], *ports)
        finally:
            server.should_exit = True
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()
