"""Names what is left out of a text: each once, in one warning for a sentence, and never without end."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from balacoon_tk.runtime.process import hold_across_forks

# One for all names: it is held for a look at a few, and a child that is forked meanwhile finds it free.
_LOCK = threading.Lock()
hold_across_forks(_LOCK)


class NothingToSayWarning(UserWarning):
    """A text holds nothing that can be said, so there is no audio of it."""


MAX_NAMED = 100
"""So many are named: texts in another script would else fill a log, and the memory that names are kept in."""
MAX_NAME = 40
"""Characters of a name that are shown."""


def shortened(name: str) -> str:
    """Quote a name, and end it with an ellipsis where it is too long to be read."""
    return repr(name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…")


_SILENT = ContextVar("silent", default=False)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Name nothing meanwhile, in this thread: what is looked at again was named the first time."""
    before = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(before)


class LeftOutNames:
    """What was named before, whichever thread met it first.

    Parameters
    ----------
    message : str
        Begins the warning, before the names.
    category : type of Warning
    name : callable
        Gives the name of one thing, as it stands in the warning; by itself its first characters.
    """

    def __init__(self, message: str, category: type[Warning], name: Callable[[str], str] = shortened) -> None:
        self._message, self._category, self._name = message, category, name
        self._named: set[str] = set()

    def warn(self, left_out: Iterable[str], *, stacklevel: int) -> None:
        """Warn of those that were not named before, in the order in which they are given."""
        if _SILENT.get():
            return
        found = dict.fromkeys(left_out)
        with _LOCK:
            new = [each for each in found if each not in self._named]
            new = new[: MAX_NAMED - len(self._named)]
            self._named.update(new)
            is_last = len(self._named) == MAX_NAMED
        if new:
            names = ", ".join(map(self._name, new)) + (", and no more are named" if is_last else "")
            warnings.warn(f"{self._message}: {names}", self._category, stacklevel=stacklevel + 1)
