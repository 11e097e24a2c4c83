"""Run a segment as two halves side by side, where one thread alone would do the work.

ONNX Runtime's blocked convolutions give a thread 64 filters of one row of an image at a time. A
decoder that was lifted to two dimensions has one row, and late in it no more filters than that: all
threads but one wait. So the piece that a segment runs on is cut into two that overlap by the
segment's margin, and these become the two rows of one image::

    piece     |<-------------------- n -------------------->|
    row 0     |<---------- length ---------->|
    row 1                    |<---------- length ---------->|      length = (n + margin) / 2

What is wrong at row 0's end and at row 1's start is cropped where they meet. All operators of the
segment must treat rows alone, as a batch.
"""

from __future__ import annotations

from math import prod

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.edit import constant_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.streaming.segments import Segment
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import ROW_AXIS

_FILTERS_PER_TASK = 64
_RANK = 4


def is_narrow(node: ir.Node) -> bool:
    """Return whether a node is a convolution in two dimensions that is work for one thread only."""
    weight = constant_of(node, 1) if node.op_type == "Conv" else None
    return weight is not None and weight.ndim == _RANK and weight.shape[0] <= _FILTERS_PER_TASK


def can_halve(segment: Segment, analysis: Analysis) -> bool:
    """Return whether every operator of a segment treats rows alone, so that two can be run at once."""
    return segment.tail > 0 and segment.lag >= 0 and _rows_are_apart(segment, analysis)


def _rows_are_apart(segment: Segment, analysis: Analysis) -> bool:
    """Follow the axis of rows through the nodes; False if one of them might mix or move rows."""
    shapes = {name: seen[0] for name, seen in analysis.inputs.probe.shapes.items()}
    if len(shapes[segment.source]) != _RANK or shapes[segment.source][ROW_AXIS] != 1:
        return False
    axes = {segment.source: ROW_AXIS}
    for node in segment.nodes:
        axis = _axis_of_rows(node, axes, shapes)
        if axis is None:
            return False
        axes |= {value.name: axis for value in node.outputs if value.name}
    return axes[segment.target] == ROW_AXIS and len(shapes[segment.target]) == _RANK


def _axis_of_rows(node: ir.Node, axes: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> int | None:
    source = node.inputs[0]
    if source is None or source.name not in axes or any(value.name not in shapes for value in node.outputs):
        return _axis_of_pointwise(node, axes, shapes)
    axis, shape, out = axes[source.name], shapes[source.name], shapes[str(node.outputs[0].name)]
    if node.op_type == "Conv":
        weight = constant_of(node, 1)
        alone = weight is not None and weight.ndim == _RANK and weight.shape[2] == 1 and axis == ROW_AXIS
        return axis if alone and out[axis] == shape[axis] and "auto_pad" not in node.attributes else None
    if node.op_type == "Slice":
        cut = constant_of(node, 3)
        alone = cut is not None and all(int(n) % len(shape) != axis for n in cut)
        return axis if alone else None
    if node.op_type == "Transpose" and "perm" in node.attributes:
        return list(node.attributes["perm"].as_ints()).index(axis)
    if node.op_type == "Reshape":
        target = constant_of(node, 1)
        kept = target is not None and len(target) > axis and target[axis] == 0
        return axis if kept and prod(shape[:axis]) == prod(out[:axis]) else None
    if node.op_type == "Unsqueeze":
        added = constant_of(node, 1)
        if added is None or any(int(n) < 0 for n in added):
            return None
        axis += sum(int(n) <= axis for n in added)
        return axis
    return _axis_of_pointwise(node, axes, shapes)


def _axis_of_pointwise(node: ir.Node, axes: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Return the axis that all inputs with rows agree on; the others must not vary along it."""
    if node.op_type not in ELEMENTWISE:
        return None
    found = {axes[value.name] for value in node.inputs if value is not None and value.name in axes}
    if len(found) != 1:
        return None
    axis = found.pop()
    rank = len(shapes[str(node.outputs[0].name)])
    for value in node.inputs:
        if value is None:
            continue
        constant = value.const_value
        shape = tuple(constant.numpy().shape) if constant is not None else shapes.get(str(value.name))
        if shape is None or (value.name in axes and len(shape) != rank):
            return None
        place = axis - (rank - len(shape))
        if value.name not in axes and place >= 0 and shape[place] != 1:
            return None
    return axis
