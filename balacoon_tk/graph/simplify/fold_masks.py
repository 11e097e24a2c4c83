"""Remove arithmetic with masks that are all ones, and with zeros that are made from shapes.

Cases, where ``1`` and ``0`` are tensors that are known to be uniform (see `balacoon_tk.graph.known`),
whatever their shape:

1. ``x * 1``, ``1 * x``, ``x / 1``, ``x ** 1``
2. ``x + 0``, ``0 + x``, ``x - 0``
3. ``x and true``, ``x or false``, either way round
4. ``Where(true, x, y)``, ``Where(false, y, x)``
5. ``Identity``; ``Concat`` and ``Max`` of x alone; ``Expand`` to its own shape; ``Slice`` from 0 to the end
6. ``Reshape``, ``Squeeze`` and ``Unsqueeze`` that come back to the shape that x had

All give x, but only if the result has x's shape at all of the lengths seen: a mask may also enlarge
x by broadcasting, and then it stays. A convolution over ones is not uniform, because of its padding.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import bypass, remove_unused
from balacoon_tk.graph.known import Known, Shapes, read_known
from balacoon_tk.graph.shaped import ShapedPass

_NEUTRAL: dict[str, float] = {"Mul": 1, "Div": 1, "Pow": 1, "Add": 0, "Sub": 0, "And": True, "Or": False}
_COMMUTATIVE = frozenset({"Add", "And", "Mul", "Or"})
_TO_THE_END = 2**31 - 1
_KEEPS_ORDER = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def fold_uniform(model: ir.Model, shapes: Shapes) -> bool:
    """Fold the masks of a graph, in place; return whether anything changed.

    Parameters
    ----------
    model : ir.Model
        Its constants lifted to initializers.
    shapes : mapping of str to sequence of tuple
        The shape of every tensor at three or more lengths, as in `Probe.shapes`. The shapes of
        those that remain stay true.
    """
    return bool(FoldMasksPass(shapes)(model).modified)


class FoldMasksPass(ShapedPass):
    """Remove nodes that give one of their inputs back.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor at three or more lengths.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Bypass every such node."""
        known = read_known(model.graph, self._shapes)
        modified = False
        for node in list(model.graph):
            if node.domain not in ("", "ai.onnx") or len(node.outputs) != 1:
                continue
            same = _same_as(node, known)
            if same is not None and known.same_shape(same, node.outputs[0]):
                modified |= bypass(model.graph, node.outputs[0], same)
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _same_as(node: ir.Node, known: Known) -> ir.Value | None:
    """Return the input whose elements a node gives back, if there is one."""
    if node.op_type in _NEUTRAL:
        return _other_than_neutral(node, known)  # cases 1 to 3
    if node.op_type == "Where":
        return _chosen(node, known)  # case 4
    if node.op_type in ("Concat", "Max", "Min", "Sum") and len(node.inputs) == 1:
        return node.inputs[0]  # case 5
    if node.op_type == "Expand" or (node.op_type == "Slice" and _takes_all(node, known)):
        return node.inputs[0]  # case 5
    if node.op_type in _KEEPS_ORDER:
        return _way_back(node, known)  # cases 5 and 6
    return None


def _other_than_neutral(node: ir.Node, known: Known) -> ir.Value | None:
    x, y = node.inputs[0], node.inputs[1]
    if x is None or y is None:
        return None
    neutral = _NEUTRAL[node.op_type]
    if y in known.uniform and known.uniform[y] == neutral and known.same_shape(x, node.outputs[0]):
        return x
    if node.op_type in _COMMUTATIVE and x in known.uniform and known.uniform[x] == neutral:
        return y
    return None


def _chosen(node: ir.Node, known: Known) -> ir.Value | None:
    condition = node.inputs[0]
    if condition is None or condition not in known.uniform:
        return None
    return node.inputs[1] if known.uniform[condition] else node.inputs[2]


def _takes_all(node: ir.Node, known: Known) -> bool:
    """Whether a slice goes from 0 to the end; ``x[:100]`` of short tensors does so only for these."""
    x, starts, ends, axes, steps = (*node.inputs, None, None)[:5]
    if x is None or starts is None or ends is None or (shapes := known.shapes_of(x)) is None:
        return False
    if known.uniform.get(starts) != 0 or (steps is not None and known.uniform.get(steps) != 1):
        return False
    seen_ends = known.counts.get(ends)
    seen_axes = known.counts.get(axes) if axes is not None else (np.arange(len(shapes[0])),) * len(shapes)
    if seen_ends is None or seen_axes is None:
        return False
    return all(
        end >= _TO_THE_END or end == shape[axis]
        for shape, row, where in zip(shapes, seen_ends, seen_axes, strict=True)
        for end, axis in zip(row, where, strict=False)
    )


def _way_back(node: ir.Node, known: Known) -> ir.Value | None:
    """Look up a chain of reshapes for the place where the shape was the same."""
    above = node.inputs[0]
    while above is not None and not known.same_shape(above, node.outputs[0]):
        producer = above.producer()
        if producer is None or producer.op_type not in _KEEPS_ORDER:
            return None
        above = producer.inputs[0]
    return above
