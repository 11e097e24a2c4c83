"""Times taken in turn, and what is made of them: medians, spreads, ratios."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median, quantiles
from time import perf_counter, sleep

from balacoon_tk.metrics.runs import rotated

SETTLE_S = 0.1
"""Rest before another engine's turn: after a run ONNX Runtime's threads, where nobody has forbidden it, wait
for more work in a loop of 2**20 pauses, some 70 ms in which they take the cores from whoever comes next."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often things are measured; the long ones less often, since their spread is smaller."""

    n_tiny: int
    """For what takes milliseconds: the machine's mood lasts longer than a few of them."""
    n_short: int
    """For what takes well below a second."""
    n_long: int
    """For an utterance of ten seconds."""
    n_minute: int
    """For one of a minute."""
    n_stream: int
    """For so many streams at once, which take as long as they play."""
    n_process: int
    """For what needs a process of its own each time."""


def shuffled(names: Sequence[str], k: int) -> list[str]:
    """Return the names in an order that is the k-th round's alone.

    Rotated, one always follows the same other one, and finds in the caches what that has left there.
    """
    return random.Random(k).sample(names, len(names))


def in_turn(
    runs: Mapping[str, Callable[[], object]],
    *,
    n_rounds: int,
    settle_s: float = 0.0,
    order: Callable[[Sequence[str], int], Sequence[str]] = rotated,
    clock: Callable[[], float] = perf_counter,
) -> dict[str, list[float]]:
    """Time each run once a round, every round in another order, after one run that isn't counted.

    Parameters
    ----------
    runs : mapping of str to callable
        What to time.
    n_rounds : int
        How often.
    settle_s : float
        Seconds of rest before each; `SETTLE_S` where other engines are among them.
    order : callable
        Gives the names in the order of the k-th round: `rotated`, or `shuffled`.
    clock : callable
        Gives seconds, such as those of the processor.

    Returns
    -------
    dict of str to list of float
        Seconds of each, a value a round.
    """
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    # The first run pays for what the others find done: memory that is taken, code that is loaded.
    for run in runs.values():
        run()
    for k in range(n_rounds):
        for name in order(names, k):
            # Before the clock is read: whoever came before may still hold the cores.
            sleep(settle_s)
            start = clock()
            runs[name]()
            seconds[name].append(clock() - start)
    return seconds


def ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over rounds of one's value over the other's in the same round.

    A machine that is slower in one round than in another is so for both.
    """
    # Of ratios and not a ratio of medians, which may be of two different rounds.
    return median(a / b for a, b in zip(values, others, strict=True))


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper quartile."""
    if len(values) == 1:  # of which there are no quantiles
        return (values[0],) * 3
    low, middle, high = quantiles(values, n=4, method="inclusive")
    return low, middle, high


def show_progress(part: str, share: float) -> None:
    """Show on stderr how much of a part is done, in place if that is a terminal, else the end alone."""
    if sys.stderr.isatty():
        filled = int(24 * share)
        end = "\n" if share >= 1 else ""
        print(
            f"\r[{'#' * filled}{'.' * (24 - filled)}] {100 * share:3.0f} % {part:<12}",
            end=end,
            file=sys.stderr,
        )
    elif share >= 1:
        print(f"{part}: done", file=sys.stderr)
