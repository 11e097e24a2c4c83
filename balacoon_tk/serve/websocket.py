"""The WebSocket ``/v1/speech``: text in pieces comes in, audio and its alignment go out."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from balacoon_tk import FLUSH
from balacoon_tk.audio import AudioChunk, pcm_bytes
from balacoon_tk.serve.conversation import Conversation
from balacoon_tk.serve.service import MAX_REQUEST, RequestError, Service, field, read_object
from balacoon_tk.tts import TTS

# By word and by status; 1008 is a rule that was broken.
_CLOSE = {"invalid_json": 1007, 400: 1008, 404: 1008, 408: 1001, 413: 1009, 500: 1011, 503: 1013}


class Socket(Conversation):
    """One connection."""

    def __init__(self, service: Service, websocket: WebSocket) -> None:
        super().__init__(service, "websocket")
        self._websocket = websocket

    async def run(self) -> None:
        """Speak until the client leaves."""
        headers, receive = self._websocket.headers, self._websocket.receive
        if (origin := headers.get("origin")) and origin.partition("://")[2] != headers.get("host"):
            return await self._websocket.close()  # a page of elsewhere, which browsers don't keep from coming
        await self._websocket.accept()
        try:
            while (message := await self.listen(receive))["type"] != "websocket.disconnect":
                if len(text := message.get("text") or "") > MAX_REQUEST:
                    raise RequestError(f"a message must be of at most {MAX_REQUEST} characters", 413)
                said = read_object(text)
                await self._take(said.pop("type", None), said)
        except RequestError as error:
            await self._refuse(error)
        finally:
            await self.cancel()

    async def _take(self, kind: object, said: dict[str, Any]) -> None:
        if kind == "start":
            await self.begin(said)
        elif kind == "text":
            text = field(said, "text", str)
            if not self.is_open:
                await self.begin({})
            await self.put(text)
        elif kind == "flush":
            await self.put(FLUSH)
        elif kind == "end":
            self.end()
        elif kind == "cancel":
            if await self.cancel():
                with contextlib.suppress(ConnectionError):  # the next message tells of it
                    await self._send({"type": "done", "cancelled": True})
        else:
            raise RequestError(f"type={kind!r} must be start, text, flush, end or cancel", param="type")

    async def _started(self, tts: TTS) -> None:
        name, rate = tts.voice.manifest.name, tts.get_sampling_rate()
        await self._send({"type": "started", "model": name, "format": "s16le", "sample_rate": rate})

    async def _sound(self, chunk: AudioChunk) -> None:
        await self._send(pcm_bytes(chunk.samples))
        # A frontend takes a while to find words.
        words = await asyncio.to_thread(lambda: [each._asdict() for each in chunk.words])
        times = {"start_s": chunk.start_s, "end_s": chunk.start_s + chunk.duration_s}
        await self._send({"type": "said", **times, "phonemes": chunk.alignment, "words": words})

    async def _spoken(self) -> None:
        await self._send({"type": "done", "cancelled": False})

    async def _refuse(self, error: RequestError) -> None:
        code = _CLOSE.get(error.code or "", _CLOSE[error.status])
        with contextlib.suppress(ConnectionError):
            await self._send({"type": "error", **error.body()})
            await self._websocket.close(code)

    async def _send(self, message: dict[str, Any] | bytes) -> None:
        try:
            if isinstance(message, bytes):
                await self._websocket.send_bytes(message)
            else:
                await self._websocket.send_json(message)
        except (WebSocketDisconnect, RuntimeError) as error:  # the latter where it is closed by this side
            raise ConnectionAbortedError from error
