"""How far long work is, in a notebook's page."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

import ipywidgets as widgets
from IPython.display import display

_REFRESH_S = 0.1
_TICK_S = 1.0


class ProgressBar(widgets.HBox):  # type: ignore[misc]  # ipywidgets is untyped
    """A bar to be shown in a notebook while a cell works.

    As a context it shows itself and counts the seconds, also while the work says nothing of how far it is.
    Where no page draws it, its text stands in the output.

    Parameters
    ----------
    what : str
        What is being done, until `show` says it.

    Examples
    --------
    >>> with ProgressBar("judging") as bar:  # doctest: +SKIP
    ...     report = evaluate(tts, progress=bar.count)
    """

    def __init__(self, what: str = "") -> None:
        self._bar = widgets.FloatProgress(0.0, min=0.0, max=1.0)
        self._label = widgets.Label()
        self._what = what
        self._share: float | None = None
        self._begun_s = time.monotonic()
        self._shown_s = 0.0
        self._over = threading.Event()
        super().__init__([self._bar, self._label])

    def __repr__(self) -> str:
        # What stands in an output where no page draws widgets, a terminal or a file.
        return f"[{self._label.value}]"

    def __enter__(self) -> Self:
        self._begun_s = time.monotonic()
        self._write()
        self._handle = display(self, display_id=True)  # type: ignore[no-untyped-call]  # as IPython is
        threading.Thread(target=self._tick, name="progress-bar", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._bar.bar_style = "success" if error is None else "danger"
        if error is None:
            self._share = 1.0
        self._write()
        # The text of the beginning would stay in the output otherwise.
        if self._handle is not None:
            self._handle.update(self)

    def show(self, what: str, share: float) -> None:
        """Say what is being done, and the share that is done, from 0 to 1.

        More often than ten times a second is ignored, the end excepted.
        """
        now_s = time.monotonic()
        # Each update is a message to the page, and a search reports more often than anybody reads.
        if share >= 1.0 or now_s - self._shown_s >= _REFRESH_S:
            self._shown_s = now_s
            self._what, self._share = what, share
            self._write()

    def count(self, n_done: int, n_all: int) -> None:
        """Say how many are done, and of how many."""
        self.show(f"{n_done} of {n_all}", n_done / n_all)

    def _write(self) -> None:
        share = "" if self._share is None else f"{100 * self._share:.0f} % "
        self._bar.value = self._share or 0.0
        self._label.value = f"{share}after {time.monotonic() - self._begun_s:.0f} s: {self._what}"

    def _tick(self) -> None:
        while not self._over.wait(_TICK_S):
            self._write()
