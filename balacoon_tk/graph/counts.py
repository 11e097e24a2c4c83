"""Arithmetic on small tensors that depend on an utterance by its length only.

Each element is a function of the length (`balacoon_tk.graph.quasi_polynomial`), or None where it isn't
followed: of a shape one axis may be known and another not. Numbers in floating point count where a graph's
own arithmetic is exact; behind a quotient that isn't, only rounding to whole numbers is followed, which
gives the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any, overload

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.quasi_polynomial import QuasiPolynomial, UnprovenError, larger, remainder, smaller

_EXACT = 1024  # fractions of a step in floating point: below, sums and products aren't rounded

_Arguments = Sequence[AnyArray | None]


class Counts(Sequence[AnyArray]):
    """A small tensor as a function of the length; as a sequence, its values at the lengths seen.

    Parameters
    ----------
    values : array of QuasiPolynomial or None
        Its elements; where all are fixed, a plain array stands for them.
    n : tuple of int
        The lengths seen.
    dtype : numpy.dtype
    """

    def __init__(self, values: AnyArray, n: tuple[int, ...], dtype: np.dtype[Any] | None = None) -> None:
        self.n, self.dtype = n, values.dtype if dtype is None else dtype
        self._values = values

    @cached_property
    def values(self) -> AnyArray:
        """The elements as functions."""
        # Written out only where somebody computes with them: most constants of a graph are weights.
        return self._values if self._values.dtype == object else _as_functions(self._values)

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's own shape, which is the same at every length."""
        return self._values.shape

    @property
    def is_known(self) -> bool:
        """Whether all of its elements are."""
        return self._values.dtype != object or all(value is not None for value in self._values.flat)

    @cached_property
    def fixed(self) -> AnyArray | None:
        """The tensor itself, if it is the same at every length."""
        if self._values.dtype != object:
            return self._values
        numbers = [None if value is None else value.constant for value in self._values.flat]
        if any(number is None for number in numbers):
            return None
        return np.array(numbers, dtype=object).reshape(self.shape).astype(self.dtype)

    @overload
    def __getitem__(self, k: int) -> AnyArray: ...
    @overload
    def __getitem__(self, k: slice) -> Sequence[AnyArray]: ...
    def __getitem__(self, k: int | slice) -> AnyArray | Sequence[AnyArray]:
        if isinstance(k, slice):
            return [self[i] for i in range(len(self))[k]]
        if self._values.dtype != object:
            return self._values
        numbers = [value.at(self.n[k]) for value in self._values.flat]
        return np.array(numbers, dtype=object).reshape(self.shape).astype(self.dtype)

    def __len__(self) -> int:
        return len(self.n)

    def __str__(self) -> str:
        texts = ["?" if value is None else str(value) for value in self.values.flat]
        return texts[0] if len(texts) == 1 and not self.shape else f"[{', '.join(texts)}]"


def compute_counts(node: ir.Node, inputs: Sequence[Counts | None]) -> Counts | None:
    """Compute a node's output from its inputs (None: left out); None if it has no rule."""
    rule, given = _RULES.get(node.op_type), [column for column in inputs if column is not None]
    if rule is None or not given:
        return None
    # What else an operator reads (axes, bounds, a new shape) says where elements go: it must be fixed.
    if node.op_type not in _ARITHMETIC and any(c is not None and c.fixed is None for c in inputs[1:]):
        return None
    dtype = _dtype(node, given)
    if dtype is None:
        return None
    try:
        values = rule(node, [None if c is None else c.values for c in inputs])
        if node.op_type == "Div" and dtype.kind in "iu":
            values = _each(QuasiPolynomial.truncated)(node, [values])
    except UnprovenError:
        return None
    return None if values is None else Counts(np.asarray(values, object), given[0].n, dtype)


def shape_counts(node: ir.Node, shapes: Sequence[tuple[int, ...]], n: tuple[int, ...]) -> Counts | None:
    """Return what a Shape or Size node gives for an input of some shape at each length."""
    if len({len(shape) for shape in shapes}) != 1:
        return None
    # An axis is taken for a line in the length where the lengths seen lie on one.
    sizes: list[QuasiPolynomial | None] = [_line(n, column) for column in zip(*shapes, strict=True)]
    if node.op_type == "Size":
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            return None
        product = reduce(lambda a, b: a * b, known, QuasiPolynomial.of(1))
        return Counts(np.array(product, object), n, np.dtype(np.int64))
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(sizes))
    return Counts(np.array(sizes[start:end], object), n, np.dtype(np.int64))


def holds_counts(cast: ir.Node) -> bool:
    """Whether a Cast is to a type in which counts stay what they are."""
    # Bytes wrap round and half precision rounds: a length could come out as another one.
    return cast.attributes["to"].as_int() in _WIDE


_WIDE = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE)


def is_fixed(column: Counts) -> bool:
    """Whether a value is the same at every length."""
    return column.fixed is not None


def _line(n: tuple[int, ...], column: Sequence[int]) -> QuasiPolynomial | None:
    if len(set(column)) == 1:
        return QuasiPolynomial.of(column[0])
    try:
        return QuasiPolynomial.through(dict(zip(n, column, strict=True)))
    except UnprovenError:
        return None


def _as_functions(array: AnyArray) -> AnyArray:
    made: dict[Any, QuasiPolynomial | None] = {}
    for number in array.flat:
        if number.item() not in made:
            try:
                made[number.item()] = QuasiPolynomial.of(number.item())
            except UnprovenError:
                made[number.item()] = None
    return np.array([made[number.item()] for number in array.flat], object).reshape(array.shape)


def _dtype(node: ir.Node, given: Sequence[Counts]) -> np.dtype[Any] | None:
    if node.op_type in _COMPARISONS or node.op_type == "Not":
        return np.dtype(np.bool_)
    if node.op_type == "Cast":
        to = node.attributes["to"].as_int()
        return ir.DataType(to).numpy() if holds_counts(node) or to == ir.DataType.BOOL else None
    return given[-1].dtype if node.op_type == "Where" else given[0].dtype


# --- element by element --------------------------------------------------------------------------------


def _each(function: Callable[..., QuasiPolynomial]) -> Callable[[ir.Node, _Arguments], Any]:
    """Return the rule of an operator that computes element by element, on what is broadcast."""

    def compute(*elements: QuasiPolynomial | None) -> QuasiPolynomial | None:
        known = [element for element in elements if element is not None]
        try:
            return function(*known) if len(known) == len(elements) else None
        except UnprovenError:
            return None

    return lambda node, a: np.frompyfunc(compute, len(a), 1)(*map(_given, a))


def _exactly(function: Callable[..., QuasiPolynomial]) -> Callable[..., QuasiPolynomial]:
    """Let a function take only numbers that floating point has."""

    def compute(*elements: QuasiPolynomial) -> QuasiPolynomial:
        for element in elements:
            for number in (*element.head, *(c for own in element.classes for c in own)):
                # A power of 2 has one bit.
                if number.denominator > _EXACT or number.denominator & (number.denominator - 1):
                    raise UnprovenError("a number that floating point rounds")
        return function(*elements)

    return compute


def _modulo(node: ir.Node, a: _Arguments) -> Any:
    if node.attributes.get_int("fmod", 0):
        return _each(_exactly(lambda x, y: x - y * (x / y).truncated()))(node, a)
    return _each(_exactly(remainder))(node, a)


def _extreme(function: Callable[..., QuasiPolynomial]) -> Callable[[ir.Node, _Arguments], Any]:
    return lambda node, a: reduce(lambda x, y: _each(function)(node, [x, y]), a)


def _clip(node: ir.Node, a: _Arguments) -> Any:
    # Bounds are attributes before opset 11.
    result: Any = a[0]
    for k, (name, function) in enumerate((("min", larger), ("max", smaller)), start=1):
        bound: Any = a[k] if len(a) > k else None
        if bound is None and name in node.attributes:
            bound = _as_functions(np.asarray(node.attributes[name].as_float()))
        if bound is not None:
            result = _each(function)(node, [result, bound])
    return result


def _cast(node: ir.Node, a: _Arguments) -> Any:
    to = node.attributes["to"].as_int()
    if to == ir.DataType.BOOL:
        zero = QuasiPolynomial.of(0)
        return _each(lambda x: x.same(zero).same(zero))(node, a)
    return _each(QuasiPolynomial.truncated)(node, a) if to in _INTEGERS else a[0]


_INTEGERS = (ir.DataType.INT32, ir.DataType.INT64)


def _not(x: QuasiPolynomial) -> QuasiPolynomial:
    return QuasiPolynomial.of(1) - x


# --- elements that move --------------------------------------------------------------------------------


def _numbers(argument: AnyArray | None) -> list[int]:
    return [] if argument is None else [int(value.constant) for value in argument.reshape(-1)]


def _axes(node: ir.Node, a: _Arguments) -> tuple[int, ...]:
    # An attribute before opset 13, an input since.
    given = _numbers(a[1]) if len(a) > 1 else []
    return tuple(node.attributes.get_ints("axes", given))


def _gather(node: ir.Node, a: _Arguments) -> Any:
    places = np.array(_numbers(a[1]), np.int64).reshape(_given(a[1]).shape)
    return np.take(_given(a[0]), places, axis=node.attributes.get_int("axis", 0))


def _slice(node: ir.Node, a: _Arguments) -> Any:
    if len(a) < 3 or _given(a[0]).ndim != 1:
        return None
    step = _numbers(a[4])[0] if len(a) > 4 else 1
    return _given(a[0])[_numbers(a[1])[0] : _numbers(a[2])[0] : step]


def _reshape(node: ir.Node, a: _Arguments) -> Any:
    shape = _numbers(a[1])
    # A 0 keeps the input's size there, unless an attribute says that it is none: not worth following.
    return _given(a[0]).reshape(shape) if 0 not in shape else None


def _expand(node: ir.Node, a: _Arguments) -> Any:
    return np.broadcast_to(_given(a[0]), np.broadcast_shapes(_given(a[0]).shape, tuple(_numbers(a[1]))))


def _reduce(node: ir.Node, a: _Arguments) -> Any:
    values = _given(a[0])
    axes = tuple(axis % values.ndim for axis in _axes(node, a)) or tuple(range(values.ndim))
    if set(axes) != set(range(values.ndim)) or not values.size:
        return None
    function = _REDUCTIONS[node.op_type]
    result = reduce(lambda x, y: _each(function)(node, [x, y]), [np.array(v, object) for v in values.flat])
    return np.reshape(result, (1,) * values.ndim if node.attributes.get_int("keepdims", 1) else ())


def _given(argument: AnyArray | None) -> AnyArray:
    if argument is None:
        raise UnprovenError("an input that is left out")
    return argument


_REDUCTIONS: Mapping[str, Callable[..., QuasiPolynomial]] = {
    "ReduceMax": larger,
    "ReduceMin": smaller,
    "ReduceProd": lambda x, y: x * y,
    "ReduceSum": lambda x, y: x + y,
}
_COMPARISONS: Mapping[str, Callable[..., QuasiPolynomial]] = {
    "Equal": lambda x, y: x.same(y),
    "Less": lambda x, y: x < y,
    "LessOrEqual": lambda x, y: x <= y,
    "Greater": lambda x, y: y < x,
    "GreaterOrEqual": lambda x, y: y <= x,
}
_RULES: dict[str, Callable[[ir.Node, _Arguments], Any]] = {
    "Abs": _each(lambda x: larger(x, -x)),
    "Add": _each(_exactly(lambda x, y: x + y)),
    "And": _each(smaller),
    "Cast": _cast,
    "Ceil": _each(QuasiPolynomial.ceil),
    "Clip": _clip,
    "Concat": lambda node, a: np.concatenate(list(map(_given, a)), axis=node.attributes.get_int("axis", 0)),
    "Div": _each(_exactly(lambda x, y: x / y)),
    "Expand": _expand,
    "Floor": _each(QuasiPolynomial.floor),
    "Gather": _gather,
    "Identity": lambda _, a: a[0],
    "Max": _extreme(larger),
    "Min": _extreme(smaller),
    "Mod": _modulo,
    "Mul": _each(_exactly(lambda x, y: x * y)),
    "Neg": _each(lambda x: -x),
    "Not": _each(_not),
    "Or": _each(larger),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": lambda node, a: np.squeeze(_given(a[0]), _axes(node, a) or None),
    "Sub": _each(_exactly(lambda x, y: x - y)),
    "Unsqueeze": lambda node, a: np.expand_dims(_given(a[0]), _axes(node, a)),
    "Where": _each(lambda condition, x, y: condition.choose(x, y)),
    **{name: _each(function) for name, function in _COMPARISONS.items()},
}
# All of whose inputs may vary with the length; the others only move their first one's elements.
_ARITHMETIC = frozenset(
    {"Add", "And", "Clip", "Concat", "Div", "Max", "Min", "Mod", "Mul", "Or", "Sub", "Where", *_COMPARISONS}
)
