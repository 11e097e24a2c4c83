"""Two ways to do one thing, timed in turn, in processor time: a busy machine slows both alike."""

from collections.abc import Callable
from statistics import median
from time import thread_time

__all__ = ["speedup"]

_RUNS_PER_TURN = 4


def speedup(slow: Callable[[], object], fast: Callable[[], object], *, n_turns: int = 25) -> float:
    """Return the ratio of the medians: how many times `fast` is faster; both run on this thread.

    A turn's first run is not counted: it pays for the caches and the allocator as the other left them.
    """
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(n_turns):
        for run, seconds in zip((slow, fast), times, strict=True):
            run()
            for _ in range(_RUNS_PER_TURN - 1):
                start = thread_time()
                run()
                seconds.append(thread_time() - start)
    return median(times[0]) / median(times[1])
