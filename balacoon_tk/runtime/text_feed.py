"""Pieces of a text on their way from whoever writes them to the thread that speaks.

Whoever writes may take any time over a piece, and can't be interrupted meanwhile. So pieces are taken in a
thread of their own, or in the loop of an asynchronous iterable, and whoever waits for them can be told at any
moment that the stream is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable
from functools import partial
from typing import Any, Final, Self

MAX_AHEAD = 256
"""Pieces that are taken before they are read: a model that writes isn't held up by the speech."""

_LOOK_S = 0.25  # how often whoever waits looks whether the program has ended


class _End:
    """The end of a text, with the error that ended it."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


_OVER: Final = _End()


class TextFeed:
    """The pieces of one text: one thread or loop puts them in, and one thread at a time iterates over them.

    `begin` is called when the first one is asked for. The error of whoever writes is raised after the pieces
    before it. `close` ends the iteration, in whatever thread that waits.
    """

    def __init__(self, begin: Callable[[TextFeed], None] | None = None) -> None:
        # Its put may be called at any moment, also where garbage is collected.
        self._pieces: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._begin = begin
        self._when_room: Callable[[], None] | None = None
        self.closed = False
        self.is_awaited = False
        """Whether somebody waits for a piece now."""

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        """Wait for the next piece."""
        if self._begin is not None and not self.closed:
            begin, self._begin = self._begin, None
            begin(self)
        piece = self._take()
        if self._pieces.qsize() <= MAX_AHEAD // 2:
            self._tell_writer()
        if isinstance(piece, _End) or self.closed:
            self._pieces.put(_OVER)  # for whoever asks again
            if isinstance(piece, _End) and piece.error is not None and not self.closed:
                raise piece.error
            raise StopIteration
        return piece

    def put(self, piece: object) -> bool:
        """Hand over a piece, and say whether there is room for more."""
        self._pieces.put(piece)
        return self._pieces.qsize() < MAX_AHEAD

    def end(self, error: BaseException | None = None) -> None:
        """Say that no piece follows."""
        self._pieces.put(_End(error))

    def close(self) -> None:
        """End the iteration, and let who writes go on to see that it is closed; takes no lock."""
        self.closed = True
        self._pieces.put(_OVER)
        self._tell_writer()

    def call_when_room(self, call: Callable[[], None]) -> None:
        """Call once when there is room again or the feed is closed, in whatever thread that comes to be."""
        self._when_room = call
        # It may have come to be meanwhile, with nobody to call.
        if self.closed or self._pieces.qsize() <= MAX_AHEAD // 2:
            self._tell_writer()

    def _tell_writer(self) -> None:
        call, self._when_room = self._when_room, None
        if call is not None:
            call()

    def _take(self) -> Any:
        with contextlib.suppress(queue.Empty):
            return self._pieces.get_nowait()
        self.is_awaited = True
        try:
            # A thread that waits here keeps Python from its end, which comes when the main thread's has come.
            while threading.main_thread().is_alive():
                with contextlib.suppress(queue.Empty):
                    return self._pieces.get(timeout=_LOOK_S)
            return _OVER
        finally:
            self.is_awaited = False


def feed_from(pieces: Iterable[object]) -> TextFeed:
    """Return a feed of pieces that are taken in a thread of their own, from the first that is asked for on.

    A generator is closed in that thread: when the feed is closed, or as soon as it has given the piece that
    it is at then.
    """

    def begin(feed: TextFeed) -> None:
        # A daemon: nobody can tell a generator that waits that the program is over.
        threading.Thread(target=_write, args=(pieces, feed), name="text-pieces", daemon=True).start()

    return TextFeed(begin)


def _write(pieces: Iterable[object], feed: TextFeed) -> None:
    room: queue.SimpleQueue[None] = queue.SimpleQueue()
    try:
        for piece in pieces:
            if not feed.put(piece) and not feed.closed:
                feed.call_when_room(partial(room.put, None))
                room.get()
            if feed.closed:
                break
        feed.end()
    except BaseException as error:  # raised again where the pieces are read
        feed.end(error)
    finally:
        if isinstance(pieces, Generator):
            pieces.close()


async def feed_all(pieces: AsyncIterable[object], feed: TextFeed) -> None:
    """Put the pieces of an asynchronous iterable into a feed, in the loop that this runs in."""
    loop = asyncio.get_running_loop()
    try:
        async for piece in pieces:
            if not feed.put(piece) and not feed.closed:
                room = asyncio.Event()
                feed.call_when_room(partial(_set, loop, room))
                await room.wait()
            if feed.closed:
                break
        feed.end()
    except asyncio.CancelledError:
        feed.close()
        raise
    except Exception as error:  # raised again where the pieces are read
        feed.end(error)
    finally:
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


def _set(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    # The loop may have ended meanwhile; then nobody waits.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(event.set)
