"""Which keys a query may see, told from how a mask is computed and not from what it was at some lengths.

An element of a mask belongs to query ``i`` and key ``j``. What is known of it is a few `Case`s: where the
distance ``j - i`` lies in a band, the element lies in ``a * i + b * j + [low, high]``. The bands may overlap,
and may be wider than they must, but together they leave out no element: whatever is concluded from them
holds at every length. A comparison splits bands, arithmetic works on the bounds, and what has no rule
here may be anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, floor, inf, isfinite, isnan

import numpy as np

from balacoon_tk._typing import AnyArray

# Positions reach as far as float32 counts; distances are clipped there, where bounds would be infinite.
_FARTHEST = 2.0**24
_MAX_CASES = 64
_CLOSE = 1e-6  # more than the rounding of a quotient of small numbers


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
        return abs(self.a + self.b) < _CLOSE * max(abs(self.a), abs(self.b), 1e-30)

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
            # Positions count from 0, so a sum of them that begins above the bound never is below it.
            return NONE if min(self.a, self.b) >= 0 and self.low > bound else ALL
        place = (bound - self.low) / self.b
        if not isfinite(place):
            return ALL
        found = Band(high=floor(place + _CLOSE)) if self.b > 0 else Band(low=ceil(place - _CLOSE))
        # What isn't whole has been rounded, and far from the start by as much as a step.
        return found if self.grain else found.widened()

    def at_least(self, bound: float) -> Band:
        """Return where it may be at least a bound."""
        return (-self).at_most(-bound)


UNKNOWN = Form(low=-inf, high=inf)


def _common(a: float, b: float) -> float:
    # The finer of two grains, if the other is a multiple of it.
    fine, coarse = min(a, b), max(a, b)
    return fine if fine and abs(coarse / fine - round(coarse / fine)) < _CLOSE else 0.0


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
    """Return what is known of a constant (n, n), looked up by the positions of query and key."""
    distances = np.subtract.outer(np.arange(array.shape[1]), np.arange(array.shape[0])).T
    values = np.unique(array)
    if len(values) > 4:
        return constant(array)
    cases = []
    for value in values:
        where = distances[array == value]
        if where.size:  # nothing equals NaN
            form = constant(np.asarray(value))[0].form
            cases.append(Case(Band(float(where.min()), float(where.max())), form))
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


def infer(op_type: str, inputs: Sequence[Cases], *, integers: bool = False) -> Cases:
    """Return what is known of an elementwise operator's output; `integers` says whether it divides such."""
    if op_type == "Where":
        return _simpler(_where(*inputs))
    if op_type == "Clip":
        low, high = (*inputs[1:], (), ())[:2]
        raised = infer("Max", [inputs[0], low]) if low else inputs[0]
        return infer("Min", [raised, high]) if high else raised
    if op_type in ("Max", "Min", "And", "Or", "Add", "Sum", "Mul") and len(inputs) > 2:
        return infer(op_type, [infer(op_type, inputs[:2]), *inputs[2:]])
    rule = _RULES.get(op_type)
    if rule is None:
        return anything()
    made: list[Case] = []
    for chosen in product(*inputs):
        band = ALL
        for case in chosen:
            band &= case.band
        if not band.empty:
            made += (
                Case(band & case.band, case.form) for case in rule(band, integers, *(c.form for c in chosen))
            )
    return _simpler(made)


def _simpler(cases: Sequence[Case]) -> Cases:
    joined: dict[Form, Band] = {}
    for case in cases:
        if not case.band.empty:
            joined[case.form] = joined.get(case.form, NONE) | case.band
    if len(joined) > _MAX_CASES:
        return anything()
    return tuple(Case(band, form) for form, band in joined.items())


def _where(condition: Cases, yes: Cases, no: Cases) -> list[Case]:
    made = []
    for case in condition:
        low, high = case.bounds
        for possible, chosen in ((high > 0, yes), (low <= 0, no)):
            made += [Case(case.band & other.band, other.form) for other in chosen if possible]
    return made


_Rule = Callable[..., list[Case]]
_TRUE, _FALSE = Form(low=1, high=1, grain=1), Form(grain=1)


def _one(form: Form) -> list[Case]:
    return [Case(ALL, form)]


def _less(*, or_equal: bool, swapped: bool) -> _Rule:
    def rule(_: Band, __: bool, x: Form, y: Form) -> list[Case]:
        difference = y + -x if swapped else x + -y
        step = difference.grain
        yes = difference.at_most(0 if or_equal else -step)
        return [Case(yes, _TRUE), Case(difference.at_least(step if or_equal else 0), _FALSE)]

    return rule


def _equal(_: Band, __: bool, x: Form, y: Form) -> list[Case]:
    difference = x + -y
    yes = Case(difference.at_most(0) & difference.at_least(0), _TRUE)
    return [yes] if difference.point == 0 else [yes, Case(ALL, _FALSE)]


def _choose(larger: bool) -> _Rule:
    def rule(_: Band, __: bool, x: Form, y: Form) -> list[Case]:
        difference = x + -y if larger else y + -x
        return [Case(difference.at_least(0), x), Case(difference.at_most(0), y)]

    return rule


def _absolute(_: Band, __: bool, x: Form) -> list[Case]:
    return [Case(x.at_least(0), x), Case(x.at_most(0), -x)]


def _times(band: Band, _: bool, x: Form, y: Form) -> list[Case]:
    for one, other in ((x, y), (y, x)):
        if one.point is not None and isfinite(one.point):
            return _one(other.times(one.point))
    with np.errstate(invalid="ignore"):
        products = np.multiply.outer(np.array(x.bounds(band)), np.array(y.bounds(band)))
    if np.isnan(products).any():
        return _one(UNKNOWN)
    return _one(Form(low=float(products.min()), high=float(products.max())))


def _divided(band: Band, integers: bool, x: Form, y: Form) -> list[Case]:
    if not y.point or not isfinite(y.point):
        return _one(UNKNOWN)
    quotient = x.times(1 / y.point)
    # Integers are cut off towards 0.
    return _one(_cut(quotient, band) if integers else quotient)


def _cut(x: Form, band: Band) -> Form:
    low, high = x.bounds(band)
    lost = 1 - min(x.grain, 1.0)
    never_negative = low >= 0 or (min(x.a, x.b) >= 0 and x.low >= 0)
    return replace(
        x, low=x.low - (lost if high > 0 else 0), high=x.high + (0 if never_negative else lost), grain=1.0
    )


def _floor(_: Band, __: bool, x: Form) -> list[Case]:
    return _one(replace(x, low=x.low - (1 - min(x.grain, 1.0)), grain=1.0))


def _ceil(_: Band, __: bool, x: Form) -> list[Case]:
    return _one(replace(x, high=x.high + (1 - min(x.grain, 1.0)), grain=1.0))


def _rest(band: Band, _: bool, x: Form, y: Form) -> list[Case]:
    if y.point is None or y.point <= 0 or not isfinite(y.point):
        return _one(UNKNOWN)
    # With fmod that of a negative number is negative.
    negative = x.bounds(band)[0] < 0
    step = 1.0 if x.grain >= 1 and y.grain >= 1 else 0.0
    return _one(Form(low=-y.point if negative else 0, high=y.point - step, grain=step))


def _xor(_: Band, __: bool, x: Form, y: Form) -> list[Case]:
    known = x.point is not None and y.point is not None
    low, high = (float(x.point != y.point),) * 2 if known else (0.0, 1.0)
    return _one(Form(low=low, high=high, grain=1))


def _monotone(function: Callable[[AnyArray], AnyArray]) -> _Rule:
    def rule(band: Band, _: bool, x: Form) -> list[Case]:
        with np.errstate(all="ignore"):
            low, high = (float(n) for n in function(np.array(x.bounds(band))))
        return _one(UNKNOWN if isnan(low) or isnan(high) else Form(low=low, high=high))

    return rule


_RULES: dict[str, _Rule] = {
    "Add": lambda _, __, x, y: _one(x + y),
    "Sum": lambda _, __, x, y: _one(x + y),
    "Sub": lambda _, __, x, y: _one(x + -y),
    "Neg": lambda _, __, x: _one(-x),
    "Identity": lambda _, __, x: _one(x),
    "Not": lambda _, __, x: _one(_TRUE + -x),
    "Mul": _times,
    "Div": _divided,
    "Mod": _rest,
    "Floor": _floor,
    "Ceil": _ceil,
    "Trunc": lambda band, _, x: _one(_cut(x, band)),
    "Abs": _absolute,
    "Max": _choose(larger=True),
    "Or": _choose(larger=True),
    "Min": _choose(larger=False),
    "And": _choose(larger=False),
    "Xor": _xor,
    "Less": _less(or_equal=False, swapped=False),
    "LessOrEqual": _less(or_equal=True, swapped=False),
    "Greater": _less(or_equal=False, swapped=True),
    "GreaterOrEqual": _less(or_equal=True, swapped=True),
    "Equal": _equal,
    "IsNaN": lambda _, __, x: _one(_FALSE if isfinite(x.low) and isfinite(x.high) else Form(high=1, grain=1)),
    "Exp": _monotone(np.exp),
    "Log": _monotone(np.log),
    "Sqrt": _monotone(np.sqrt),
    "Tanh": _monotone(np.tanh),
    "Sigmoid": _monotone(lambda x: 1 / (1 + np.exp(-x))),
}
