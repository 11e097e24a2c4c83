"""A stream that runs in a thread of its own, and can be stopped from any other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import AUDIBLE_DBFS, StreamTrace, TraceRecorder

Message = tuple[dict[str, object], list[bytes]]
"""What goes to the page: a record that JSON can hold, and binary buffers beside it."""

_AUDIBLE = 10.0 ** (AUDIBLE_DBFS / 20.0)


class Synthesis:
    """Take chunk after chunk from a stream in a thread, and hand each over as a message.

    The messages are ``start``, a ``chunk`` with its samples as int16 for each chunk, and ``end``; each
    carries the number of its stream, by which the page knows what is out of date.

    Parameters
    ----------
    stream : iterable of AudioChunk
        Must do nothing before it is asked for its first chunk: the clock starts with `start`.
    number : int
        The stream's number.
    sample_rate : int
        Hz, that of every chunk.
    send : callable
        Takes one message; called in the thread.
    max_ahead_s : float
        Audio that may be made ahead of playback, in seconds; then the stream waits.
    """

    def __init__(
        self,
        stream: Iterable[AudioChunk],
        *,
        number: int,
        sample_rate: int,
        send: Callable[[Message], None],
        max_ahead_s: float,
    ) -> None:
        self._stream = stream
        self.number = number
        self._sample_rate = sample_rate
        self._send = send
        self._max_ahead_s = max_ahead_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"synthesis-{number}", daemon=True)
        self.trace: StreamTrace | None = None
        self.error: Exception | None = None

    def start(self) -> None:
        """Begin."""
        self._recorder = TraceRecorder(sample_rate=self._sample_rate)
        self._thread.start()

    def stop(self) -> None:
        """Make no further chunk; the one that is being made is dropped. Returns at once."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._stopped.is_set()

    def join(self, timeout_s: float | None = None) -> bool:
        """Wait until the stream is over, and return whether it is."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._send(({"kind": "start", "stream": self.number, "sample_rate": self._sample_rate}, []))
        chunks = iter(self._stream)
        try:
            self._pass_on(chunks)
        except Exception as error:  # it is shown in the page, and raised where somebody waits
            self.error = error
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
            self.trace = self._recorder.finish()
        if not self.stopped:
            text = None if self.error is None else str(self.error) or type(self.error).__name__
            self._send(({"kind": "end", "stream": self.number, "error": text}, []))

    def _pass_on(self, chunks: Iterator[AudioChunk]) -> None:
        begun_s, made_s, first_s = time.perf_counter(), 0.0, None
        for index, chunk in enumerate(chunks):
            if self.stopped:
                return
            if chunk.sample_rate != self._sample_rate:
                raise ParameterError(
                    f"a chunk of {chunk.sample_rate} Hz must have the player's {self._sample_rate} Hz"
                )
            self._recorder.add(chunk.samples)
            now_s = time.perf_counter()
            first_s = now_s if first_s is None else first_s
            head = {
                "kind": "chunk",
                "stream": self.number,
                "index": index,
                "ready_ms": 1e3 * (now_s - begun_s),
                "audible": bool(np.max(np.abs(chunk.samples), initial=0.0) >= _AUDIBLE),
            }
            self._send((head, [chunk.pcm16.astype("<i2").tobytes()]))
            made_s += chunk.duration_s
            ahead_s = made_s - (time.perf_counter() - first_s)
            self._stopped.wait(max(0.0, ahead_s - self._max_ahead_s))
