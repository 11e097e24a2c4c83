"""Values that can be told without data: masks that are all ones, zeros made from shapes, lengths.

One pass over the graph in its order. Three things are known of a value, if anything:

- *uniform*: every element is the same number, whatever the inputs are;
- *counts*: a small tensor that depends on the inputs by their lengths only, as a function of the length;
- *ramp*: its elements are of 0, 1, …, limit - 1, the limit being a count.

A sequence mask, ``Range(0, n) < n``, is uniform because a ramp lies below its own limit. A tensor's own
lengths are taken for lines in that of the input where those seen lie on one; what is computed from them is
exact (`balacoon_tk.graph.counts`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.counts import Counts, compute_counts, holds_counts, shape_counts
from balacoon_tk.graph.match import is_standard, name_of
from balacoon_tk.graph.quasi_polynomial import QuasiPolynomial

Shapes = Mapping[str, Sequence[tuple[int, ...]]]
"""The shape of every tensor, by name, at each of several lengths."""

_SINGLE = "balacoon_tk.single"  # key of a tensor's notes
_MAX_COUNTS = 64  # elements; shapes, bounds and lengths are far smaller


@dataclass(slots=True)
class Known:
    """What is known of the values of a graph."""

    # Those of a run at three lengths or more: two wouldn't tell a line from anything else.
    shapes: Shapes
    uniform: dict[ir.Value, np.generic] = field(default_factory=dict)
    counts: dict[ir.Value, Counts] = field(default_factory=dict)
    ramps: dict[ir.Value, QuasiPolynomial] = field(default_factory=dict)
    # Counts of which some elements aren't followed, as of a shape one axis of which isn't a line.
    partial: dict[ir.Value, Counts] = field(default_factory=dict)
    # The length that all others are functions of, as often as shapes were seen.
    n: tuple[int, ...] = ()

    def counts_of(self, value: ir.Value | None) -> Counts | None:
        """Return a value as far as it is followed; None if it isn't."""
        return None if value is None else self.counts.get(value) or self.partial.get(value)

    def shapes_of(self, value: ir.Value) -> Sequence[tuple[int, ...]] | None:
        """Return the shape of a value at each of the lengths, None if it wasn't seen."""
        if value.const_value is not None:
            return [tuple(value.const_value.shape.numpy())] * len(self.n)
        return self.shapes.get(value.name or "")

    def same_shape(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether two values have the same shape at all of the lengths."""
        shapes_a, shapes_b = self.shapes_of(a), self.shapes_of(b)
        return shapes_a is not None and shapes_b is not None and list(shapes_a) == list(shapes_b)

    def learn(self, node: ir.Node) -> None:
        """Add what is known of a node's outputs, given what is known of its inputs."""
        if not is_standard(node) or not node.outputs:
            return
        counts, ramp, uniform = _counts(node, self), _ramp(node, self), _uniform(node, self)
        first = node.outputs[0]
        if counts is not None and prod(counts.shape) <= _MAX_COUNTS:
            (self.counts if counts.is_known else self.partial)[first] = counts
            if uniform is None and counts.fixed is not None:
                uniform = _single(counts.fixed)
        if ramp is not None:
            self.ramps[first] = ramp
        if uniform is not None:
            self.uniform.update(dict.fromkeys(node.outputs, uniform))

    def learn_constants(self, graph: ir.Graph) -> None:
        """Add what is known of a graph's initializers, and of its length."""
        self.n = _lengths(graph, self.shapes)
        for value in graph.initializers.values():
            # One that is an input as well may be given another value in a run.
            if value.is_graph_input() or value.const_value is None:
                continue
            if value.const_value.dtype == ir.DataType.STRING:
                continue
            if value.const_value.size <= _MAX_COUNTS:
                array = value.const_value.numpy()
                if array.dtype.kind in "iufb":
                    self.counts[value] = Counts(array, self.n)
            number = _single_of(value.const_value)
            if number is not None:
                self.uniform[value] = number


def read_known(graph: ir.Graph, shapes: Shapes) -> Known:
    """Find what is known of every value of a graph, sorted, with its constants lifted to initializers."""
    known = Known(shapes)
    known.learn_constants(graph)
    for node in graph:
        known.learn(node)
    return known


def _lengths(graph: ir.Graph, shapes: Shapes) -> tuple[int, ...]:
    # That of the first input that has one; where several do, their lengths keep their ratio.
    for value in graph.inputs:
        for sizes in zip(*shapes.get(name_of(value), ()), strict=True):
            if len(set(sizes)) > 1:
                return tuple(sizes)
    return tuple(range(1, 1 + len(next(iter(shapes.values()), ()))))


def _single_of(tensor: ir.TensorProtocol) -> np.generic | None:
    # To read a weight copies it, and a graph is gone through several times.
    if _SINGLE not in tensor.meta:
        tensor.meta[_SINGLE] = _single(tensor.numpy())
    found: np.generic | None = tensor.meta[_SINGLE]
    return found


def _single(array: AnyArray) -> np.generic | None:
    """Return the number that all elements of an array are equal to, if there is one."""
    if array.size == 0:
        return None
    first: np.generic = array.flat[0]
    # Most weights part company at their second element: look there before at millions.
    if array.size > 1 and array.flat[1] != first:
        return None
    return first if (array == first).all() else None


# fmt: off
# Their outputs hold nothing but elements of the first input.
_SPREAD = frozenset({
    "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})
_OF_NUMBERS: dict[str, np.ufunc] = {
    "Abs": np.abs, "Ceil": np.ceil, "Exp": np.exp, "Floor": np.floor, "Neg": np.negative, "Sqrt": np.sqrt,
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum,
    "Equal": np.equal, "Greater": np.greater, "GreaterOrEqual": np.greater_equal,
    "Less": np.less, "LessOrEqual": np.less_equal,
    "And": np.logical_and, "Or": np.logical_or, "Not": np.logical_not,
}
# fmt: on


def _uniform(node: ir.Node, known: Known) -> np.generic | None:
    numbers = [None if value is None else known.uniform.get(value) for value in node.inputs]
    op_type = node.op_type
    if op_type == "ConstantOfShape":
        value = node.attributes.get("value")
        return np.float32(0) if value is None else _single(value.as_tensor().numpy())
    if op_type == "Where":
        condition, yes, no = numbers
        if condition is not None:
            return yes if condition else no
        return yes if yes is not None and no is not None and yes == no else None
    if op_type == "Concat":
        return numbers[0] if all(n is not None and n == numbers[0] for n in numbers) else None
    if numbers and numbers[0] is not None:
        if op_type in _SPREAD:
            return numbers[0]
        if op_type == "Cast":
            return _cast(numbers[0], node)
        function = _OF_NUMBERS.get(op_type)
        # Max and Min may have any number of inputs.
        if function is not None and function.nin == len(numbers) and None not in numbers:
            with np.errstate(all="ignore"):
                result = function(*numbers)
            return result if isinstance(result, np.generic) and np.isfinite(result) else None
    return _compare_ramp(node, known)


def _cast(number: np.generic, node: ir.Node) -> np.generic | None:
    try:
        dtype = ir.DataType(node.attributes["to"].as_int()).numpy()
    except (KeyError, TypeError, ValueError):
        return None  # a type that NumPy doesn't have
    return np.asarray(number).astype(dtype).reshape(-1)[0]  # type: ignore[no-any-return]


def _compare_ramp(node: ir.Node, known: Known) -> np.generic | None:
    # A ramp to its own limit, which it stays below at every length; to another one it may cross over.
    if node.op_type not in ("Less", "Greater", "LessOrEqual", "GreaterOrEqual"):
        return None
    a, b = node.inputs[0], node.inputs[1]
    if a is None or b is None:
        return None
    ramp_is_first = a in known.ramps
    ramp, limit = (a, b) if ramp_is_first else (b, a)
    limits = known.counts.get(limit)
    if ramp not in known.ramps or limits is None or prod(limits.shape) != 1:
        return None
    if known.ramps[ramp] != limits.values.flat[0]:
        return None
    below = "Less" if ramp_is_first else "Greater"
    not_below = "GreaterOrEqual" if ramp_is_first else "LessOrEqual"
    return {below: np.True_, not_below: np.False_}.get(node.op_type)


def _ramp(node: ir.Node, known: Known) -> QuasiPolynomial | None:
    if node.op_type == "Range":
        start, limit, step = (known.counts.get(v) if v is not None else None for v in node.inputs)
        if start is None or limit is None or step is None or start.fixed != 0 or step.fixed != 1:
            return None
        bound: QuasiPolynomial = limit.values.flat[0]
        return bound
    first = node.inputs[0] if node.inputs else None
    if first is not None and (node.op_type in _SPREAD or (node.op_type == "Cast" and holds_counts(node))):
        return known.ramps.get(first)
    return None


def _counts(node: ir.Node, known: Known) -> Counts | None:
    first = node.inputs[0] if node.inputs else None
    if node.op_type in ("Shape", "Size") and first is not None:
        shapes = known.shapes_of(first)
        return None if not shapes else shape_counts(node, shapes, known.n)
    columns = [known.counts_of(value) for value in node.inputs]
    if any(value is not None and column is None for value, column in zip(node.inputs, columns, strict=True)):
        return None
    return compute_counts(node, columns)
