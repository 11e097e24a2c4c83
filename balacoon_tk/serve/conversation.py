"""A connection on which text comes in pieces while its audio goes out: one utterance after another."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import anyio

from balacoon_tk.audio import AudioChunk
from balacoon_tk.frontend.reading.transducers import Flush
from balacoon_tk.serve.service import IDLE_S, RequestError, Service
from balacoon_tk.tts import TTS

_Said = TypeVar("_Said")
# Pieces that wait to be read; behind them the connection waits, and with it a word to stop. A model writes
# faster than anybody speaks: these are half an hour of it.
_MAX_PIECES = 4096
_PART = 512  # characters of a piece


class Conversation(ABC):
    """What a WebSocket and Wyoming have in common.

    The reader of a connection listens, begins, puts and ends; a task of its own speaks meanwhile, and says so
    by the four methods below. These raise `ConnectionError` where the client has left.
    """

    def __init__(self, service: Service, protocol: str) -> None:
        self.service, self._protocol = service, protocol
        self.is_open = self._has_sounded = False
        self.speaking: asyncio.Task[None] | None = None

    async def listen(self, receive: Callable[[], Awaitable[_Said]]) -> _Said:
        """Wait for what the client says, but not for ever if the voice says nothing either."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(IDLE_S):
                    return await receive()
            if not self._has_sounded:
                raise RequestError(f"nothing came for {IDLE_S:g} s", 408, code="idle")
            self._has_sounded = False

    async def begin(self, given: dict[str, Any]) -> None:
        """End the utterance before, and begin another one when it is over."""
        self.end()
        if self.speaking is not None:
            await asyncio.wait([self.speaking])
        tts = self.service.voice(given.pop("model", None))
        self._pieces, unread = anyio.create_memory_object_stream[Any](_MAX_PIECES)
        self.speaking, self.is_open = asyncio.create_task(self._speak(tts, unread, given)), True
        # Not in the task, which may be cancelled before it begins.
        self.speaking.add_done_callback(lambda _: unread.close())

    async def put(self, piece: str | Flush) -> None:
        """Say a text, or with `FLUSH` what has come so far; nothing where nobody speaks."""
        # Wherever a text is cut it sounds the same; so memory is bounded by the number of pieces.
        parts: Sequence[str | Flush] = [piece]
        if isinstance(piece, str):
            parts = [piece[k : k + _PART] for k in range(0, len(piece), _PART)]
        if self.is_open:
            with contextlib.suppress(anyio.BrokenResourceError):
                for part in parts:
                    await self._pieces.send(part)

    def end(self) -> None:
        """Let the utterance end when all has been said."""
        if self.is_open:
            self.is_open = False
            self._pieces.close()

    async def cancel(self) -> bool:
        """End it now, and say whether there was something to end."""
        self.end()
        if was_speaking := self.speaking is not None and not self.speaking.done():
            self.speaking.cancel()
            await asyncio.wait([self.speaking])
        return was_speaking

    async def _speak(self, tts: TTS, pieces: Any, given: dict[str, Any]) -> None:
        try:
            with self.service.counting(self._protocol):
                async with contextlib.aclosing(self.service.speak(tts, pieces, given)) as chunks:
                    await self._started(tts)
                    async for chunk in chunks:
                        self._has_sounded = True
                        await self._sound(chunk)
                await self._spoken()
        except RequestError as error:
            await self._refuse(error)
        except ConnectionError:
            pass

    @abstractmethod
    async def _started(self, tts: TTS) -> None: ...

    @abstractmethod
    async def _sound(self, chunk: AudioChunk) -> None: ...

    @abstractmethod
    async def _spoken(self) -> None: ...

    @abstractmethod
    async def _refuse(self, error: RequestError) -> None:
        """Tell what is wrong, and close the connection."""
