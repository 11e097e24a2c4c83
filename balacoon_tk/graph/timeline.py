"""Where time is in every tensor of a graph, how fast it runs, and how far each tensor trails.

Everything that the package knows about streaming a graph follows from one picture. An operator
with a bounded view turns ``n`` steps of its input into ``up * n / down`` steps and looks at a
window of `span` + 1 steps around each (`Local`). Run on a piece of an utterance, it gets the steps
next to the piece's ends wrong, because there the piece's own padding stands where real steps should::

        true utterance   . . . . x x x x x x x x x x x x . . . .
        piece            |<------------------------------------>|
        its output       s s s s s y y y y y y y y y y s s s s s
                         |<- left ->|                |<- right ->|

`left` and `right` grow from operator to operator by plain integer arithmetic, which gives the
receptive field (how much context an overlap needs), the lag (`right`, plus what the operators
cut off the end) and the margin that a piece needs to be decoded exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, inf


@dataclass(frozen=True, slots=True)
class Local:
    """How an operator with a bounded view treats time.

    The full output has ``up * (n - 1) + span + 1`` steps if it goes up in rate, ``n`` steps if
    not; padding adds to both ends (for ``up > 1``: is cropped from both ends), and every
    `down`-th window gives a step. Where both are above 1 it stretches ``n`` steps to ``n * up // down``.
    """

    up: int = 1
    down: int = 1
    # Steps between the first and the last that one window sees, at the faster rate.
    span: int = 0
    # Steps that the operator makes up at either end (negative: takes away).
    pad_left: int = 0
    pad_right: int = 0
    output_padding: int = 0
    # Steps from either end that the operator's padding looks at (reflection).
    reach: int = 0
    # Whether `up` is that of a transposed convolution, whose padding crops, also where `up` is 1.
    transposed: bool = False

    @property
    def pointwise(self) -> bool:
        """Whether every step of the output depends on the same step of the input only."""
        return self == POINTWISE

    @property
    def goes_up(self) -> bool:
        """Whether the operator makes a window of each step, and not a step of each window."""
        return self.up > 1 or self.transposed

    def length(self, n_steps: int) -> int:
        """Return how many steps the operator makes of a whole tensor."""
        if self.up > 1 and self.down > 1:
            return n_steps * self.up // self.down
        if self.goes_up:
            full = (n_steps - 1) * self.up + self.span + 1 + self.output_padding
            return full - self.pad_left - self.pad_right
        return (n_steps + self.pad_left + self.pad_right - self.span - 1) // self.down + 1


POINTWISE = Local()


@dataclass(frozen=True, slots=True)
class Timeline:
    """Time in one tensor."""

    axis: int
    rate: Fraction  # steps per frame
    lengths: tuple[int, ...]  # at each of the probe's lengths
    # How many steps the known part trails ``rate * n_frames``, while the utterance goes on.
    lag: Fraction = Fraction(0)
    # Steps at a piece's start that are wrong; infinite behind a recurrence.
    left: float = 0
    # Whether the rate fell where a frame has no whole number of steps, so that the lag depends on the phase.
    phased: bool = False

    def short(self, n_frames: Sequence[int]) -> Fraction:
        """Return by how many steps the whole tensor is shorter than ``rate * n_frames``."""
        # In whole numbers: plans ask for this a hundred thousand times.
        up, down = self.rate.numerator, self.rate.denominator
        return Fraction(max(up * n - down * m for n, m in zip(n_frames, self.lengths, strict=True)), down)

    def right(self, n_frames: Sequence[int]) -> Fraction:
        """Return how many steps at a piece's end are wrong."""
        return self.lag - self.short(n_frames)

    def lag_after(self, n_steps: int, down: int, *, lag: Fraction | None = None) -> Fraction:
        """Return the lag of every `down`-th step, with `n_steps` more held back, of what trails by `lag`.

        It may fall between two steps; it is a fraction then, that of the best phase, if there are several.
        """
        exact = ((self.lag if lag is None else lag) + n_steps) / down
        return Fraction(floor(exact)) if self._falls_evenly(Local(down=down)) else exact

    def _falls_evenly(self, local: Local) -> bool:
        # Every frame brings whole steps of the result then, and a push begins at the same phase as the first.
        return not self.phased and local.up == 1 and (self.rate / local.down).denominator == 1

    def through(self, local: Local, *, axis: int | None = None, n_frames: Sequence[int]) -> Timeline:
        """Return the timeline of an operator's output."""
        axis = self.axis if axis is None else axis
        if local.pointwise:
            return replace(self, axis=axis)
        lengths = tuple(map(local.length, self.lengths))
        if local.goes_up:
            rate = self.rate * local.up / local.down
            lag = (self.lag * local.up + local.pad_left) / local.down
            left = max(0.0, self.left * local.up - local.up + local.span + 1 - local.pad_left) / local.down
        else:
            rate = self.rate / local.down
            lag = self.lag_after(local.span - local.pad_left, local.down)
            left = max(0.0, (self.left + local.pad_left) / local.down)
        left = left if left == inf else float(ceil(left))
        phased = self.phased or (local.down > 1 and not self._falls_evenly(local))
        out = Timeline(axis, rate, lengths, lag, left, phased=phased)
        # What has not ended can't be known to be complete beyond where it would end now.
        return replace(out, lag=max(lag, out.short(n_frames)))


def join(timelines: Sequence[Timeline]) -> Timeline:
    """Return the timeline of tensors that meet in one operator: the one that trails most."""
    first = timelines[0]
    return replace(
        first,
        lag=max(item.lag for item in timelines),
        left=max(item.left for item in timelines),
        phased=any(item.phased for item in timelines),
    )
