"""What a caller holds of a stream: an iterator that any thread may close, and the same for asyncio.

A generator alone can't be closed by another thread while it works on a chunk, which is when one wants to.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Coroutine, Generator
from typing import Self, TypeAlias

from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import StreamStateError
from balacoon_tk.runtime.admission import StreamClosedError
from balacoon_tk.runtime.process import generation
from balacoon_tk.runtime.scheduler import ScheduledStream

_FORKED = (
    "the stream was begun before this process was forked, and its threads are left behind by a fork: begin "
    "another one in the child"
)
_Request: TypeAlias = "tuple[asyncio.AbstractEventLoop, asyncio.Future[AudioChunk | None]]"


class SpeechStream:
    """The chunks of a text, made as they are asked for; an iterator for one thread at a time.

    `close` ends it from any thread. A stream that nobody holds any more is closed as well.
    """

    def __init__(self, chunks: Generator[AudioChunk, None, None], scheduled: ScheduledStream) -> None:
        self._chunks = chunks
        self._scheduled = scheduled
        self._at_work = threading.Lock()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> AudioChunk:
        """Make the next chunk.

        Raises
        ------
        BusyError
            With the first chunk, if more streams play and wait than may; see `TTS`.
        StreamStateError
            If another thread is waiting for a chunk of this stream, or the stream was begun before this
            process was forked.
        """
        scheduled = self._scheduled
        if not scheduled.of_this_process:
            raise StreamStateError(_FORKED)
        if not self._at_work.acquire(blocking=False):
            raise StreamStateError("another thread is waiting for the next chunk of this stream")
        scheduled.asked = True
        try:
            chunk = None if scheduled.closed.is_set() else next(self._chunks, None)
        except StreamClosedError:
            chunk = None
        finally:
            scheduled.asked = False
            self._at_work.release()
        if scheduled.closed.is_set():
            self._end()
            chunk = None
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """End the stream; nothing if it has ended.

        May be called by any thread, and returns at once. A thread that is waiting for a chunk sees the end of
        the stream as soon as the run is over that is under way, and at once where it waits for its turn.
        """
        self._scheduled.close()
        self._end()

    def drop(self) -> None:
        """End the stream and take no lock, as garbage must: what waits for its turn goes on waiting."""
        if self._scheduled.of_this_process:
            self._scheduled.drop()
            self._end()

    def _end(self) -> None:
        # Whoever is at work does it afterwards: `closed` is set before it looks.
        if self._scheduled.of_this_process and self._at_work.acquire(blocking=False):
            try:
                self._chunks.close()
            finally:
                self._at_work.release()

    def __del__(self) -> None:
        # An interpreter that ends may have taken away what this needs.
        with contextlib.suppress(Exception):
            self.drop()

    def __reduce__(self) -> str:
        raise TypeError("a stream can't be pickled or copied: begin another one with the same text and seed")


class _Puller:
    """A thread that asks a stream for one chunk after another, each when it is told to.

    It knows nothing of the `AsyncSpeechStream` whose it is, so that one that nobody holds can end it.
    """

    def __init__(self, begin: Callable[[], SpeechStream]) -> None:
        self._begin = begin
        self._stream: SpeechStream | None = None
        self._closed = False
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        # A daemon, since one that nobody asks anything would keep the program from its end.
        self._thread = threading.Thread(target=self._run, name="async-stream", daemon=True)

    def ask(self, request: _Request) -> None:
        """Ask for a chunk; the first time, the stream is begun."""
        self._requests.put(request)
        if self._thread.ident is None:
            self._thread.start()

    def close(self) -> None:
        """End the stream, and the thread as soon as it can; returns at once."""
        self.drop()
        if (stream := self._stream) is not None:
            stream.close()

    def drop(self) -> None:
        """End both and take no lock for it, as garbage must."""
        self._closed = True
        self._requests.put(None)

    def _run(self) -> None:
        try:
            while (request := self._requests.get()) is not None and self._answer(*request):
                pass
        finally:
            if self._stream is not None:
                self._stream.close()

    def _answer(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[AudioChunk | None]) -> bool:
        chunk, error = None, None
        try:
            if self._stream is None:
                self._stream = self._begin()
            # Closed while it began: whoever did it saw no stream to close.
            chunk = None if self._closed else next(self._stream, None)
        except BaseException as raised:
            error = raised
        # The loop may have ended meanwhile; then nobody waits.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, future, chunk, error)
        return chunk is not None


def _settle(
    future: asyncio.Future[AudioChunk | None], chunk: AudioChunk | None, error: BaseException | None
) -> None:
    if future.done():  # cancelled
        return
    if error is None:
        future.set_result(chunk)
    else:
        future.set_exception(error)


class AsyncSpeechStream:
    """The chunks of a text for ``async for``; for one task at a time, in one loop or another.

    A thread of its own makes a chunk when one is asked for, and waits until the next is. It ends with the
    stream: at the last chunk, by `aclose`, by the cancellation of the task that waits for a chunk, or when
    nobody holds the stream any more. So does the task that `write` is, if there is one, which begins with the
    first chunk: it brings the text.
    """

    def __init__(
        self,
        begin: Callable[[], SpeechStream],
        write: Callable[[], Coroutine[object, object, None]] | None = None,
    ) -> None:
        self._puller = _Puller(begin)
        self._write = write
        self._writer: asyncio.Task[None] | None = None
        self._process = generation()
        self._over = self._waiting = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AudioChunk:
        """Wait for the next chunk; the errors are those of `SpeechStream`, and of what the text has wrong."""
        if self._over:
            raise StopAsyncIteration
        if self._process != generation():
            raise StreamStateError(_FORKED)
        if self._waiting:
            raise StreamStateError("another task is waiting for the next chunk of this stream")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[AudioChunk | None] = loop.create_future()
        self._waiting = True
        chunk = None
        if self._write is not None:
            self._writer, self._write = loop.create_task(self._write()), None
        try:
            self._puller.ask((loop, future))
            chunk = await future
        finally:
            self._waiting = False
            # At its end, after an error, or where the task was cancelled.
            if chunk is None:
                self._close()
        if chunk is None or self._over:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """End the stream; what is being made is dropped. Returns at once."""
        self._close()

    def _close(self) -> None:
        self._over = True
        if self._process == generation():
            self._puller.close()
            self._end_writer()

    def _end_writer(self) -> None:
        # Whoever closes the stream may be in another loop, or in none; and the writer's may have ended.
        if self._writer is not None and not self._writer.done():
            with contextlib.suppress(RuntimeError):
                self._writer.get_loop().call_soon_threadsafe(self._writer.cancel)

    def __del__(self) -> None:
        with contextlib.suppress(Exception):
            self._puller.drop()
            self._end_writer()

    def __reduce__(self) -> str:
        raise TypeError("a stream can't be pickled or copied: begin another one with the same text and seed")
