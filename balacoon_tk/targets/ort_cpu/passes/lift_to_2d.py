"""Give one-dimensional convolutions a second axis of length 1.

ONNX Runtime has its fast convolutions for images only: blocked ones that read their input where it
is, and otherwise a gathering of windows that copies whole rows. One-dimensional ones are gathered
element by element. So tensors (1, channels, time) become (1, channels, 1, time) from the first to
the last operator that allows it, and the samples stay what they were.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, add_constant, constant_of, remove_unused
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass

ROW_AXIS = 2
"""Where the new axis stands: before time, as rows stand before columns in an image."""

_RANK = 3
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_BY_AXIS = frozenset({"Concat", "Split"})


class LiftTo2dPass(ShapedPass):
    """Lift all tensors of rank 3 that convolutions, pointwise operators, slices and joins share.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor, at one length or more. Those of lifted tensors are out of date
        afterwards.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Lift, and come back to rank 3 where something else reads or the graph ends."""
        lifted = [node for node in model.graph if self._can_lift(node)]
        if not any(node.op_type in _CONVOLUTIONS for node in lifted):
            return PassResult(model, modified=False)
        lift = _Lift(model, lifted)
        for node in lifted:
            lift.node(node)
        lift.come_back()
        remove_unused(model)
        return PassResult(model, modified=True)

    def _can_lift(self, node: ir.Node) -> bool:
        if node.domain not in ("", "ai.onnx"):
            return False
        if any(self._rank(value) != _RANK for value in node.outputs):
            return False
        if node.op_type in _CONVOLUTIONS:
            variable = node.inputs[:1]
            if constant_of(node, 1) is None or "output_shape" in node.attributes:
                return False
        elif node.op_type == "Slice":
            variable = node.inputs[:1]
            if len(node.inputs) < 4 or constant_of(node, 3) is None:
                return False
        elif node.op_type == "Split":
            variable = node.inputs[:1]
        elif node.op_type in ELEMENTWISE or node.op_type == "Concat":
            variable = [
                value
                for index, value in enumerate(node.inputs)
                if value is not None and constant_of(node, index) is None
            ]
            if node.op_type == "Concat" and len(variable) != len(node.inputs):
                return False
        else:
            return False
        return bool(variable) and all(self._rank(value) == _RANK for value in variable)

    def _rank(self, value: ir.Value | None) -> int:
        shapes = None if value is None or value.name is None else self._shapes.get(value.name)
        return len(shapes[0]) if shapes else -1


class _Lift:
    def __init__(self, model: ir.Model, nodes: list[ir.Node]) -> None:
        self._graph = model.graph
        self._opset = model.graph.opset_imports.get("", 0)
        self._names = Names(model.graph)
        self._nodes = dict.fromkeys(nodes)  # in their order, so that the same graph is written each time
        self._values = {value for node in nodes for value in node.outputs}
        self._others: dict[ir.Value, ir.Value] = {}
        """What stands in for a constant, or for a value that comes from outside."""
        self._axes = add_constant(self._graph, np.array([ROW_AXIS]), self._names.take("row_axis"))

    def node(self, node: ir.Node) -> None:
        """Let a node work on rank 4."""
        if node.op_type in _CONVOLUTIONS:
            self._replace(node, 0)
            weight = constant_of(node, 1)
            if weight is not None:
                node.replace_input_with(1, self._constant(node.inputs[1], np.expand_dims(weight, ROW_AXIS)))
            for name, first in (("dilations", 1), ("kernel_shape", 1), ("strides", 1), ("output_padding", 0)):
                if name in node.attributes:
                    values = [first, *node.attributes[name].as_ints()]
                    node.attributes[name] = ir.AttrInt64s(name, values)
            if "pads" in node.attributes:
                start, end = node.attributes["pads"].as_ints()
                node.attributes["pads"] = ir.AttrInt64s("pads", [0, start, 0, end])
        elif node.op_type == "Slice":
            self._replace(node, 0)
            axes = constant_of(node, 3)
            if axes is not None:
                node.replace_input_with(
                    3, self._constant(node.inputs[3], np.array([_moved(n) for n in axes]))
                )
        elif node.op_type in _BY_AXIS:
            n_data = 1 if node.op_type == "Split" else len(node.inputs)
            for index in range(n_data):
                self._replace(node, index)
            axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 0
            node.attributes["axis"] = ir.AttrInt64("axis", _moved(axis))
        else:
            for index in range(len(node.inputs)):
                self._replace(node, index)
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None

    def come_back(self) -> None:
        """Give what is not lifted its tensors of rank 3."""
        for value in (value for node in self._nodes for value in node.outputs):
            uses = [(user, index) for user, index in value.uses() if user not in self._nodes]
            if not uses and not value.is_graph_output():
                continue
            producer = value.producer()
            if producer is None:
                continue
            squeezed = self._move("Squeeze", value, after=producer)
            if value.is_graph_output():
                squeezed.shape, squeezed.type, value.shape = value.shape, value.type, None
                name = value.name
                value.name = self._names.take(f"{name}.rows")
                squeezed.name = name
                for index, output in enumerate(self._graph.outputs):
                    if output is value:
                        self._graph.outputs[index] = squeezed
            for user, index in uses:
                user.replace_input_with(index, squeezed)

    def _replace(self, node: ir.Node, index: int) -> None:
        """Let a node read the lifted form of an input."""
        value = node.inputs[index]
        if value is None or value in self._values:
            return
        if value not in self._others:
            constant = constant_of(node, index)
            if constant is None:
                self._others[value] = self._move("Unsqueeze", value, after=value.producer())
            elif constant.ndim <= 1:  # along time, or a single number
                self._others[value] = value
            else:
                self._others[value] = self._constant(value, np.expand_dims(constant, -2))
        node.replace_input_with(index, self._others[value])

    def _constant(self, value: ir.Value | None, array: AnyArray) -> ir.Value:
        name = "constant" if value is None else value.name
        return add_constant(self._graph, np.ascontiguousarray(array), self._names.take(f"{name}.2d"))

    def _move(self, op_type: str, value: ir.Value, *, after: ir.Node | None) -> ir.Value:
        if self._opset >= 13:
            node = ir.node(op_type, [value, self._axes])
        else:
            node = ir.node(op_type, [value], {"axes": [ROW_AXIS]})
        node.outputs[0].name = self._names.take(f"{value.name}.{op_type.lower()}d")
        node.name = self._names.take(f"{op_type}.{value.name}")
        if after is None:
            self._graph.insert_before(next(iter(self._graph)), node)
        else:
            self._graph.insert_after(after, node)
        return node.outputs[0]


def _moved(axis: int) -> int:
    """Return where an axis of rank 3 is in rank 4."""
    axis = int(axis) % _RANK
    return axis if axis < ROW_AXIS else axis + 1
