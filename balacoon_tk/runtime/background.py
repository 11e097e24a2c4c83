"""Work in a thread of its own, whose result or error is taken where it is needed.

`Prefetch` makes the next sentence ready while this one is heard, and not before there is time. A thread is
worth it because of who listens: a player that takes a chunk, waits until it has sounded and then takes the
next leaves the time in which it waits to nobody else. Work between the chunks would come when the chunk is
asked for, and be heard as a gap.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

_Result = TypeVar("_Result")
_Item = TypeVar("_Item")


class Background(Generic[_Result]):
    """Begin the work at once, in a thread of that name; `result` waits for it."""

    def __init__(self, work: Callable[[], _Result], *, name: str) -> None:
        self._work = work
        self._results: list[_Result] = []
        self._error: BaseException | None = None
        # No daemon, so that Python's end waits for it: a daemon that comes back from ONNX Runtime into an
        # interpreter that is gone takes the whole process down. Hence no thread pool of the library either,
        # whose threads live until then.
        self._thread = threading.Thread(target=self._run, name=name, daemon=False)
        self._thread.start()

    def wait(self) -> None:
        """Wait until the work is done, however it ends."""
        self._thread.join()

    def result(self) -> _Result:
        """Wait until the work is done, and return its result or raise its error."""
        self.wait()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._work())
        except BaseException as error:
            self._error = error


class Prefetch(Generic[_Item]):
    """Take items from an iterator, of which the next may be made in a thread before it is asked for.

    No item is None. For one thread at a time, as iterators are: the iterator is never advanced by two. Its
    error comes when its item is asked for. Once `closed` is set nothing more is made; what is being made is
    dropped, and its thread ends with the step it is in, or where the iterator looks at it on the way.
    """

    def __init__(self, items: Iterator[_Item], closed: threading.Event) -> None:
        self._items = items
        self._closed = closed
        self._coming: Background[_Item | None] | None = None

    def begin(self, *, delay_s: float = 0.0) -> None:
        """Begin to make the next item, if that hasn't begun; after a delay that `close` ends."""
        if self._coming is None and not self._closed.is_set():
            # Where there is no thread to be had, because there are too many or Python ends, the item is made
            # when it is asked for.
            with contextlib.suppress(RuntimeError):
                self._coming = Background(lambda: self._next(delay_s), name="next-sentence")

    def take(self) -> _Item | None:
        """Return the next item, waiting for it if need be; None if there is none."""
        coming, self._coming = self._coming, None
        return self._next(0.0) if coming is None else coming.result()

    def _next(self, delay_s: float) -> _Item | None:
        return None if self._closed.wait(delay_s) else next(self._items, None)
