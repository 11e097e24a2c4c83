"""Exact arithmetic on what depends on a length: quasi-polynomials of the number of steps.

A graph computes paddings, bounds and masks from the length n of its input: ``ceil((n - k + p) / s)``,
``n - n % s``, ``Min(n, 1)``. What such an expression gives at a few lengths proves nothing of another one. So
it is computed as a function of n = 1, 2, 3, …: a polynomial for each residue of n modulo a period, with a few
numbers that come before these hold (Stanley, Enumerative Combinatorics I, 4.4). Sums, products, floors,
remainders, minima and comparisons of such functions are such functions again, so that two expressions can be
compared, and one be seen to be constant, by looking at them.

Numbers are rational: in floating point a graph gives the same as long as lengths stay below 2**22, which is
four minutes of samples. What can't be followed raises `UnprovenError`: degrees above 2, quotients that are no
polynomials, and functions of which more than some thousand numbers would have to be written down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import zip_longest
from math import floor, isfinite, lcm
from typing import TypeAlias

Number: TypeAlias = "int | float | Fraction"
Polynomial: TypeAlias = tuple[Fraction, ...]
"""Coefficients from that of n**0 on, without zeros at the end."""

_MAX_DEGREE = 2
_MAX_PERIOD = 1024
_MAX_HEAD = 4096


class UnprovenError(ValueError):
    """An expression that isn't followed."""


@dataclass(frozen=True)
class QuasiPolynomial:
    """A function of a whole number n, from 1 on.

    Attributes
    ----------
    head : tuple of Fraction
        Its values at n = 1, 2, …, ``len(head)``.
    classes : tuple of polynomials
        For every larger n the one at index ``n % len(classes)``.
    """

    head: tuple[Fraction, ...]
    classes: tuple[Polynomial, ...]

    @classmethod
    def make(cls, head: tuple[Fraction, ...], classes: tuple[Polynomial, ...]) -> QuasiPolynomial:
        """Return it in its one shortest form, so that equal functions are equal."""
        for period in (k for k in range(1, len(classes)) if len(classes) % k == 0):
            if all(own == classes[k % period] for k, own in enumerate(classes)):
                classes = classes[:period]
                break
        length = len(head)
        while length and head[length - 1] == _value(classes[length % len(classes)], length):
            length -= 1
        if len(classes) > _MAX_PERIOD or length > _MAX_HEAD or max(map(len, classes)) > _MAX_DEGREE + 1:
            raise UnprovenError("no quasi-polynomial of moderate size")
        return cls(head[:length], classes)

    @classmethod
    def of(cls, number: Number) -> QuasiPolynomial:
        """Return a number as a function that is always that."""
        if not isfinite(number):
            raise UnprovenError(f"{number} is no number")
        return cls((), (_trim((Fraction(number),)),))

    @classmethod
    def through(cls, points: dict[int, int]) -> QuasiPolynomial:
        """Return the line through points, of n and a value; raise if they don't lie on one."""
        (x, y), *others = points.items()
        if not others:
            return cls.of(y)
        slope = Fraction(others[0][1] - y, others[0][0] - x)
        line = _trim((y - slope * x, slope))
        if any(_value(line, n) != value for n, value in others):
            raise UnprovenError("no line")
        return cls((), (line,))

    def at(self, n: int) -> Fraction:
        """Return its value at a length."""
        return self.head[n - 1] if n <= len(self.head) else _value(self.classes[n % len(self.classes)], n)

    @cached_property
    def constant(self) -> Fraction | None:
        """The one number that it always is; None if there is none."""
        first = self.classes[0]
        if self.head or len(self.classes) > 1 or len(first) > 1:
            return None
        return first[0] if first else Fraction(0)

    def __str__(self) -> str:
        period = len(self.classes)
        if period > 1:
            parts = [f"{_written(own)} where n % {period} = {k}" for k, own in enumerate(self.classes)]
            return "; ".join(parts if period <= 4 else [*parts[:3], "…"])
        text = _written(self.classes[0])
        return f"{text} from n = {len(self.head) + 1} on" if self.head else text

    def __add__(self, other: QuasiPolynomial) -> QuasiPolynomial:
        return self._with(other, lambda a, b: a + b, _sum)

    def __neg__(self) -> QuasiPolynomial:
        return self * QuasiPolynomial.of(-1)

    def __sub__(self, other: QuasiPolynomial) -> QuasiPolynomial:
        return self + -other

    def __mul__(self, other: QuasiPolynomial) -> QuasiPolynomial:
        return self._with(other, lambda a, b: a * b, _product)

    def __truediv__(self, other: QuasiPolynomial) -> QuasiPolynomial:
        if other.constant == 0 or 0 in other.head:
            raise UnprovenError("a quotient by 0")
        return self._with(other, lambda a, b: a / b, _quotient)

    def floor(self) -> QuasiPolynomial:
        """Return the largest whole numbers that aren't above it."""
        # With its coefficients' common denominator d, d * p(n) modulo d depends on n modulo d alone.
        denominators = [lcm(*(c.denominator for c in own), 1) for own in self.classes]
        period = lcm(len(self.classes), *denominators)
        if period > _MAX_PERIOD:
            raise UnprovenError("a period that is too long")
        classes = []
        for k in range(period):
            own = self.classes[k % len(self.classes)]
            classes.append(_sum(own, _trim((-(_value(own, k) % 1),))))
        return QuasiPolynomial.make(tuple(Fraction(floor(x)) for x in self.head), tuple(classes))

    def ceil(self) -> QuasiPolynomial:
        """Return the smallest whole numbers that aren't below it."""
        return -(-self).floor()

    def truncated(self) -> QuasiPolynomial:
        """Return it rounded towards 0, as casts and quotients of integers are."""
        return (self < QuasiPolynomial.of(0)).choose(self.ceil(), self.floor())

    def __lt__(self, other: QuasiPolynomial) -> QuasiPolynomial:
        """Return a function that is 1 where it is below another one, and 0 elsewhere."""
        return (self - other)._signs(lambda sign: sign < 0)

    def __le__(self, other: QuasiPolynomial) -> QuasiPolynomial:
        return (self - other)._signs(lambda sign: sign <= 0)

    def same(self, other: QuasiPolynomial) -> QuasiPolynomial:
        """Return a function that is 1 where both are equal, and 0 elsewhere."""
        return (self - other)._signs(lambda sign: sign == 0)

    def choose(self, yes: QuasiPolynomial, no: QuasiPolynomial) -> QuasiPolynomial:
        """Return one function where this one isn't 0, and another one where it is."""
        holds = self.same(QuasiPolynomial.of(0))
        length = max(len(holds.head), len(yes.head), len(no.head))
        period = lcm(len(holds.classes), len(yes.classes), len(no.classes))
        if period > _MAX_PERIOD:
            raise UnprovenError("a period that is too long")
        head = tuple((no if holds.at(n) else yes).at(n) for n in range(1, length + 1))
        chosen = (no if holds.classes[k % len(holds.classes)] else yes for k in range(period))
        return QuasiPolynomial.make(head, tuple(f.classes[k % len(f.classes)] for k, f in enumerate(chosen)))

    def _with(
        self,
        other: QuasiPolynomial,
        of_numbers: Callable[[Fraction, Fraction], Fraction],
        of_polynomials: Callable[[Polynomial, Polynomial], Polynomial],
    ) -> QuasiPolynomial:
        length = max(len(self.head), len(other.head))
        period = lcm(len(self.classes), len(other.classes))
        if period > _MAX_PERIOD:
            raise UnprovenError("a period that is too long")
        head = tuple(of_numbers(self.at(n), other.at(n)) for n in range(1, length + 1))
        a, b = self.classes, other.classes
        classes = (of_polynomials(a[k % len(a)], b[k % len(b)]) for k in range(period))
        return QuasiPolynomial.make(head, tuple(classes))

    def _signs(self, holds: Callable[[Fraction], bool]) -> QuasiPolynomial:
        # Beyond Cauchy's bound for its roots a polynomial has the sign of its leading coefficient.
        last = len(self.head)
        for own in self.classes:
            if len(own) > 1:
                last = max(last, 1 + floor(max(abs(c / own[-1]) for c in own[:-1])))
        if last > _MAX_HEAD:
            raise UnprovenError("a comparison that changes far out")
        head = tuple(Fraction(holds(self.at(n))) for n in range(1, last + 1))
        signs = (own[-1] if own else Fraction(0) for own in self.classes)
        return QuasiPolynomial.make(head, tuple(_trim((Fraction(holds(sign)),)) for sign in signs))


def smaller(a: QuasiPolynomial, b: QuasiPolynomial) -> QuasiPolynomial:
    """Return the smaller of two functions, at each length."""
    return (a < b).choose(a, b)


def larger(a: QuasiPolynomial, b: QuasiPolynomial) -> QuasiPolynomial:
    """Return the larger of two functions, at each length."""
    return (a < b).choose(b, a)


def remainder(a: QuasiPolynomial, b: QuasiPolynomial) -> QuasiPolynomial:
    """Return what is left of a quotient that is rounded down: it has the sign of `b`."""
    return a - b * (a / b).floor()


def _trim(coefficients: tuple[Fraction, ...]) -> Polynomial:
    while coefficients and not coefficients[-1]:
        coefficients = coefficients[:-1]
    return coefficients


def _value(polynomial: Polynomial, n: int) -> Fraction:
    return sum((c * n**k for k, c in enumerate(polynomial)), Fraction(0))


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    return _trim(tuple(x + y for x, y in zip_longest(a, b, fillvalue=Fraction(0))))


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    result = [Fraction(0)] * max(0, len(a) + len(b) - 1)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            result[i + j] += x * y
    return _trim(tuple(result))


def _quotient(a: Polynomial, b: Polynomial) -> Polynomial:
    # By long division; a rest would make it no polynomial.
    if not b:
        raise UnprovenError("a quotient by 0")
    rest, result = list(a), [Fraction(0)] * max(0, len(a) - len(b) + 1)
    for k in reversed(range(len(result))):
        result[k] = rest[k + len(b) - 1] / b[-1]
        for j, y in enumerate(b):
            rest[k + j] -= result[k] * y
    if any(rest):
        raise UnprovenError("a quotient that is no polynomial")
    return _trim(tuple(result))


def _written(polynomial: Polynomial) -> str:
    terms = []
    for power, c in reversed(list(enumerate(polynomial))):
        if not c:
            continue
        factor = "" if power and abs(c) == 1 else f"{abs(c)}"
        variable = ["", "n", "n**2"][power]
        terms.append(f"{'-' if c < 0 else '+'} {'*'.join(part for part in (factor, variable) if part)}")
    text = " ".join(terms) or "+ 0"
    return text[2:] if text.startswith("+ ") else f"-{text[2:]}"
