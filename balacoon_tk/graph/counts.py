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

_Arguments = Sequence[Any]  # arrays; None for an input that is left out


def compute_counts(
    node: ir.Node, inputs: Sequence[tuple[AnyArray, ...] | None]
) -> tuple[AnyArray, ...] | None:
    """Compute a node's output at each of several lengths; None if it has no rule.

    Parameters
    ----------
    node : ir.Node
    inputs : sequence of tuple of ndarray
        The value of every input at each length; None for an input that is left out.
    """
    rule = _RULES.get(node.op_type)
    given = [column for column in inputs if column is not None]
    if rule is None or not given:
        return None
    if node.op_type not in _ARITHMETIC and not all(map(_is_fixed, inputs[1:])):
        return None
    results = []
    for k in range(len(given[0])):
        result = rule(node, [None if column is None else column[k] for column in inputs])
        if result is None:
            return None
        results.append(np.asarray(result))
    return tuple(results)


def shape_counts(node: ir.Node, shape: tuple[int, ...]) -> AnyArray:
    """Return what a Shape or Size node gives for an input of some shape."""
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64))
    start, end = _int(node, "start", 0), _int(node, "end", len(shape))
    return np.array(shape[start:end], dtype=np.int64)


def holds_counts(cast: ir.Node) -> bool:
    """Whether a Cast is to a type in which counts stay what they are."""
    return cast.attributes["to"].as_int() in _WIDE


_WIDE = (ir.DataType.INT32, ir.DataType.INT64, ir.DataType.FLOAT, ir.DataType.DOUBLE)


def _is_fixed(column: tuple[AnyArray, ...] | None) -> bool:
    return column is None or all(np.array_equal(array, column[0]) for array in column)


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default


def _axes(node: ir.Node, arguments: _Arguments) -> list[int]:
    if "axes" in node.attributes:  # before opset 13
        return list(node.attributes["axes"].as_ints())
    return [int(axis) for axis in arguments[1]] if len(arguments) > 1 else []


def _gather(node: ir.Node, arguments: _Arguments) -> AnyArray:
    result: AnyArray = np.take(arguments[0], arguments[1], axis=_int(node, "axis", 0))
    return result


def _slice(node: ir.Node, arguments: _Arguments) -> AnyArray | None:
    if len(arguments) < 3 or arguments[0].ndim != 1:
        return None
    step = int(arguments[4].item()) if len(arguments) > 4 else 1
    result: AnyArray = arguments[0][int(arguments[1].item()) : int(arguments[2].item()) : step]
    return result


def _concat(node: ir.Node, arguments: _Arguments) -> AnyArray:
    return np.concatenate(arguments, axis=_int(node, "axis", 0))


def _unsqueeze(node: ir.Node, arguments: _Arguments) -> AnyArray:
    return np.expand_dims(arguments[0], tuple(_axes(node, arguments)))


def _squeeze(node: ir.Node, arguments: _Arguments) -> AnyArray:
    axes = _axes(node, arguments)
    result: AnyArray = np.squeeze(arguments[0], tuple(axes) if axes else None)
    return result


def _reshape(node: ir.Node, arguments: _Arguments) -> AnyArray | None:
    shape = [int(n) for n in arguments[1]]
    result: AnyArray | None = arguments[0].reshape(shape) if 0 not in shape else None
    return result


def _cast(node: ir.Node, arguments: _Arguments) -> AnyArray | None:
    dtype = ir.DataType(node.attributes["to"].as_int()).numpy()
    result: AnyArray | None = arguments[0].astype(dtype) if holds_counts(node) else None
    return result


def _reduce(node: ir.Node, arguments: _Arguments) -> AnyArray | None:
    """Reduce one element, where nothing but the rank can change."""
    if arguments[0].size != 1:
        return None
    n_axes = len(_axes(node, arguments)) or arguments[0].ndim
    rank = arguments[0].ndim if _int(node, "keepdims", 1) else arguments[0].ndim - n_axes
    result: AnyArray = arguments[0].reshape((1,) * rank)
    return result


def _at_least(node: ir.Node, arguments: _Arguments) -> AnyArray | None:
    """Clip from below at 1 or less: there is no sequence of no steps, so nothing is clipped."""
    lowest = arguments[1] if len(arguments) > 1 else None
    if any(argument is not None for argument in arguments[2:]) or lowest is None or "max" in node.attributes:
        return None
    kept = lowest.size == 1 and lowest.item() <= 1 and (arguments[0] >= lowest).all()
    result: AnyArray | None = arguments[0] if kept else None
    return result


_RULES: dict[str, Callable[[ir.Node, _Arguments], AnyArray | None]] = {
    "Add": lambda _, a: a[0] + a[1],
    "Cast": _cast,
    "Clip": _at_least,
    "Concat": _concat,
    "Gather": _gather,
    "Identity": lambda _, a: a[0],
    "Max": _at_least,
    "Mul": lambda _, a: a[0] * a[1],
    "Neg": lambda _, a: -a[0],
    "ReduceMax": _reduce,
    "ReduceMin": _reduce,
    "ReduceProd": _reduce,
    "ReduceSum": _reduce,
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Sub": lambda _, a: a[0] - a[1],
    "Unsqueeze": _unsqueeze,
}

_ARITHMETIC = frozenset({"Add", "Concat", "Mul", "Sub"})
"""Operators all of whose inputs may vary with the length; others only keep their first one's elements."""
