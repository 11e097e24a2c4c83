"""One piece of work in a thread of its own, whose result or error is taken where it is needed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

_Result = TypeVar("_Result")


class Background(Generic[_Result]):
    """Begin the work at once; `result` waits for it.

    The thread is no daemon: Python's end waits for it, because a daemon that comes back from ONNX Runtime
    into an interpreter that is gone takes the whole process down.

    Parameters
    ----------
    work : callable
        Takes nothing and returns the result.
    name : str
        The thread's name.
    """

    def __init__(self, work: Callable[[], _Result], *, name: str) -> None:
        self._work = work
        self._results: list[_Result] = []
        self._error: BaseException | None = None
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
