"""Keep the channels of a frame together between the convolutions of a WaveNet.

ONNX Runtime's fast convolutions work on blocks of channels. Whatever stands between them in the plain
order, (1, C, 1, T), is turned into blocks and back around each of them, and a piece of time is cut out
of it channel by channel. A gate can't be computed in blocks: its two halves are cut out of one tensor.
So from every gate on, ``tanh(a) * sigmoid(b)``, tensors stand as rows, (1, 1, T, C):

1. pointwise operators, and ``Slice``, ``Split``, ``Concat`` and ``Pad``, work on rows; a piece of time is
   in one piece then;
2. ``Conv`` of one step is a product with a matrix, which needs no blocks at all;
3. ``Conv`` of several steps reads and gives rows by way of a ``Transpose``, which the runtime makes part
   of its turning into blocks: whole blocks are moved then, and not single numbers.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, Writer, bypass, remove_unused
from balacoon_tk.graph.match import constant_of, is_standard, product_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass
from balacoon_tk.targets.ort_cpu.passes.base import TO_IMAGE, TO_ROWS, data_inputs, insert_behind

# Where an axis of an image is in rows.
_ROW_AXIS_OF = [0, 3, 1, 2]
_RANK = 4
# A LeakyRelu stays in blocks, see `keep_blocked`.
_POINTWISE = ELEMENTWISE - {"LeakyRelu"}


class ChannelsLastGatesPass(ShapedPass):
    """Turn over what lies around gates, as far as convolutions of several steps."""

    def call(self, model: ir.Model) -> PassResult:
        """Find what hangs together with a gate, and rewrite it from the first node to the last."""
        region = self._region(model.graph)
        if not region:
            return PassResult(model, modified=False)
        rewriting = _Rewriting(model.graph, region)
        for node in [node for node in model.graph if node in region]:
            rewriting.node(node)
        rewriting.finish()
        remove_unused(model)
        return PassResult(model, modified=True)

    def _region(self, graph: ir.Graph) -> set[ir.Node]:
        # All that hangs together: an island in the plain order would be turned over at either shore.
        region: set[ir.Node] = set()
        found = [node for node in graph if _is_gate(node) and self._can_turn(node)]
        while found:
            node = found.pop()
            if node not in region:
                region.add(node)
                found += filter(self._can_turn, (*node.predecessors(), *node.successors()))
        return region

    def _can_turn(self, node: ir.Node) -> bool:
        """Whether a node is one of cases 1 and 2, and all that it reads and makes are images of one row."""
        data = [node.inputs[k] for k in data_inputs(node) if constant_of(node, k) is None]
        if not is_standard(node) or not data or not all(map(self._is_image, (*data, *node.outputs))):
            return False
        if node.op_type == "Conv":
            return product_of(node) is not None
        if node.op_type == "Slice":
            return len(node.inputs) > 3 and constant_of(node, 3) is not None
        if node.op_type == "Pad":
            return len(node.inputs) in (2, 3) and constant_of(node, 1) is not None
        if node.op_type in ("Concat", "Split"):
            return len(data) == len(data_inputs(node))
        return node.op_type in _POINTWISE

    def _is_image(self, value: ir.Value | None) -> bool:
        shapes = self.shapes_of(value)
        return bool(shapes) and all(len(s) == _RANK and s[0] == s[2] == 1 for s in shapes)


def _is_gate(node: ir.Node) -> bool:
    return node.op_type == "Mul" and {made.op_type for made in node.predecessors()} == {"Sigmoid", "Tanh"}


class _Rewriting:
    def __init__(self, graph: ir.Graph, region: Collection[ir.Node]) -> None:
        self._graph, self._names, self._region = graph, Names(graph), region
        # The rows of an image.
        self._rows: dict[ir.Value, ir.Value] = {}

    def node(self, node: ir.Node) -> None:
        """Write a node anew, for rows."""
        write = Writer(self._graph, self._names, node.outputs[0].name or node.op_type)
        inputs = list(node.inputs)
        for index in data_inputs(node):
            constant = constant_of(node, index)
            if constant is None:
                inputs[index] = self._rows_of(node.inputs[index])
            elif constant.ndim > 0:
                image = constant.reshape((1,) * (_RANK - constant.ndim) + constant.shape)
                inputs[index] = write.constant(image.transpose(TO_ROWS))
        if node.op_type == "Conv":
            outputs = [_product(node, inputs[0], write)]
        else:
            if node.op_type == "Slice":
                axes = np.asarray(constant_of(node, 3))
                inputs[3] = write.ints(*(_ROW_AXIS_OF[int(axis)] for axis in axes))
            elif node.op_type == "Pad":
                pads = np.asarray(constant_of(node, 1))
                inputs[1] = write.constant(pads.reshape(2, _RANK)[:, TO_ROWS].reshape(-1))
            made = write.clone(node, inputs, suffix=".rows")
            if node.op_type in ("Concat", "Split"):
                axis = _ROW_AXIS_OF[node.attributes.get_int("axis", 0)]
                made.attributes["axis"] = ir.AttrInt64("axis", axis)
            outputs = list(made.outputs)
        self._graph.insert_before(node, write.nodes)
        self._rows.update(zip(node.outputs, outputs, strict=True))

    def finish(self) -> None:
        """Give whatever reads an image, or the graph's outputs, the image of its rows."""
        for value, rows in list(self._rows.items()):
            producer = value.producer()
            users = [(user, index) for user, index in value.uses() if user not in self._region]
            # What came from outside is an image as it is.
            if producer not in self._region or producer is None or not (users or value.is_graph_output()):
                continue
            write = Writer(self._graph, self._names, f"{value.name}.image")
            image = write.one("Transpose", rows, perm=TO_IMAGE)
            self._graph.insert_before(producer, write.nodes)
            for user, index in users:
                user.replace_input_with(index, image)
            bypass(self._graph, value, image)

    def _rows_of(self, value: ir.Value | None) -> ir.Value | None:
        if value is not None and value not in self._rows:
            write = Writer(self._graph, self._names, f"{value.name}.rows")
            self._rows[value] = write.one("Transpose", value, perm=TO_ROWS)
            insert_behind(self._graph, value, write.nodes)
        return None if value is None else self._rows[value]


def _product(node: ir.Node, rows: ir.Value | None, write: Writer) -> ir.Value:
    weight, bias = np.asarray(constant_of(node, 1)), constant_of(node, 2)
    made = write.one("MatMul", rows, write.constant(weight[:, :, 0, 0].T))
    return made if bias is None else write.one("Add", made, write.constant(bias))
