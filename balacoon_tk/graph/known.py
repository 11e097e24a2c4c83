"""Values that can be told without data: masks that are all ones, zeros made from shapes, lengths.

One pass over the graph in its order. Three things are known of a value, if anything:

- *uniform*: every element is the same number, whatever the inputs are;
- *counts*: a small tensor that depends on the inputs by their lengths only;
- *ramp*: its elements are of 0, 1, …, limit - 1, the limit being a count.

A sequence mask, ``Range(0, n) < n``, is uniform because a ramp lies below its own limit. Counts are
computed at each of several lengths from the shapes seen there, and only by operators that keep
them polynomials in the length, so that counts that agree at three lengths agree at every one (up to
the second degree; a count of more than an area doesn't occur).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.counts import compute_counts, holds_counts, shape_counts

Shapes = Mapping[str, Sequence[tuple[int, ...]]]
"""The shape of every tensor, by name, at each of several lengths."""

_MAX_COUNTS = 64  # elements; shapes, bounds and lengths are far smaller
_Counts = tuple[AnyArray, ...]


@dataclass(slots=True)
class Known:
    """What is known of the values of a graph."""

    shapes: Shapes
    uniform: dict[ir.Value, np.generic] = field(default_factory=dict)
    counts: dict[ir.Value, _Counts] = field(default_factory=dict)
    ramps: dict[ir.Value, tuple[float, ...]] = field(default_factory=dict)

    def shapes_of(self, value: ir.Value) -> Sequence[tuple[int, ...]] | None:
        """Return the shape of a value at each of the lengths, None if it wasn't seen."""
        if value.const_value is not None:
            n_lengths = len(next(iter(self.shapes.values()), ()))
            return [tuple(value.const_value.shape.numpy())] * n_lengths
        return self.shapes.get(value.name or "")

    def same_shape(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether two values have the same shape at all of the lengths."""
        shapes_a, shapes_b = self.shapes_of(a), self.shapes_of(b)
        return shapes_a is not None and shapes_b is not None and list(shapes_a) == list(shapes_b)

    def learn(self, node: ir.Node) -> None:
        """Add what is known of a node's outputs, given what is known of its inputs."""
        if node.domain not in ("", "ai.onnx") or not node.outputs:
            return
        counts, ramp, uniform = _counts(node, self), _ramp(node, self), _uniform(node, self)
        first = node.outputs[0]
        if counts is not None and all(array.size <= _MAX_COUNTS for array in counts):
            self.counts[first] = counts
            if uniform is None:
                uniform = _single(counts)
        if ramp is not None:
            self.ramps[first] = ramp
        if uniform is not None:
            self.uniform.update(dict.fromkeys(node.outputs, uniform))

    def learn_constant(self, value: ir.Value) -> None:
        """Add what is known of an initializer."""
        if value.const_value is None or value.const_value.dtype == ir.DataType.STRING:
            return
        array = value.const_value.numpy()
        if array.size <= _MAX_COUNTS and array.dtype.kind in "iufb":
            n_lengths = len(next(iter(self.shapes.values()), ()))
            self.counts[value] = (array,) * n_lengths
        number = _single((array,))
        if number is not None:
            self.uniform[value] = number


def read_known(graph: ir.Graph, shapes: Shapes) -> Known:
    """Find what is known of every value of a graph.

    Parameters
    ----------
    graph : ir.Graph
        Sorted topologically, its constants lifted to initializers.
    shapes : mapping of str to sequence of tuple
        Shapes that the graph's tensors had when it was run at three or more lengths.
    """
    known = Known(shapes)
    for value in graph.initializers.values():
        if not value.is_graph_input():
            known.learn_constant(value)
    for node in graph:
        known.learn(node)
    return known


def _single(arrays: _Counts) -> np.generic | None:
    """Return the number that all elements of all arrays are equal to, if there is one."""
    if not arrays or any(array.size == 0 for array in arrays):
        return None
    first: np.generic = arrays[0].flat[0]
    # Most weights part company at their second element: look there before at millions.
    if arrays[0].size > 1 and arrays[0].flat[1] != first:
        return None
    return first if all((array == first).all() for array in arrays) else None


# --- uniform ---------------------------------------------------------------------------------

_SPREAD = frozenset(
    {
        *("Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice"),
        *("Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Their outputs hold nothing but elements of the first input."""

_ONE: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Exp": np.exp,
    "Floor": np.floor,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Sqrt": np.sqrt,
}

_TWO: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "Or": np.logical_or,
    "Sub": np.subtract,
}


def _uniform(node: ir.Node, known: Known) -> np.generic | None:
    numbers = [None if value is None else known.uniform.get(value) for value in node.inputs]
    op_type = node.op_type
    if op_type == "ConstantOfShape":
        value = node.attributes.get("value")
        return np.float32(0) if value is None else _single((value.as_tensor().numpy(),))
    if op_type == "Where":
        return _uniform_where(numbers)
    if op_type == "Concat":
        return numbers[0] if all(n is not None and n == numbers[0] for n in numbers) else None
    first = numbers[0] if numbers else None
    if first is not None:
        if op_type in _SPREAD:
            return first
        if op_type == "Cast":
            return _cast(first, node)
        if op_type in _ONE:
            return _number(_ONE[op_type], first)
        if op_type in _TWO and len(numbers) == 2 and numbers[1] is not None:
            return _number(_TWO[op_type], first, numbers[1])
    return _compare_ramp(node, known)


def _uniform_where(numbers: Sequence[np.generic | None]) -> np.generic | None:
    condition, yes, no = numbers
    if condition is not None:
        return yes if condition else no
    return yes if yes is not None and no is not None and yes == no else None


def _number(function: Callable[..., Any], *arguments: np.generic) -> np.generic | None:
    with np.errstate(all="ignore"):
        result = function(*arguments)
    return result if isinstance(result, np.generic) and np.isfinite(result) else None


def _cast(number: np.generic, node: ir.Node) -> np.generic | None:
    try:
        dtype = ir.DataType(node.attributes["to"].as_int()).numpy()
    except (KeyError, TypeError, ValueError):
        return None
    return np.asarray(number).astype(dtype).reshape(-1)[0]  # type: ignore[no-any-return]


def _compare_ramp(node: ir.Node, known: Known) -> np.generic | None:
    """Compare a ramp to its own limit."""
    if node.op_type not in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        return None
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None:
        return None
    ramp_is_first = a in known.ramps
    ramp, limit = (a, b) if ramp_is_first else (b, a)
    limits = known.counts.get(limit)
    if ramp not in known.ramps or limits is None or any(array.size != 1 for array in limits):
        return None
    if known.ramps[ramp] != tuple(array.item() for array in limits):
        return None
    below = "Less" if ramp_is_first else "Greater"
    not_below = "GreaterOrEqual" if ramp_is_first else "LessOrEqual"
    return {below: np.True_, not_below: np.False_}.get(node.op_type)


# --- ramps -----------------------------------------------------------------------------------


def _ramp(node: ir.Node, known: Known) -> tuple[float, ...] | None:
    if node.op_type == "Range":
        start, limit, step = (known.counts.get(v) if v is not None else None for v in node.inputs)
        if start is None or limit is None or step is None:
            return None
        if _single(start) == 0 and _single(step) == 1:
            return tuple(array.item() for array in limit)
        return None
    first = node.inputs[0] if node.inputs else None
    if first is not None and (node.op_type in _SPREAD or (node.op_type == "Cast" and holds_counts(node))):
        return known.ramps.get(first)
    return None


# --- counts ----------------------------------------------------------------------------------


def _counts(node: ir.Node, known: Known) -> _Counts | None:
    first = node.inputs[0] if node.inputs else None
    if node.op_type in ("Shape", "Size") and first is not None:
        shapes = known.shapes_of(first)
        return None if shapes is None else tuple(shape_counts(node, shape) for shape in shapes)
    if not all(value is None or value in known.counts for value in node.inputs):
        return None
    return compute_counts(node, [None if v is None else known.counts[v] for v in node.inputs])
