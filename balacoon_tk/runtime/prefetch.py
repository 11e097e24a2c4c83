"""Prefetch: the next sentence is made ready while this one is heard, and not before there is time.

A thread is worth it because of who listens: a player that takes a chunk, waits until it has sounded and
then takes the next leaves the time in which it waits to nobody else. Work between the chunks would
come when the chunk is asked for, and be heard as a gap.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final, Generic, TypeVar

from balacoon_tk.runtime.background import Background

_Item = TypeVar("_Item")


class _End:
    """There is no further item."""


_END: Final = _End()


class Prefetch(Generic[_Item]):
    """Take items from an iterator, of which the next may be made in a thread before it is asked for.

    For one thread at a time, as iterators are. An error of the iterator comes when its item is asked for.

    Parameters
    ----------
    items : iterator
        Is only ever advanced by one thread at a time.
    closed : Event
        Set by `close`; an iterator that looks at it between its steps ends sooner.
    """

    def __init__(self, items: Iterator[_Item], closed: threading.Event) -> None:
        self._items = items
        self._closed = closed
        self._coming: Background[_Item | _End] | None = None

    def begin(self, *, delay_s: float = 0.0) -> None:
        """Begin to make the next item, if that hasn't begun; after a delay that `close` ends."""
        if self._coming is None and not self._closed.is_set():
            self._coming = Background(lambda: self._next(delay_s), name="next-sentence")

    def take(self) -> _Item | None:
        """Return the next item, waiting for it if need be; None if there is none."""
        coming, self._coming = self._coming, None
        item = self._next(0.0) if coming is None else coming.result()
        return None if isinstance(item, _End) else item

    def close(self) -> None:
        """Make nothing more; what is being made is dropped, and its thread ends with the step it is in."""
        self._closed.set()

    def _next(self, delay_s: float) -> _Item | _End:
        if self._closed.wait(delay_s):
            return _END
        return next(self._items, _END)
