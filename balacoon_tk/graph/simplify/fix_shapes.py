"""Replace shape arguments that a graph computes while it runs by the constants that they amount to.

Cases; what a computed argument amounts to is known for every length, not only for those that the probe saw
(see `balacoon_tk.graph.lengths`):

1. ``Reshape`` to a computed shape: a constant shape, with -1 for the one axis that varies.
2. ``Expand`` along fixed axes: a constant shape, with 1 for the axis that varies; one that changes
   nothing is removed.
3. ``Slice`` with computed bounds: a constant start; an end that is the length minus a constant
   becomes that negative constant, the length itself becomes "to the end".
4. ``Resize`` to computed sizes: constant scales.
5. Any other computed value that is the same at every length (paddings, axes): that constant.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.counts import Counts, is_fixed, shape_counts
from balacoon_tk.graph.edit import FAR, add_constant
from balacoon_tk.graph.lengths import read_lengths
from balacoon_tk.graph.match import input_of, is_standard, name_of
from balacoon_tk.graph.probe import Probe

# What these give at the lengths seen says nothing about others, unless `read_lengths` follows them.
_CHOOSING = frozenset({"Clip", "If", "Loop", "Max", "Min", "Mod", "NonZero", "Scan", "TopK", "Where"})

Lengths = Mapping[ir.Value, Counts]
"""What is computed from lengths."""


class FixShapesPass(InPlacePass):
    """Make computed shape arguments constant, and drop what computed them; the probe is of the same graph."""

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self._probe = probe

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite every node that has a computed shape argument."""
        lengths = read_lengths(model.graph, self._probe)
        fixes = {
            "Reshape": self._fix_reshape,  # case 1
            "Expand": self._fix_expand,  # case 2
            "Slice": self._fix_slice,  # case 3
            "Resize": self._fix_resize,  # case 4
        }
        modified = False
        for node in list(model.graph):
            fix = fixes.get(node.op_type) if is_standard(node) else None
            if fix is not None:
                modified |= fix(model.graph, node, lengths)
        for value, column in lengths.items():
            if value.producer() is not None and value.uses() and is_fixed(column):  # case 5
                constant = add_constant(model.graph, column[0].copy(), f"{value.name}.fixed")
                value.replace_all_uses_with(constant)
                modified = True
        if modified:
            RemoveUnusedNodesPass()(model)
        return PassResult(model, modified)

    def _fix_reshape(self, graph: ir.Graph, node: ir.Node, lengths: Lengths) -> bool:
        shapes = self._shapes(node.outputs[0])
        if shapes is None or not _is_computed(node, 1):
            return False
        # The number of elements stays, so plain arithmetic can't give another shape at another length.
        if _column(node, 1, lengths) is None and not _is_arithmetic(node.inputs[1]):
            return False
        columns = list(zip(*shapes, strict=True))
        varying = [axis for axis, sizes in enumerate(columns) if len(set(sizes)) > 1]
        if len(varying) > 1:
            return False
        target = [-1 if axis in varying else sizes[0] for axis, sizes in enumerate(columns)]
        _replace_input(graph, node, 1, np.array(target, dtype=np.int64))
        return True

    def _fix_expand(self, graph: ir.Graph, node: ir.Node, lengths: Lengths) -> bool:
        source = node.inputs[0]
        before, after = self._shapes(source), self._shapes(node.outputs[0])
        if source is None or before is None or after is None or _column(node, 1, lengths) is None:
            return False
        if before == after and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(source)
            return True
        if not _is_computed(node, 1):
            return False
        target = []
        n_new = len(after[0]) - len(before[0])
        for axis, sizes in enumerate(zip(*after, strict=True)):
            given = tuple(shape[axis - n_new] for shape in before) if axis >= n_new else ()
            if len(set(sizes)) > 1 and given != sizes:
                return False
            target.append(1 if len(set(sizes)) > 1 else sizes[0])
        _replace_input(graph, node, 1, np.array(target, dtype=np.int64))
        return True

    def _fix_slice(self, graph: ir.Graph, node: ir.Node, lengths: Lengths) -> bool:
        if not any(_is_computed(node, index) for index in range(1, len(node.inputs))):
            return False
        shapes = self._shapes(node.inputs[0])
        starts, ends, axes, steps = (_column(node, index, lengths) for index in (1, 2, 3, 4))
        if shapes is None or starts is None or ends is None:
            return False
        rank = len(shapes[0])
        where = [int(a) % rank for a in axes[0]] if axes is not None else list(range(len(starts[0])))
        sizes = shape_counts(node, shapes, starts.n)
        fixed: list[AnyArray] = []
        for bounds in (starts, ends):
            row = None if sizes is None else _fixed_bounds(bounds.values, sizes.values[where])
            if row is None:
                return False
            fixed.append(row)
        fixed.append(np.array(where, dtype=np.int64))
        if steps is not None:
            fixed.append(np.asarray(steps[0], dtype=np.int64))
        for index, value in enumerate(fixed, start=1):
            if index < len(node.inputs):
                _replace_input(graph, node, index, value)
        return True

    def _fix_resize(self, graph: ir.Graph, node: ir.Node, lengths: Lengths) -> bool:
        before, after = self._shapes(node.inputs[0]), self._shapes(node.outputs[0])
        if before is None or after is None or not _is_computed(node, 3) or _column(node, 3, lengths) is None:
            return False
        ratios = [np.array(b, dtype=np.float64) / np.array(a) for a, b in zip(before, after, strict=True)]
        if any(not np.array_equal(ratio, ratios[0]) for ratio in ratios):
            return False
        # Scales say the same whatever the length.
        _replace_input(graph, node, 2, ratios[0].astype(np.float32))
        node.replace_input_with(3, None)
        return True

    def _shapes(self, value: ir.Value | None) -> tuple[tuple[int, ...], ...] | None:
        return self._probe.shapes.get(name_of(value))


def _is_computed(node: ir.Node, index: int) -> bool:
    value = input_of(node, index)
    return value is not None and value.const_value is None


def _column(node: ir.Node, index: int, lengths: Lengths) -> Counts | None:
    """Return an input's value as a function of the length; None if it isn't there, or no such function."""
    value = input_of(node, index)
    return None if value is None else lengths.get(value)


def _is_arithmetic(value: ir.Value | None) -> bool:
    # From lengths and constants, without choosing between them: no other length is treated otherwise.
    pending = [value]
    while pending:
        value = pending.pop()
        if value is None or value.const_value is not None:
            continue
        producer = value.producer()
        if producer is None or producer.op_type in _CHOOSING or not is_standard(producer):
            return False
        if producer.op_type not in ("Shape", "Size"):
            pending += producer.inputs
    return True


def _fixed_bounds(bounds: AnyArray, sizes: AnyArray) -> AnyArray | None:
    # The same at all lengths, or the same counted from the end: what a Slice can say without a length.
    row = []
    for bound, size in zip(bounds, sizes, strict=True):
        from_end = None if size is None else (bound - size).constant
        if bound.constant is not None:
            row.append(int(bound.constant))
        elif from_end is not None and from_end <= 0:
            # A bound of -0 would be the start.
            row.append(int(from_end) or FAR)
        else:
            return None
    return np.array(row, dtype=np.int64)


def _replace_input(graph: ir.Graph, node: ir.Node, index: int, array: AnyArray) -> None:
    node.replace_input_with(index, add_constant(graph, array, f"{node.outputs[0].name}.fixed_{index}"))
