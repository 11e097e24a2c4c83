"""Give one-dimensional convolutions a second axis of length 1.

ONNX Runtime has its fast convolutions for images only: blocked ones that read their input where it
is, and otherwise a gathering of windows that copies whole rows. One-dimensional ones are gathered
element by element. So tensors (1, channels, time) become (1, channels, 1, time) from the first to
the last operator that allows it, and the samples stay what they were.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, remove_unused
from balacoon_tk.graph.match import constant_of, is_standard, name_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass
from balacoon_tk.targets.ort_cpu.passes.base import data_inputs, insert_behind

ROW_AXIS = 2
"""Where the new axis stands: before time, as rows stand before columns in an image."""

_RANK = 3
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
# What stands for the new axis in front of a convolution's attributes.
_OF_ROWS = (("dilations", 1), ("kernel_shape", 1), ("strides", 1), ("output_padding", 0))


class LiftTo2dPass(ShapedPass):
    """Lift all tensors of rank 3 that convolutions, pointwise operators, slices and joins share."""

    def call(self, model: ir.Model) -> PassResult:
        """Lift, and come back to rank 3 where something else reads or the graph ends."""
        lifted = _with_convolutions([node for node in model.graph if self._can_lift(node)])
        if not lifted:
            return PassResult(model, modified=False)
        lift = _Lift(model.graph, lifted)
        for node in lifted:
            lift.node(node)
        lift.come_back()
        remove_unused(model)
        return PassResult(model, modified=True)

    def _can_lift(self, node: ir.Node) -> bool:
        if not is_standard(node) or any(self._rank(value) != _RANK for value in node.outputs):
            return False
        data = [node.inputs[k] for k in data_inputs(node) if constant_of(node, k) is None]
        variable = [value for value in data if value is not None]
        if node.op_type in _CONVOLUTIONS:
            fits = constant_of(node, 1) is not None and "output_shape" not in node.attributes
        elif node.op_type == "Slice":
            fits = constant_of(node, 3) is not None
        elif node.op_type == "Concat":
            fits = len(variable) == len(node.inputs)
        else:
            fits = node.op_type == "Split" or node.op_type in ELEMENTWISE
        return fits and bool(variable) and all(self._rank(value) == _RANK for value in variable)

    def _rank(self, value: ir.Value | None) -> int:
        shapes = self.shapes_of(value)
        return len(shapes[0]) if shapes else -1


def _with_convolutions(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """Return those nodes that a convolution shares tensors with, through others of them if need be."""
    found, near = set[ir.Node](), {node for node in nodes if node.op_type in _CONVOLUTIONS}
    among = set(nodes)
    while near:
        found |= near
        values = {value for node in near for value in (*node.inputs, *node.outputs) if value is not None}
        # Weights that several layers read don't bring these together.
        shared = {value for value in values if value.const_value is None}
        touched = {user for value in shared for user, _ in value.uses()}
        touched |= {node for value in shared if (node := value.producer()) is not None}
        near = (touched & among) - found
    return [node for node in nodes if node in found]


class _Lift:
    def __init__(self, graph: ir.Graph, nodes: list[ir.Node]) -> None:
        self._graph, self._names = graph, Names(graph)
        self._nodes = dict.fromkeys(nodes)  # in their order, so that the same graph is written each time
        self._values = {value for node in nodes for value in node.outputs}
        # What stands in for a constant, or for a value that comes from outside.
        self._others: dict[ir.Value, ir.Value] = {}

    def node(self, node: ir.Node) -> None:
        """Let a node work on rank 4."""
        for index in data_inputs(node):
            self._replace(node, index)
        if node.op_type in _CONVOLUTIONS:
            weight = np.expand_dims(np.asarray(constant_of(node, 1)), ROW_AXIS)
            node.replace_input_with(1, self._constant(node.inputs[1], weight))
            for name, first in _OF_ROWS:
                if name in node.attributes:
                    values = [first, *node.attributes[name].as_ints()]
                    node.attributes[name] = ir.AttrInt64s(name, values)
            if "pads" in node.attributes:
                start, end = node.attributes["pads"].as_ints()
                node.attributes["pads"] = ir.AttrInt64s("pads", [0, start, 0, end])
        elif node.op_type == "Slice":
            axes = np.array([_moved(axis) for axis in np.asarray(constant_of(node, 3))])
            node.replace_input_with(3, self._constant(node.inputs[3], axes))
        elif node.op_type in ("Concat", "Split"):
            axis = _moved(node.attributes.get_int("axis", 0))
            node.attributes["axis"] = ir.AttrInt64("axis", axis)
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None

    def come_back(self) -> None:
        """Give what is not lifted its tensors of rank 3."""
        for value in [value for node in self._nodes for value in node.outputs]:
            uses = [(user, index) for user, index in value.uses() if user not in self._nodes]
            if not uses and not value.is_graph_output():
                continue
            squeezed = self._move("Squeeze", value)
            for user, index in uses:
                user.replace_input_with(index, squeezed)
            if value.is_graph_output():
                # The output keeps its name and its shape; what is lifted goes under another name.
                squeezed.shape, squeezed.type, value.shape = value.shape, value.type, None
                value.name, squeezed.name = self._names.take(f"{value.name}.rows"), value.name
                outputs = self._graph.outputs
                outputs[outputs.index(value)] = squeezed

    def _replace(self, node: ir.Node, index: int) -> None:
        value = node.inputs[index]
        if value is None or value in self._values:
            return
        if value not in self._others:
            constant = constant_of(node, index)
            if constant is None:
                self._others[value] = self._move("Unsqueeze", value)
            elif constant.ndim <= 1:  # along time, or a single number
                self._others[value] = value
            else:
                self._others[value] = self._constant(value, np.expand_dims(constant, -2))
        node.replace_input_with(index, self._others[value])

    def _constant(self, value: ir.Value | None, array: AnyArray) -> ir.Value:
        return Writer(self._graph, self._names, name_of(value)).constant(array)

    def _move(self, op_type: str, value: ir.Value) -> ir.Value:
        write = Writer(self._graph, self._names, name_of(value))
        moved = write.over_axes(op_type, value, ROW_AXIS)
        insert_behind(self._graph, value, write.nodes)
        return moved


def _moved(axis: int) -> int:
    """Return where an axis of rank 3 is in rank 4."""
    axis = int(axis) % _RANK
    return axis if axis < ROW_AXIS else axis + 1
