"""Wyoming, the protocol of Home Assistant's voices: speech of a text, or of pieces, over TCP."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from importlib.metadata import version
from typing import Any

from wyoming import audio, info
from wyoming.error import Error
from wyoming.event import Eventable, async_write_event
from wyoming.ping import Pong
from wyoming.tts import SynthesizeStopped

from balacoon_tk.audio import AudioChunk, pcm_bytes
from balacoon_tk.serve.conversation import Conversation
from balacoon_tk.serve.service import IDLE_S, MAX_REQUEST, RequestError, Service, field, read_object
from balacoon_tk.tts import TTS

_MAX_CONNECTIONS = 1024


class WyomingServer:
    """Listens for clients, and lets them finish at the end."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._connections: dict[asyncio.Task[None], _Connection] = {}

    async def start(self, listener: socket.socket) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_server(self._serve, sock=listener, limit=MAX_REQUEST)

    async def stop(self, grace_s: float) -> None:
        """Listen no more, and leave whoever is spoken to that many seconds."""
        self._server.close()
        tasks = list(self._connections)
        if speaking := [each.speaking for each in self._connections.values() if each.speaking is not None]:
            await asyncio.wait(speaking, timeout=grace_s)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._connections) >= _MAX_CONNECTIONS:
            return writer.close()
        connection = _Connection(self._service, reader, writer)
        task = asyncio.create_task(connection.run())
        self._connections[task] = connection
        task.add_done_callback(self._connections.pop)


class _Connection(Conversation):
    def __init__(self, service: Service, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        super().__init__(service, "wyoming")
        self._reader, self._writer = reader, writer

    async def run(self) -> None:
        try:
            while line := await self.listen(self._reader.readline):
                event = read_object(line)
                data = field(event, "data", dict, {})
                if n_bytes := field(event, "data_length", int, 0):
                    data = read_object(await self._read(n_bytes))
                await self._read(field(event, "payload_length", int, 0))
                said = {name: value for name, value in data.items() if value is not None}
                await self._take(event.get("type"), said)
        except RequestError as error:
            await self._refuse(error)
        except ValueError:  # a line that doesn't end
            await self._refuse(RequestError(f"a line must be of at most {MAX_REQUEST} bytes", 413))
        except (ConnectionError, EOFError, TimeoutError):
            pass
        finally:
            self._writer.close()
            await self.cancel()

    async def _read(self, n_bytes: int) -> bytes:
        if not 0 <= n_bytes <= MAX_REQUEST:
            raise RequestError(f"length={n_bytes} must be at most {MAX_REQUEST} bytes", 413)
        async with asyncio.timeout(IDLE_S):
            return await self._reader.readexactly(n_bytes)

    # Other events are left alone, as the protocol has it, and so is a text that follows its own pieces.
    async def _take(self, kind: object, data: dict[str, Any]) -> None:
        if kind == "describe":
            await self._send(self._info())
        elif kind == "ping":
            await self._send(Pong(data.get("text")))
        elif kind == "synthesize-start" or (kind == "synthesize" and not self.is_open):
            text = field(data, "text", str) if kind == "synthesize" else None
            markup = "ssml" if data.get("text_format") == "ssml" else None
            await self.begin(self._choice(field(data, "voice", dict, {}), markup))
            self._streamed = text is None
            if text is not None:
                await self.put(text)
                self.end()
        elif kind == "synthesize-chunk":
            await self.put(field(data, "text", str))
        elif kind == "synthesize-stop":
            self.end()

    def _choice(self, voice: dict[str, Any], markup: str | None) -> dict[str, Any]:
        languages = {tts.voice.manifest.language: name for name, tts in self.service.voices.items()}
        name = voice.get("name") or languages.get(str(language := voice.get("language")), language)
        given = {"model": name, "voice": voice.get("speaker"), "markup": markup}
        return {name: value for name, value in given.items() if value is not None}

    def _info(self) -> info.Info:
        about = (info.Attribution("", ""), True, "streaming text-to-speech", version("balacoon_tk"))
        voices = []
        for name, tts in self.service.voices.items():
            manifest = tts.voice.manifest
            speakers = [info.TtsVoiceSpeaker(each) for each in manifest.speakers] or None
            voices.append(info.TtsVoice(name, *about, [manifest.language], speakers))
        program = info.TtsProgram("balacoon_tk", *about, voices, supports_synthesize_streaming=True)
        return info.Info(tts=[program])

    async def _started(self, tts: TTS) -> None:
        self._rate = tts.get_sampling_rate()
        await self._send(audio.AudioStart(self._rate, 2, 1))

    async def _sound(self, chunk: AudioChunk) -> None:
        await self._send(audio.AudioChunk(self._rate, 2, 1, pcm_bytes(chunk.samples)))

    async def _spoken(self) -> None:
        await self._send(audio.AudioStop())
        if self._streamed:
            await self._send(SynthesizeStopped())

    async def _refuse(self, error: RequestError) -> None:
        # Clients that wait for audio look for no error, but see that the connection ends.
        with contextlib.suppress(ConnectionError):
            await self._send(Error(str(error), error.code))
        self._writer.close()

    async def _send(self, event: Eventable) -> None:
        try:
            async with asyncio.timeout(IDLE_S):
                await async_write_event(event.event(), self._writer)
        except (TimeoutError, RuntimeError) as error:  # the latter where the connection is closed
            self._writer.transport.abort()
            raise ConnectionAbortedError from error
