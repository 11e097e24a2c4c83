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

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.match import constant_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.streaming.builder import GraphBuilder
from balacoon_tk.graph.streaming.costs import Work
from balacoon_tk.graph.streaming.segments import Segment
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import ROW_AXIS

_FILTERS_PER_TASK = 64
_RANK = 4
# Nodes that cut a piece in two and join its halves, counted as they cost.
_N_NODES = 12


def is_narrow(node: ir.Node) -> bool:
    """Return whether a node is a convolution in two dimensions that is work for one thread only."""
    weight = constant_of(node, 1) if node.op_type == "Conv" else None
    return weight is not None and weight.ndim == _RANK and weight.shape[0] <= _FILTERS_PER_TASK


def find_halves(segment: Segment, analysis: Analysis) -> Halves | None:
    """Return the form that runs a segment as two halves, if every operator of it treats rows alone."""
    if segment.tail == 0 or segment.lag < 0 or not _rows_are_apart(segment, analysis):
        return None
    axes = (analysis.timelines[name].axis for name in (segment.source, segment.target))
    return Halves(segment.rate, segment.lag, segment.tail, *axes)


@dataclass(frozen=True, slots=True)
class Halves:
    """The form of a segment that is run as two halves."""

    rate: int
    lag: int
    margin: int
    """Steps of the source, as the tail that the segment keeps."""
    axis: int
    """Of time in the source."""
    target_axis: int
    label: ClassVar[str] = "run as two halves"

    def work(self, plain: Work) -> Work:
        """Return the cost of two margins, and of a piece that is copied once more at either end."""
        # That no thread waits any more is what the second margin buys.
        n_nodes = plain.n_nodes + _N_NODES
        return Work(2 * plain.recomputed, idle=0.0, n_bytes=2 * plain.n_bytes, n_nodes=n_nodes)

    def write(
        self,
        build: GraphBuilder,
        piece: ir.Value,
        run: Callable[[ir.Value], ir.Value],
        start: ir.Value | int,
        end: ir.Value | int,
    ) -> ir.Value:
        """Let the two halves of a piece stand in its place as rows, and join what comes of them."""
        n_steps = build.length(piece, self.axis)
        # Half of the piece and of the margin, rounded up: rows of one length may share a step more than the
        # margin, but never one less.
        longer = build.one("Add", n_steps, build.ints(self.margin + 1))
        # A first piece may be shorter than the margin; then both rows are the whole of it.
        length = build.smaller(n_steps, build.one("Div", longer, build.ints(2)))
        offset = build.one("Sub", n_steps, length)
        halves = [build.slice(piece, self.axis, 0, length), build.after(piece, self.axis, offset)]
        rows = run(build.concat(halves, ROW_AXIS))
        # Row 0 gives what is known at its end, and row 1 the rest, counted from where it begins itself.
        rate = build.ints(self.rate)
        known = build.one("Sub", build.one("Mul", length, rate), build.ints(self.lag))
        first_end = build.larger(known, build.ints(0))
        second_start = build.one("Sub", first_end, build.one("Mul", offset, rate))
        first, second = build.slice(rows, ROW_AXIS, 0, 1), build.slice(rows, ROW_AXIS, 1, 2)
        before = build.slice(first, self.target_axis, start, first_end)
        behind = build.slice(second, self.target_axis, second_start, end)
        return build.concat([before, behind], self.target_axis)


def _rows_are_apart(segment: Segment, analysis: Analysis) -> bool:
    """Follow the axis of rows through the nodes; False if one of them might mix or move rows."""
    # Any length that was seen will do: where rows are doesn't depend on it.
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
        # A kernel of several rows would mix the halves.
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
        # A zero keeps the size at its place, whatever it is; a size written out would be that of one row.
        kept = target is not None and len(target) > axis and target[axis] == 0
        return axis if kept and prod(shape[:axis]) == prod(out[:axis]) else None
    if node.op_type == "Unsqueeze":
        added = constant_of(node, 1)
        # Counted from the end they would be places in the result.
        known = added is not None and all(int(n) >= 0 for n in added)
        return axis + sum(int(n) <= axis for n in added) if known and added is not None else None
    return _axis_of_pointwise(node, axes, shapes)


def _axis_of_pointwise(node: ir.Node, axes: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> int | None:
    """Return the axis that all inputs with rows agree on; the others must not vary along it."""
    inputs = [value for value in node.inputs if value is not None]
    found = {axes[value.name] for value in inputs if value.name in axes}
    if node.op_type not in ELEMENTWISE or len(found) != 1:
        return None
    axis, rank = found.pop(), len(shapes[str(node.outputs[0].name)])
    for value in inputs:
        constant = value.const_value
        shape = tuple(constant.numpy().shape) if constant is not None else shapes.get(str(value.name))
        if shape is None or (value.name in axes and len(shape) != rank):
            return None
        # Shapes are aligned at their ends; an axis that is missing there is repeated.
        place = axis - (rank - len(shape))
        if value.name not in axes and place >= 0 and shape[place] != 1:
            return None
    return axis
