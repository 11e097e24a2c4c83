"""``POST /v1/audio/speech`` as OpenAI's clients call it, and what else they and an operator ask."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Receive, Scope, Send

from balacoon_tk.audio_formats import StreamedFile
from balacoon_tk.serve.service import MAX_REQUEST, RequestError, Service, field, read_object
from balacoon_tk.serve.websocket import Socket

_BODY_S = 30.0  # that a client may take to say what it wants
_LINGER_S = 2.0  # of reading what nobody wants
_RETRY_AFTER_S = 1
_PCM_RATE = 24000  # Hz, which clients of this API take raw samples for


def create_app(service: Service) -> Starlette:
    """Return an ASGI application that speaks.

    That a client takes nothing for ever its server has to see: ``balacoon-tk serve`` does, uvicorn doesn't.

    Examples
    --------
    >>> from balacoon_tk import TTS
    >>> app = create_app(Service([TTS(n_threads=1)]))  # doctest: +SKIP
    """
    speakers = [(name, each) for name, tts in service.voices.items() for each in tts.get_speakers()]
    voices = [{"id": each, "name": each, "model": name} for name, each in speakers]

    def model(name: str) -> dict[str, object]:
        service.voice(name)
        return {"id": name, "object": "model", "created": 0, "owned_by": "balacoon_tk"}

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(service.metrics(), media_type="text/plain; version=0.0.4")

    async def on_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            return _error_response(RequestError.of(error))
        response = _error_response(RequestError(f"{request.url.path}: {error.detail}", error.status_code))
        response.headers.update(error.headers or {})
        return response

    routes = [
        Route("/v1/audio/speech", _Speech(service), methods=["POST"]),
        _json_route("/v1/models", lambda _: {"object": "list", "data": list(map(model, service.voices))}),
        _json_route("/v1/models/{name:path}", lambda path: model(path["name"])),
        _json_route("/v1/audio/voices", lambda _: {"voices": voices}),
        _json_route("/health", lambda _: {"status": "ok"}),
        Route("/metrics", metrics),
        WebSocketRoute("/v1/speech", lambda socket: Socket(service, socket).run()),
    ]
    handlers = dict.fromkeys((HTTPException, RequestError, Exception), on_error)
    return Starlette(routes=routes, exception_handlers=handlers)


def _json_route(path: str, answer: Callable[[Mapping[str, Any]], object]) -> Route:
    async def endpoint(request: Request) -> Response:
        return JSONResponse(answer(request.path_params))

    return Route(path, endpoint)


class _Speech:
    def __init__(self, service: Service) -> None:
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = asyncio.Event()

        async def answer(message: Message) -> None:
            has_begun.set()
            await send(message)

        try:
            with self._service.counting("http"):
                given = read_object(await _read_body(Request(scope, receive)))
                await _unless_left(receive, self._speak(given, answer))
        except ConnectionError:
            pass
        except RequestError as error:
            # An answer that doesn't end lets the server break the connection, which tells that it wasn't all.
            if not has_begun.is_set():
                await _refuse(error, receive, send)

    async def _speak(self, given: dict[str, Any], send: Send) -> None:
        tts, text = self._service.voice(given.pop("model", None)), field(given, "input", str)
        if isinstance(given.get("voice"), dict):  # as clients write a voice of one's own
            given["voice"] = given["voice"].get("id")
        given.pop("instructions", None)  # no voice here can be told how to speak
        if (stream_format := given.pop("stream_format", "audio")) not in ("audio", "sse"):
            raise RequestError(f"stream_format={stream_format!r} must be audio or sse", param="stream_format")
        name = field(given, "response_format", str, "mp3")
        rate = given.pop("sample_rate", _PCM_RATE if name == "pcm" else None)
        file = StreamedFile(name, tts.get_sampling_rate(), rate)

        async def push(data: bytes, *, last: bool = False) -> None:
            if stream_format == "sse":
                data = _event("speech.audio.delta", audio=base64.b64encode(data).decode()) if data else data
                # A voice has no tokens, but clients look for them.
                usage = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0)
                data += _event("speech.audio.done", usage=usage) if last else b""
            await send({"type": "http.response.body", "body": data, "more_body": not last})

        async with contextlib.aclosing(self._service.speak(tts, text, given)) as chunks:
            # Before the answer begins: that something is wrong, or all are busy, is told by its status.
            chunk = await anext(chunks, None)
            kind = b"text/event-stream" if stream_format == "sse" else file.media_type.encode()
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
            while chunk is not None:
                await push(file.push(chunk.samples))
                chunk = await anext(chunks, None)
            await push(file.finish(), last=True)


def _event(kind: str, **fields: object) -> bytes:
    return f"data: {json.dumps({'type': kind, **fields})}\n\n".encode()


async def _read_body(request: Request) -> bytes:
    # A browser lets any page send anything here but this, unless this server allows it first.
    if not request.headers.get("content-type", "").lower().startswith("application/json"):
        raise RequestError("the request must be of content-type application/json", 415)
    too_large = RequestError(f"the request must be of at most {MAX_REQUEST} bytes", 413)
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > MAX_REQUEST:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_S), contextlib.aclosing(request.stream()) as parts:
            async for part in parts:
                body += part
                if len(body) > MAX_REQUEST:
                    raise too_large
    except TimeoutError as error:
        raise RequestError(f"the request must come within {_BODY_S:g} s", 408) from error
    except ClientDisconnect as error:
        raise ConnectionAbortedError from error
    return bytes(body)


def _error_response(error: RequestError) -> Response:
    headers = {"retry-after": str(_RETRY_AFTER_S)} if error.status == 503 else {}
    if error.status in (408, 413):
        headers["connection"] = "close"
    return JSONResponse(error.body(), error.status, headers)


async def _refuse(error: RequestError, receive: Receive, send: Send) -> None:
    response = _error_response(error)
    await send({"type": "http.response.start", "status": error.status, "headers": response.raw_headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if error.status == 413:
        # A connection closed while more is on its way takes the answer away before anybody has read it.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while (await receive()).get("more_body", False):
                    pass
    await send({"type": "http.response.body"})


async def _unless_left(receive: Receive, work: Coroutine[Any, Any, None]) -> None:
    """Do work for a client; if it leaves, cancel that and raise `ConnectionAbortedError`."""

    async def leave() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(leave())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ConnectionAbortedError
        await working
    finally:
        working.cancel()
        leaving.cancel()
