"""How many frames to give in each chunk, so that sound comes early and never stops: arithmetic alone.

Playback begins when the first chunk is ready, and from then on audio is used up while the next push
runs. What is ready and not yet played is the *buffer*; a push must end before that does, if everything
takes `safety_factor` times as long as it was measured to::

    buffer after the first chunk   b = audio(c1)               first_s(lag + c1) is the wait for it
    before each later push         later_s(c) * safety <= b
    after it                       b = b - later_s(c) * safety + audio(c)

A chunk gives as many frames as its push is handed, but for the first and the last: the first push carries
the lag, rounded up to frames, and what the rounding adds is audio as well; the last gives what the lag held.
As all audio comes from work, the most buffer at a place in the sentence means the least work up to there,
so that the best way to each place is all that has to be remembered.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from balacoon_tk.decoder.chunking import SLIVERS_PER_CHUNK, push_schedule
from balacoon_tk.errors import ParameterError
from balacoon_tk.pacing.costs import PushCosts

# Every cost may be this much higher than measured before playback waits: another program takes a core, or
# the processor slows down.
SAFETY_FACTOR = 2.0

# Audio in a chunk of the steady size, at most: a stream that is stopped made no more than this in vain.
MAX_CHUNK_S = 0.75

_GOOD_ENOUGH = 1.01  # a smaller chunk that costs no more than this for each frame is preferred
_MARGINS = (2.0, 1.5, 1.0)  # factors on the safety factor, after the first chunk
_HORIZON_FRAMES = 1024  # growing that takes longer than this (10 s or so) is no growing


@dataclass(frozen=True, slots=True)
class Playback:
    """What a sentence does to the buffer."""

    shortest_s: float
    """The least buffer that was left when a push ended, in seconds; negative by how long playback waited."""
    buffer_s: float
    """What is buffered when the sentence's last push has ended."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a stream of one strategy takes, and what it gives."""

    costs: PushCosts
    hop_length: int
    """Samples per frame."""
    sample_rate: int
    """Hz"""
    lag_samples: int = 0
    """How far the decoder's output trails its input."""
    safety_factor: float = SAFETY_FACTOR
    """Factor on every cost, >= 1."""

    def __post_init__(self) -> None:
        """Refuse what can't be planned with."""
        check_safety_factor(self.safety_factor)

    @property
    def frame_s(self) -> float:
        """Audio in a frame, in seconds."""
        return self.hop_length / self.sample_rate

    @property
    def lag_frames(self) -> int:
        """The lag, rounded up to frames."""
        return math.ceil(self.lag_samples / self.hop_length)

    def audio_s(self, n_pushed: int) -> float:
        """Return the audio that is ready when so many frames of a sentence have been pushed, in seconds."""
        return max(0, n_pushed * self.hop_length - self.lag_samples) / self.sample_rate

    @property
    def load(self) -> float:
        """Seconds that the cheapest chunks take for a second of audio, as measured."""
        size = steady_chunk(self)
        return self.costs.later(size) / (size * self.frame_s)

    def first_chunk(self, silent_frames: float) -> int:
        """Return the least frames of a first chunk that holds the sample after so many silent frames."""
        # The lag is rounded up to frames, and what that adds is heard too.
        added = self.lag_frames - self.lag_samples / self.hop_length
        return max(1, math.floor(silent_frames - added) + 1)

    def later_s(self, n_pushed: int) -> float:
        """Return what a later push of so many frames may take, in seconds."""
        return self.safety_factor * self.costs.later(n_pushed)

    def play(self, n_frames: int, chunk_frames: Sequence[int], *, buffer_s: float | None = None) -> Playback:
        """Play a sentence cut as `push_schedule` does; no buffer if playback begins with this one."""
        shortest_s, ready_s = math.inf, 0.0
        for push in push_schedule(n_frames, chunk_frames, lag_frames=self.lag_frames):
            given_s = n_frames * self.frame_s if push.last else self.audio_s(push.stop)
            if buffer_s is None:
                buffer_s = 0.0
            else:
                cost = self.costs.first if push.start == 0 else self.costs.later
                buffer_s -= self.safety_factor * cost(push.n_frames)
                shortest_s = min(shortest_s, buffer_s)
            # A player that ran dry begins anew with what has come: there is no debt.
            buffer_s = max(buffer_s, 0.0) + (given_s - ready_s)
            ready_s = given_s
        return Playback(shortest_s, 0.0 if buffer_s is None else max(buffer_s, 0.0))


def check_safety_factor(safety_factor: float) -> None:
    """Refuse a factor that is no margin."""
    if not 1.0 <= safety_factor < math.inf:
        raise ParameterError(f"safety_factor={safety_factor} must be >= 1 and finite")


def steady_chunk(pace: Pace, *, max_chunk_s: float = MAX_CHUNK_S) -> int:
    """Return the smallest chunk of those whose frames are the cheapest, in frames."""
    most = max(1, int(max_chunk_s / pace.frame_s))
    costs = [pace.later_s(size) / size for size in range(1, most + 1)]
    return next(size for size, cost in enumerate(costs, start=1) if cost <= _GOOD_ENOUGH * min(costs))


def solve_schedule(
    pace: Pace, n_frames: int | None = None, *, first_frames: int = 1, max_chunk_s: float = MAX_CHUNK_S
) -> tuple[int, ...] | None:
    """Return the chunks with the earliest first audible sample after which playback never waits.

    The first chunk has to hold the first audible sample: a chunk of silence before it would come early, and
    make what is heard late. `Pace.first_chunk` says how long it is for that. What follows is held to up to
    twice the safety factor, where the first chunk leaves room for that: smaller chunks once a text are little
    work, and a gap is heard. Of all that is left it is the one with the least work.

    The sentence is of any length if `n_frames` is None. The result is as `push_schedule` takes it, the last
    number repeats; None if there is none, because the machine is too slow for a text that never ends.
    """
    for name, value in (("n_frames", n_frames), ("first_frames", first_frames)):
        if value is not None and value < 1:
            raise ParameterError(f"{name}={value} must be >= 1")
    steady = steady_chunk(pace, max_chunk_s=max_chunk_s)
    most = max(first_frames, _HORIZON_FRAMES if n_frames is None else n_frames)
    # More in the first chunk never makes what follows harder: find one that is enough, then the least.
    least = enough = first_frames
    chunks = _grow(pace, enough, n_frames, steady)
    while chunks is None and enough < most:
        least, enough = enough + 1, min(2 * enough, most)
        chunks = _grow(pace, enough, n_frames, steady)
    if chunks is None:
        return None
    tried = range(least, enough)
    least += bisect_left(tried, True, key=lambda size: _grow(pace, size, n_frames, steady) is not None)
    safer = (replace(pace, safety_factor=more * pace.safety_factor) for more in _MARGINS)
    return next(filter(None, (_grow(each, least, n_frames, steady) for each in safer)))


def _grow(pace: Pace, first: int, n_frames: int | None, steady: int) -> tuple[int, ...] | None:
    """Return the chunks of least work that begin with `first` and never let playback wait."""
    lag = pace.lag_frames
    if n_frames is None and pace.later_s(steady) > steady * pace.frame_s:
        return None
    if n_frames is not None and _ends(first + lag, first, n_frames, lag):
        return (first,)
    sizes = range(1, steady + 1)
    gain_s = np.array([size * pace.frame_s - pace.later_s(size) for size in sizes])
    pushed = list(sizes)
    if n_frames is None:
        # The end may come at any push, which then takes along the most frames that are no push of their own.
        pushed = [size + max(0, -(-size // SLIVERS_PER_CHUNK) - 1 - lag) for size in sizes]
    take_s = np.array([pace.later_s(size) for size in pushed])
    end = first + _HORIZON_FRAMES if n_frames is None else n_frames - lag
    buffer_s = np.full(end + steady + 1, -np.inf)
    came_by = np.zeros(end + steady + 1, np.int64)
    # The first push may take as long as it likes: playback hasn't begun.
    buffer_s[first] = pace.audio_s(first + lag)
    best: tuple[float, int, int] | None = None
    # Places beyond this can't be reached; going on would only copy minus infinity.
    furthest = first
    for place in range(first, end):
        if place > furthest:
            break
        has_s = float(buffer_s[place])
        n_sizes = int(np.searchsorted(take_s, has_s, side="right"))
        if n_frames is not None:
            n_sizes, found = _try_the_end(pace, place, n_frames, n_sizes, has_s)
        else:
            # Here the steady size can begin; what it would have gained up to here is no merit of growing.
            found = (has_s - place * gain_s[-1] / steady, place, steady) if n_sizes == steady else None
            if best is not None and place > first + 2 * steady:
                break
        if found is not None and (best is None or found[0] > best[0]):
            best = found
        # Chunks of 1, 2, … frames lead to the next places: noted where they leave more than is known.
        reached_s, stretch = has_s + gain_s[:n_sizes], slice(place + 1, place + 1 + n_sizes)
        better = reached_s > buffer_s[stretch]
        buffer_s[stretch][better] = reached_s[better]
        came_by[stretch][better] = 1 + np.flatnonzero(better)
        furthest = max(furthest, place + n_sizes)
    if best is None:
        return None
    chunks = [*_way(came_by, first, best[1]), best[2]]
    while chunks[-2:-1] == chunks[-1:]:  # the last one repeats in any case
        chunks.pop()
    return tuple(chunks)


def _try_the_end(
    pace: Pace, place: int, n_frames: int, n_sizes: int, has_s: float
) -> tuple[int, tuple[float, int, int] | None]:
    """Return how many of the sizes leave something to push, and the end, less its work, if the rest is."""
    lag = pace.lag_frames
    sizes = range(1, n_sizes + 1)
    ending = next((size for size in sizes if _ends(place + lag + size, size, n_frames, lag)), None)
    if ending is None:
        return n_sizes, None
    left_s = has_s - pace.later_s(n_frames - lag - place)
    return ending - 1, (left_s - place * pace.frame_s, place, ending) if left_s >= 0.0 else None


def _ends(stop: int, size: int, n_frames: int, lag: int) -> bool:
    """Say whether `push_schedule` makes this the last push."""
    return stop >= n_frames or SLIVERS_PER_CHUNK * (n_frames - stop + lag) < size


def _way(came_by: NDArray[np.int64], first: int, place: int) -> list[int]:
    sizes: list[int] = []
    while place > first:
        sizes.append(int(came_by[place]))
        place -= sizes[-1]
    return [first, *reversed(sizes)]
