"""What the protocols share: voices that speak, what is counted of them, and errors that a client is told."""

from __future__ import annotations

import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, TypeVar

from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import BusyError, ParameterError
from balacoon_tk.runtime.figures import Figures
from balacoon_tk.tts import TTS

_Kind = TypeVar("_Kind")

MAX_REQUEST = 1 << 20  # bytes of a request or a message: most books have fewer
IDLE_S = 120.0  # whoever says or takes nothing for so long has gone without a farewell
_MAX_MESSAGE = 500  # characters, of which a wrong argument may have a million

# What a request may say beside text and voice, as `TTS.stream` has it; `voice` is its speaker.
_PROSODY = ("speed", "volume", "noise_scale", "noise_w", "sentence_pause", "paragraph_pause")
_FIELDS = {"voice", "seed", "clause", "markup", *_PROSODY}
_ARGUMENT = re.compile(r"(\w+)=")
_ITS_NAME = {"speaker": "voice", "text": "input"}  # where requests call it something else


class RequestError(ParameterError):
    """A request that isn't answered: the `status` of HTTP, the field `param` that is wrong, a word `code`."""

    def __init__(self, message: str, status: int = 400, *, param: str = "", code: str = "") -> None:
        super().__init__(_sayable(message))
        self.status, self.param, self.code = status, _sayable(param) or None, code or None

    @classmethod
    def of(cls, error: Exception) -> RequestError:
        """Return what a client is told of an error."""
        if isinstance(error, RequestError):
            return error
        if isinstance(error, BusyError):
            return cls(str(error), 503, code="busy")
        if isinstance(error, ParameterError):
            named = _ARGUMENT.match(str(error))
            return cls(str(error), param=_ITS_NAME.get(named[1], named[1]) if named else "")
        # What is in it is the operator's business alone.
        logging.getLogger(__name__).error("a request failed", exc_info=error)
        return cls("the server failed; its log says why", 500, code="internal_error")

    def body(self) -> dict[str, object]:
        """Return it in the form in which OpenAI's clients read errors."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}


def _sayable(text: str) -> str:
    # JSON may hold halves of characters, which no answer can.
    return text[:_MAX_MESSAGE].encode(errors="replace").decode()


def read_object(data: str | bytes) -> dict[str, Any]:
    """Return a JSON object without its nulls, which say no more than fields that aren't there."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"must be JSON in UTF-8: {error}", code="invalid_json") from error
    if not isinstance(found, dict):
        raise RequestError("must be a JSON object", code="invalid_json")
    return {name: value for name, value in found.items() if value is not None}


def field(given: dict[str, Any], name: str, kind: type[_Kind], default: _Kind | None = None) -> _Kind:
    """Take a field out of a request; `default` if it isn't there and there is one."""
    if not isinstance(value := given.pop(name, default), kind):
        raise RequestError(f"{name}={value!r} must be a {kind.__name__}", param=name)
    return value


class Service:
    """Voices by their names, and what is counted of their streams; for one event loop.

    Parameters
    ----------
    voices : sequence of TTS
        The first one speaks where a client names none. `ParameterError` if there is none, or two of one name.
    """

    def __init__(self, voices: Sequence[TTS]) -> None:
        self.voices = {tts.voice.manifest.name: tts for tts in voices}
        if not voices or len(self.voices) < len(voices):
            names = [tts.voice.manifest.name for tts in voices]
            raise ParameterError(f"voices={names} must be at least one, each of a name of its own")
        self._figures = Figures()

    def voice(self, name: object = None) -> TTS:
        """Return the voice of that name; the first one if None."""
        found = self.voices.get(str(next(iter(self.voices)) if name is None else name))
        if found is None:
            message = f"model={name!r} must be one of {', '.join(self.voices)}"
            raise RequestError(message, 404, param="model", code="model_not_found")
        return found

    async def speak(self, tts: TTS, text: Any, given: dict[str, Any]) -> AsyncGenerator[AudioChunk, None]:
        """Give the audio of a text, or of pieces, as it is made; `given` is what the request still says."""
        for name in given.keys() - _FIELDS:
            raise RequestError(f"{name}: there is no such field", param=name)
        speaker = field(given, "voice", str) if "voice" in given else None
        # Of pieces nobody knows when enough had come.
        begun_s, is_first = time.perf_counter(), isinstance(text, str)
        async with contextlib.aclosing(tts.astream(text, speaker=speaker, **given)) as chunks:
            async for chunk in chunks:
                if is_first:
                    self._figures.add_ttfa(time.perf_counter() - begun_s)
                    is_first = False
                self._figures.audio_s += chunk.duration_s
                yield chunk

    @contextlib.contextmanager
    def counting(self, protocol: str) -> Iterator[None]:
        """Count an utterance by how it ends, and let it fail by no other error than a `RequestError`."""
        outcome = "cancelled"
        try:
            yield
            outcome = "spoken"
        except ConnectionError:  # the client has left
            raise
        except Exception as error:
            refusal = RequestError.of(error)
            outcome = {500: "failed", 503: "busy"}.get(refusal.status, "refused")
            raise refusal from error
        finally:
            self._figures.requests[protocol, outcome] += 1

    def metrics(self) -> str:
        """Return what was counted, in the text format of Prometheus."""
        return self._figures.to_text({name: tts.count_streams() for name, tts in self.voices.items()})
