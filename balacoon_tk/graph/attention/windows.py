"""What an attention computes of the positions of its queries and keys, apart from any graph.

An `Expression` is one value, its axes those of the scores: batch, heads (in groups, perhaps), queries, keys.
It holds whatever part of the square of an utterance's steps is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.attention.band_rules import infer
from balacoon_tk.graph.attention.bands import Cases, anything, constant, position, table

N_AXES = 5  # of every expression, so that none has to be aligned with another
QUERIES, KEYS = -2, -1
"""The axes of scores along which the queries and the keys lie."""

WINDOW, REFUSAL = "window", "refusal"
"""Under which a node that stands for an attention holds its `Window`, or why there is none."""

NARROW = frozenset(
    getattr(ir.DataType, name) for name in ("FLOAT16", "BFLOAT16", "INT8", "UINT8", "INT16", "UINT16")
)
"""Types that can't hold each position."""

Terms = tuple[str, str, str]

Axes = tuple[int | None, ...]
"""Where each axis of a tensor lies in the scores, counted from their end; None where it has one element."""


@dataclass(frozen=True, slots=True, eq=False)
class Expression:
    """One value: an operator of the graph on others, or what there is without one.

    Those without inputs are ``constant``, ``value`` (computed, but not of the utterance), ``position`` (of
    queries or keys, int64), ``scores`` and ``probabilities``.
    """

    op_type: str
    inputs: tuple[Expression | None, ...] = ()
    node: ir.Node | None = None
    """The node whose attributes it has."""
    array: AnyArray | None = None
    value: ir.Value | None = None
    axes: Axes = ()
    """Of a position its one axis; of a table the axes of the scores by which its own are looked up."""
    to: ir.DataType | None = None
    """The type that a Cast is to, where there is no node."""
    integers: bool = False
    """Whether it gives integers."""
    shape: tuple[int, ...] = ()
    """Of a computed value, with all axes."""

    @property
    def cast_to(self) -> ir.DataType | None:
        """The type that a Cast is to."""
        return self.to if self.node is None else ir.DataType(self.node.attributes["to"].as_int())


def call(op_type: str, *inputs: Expression | None, to: ir.DataType | None = None) -> Expression:
    """Return an operator without attributes on some expressions."""
    return Expression(op_type, inputs, to=to)


def number(value: AnyArray) -> Expression:
    """Return a constant of one element."""
    return Expression("constant", array=np.asarray(value).reshape((1,) * N_AXES))


def positions(axis: int) -> Expression:
    """Return the positions of the queries or of the keys."""
    return Expression("position", axes=(axis,))


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Which keys a query of an attention sees, and how it is computed from the product of the two."""

    left: int | None
    """Steps before its own; None if a query sees all of them."""
    right: int
    """Steps after its own."""
    scores: Expression
    """What the softmax is taken of."""
    weights: Expression
    """What values are summed with."""
    n_axes: int
    """Axes of the weights in the graph."""
    products: tuple[ir.Node, ir.Node]
    """The product of queries and keys, and that of weights and values."""
    axes: tuple[int, int, int, int]
    """Where queries, keys, values and the result have time."""
    terms: tuple[Terms, Terms]
    """The axes of both products as letters: of their operands, and of what they give."""
    max_frames: int | None = None
    """Frames of the longest utterance, where a query sees all before."""

    def computed(self) -> list[ir.Value]:
        """Return the values of the graph that it is computed from besides queries, keys and values."""
        items = [*within(self.scores), *within(self.weights)]
        return list(dict.fromkeys(item.value for item in items if item.value is not None))


def within(expression: Expression) -> Iterator[Expression]:
    """Yield an expression and those that it is made of, each once."""
    seen: set[Expression] = set()
    pending = [expression]
    while pending:
        item = pending.pop()
        if item not in seen:
            seen.add(item)
            yield item
            pending += (value for value in item.inputs if value is not None)


def cases_of(expression: Expression, leaves: Mapping[str, Cases], *, diagonal: bool = False) -> Cases:
    """Return what is known of an expression's elements, or of those alone whose query is their key."""
    known: dict[Expression, Cases] = {}

    def of(item: Expression) -> Cases:
        if item not in known:
            known[item] = _cases(item, [() if i is None else of(i) for i in item.inputs], leaves, diagonal)
        return known[item]

    return of(expression)


def _cases(item: Expression, inputs: list[Cases], leaves: Mapping[str, Cases], diagonal: bool) -> Cases:
    if item.op_type in leaves:
        return leaves[item.op_type]
    if item.op_type == "position":
        return position(of_key=item.axes == (KEYS,) and not diagonal)
    if item.op_type == "table" and item.array is not None:
        return _table_cases(item.array, item.axes, diagonal)
    if item.op_type in ("constant", "lookup") and item.array is not None:
        return constant(item.array)
    if item.op_type == "Cast":
        return _cast_cases(item, inputs[0])
    return infer(item.op_type, inputs, integers=item.integers) if inputs else anything()


def _table_cases(array: AnyArray, axes: Axes, diagonal: bool) -> Cases:
    square = array.reshape(-1, *array.shape[-2:])[0]
    if QUERIES not in axes or KEYS not in axes or array.size != square.size:
        return constant(array)
    return constant(np.diagonal(square)) if diagonal else table(square)


def _cast_cases(item: Expression, cases: Cases) -> Cases:
    to = item.cast_to
    if to in NARROW and any(case.form.a or case.form.b for case in cases):
        # Far from the start a position is rounded, or begins anew.
        return anything()
    if to == ir.DataType.BOOL:
        return infer("Not", [infer("Equal", [cases, constant(np.zeros(1))])])
    if to is not None and np.issubdtype(to.numpy(), np.integer):
        return infer("Trunc", [cases])
    return cases
