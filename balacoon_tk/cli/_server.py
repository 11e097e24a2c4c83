"""What runs a service until a signal ends it: uvicorn, with no patience for clients that stand still."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from balacoon_tk.serve.http import create_app
from balacoon_tk.serve.service import IDLE_S, MAX_REQUEST, Service
from balacoon_tk.serve.wyoming import WyomingServer

_HEADERS_S = 10.0  # that a client may take for the first lines of a request
_MAX_CONNECTIONS = 1024


def make_server(
    service: Service,
    wyoming_listeners: Sequence[socket.socket] = (),
    *,
    grace_s: int,
    on_ready: Callable[[], None],
) -> uvicorn.Server:
    """Return a server whose ``run([listener])`` serves HTTP there, and Wyoming at sockets of its own.

    It returns as the signal would have ended the process, once what was being said has been said, and after
    `grace_s` seconds at the latest.
    """
    config = uvicorn.Config(
        create_app(service),
        http=_PatientHttp,
        ws=_PatientWebSocket,
        # A little more than is taken, so that whoever sends it is told.
        ws_max_size=4 * MAX_REQUEST,
        ws_per_message_deflate=False,  # samples don't get smaller, but late
        lifespan="off",
        log_config=None,  # stdout is no log, and stderr is told of failures without
        access_log=False,
        limit_concurrency=_MAX_CONNECTIONS,
        timeout_graceful_shutdown=grace_s,
    )
    # Streams that outlast the grace are cancelled, which is no failure to be told of.
    logging.getLogger("uvicorn.error").addFilter(_is_failure)
    return _Server(config, WyomingServer(service), wyoming_listeners, on_ready)


def _is_failure(record: logging.LogRecord) -> bool:
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


class _Server(uvicorn.Server):
    def __init__(
        self,
        config: uvicorn.Config,
        wyoming: WyomingServer,
        listeners: Sequence[socket.socket],
        on_ready: Callable[[], None],
    ) -> None:
        super().__init__(config)
        self._wyoming, self._listeners, self._on_ready = wyoming, listeners, on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in self._listeners:
            await self._wyoming.start(listener)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        grace_s = self.config.timeout_graceful_shutdown or 0
        await asyncio.gather(super().shutdown(sockets), self._wyoming.stop(grace_s))


class _Patient(asyncio.Protocol):
    """Mixed into a protocol of uvicorn: whoever takes nothing for `IDLE_S` loses the connection."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(IDLE_S, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._forget()

    def _forget(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class _PatientWebSocket(_Patient, WebSocketsSansIOProtocol):
    pass


class _PatientHttp(_Patient, H11Protocol):
    """It closes connections as well whose client takes too long for the head of a request."""

    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        super().connection_made(transport)
        self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._wait_for_head()

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._end_wait()

    def _wait_for_head(self) -> None:
        is_upgraded = self.transport.get_protocol() is not self
        # There is none before the first request, whatever uvicorn says of its type.
        cycle: RequestResponseCycle | None = self.cycle
        if is_upgraded or not (cycle is None or cycle.response_complete):
            self._end_wait()
        elif self._head is None:
            self._head = self.loop.call_later(_HEADERS_S, self.transport.abort)

    def _end_wait(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None
