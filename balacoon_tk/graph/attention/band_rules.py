"""What operators make of what is known of their inputs (`bands`), carried through a mask.

A comparison splits bands, arithmetic works on the bounds, and what an operator without a rule gives may be
anything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from math import isfinite, isnan

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.attention.bands import ALL, CLOSE, NONE, UNKNOWN, Band, Case, Cases, Form, anything

_MAX_CASES = 64


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


def _never_negative(x: Form, band: Band) -> bool:
    # Positions count from 0.
    return x.bounds(band)[0] >= 0 or (min(x.a, x.b) >= 0 and x.low >= 0)


def _absolute(band: Band, _: bool, x: Form) -> list[Case]:
    if _never_negative(x, band):
        return _one(x)
    return [Case(x.at_least(0), x), Case(x.at_most(0), -x)]


def _sign(band: Band, _: bool, x: Form) -> list[Case]:
    found = [Case(x.at_least(0), _TRUE), Case(x.at_most(0) & x.at_least(0), _FALSE)]
    return found if _never_negative(x, band) else [*found, Case(x.at_most(0), -_TRUE)]


def _times(band: Band, _: bool, x: Form, y: Form) -> list[Case]:
    for one, other in ((x, y), (y, x)):
        if one.point is not None and isfinite(one.point):
            # A factor that isn't whole rounds, and what is rounded may fall below the whole number it was.
            made = other.times(one.point)
            return _one(made if one.grain else replace(made, grain=0.0))
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


def _most_lost(x: Form) -> float:
    """Return how far at most a number is from the whole one below it."""
    if x.grain and x.grain % 1 == 0:
        return 0.0
    is_share = x.grain and abs(1 / x.grain - round(1 / x.grain)) < CLOSE
    return 1 - x.grain if is_share else 1.0


def _cut(x: Form, band: Band) -> Form:
    _, high = x.bounds(band)
    lost = _most_lost(x)
    high_lost = 0 if _never_negative(x, band) else lost
    return replace(x, low=x.low - (lost if high > 0 else 0), high=x.high + high_lost, grain=1.0)


def _floor(_: Band, __: bool, x: Form) -> list[Case]:
    return _one(replace(x, low=x.low - _most_lost(x), grain=1.0))


def _ceil(_: Band, __: bool, x: Form) -> list[Case]:
    return _one(replace(x, high=x.high + _most_lost(x), grain=1.0))


def _rest(band: Band, _: bool, x: Form, y: Form) -> list[Case]:
    if y.point is None or y.point <= 0 or not isfinite(y.point):
        return _one(UNKNOWN)
    # With fmod that of a negative number is negative.
    negative = x.bounds(band)[0] < 0
    step = 0.0 if _most_lost(x) or _most_lost(y) else 1.0
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
    "Sign": _sign,
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
