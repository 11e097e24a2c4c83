"""Which keys a query may see, told from how a mask is computed and not from what it was at some lengths.

An element of a mask belongs to query ``i`` and key ``j``. What is known of it is a few `Case`s: where the
distance ``j - i`` lies in a band, the element lies in ``a * i + b * j + [low, high]``. The bands may overlap,
and may be wider than they must, but together they leave out no element: whatever is concluded from them
holds at every length. What operators make of cases is in `band_rules`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, inf, isfinite, isnan

import numpy as np

from balacoon_tk._typing import AnyArray

# Positions reach as far as float32 counts; distances are clipped there, where bounds would be infinite.
_FARTHEST = 2.0**24
CLOSE = 1e-6  # more than the rounding of a quotient of small numbers


@dataclass(frozen=True, slots=True)
class Band:
    """Distances ``j - i`` from `low` to `high`, both whole or infinite."""

    low: float = -inf
    high: float = inf

    @property
    def empty(self) -> bool:
        """Whether no distance is in it."""
        return self.low > self.high

    def __and__(self, other: Band) -> Band:
        return Band(max(self.low, other.low), min(self.high, other.high))

    def __or__(self, other: Band) -> Band:
        if self.empty or other.empty:
            return other if self.empty else self
        return Band(min(self.low, other.low), max(self.high, other.high))

    def widened(self) -> Band:
        """Return a band of one distance more at either end."""
        return self if self.empty else Band(self.low - 1, self.high + 1)


ALL, NONE = Band(), Band(inf, -inf)


@dataclass(frozen=True, slots=True)
class Form:
    """Numbers ``a * i + b * j + [low, high]``, for queries ``i`` and keys ``j``."""

    a: float = 0.0
    b: float = 0.0
    low: float = 0.0
    high: float = 0.0
    # What they are whole multiples of; 0 if that isn't known.
    grain: float = 0.0

    @property
    def point(self) -> float | None:
        """The number that it is, if it is one."""
        return self.low if self.a == self.b == 0 and self.low == self.high else None

    @property
    def by_distance(self) -> bool:
        """Whether it depends on the distance alone."""
        # Anything more would grow to whole steps far from the start.
        return abs(self.a + self.b) <= 1e-12 * max(abs(self.a), abs(self.b))

    def __neg__(self) -> Form:
        return Form(-self.a, -self.b, -self.high, -self.low, self.grain)

    def __add__(self, other: Form) -> Form:
        low, high = self.low + other.low, self.high + other.high
        grain = _common(self.grain, other.grain)
        if isnan(low) or isnan(high):
            return UNKNOWN
        return Form(self.a + other.a, self.b + other.b, low, high, grain)

    def times(self, factor: float) -> Form:
        """Return the numbers times a finite one."""
        if factor == 0 and not (isfinite(self.low) and isfinite(self.high)):
            return UNKNOWN
        low, high = sorted((self.low * factor, self.high * factor))
        return Form(self.a * factor, self.b * factor, low, high, self.grain * abs(factor))

    def bounds(self, band: Band) -> tuple[float, float]:
        """Return the least and the largest number where the distance is in a band."""
        if self.a == self.b == 0:
            return self.low, self.high
        if self.by_distance:
            ends = [self.b * min(max(d, -_FARTHEST), _FARTHEST) for d in (band.low, band.high)]
        else:
            ends = [
                sum(min(0.0, c) for c in (self.a, self.b)) * _FARTHEST,
                sum(max(0.0, c) for c in (self.a, self.b)) * _FARTHEST,
            ]
        return self.low + min(ends), self.high + max(ends)

    def at_most(self, bound: float) -> Band:
        """Return where it may be at most a bound."""
        if self.a == self.b == 0:
            return ALL if self.low <= bound else NONE
        if not self.by_distance:
            return self._at_most_by_position(bound)
        place = (bound - self.low) / self.b
        if not isfinite(place):
            return ALL
        found = Band(high=floor(place + CLOSE)) if self.b > 0 else Band(low=ceil(place - CLOSE))
        # What isn't whole has been rounded, and far from the start by as much as a step.
        return found if self.grain else found.widened()

    def _at_most_by_position(self, bound: float) -> Band:
        if min(self.a, self.b) < 0:
            return ALL
        # Positions count from 0: none is so far on, and no other is so far from it, as there is room for.
        room = bound - self.low
        if room < 0:
            return NONE
        found = ALL
        if self.a > 0 and isfinite(room):
            found &= Band(low=-floor(room / self.a + CLOSE))
        if self.b > 0 and isfinite(room):
            found &= Band(high=floor(room / self.b + CLOSE))
        return found if self.grain else found.widened()

    def at_least(self, bound: float) -> Band:
        """Return where it may be at least a bound."""
        return (-self).at_most(-bound)


UNKNOWN = Form(low=-inf, high=inf)


def _common(a: float, b: float) -> float:
    # The finer of two grains, if the other is a multiple of it.
    fine, coarse = min(a, b), max(a, b)
    return fine if fine and abs(coarse / fine - round(coarse / fine)) < CLOSE else 0.0


@dataclass(frozen=True, slots=True)
class Case:
    """What elements are where the distance lies in a band."""

    band: Band
    form: Form

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the largest that they are."""
        return self.form.bounds(self.band)


Cases = tuple[Case, ...]


def constant(array: AnyArray) -> Cases:
    """Return what is known of a constant that doesn't vary with the positions."""
    if not array.size:
        return ()
    low, high = float(array.min()), float(array.max())
    if isnan(low) or isnan(high):
        return anything()
    whole = bool(np.all(np.isfinite(array))) and bool(np.all(array == np.floor(array.astype(np.float64))))
    return (Case(ALL, Form(low=low, high=high, grain=float(whole))),)


def table(array: AnyArray) -> Cases:
    """Return what is known of a constant (n, n), looked up by the positions of query and key.

    What reaches its last row or column would go on in a larger table, so it has no end.
    """
    values = np.unique(array)
    if len(values) > 4:
        return constant(array)
    cases = []
    for value in values:
        same = array == value
        rows = np.flatnonzero(same.any(axis=1))
        if not rows.size:  # nothing equals NaN
            continue
        low = float((same.argmax(axis=1)[rows] - rows).min())
        high = float((array.shape[1] - 1 - same[:, ::-1].argmax(axis=1)[rows] - rows).max())
        low = -inf if low <= 1 - array.shape[0] else low
        high = inf if high >= array.shape[1] - 1 else high
        cases.append(Case(Band(low, high), constant(np.asarray(value))[0].form))
    return tuple(cases) if cases else anything()


def anything() -> Cases:
    """Return what is known of numbers of which nothing is."""
    return (Case(ALL, UNKNOWN),)


def position(*, of_key: bool) -> Cases:
    """Return what is known of the positions of queries or of keys."""
    return (Case(ALL, Form(a=float(not of_key), b=float(of_key), grain=1.0)),)


def where_above(cases: Cases, bound: float) -> Band:
    """Return a band outside of which no element is above a bound; minus infinity is above none."""
    found = NONE
    for case in cases:
        high = case.bounds[1]
        if high > bound and high > -inf:
            found |= case.band
    return found
