"""Arithmetic on small tensors that depend on an utterance by its length only.

Only operators that keep them polynomials in the length have a rule here; ``Div``, ``Mod`` and ``Min``
have none, because what they give at three lengths says nothing about a fourth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray

Counts = tuple[AnyArray, ...]  # a small tensor at each of several lengths
_Arguments = Sequence[Any]  # arrays; None for an input that is left out


def compute_counts(node: ir.Node, inputs: Sequence[Counts | None]) -> Counts | None:
    """Compute a node's output from its inputs (None: left out) at each length; None if it has no rule."""
    rule = _RULES.get(node.op_type)
    given = [column for column in inputs if column is not None]
    if rule is None or not given:
        return None
    if node.op_type not in _ARITHMETIC and not all(
        column is None or is_fixed(column) for column in inputs[1:]
    ):
        return None
    results = [rule(node, [c if c is None else c[k] for c in inputs]) for k in range(len(given[0]))]
    return None if any(result is None for result in results) else tuple(map(np.asarray, results))


def shape_counts(node: ir.Node, shape: tuple[int, ...]) -> AnyArray:
    """Return what a Shape or Size node gives for an input of some shape."""
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64))
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(shape))
    return np.array(shape[start:end], dtype=np.int64)


def holds_counts(cast: ir.Node) -> bool:
    """Whether a Cast is to a type in which counts stay what they are."""
    # Bytes wrap round and half precision rounds: a length could come out as another one.
    return cast.attributes["to"].as_int() in _WIDE


_WIDE = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE)


def is_fixed(column: Sequence[AnyArray]) -> bool:
    """Whether a value is the same at all of the lengths."""
    return all(np.array_equal(array, column[0]) for array in column)


def _axes(node: ir.Node, arguments: _Arguments) -> tuple[int, ...]:
    # An attribute before opset 13, an input since.
    given = arguments[1] if len(arguments) > 1 else ()
    return tuple(int(axis) for axis in node.attributes.get_ints("axes", given))


def _slice(node: ir.Node, arguments: _Arguments) -> Any:
    if len(arguments) < 3 or arguments[0].ndim != 1:
        return None
    step = int(arguments[4].item()) if len(arguments) > 4 else 1
    return arguments[0][int(arguments[1].item()) : int(arguments[2].item()) : step]


def _reshape(node: ir.Node, arguments: _Arguments) -> Any:
    shape = [int(n) for n in arguments[1]]
    # A 0 keeps the input's size there, unless an attribute says that it is none: not worth following.
    return arguments[0].reshape(shape) if 0 not in shape else None


def _cast(node: ir.Node, arguments: _Arguments) -> Any:
    dtype = ir.DataType(node.attributes["to"].as_int()).numpy()
    return arguments[0].astype(dtype) if holds_counts(node) else None


def _reduce(node: ir.Node, arguments: _Arguments) -> Any:
    # Of one element, where nothing but the rank can change.
    if arguments[0].size != 1:
        return None
    n_axes = len(_axes(node, arguments)) or arguments[0].ndim
    rank = arguments[0].ndim if node.attributes.get_int("keepdims", 1) else arguments[0].ndim - n_axes
    return arguments[0].reshape((1,) * rank)


def _at_least(node: ir.Node, arguments: _Arguments) -> Any:
    # Clip from below at 1 or less: there is no sequence of no steps, so nothing is clipped.
    lowest = arguments[1] if len(arguments) > 1 else None
    if any(argument is not None for argument in arguments[2:]) or lowest is None or "max" in node.attributes:
        return None
    kept = lowest.size == 1 and lowest.item() <= 1 and (arguments[0] >= lowest).all()
    return arguments[0] if kept else None


_RULES: dict[str, Callable[[ir.Node, _Arguments], Any]] = {
    "Add": lambda _, a: a[0] + a[1],
    "Cast": _cast,
    "Clip": _at_least,
    "Concat": lambda node, a: np.concatenate(a, axis=node.attributes.get_int("axis", 0)),
    "Gather": lambda node, a: np.take(a[0], a[1], axis=node.attributes.get_int("axis", 0)),
    "Identity": lambda _, a: a[0],
    "Max": _at_least,
    "Mul": lambda _, a: a[0] * a[1],
    "Neg": lambda _, a: -a[0],
    **dict.fromkeys(("ReduceMax", "ReduceMin", "ReduceProd", "ReduceSum"), _reduce),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": lambda node, a: np.squeeze(a[0], _axes(node, a) or None),
    "Sub": lambda _, a: a[0] - a[1],
    "Unsqueeze": lambda node, a: np.expand_dims(a[0], _axes(node, a)),
}

# All of whose inputs may vary with the length; the others only keep their first one's elements.
_ARITHMETIC = frozenset({"Add", "Concat", "Mul", "Sub"})
