"""The most memory that each engine takes, in a process of its own that speaks one long sentence."""

from __future__ import annotations

from collections.abc import Sequence

from speed.measure import show_progress
from speed.texts import TEXTS, WARM_UP
from speed.workers import open_engines

_TEXT = "440"


def measure(*, names: Sequence[str], threads: Sequence[int]) -> dict[str, dict[str, float]]:
    """Return the peak of resident memory in MB, by the number of threads and engine."""
    found: dict[str, dict[str, float]] = {}
    for k, n_threads in enumerate(threads):
        found[str(n_threads)] = {}
        for name in names:
            # One process each, and only one at a time: memory that is shared would be counted by all.
            with open_engines([name], n_threads) as engines:
                engines[name].speak(TEXTS[_TEXT], warm_up=WARM_UP)
                found[str(n_threads)][name] = engines[name].peak_rss_mb()
        show_progress("memory", (k + 1) / len(threads))
    return found
