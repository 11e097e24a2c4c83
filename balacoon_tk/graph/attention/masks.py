"""What attention computes of positions alone, read so that it can be computed for any queries and keys.

A mask, a bias of distances, a look-up in a table: all are made for the whole square of an utterance's steps.
Read here, they are expressions of the position of a query and that of a key, which hold whatever part of
the square is asked for. Every value of an expression has the axes of the scores. So what only lays axes out
(``Unsqueeze``, ``Transpose``, ``Expand``) is followed once and is gone, and the two positions are told apart
by the axis that each comes to lie on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.attention.windows import (
    KEYS,
    N_AXES,
    QUERIES,
    Axes,
    Expression,
    call,
    number,
    positions,
)
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.match import input_of, is_standard, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.rules import ELEMENTWISE

_LAYOUT = frozenset({"Unsqueeze", "Squeeze", "Reshape", "Flatten", "Expand"})


class MaskReader:
    """Reads expressions out of a graph.

    `of_time` are the values that depend on an utterance, if only by its length; `leaves` are values that
    stand for themselves: they are what is masked.
    """

    def __init__(self, probe: Probe, of_time: set[ir.Value], leaves: Mapping[ir.Value, Expression]) -> None:
        self._probe, self._of_time, self._leaves = probe, of_time, leaves
        self._read: dict[tuple[ir.Value, Axes], Expression] = {}

    def read(self, value: ir.Value, axes: Axes) -> Expression:
        """Return the expression of a value; a NotStreamableError names the node that none is known of."""
        key = (value, axes)
        if key not in self._read:
            self._read[key] = self._expression(value, axes)
        return self._read[key]

    def _expression(self, value: ir.Value, axes: Axes) -> Expression:
        if value in self._leaves:
            if any(axis not in (None, k - len(axes)) for k, axis in enumerate(axes)):
                raise _unknown(next(iter(value.uses())).node, value)
            return self._leaves[value]
        if value.const_value is not None:
            return Expression("constant", array=_aligned(value.const_value.numpy(), axes))
        node = value.producer()
        if value not in self._of_time and QUERIES not in axes and KEYS not in axes:
            return self._computed(value, axes)
        if node is None or not is_standard(node):
            raise _unknown(node or next(iter(value.uses())).node, value)
        if node.op_type in ELEMENTWISE:
            return self._elementwise(node, value, axes)
        if node.op_type in _LAYOUT:
            source = _first(node)
            return self.read(source, self._moved(source, value, axes, node))
        read = {
            "Transpose": self._transposed,
            "Range": self._range,
            "ConstantOfShape": self._filled,
            "Slice": self._table,
            "Trilu": self._triangle,
            "CumSum": self._counted,
            "Gather": self._looked_up,
        }.get(node.op_type)
        if read is None:
            raise _unknown(node, value)
        return read(node, axes)

    def natural_axes(self, value: ir.Value) -> Axes:
        """Return the axes of a value that is laid out as the scores are."""
        rank = len(self._shapes(value)[0])
        return self._narrowed(value, tuple(range(-rank, 0)))

    def _computed(self, value: ir.Value, axes: Axes) -> Expression:
        named = [axis for axis in axes if axis is not None]
        if named != sorted(named):
            raise _unknown(next(iter(value.uses())).node, value)
        shape = [1] * N_AXES
        for axis, size in zip(axes, self._shapes(value)[0], strict=True):
            if axis is not None:
                shape[axis] = size
        return Expression("value", value=value, shape=tuple(shape))

    def _shapes(self, value: ir.Value) -> Sequence[tuple[int, ...]]:
        n_lengths = len(self._probe.n_frames)
        return [self._probe.shape_of(value, k) for k in range(n_lengths)]

    def _narrowed(self, value: ir.Value, axes: Axes) -> Axes:
        """Return the axes of an input of something with those axes, aligned at their ends."""
        shapes = self._shapes(value)
        own = axes[len(axes) - len(shapes[0]) :]
        sizes = zip(*shapes, strict=True)
        return tuple(None if set(n) == {1} else axis for axis, n in zip(own, sizes, strict=True))

    def _elementwise(self, node: ir.Node, value: ir.Value, axes: Axes) -> Expression:
        inputs = tuple(None if v is None else self.read(v, self._narrowed(v, axes)) for v in node.inputs)
        dtype = self._probe.dtypes.get(name_of(value))
        return Expression(node.op_type, inputs, node, integers=dtype is not None and dtype.kind in "iu")

    def _moved(self, source: ir.Value, value: ir.Value, axes: Axes, node: ir.Node) -> Axes:
        """Return the axes before a node that adds or drops such of one element, or repeats them."""
        if node.op_type == "Expand":
            return self._narrowed(source, axes)
        before, after = self._shapes(source), self._shapes(value)
        columns_before = list(zip(*before, strict=True))
        wide = [n for n in columns_before if set(n) != {1}]
        if wide != [n for n in zip(*after, strict=True) if set(n) != {1}]:
            raise _unknown(node, value)
        named = iter([a for a, n in zip(axes, zip(*after, strict=True), strict=True) if set(n) != {1}])
        return tuple(None if set(n) == {1} else next(named) for n in columns_before)

    def _transposed(self, node: ir.Node, axes: Axes) -> Expression:
        order = node.attributes.get_ints("perm", list(reversed(range(len(axes)))))
        before: list[int | None] = [None] * len(axes)
        for axis, source in zip(axes, order, strict=True):
            before[source] = axis
        return self.read(_first(node), tuple(before))

    def _range(self, node: ir.Node, axes: Axes) -> Expression:
        start, step = (_constant(node, index) for index in (0, 2))
        if start is None or step is None or axes[0] not in (QUERIES, KEYS):
            raise _unknown(node, node.outputs[0])
        steps = call("Cast", positions(axes[0]), to=ir.DataType.from_numpy(start.dtype))
        if step != 1:
            steps = call("Mul", steps, number(step))
        return steps if start == 0 else call("Add", steps, number(start))

    def _filled(self, node: ir.Node, axes: Axes) -> Expression:
        value = node.attributes.get("value")
        return number(np.zeros((), np.float32) if value is None else value.as_tensor().numpy())

    def _table(self, node: ir.Node, axes: Axes) -> Expression:
        return Expression("table", array=_aligned(self._cut(node.outputs[0], axes), axes), axes=axes)

    def _cut(self, value: ir.Value, axes: Axes) -> AnyArray:
        """Return the constant that a value is cut from, of as many steps as an utterance may have."""
        if value.const_value is not None:
            return value.const_value.numpy()
        node = value.producer()
        if node is None or node.op_type != "Slice":
            raise _unknown(node or next(iter(value.uses())).node, value)
        array = self._cut(_first(node), axes)
        starts, ends, given, steps = (_constant(node, index) for index in (1, 2, 3, 4))
        computed = any(input_of(node, k) is not None and _constant(node, k) is None for k in (3, 4))
        if starts is None or computed or (steps is not None and (steps != 1).any()):
            raise _unknown(node, value)
        cuts = [slice(None)] * len(axes)
        for k, axis in enumerate(range(len(starts)) if given is None else given):
            # An end that is computed can only be the utterance's: what it is cut to meets the scores.
            if ends is None and (axes[axis] not in (QUERIES, KEYS) or starts[k] < 0):
                raise _unknown(node, value)
            cuts[axis] = slice(int(starts[k]), None if ends is None else int(ends[k]))
        return array[tuple(cuts)]

    def _triangle(self, node: ir.Node, axes: Axes) -> Expression:
        row, column = axes[-2:]
        offset = _constant(node, 1) if input_of(node, 1) is not None else np.array(0)
        if offset is None or {row, column} != {QUERIES, KEYS} or row is None or column is None:
            raise _unknown(node, node.outputs[0])
        distance = call("Sub", positions(column), positions(row))
        compare = "GreaterOrEqual" if node.attributes.get_int("upper", 1) else "LessOrEqual"
        kept = call(compare, distance, number(offset.astype(np.int64)))
        source = _first(node)
        dtype = self._probe.dtypes[name_of(node.outputs[0])]
        return call(
            "Where", kept, self.read(source, self._narrowed(source, axes)), number(np.zeros((), dtype))
        )

    def _counted(self, node: ir.Node, axes: Axes) -> Expression:
        # A sum of ones numbers the steps, from 1 on.
        axis, source = _constant(node, 1), _first(node)
        inner = self.read(source, self._narrowed(source, axes))
        along = None if axis is None else axes[int(axis.item()) % len(axes)]
        uniform = inner.op_type == "constant" and inner.array is not None and inner.array.size == 1
        if not uniform or along not in (QUERIES, KEYS) or node.attributes.get_int("reverse", 0) != 0:
            raise _unknown(node, node.outputs[0])
        first = 0 if node.attributes.get_int("exclusive", 0) else 1
        assert inner.array is not None and along is not None
        steps = call("Add", positions(along), number(np.array(first, np.int64)))
        return call("Mul", call("Cast", steps, to=ir.DataType.from_numpy(inner.array.dtype)), inner)

    def _looked_up(self, node: ir.Node, axes: Axes) -> Expression:
        array, indices, source = _constant(node, 0), node.inputs[1], _first(node)
        axis = node.attributes.get_int("axis", 0) % len(self._shapes(source)[0])
        picked = _constant(node, 1)
        if array is None and picked is not None and picked.size == 1:
            # The only element along an axis, as that of the batch.
            inner: Axes = (*axes[:axis], None, *axes[axis + picked.ndim :])
            if self._narrowed(source, inner) == inner:
                return self.read(source, inner)
        if array is None or indices is None:
            raise _unknown(node, node.outputs[0])
        n_indices = len(axes) - array.ndim + 1
        beside = [*axes[:axis], *axes[axis + n_indices :]]
        # One further axis, as of heads, may stand beside what is looked up.
        named = [(k, a) for k, a in enumerate(beside) if a is not None]
        if len(named) > 1:
            raise _unknown(node, node.outputs[0])
        other = np.moveaxis(array, axis, 0)
        columns = other.reshape(len(other), -1)
        index = self.read(indices, axes[axis : axis + n_indices])
        return Expression("lookup", (index,), array=columns, axes=(named[0][1] if named else None,))


def _unknown(node: ir.Node, value: ir.Value) -> NotStreamableError:
    return NotStreamableError(
        node, f"{value.name!r} says which steps an attention sees, and it isn't known how that follows from "
        "their positions"
    )  # fmt: skip


def _first(node: ir.Node) -> ir.Value:
    value = input_of(node, 0)
    assert value is not None
    return value


def _constant(node: ir.Node, index: int) -> AnyArray | None:
    value = input_of(node, index)
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def _aligned(array: AnyArray, axes: Axes) -> AnyArray:
    """Return an array with its axes where they lie in the scores."""
    shape, order = [1] * N_AXES, []
    for k, axis in enumerate(axes):
        if axis is not None:
            shape[axis] = array.shape[k]
            order.append((axis, k))
    ones = [k for k, axis in enumerate(axes) if axis is None]
    return array.transpose([*ones, *(k for _, k in sorted(order))]).reshape(shape)
