"""How far long work is, in a notebook's page."""

from __future__ import annotations

import time

import ipywidgets as widgets

_REFRESH_S = 0.1


class ProgressBar(widgets.HBox):  # type: ignore[misc]  # ipywidgets is untyped
    """A bar to be shown in a notebook while a cell works.

    Examples
    --------
    >>> bar = ProgressBar()  # doctest: +SKIP
    >>> display(bar)  # doctest: +SKIP
    >>> report = evaluate(tts, progress=bar.count)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._bar = widgets.FloatProgress(0.0, min=0.0, max=1.0)
        self._label = widgets.Label()
        self._begun_s = time.monotonic()
        self._shown_s = 0.0
        super().__init__([self._bar, self._label])

    def show(self, what: str, share: float) -> None:
        """Say what is being done, and the share that is done, from 0 to 1.

        More often than ten times a second is ignored, the end excepted.
        """
        now_s = time.monotonic()
        # Each update is a message to the page, and a search reports more often than anybody reads.
        if share >= 1.0 or now_s - self._shown_s >= _REFRESH_S:
            self._shown_s = now_s
            self._bar.value = share
            self._label.value = f"{100 * share:.0f} % after {now_s - self._begun_s:.0f} s: {what}"

    def count(self, n_done: int, n_all: int) -> None:
        """Say how many are done, and of how many."""
        self.show(f"{n_done} of {n_all}", n_done / n_all)
