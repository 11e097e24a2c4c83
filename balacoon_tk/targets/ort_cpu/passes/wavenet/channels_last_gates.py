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

from balacoon_tk.graph.edit import Names, Writer, constant_of, remove_unused
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.graph.shaped import ShapedPass

_TO_ROWS, _TO_IMAGE = [0, 2, 3, 1], [0, 3, 1, 2]
_ROW_AXIS_OF = [0, 3, 1, 2]
"""Where an axis of an image is in rows."""
_RANK = 4
_ONE_INPUT = frozenset({"Conv", "Pad", "Slice", "Split"})
"""Read one tensor; their other inputs say what they do with it."""
_POINTWISE = ELEMENTWISE - {"LeakyRelu"}  # that one stays in blocks, see `keep_blocked`


class ChannelsLastGatesPass(ShapedPass):
    """Turn over what lies around gates, as far as convolutions of several steps.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor, at one length or more; what is turned over has others afterwards.
    """

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
        region: set[ir.Node] = set()
        found = [node for node in graph if _is_gate(node) and self._can_turn(node)]
        while found:
            node = found.pop()
            if node in region:
                continue
            region.add(node)
            producers = [value.producer() for value in node.inputs if value is not None]
            users = [user for value in node.outputs for user, _ in value.uses()]
            found += [other for other in (*producers, *users) if other is not None and self._can_turn(other)]
        return region

    def _can_turn(self, node: ir.Node) -> bool:
        """Whether a node is one of cases 1 and 2, and all that it reads and makes are images of one row."""
        if node.domain not in ("", "ai.onnx"):
            return False
        n_data = 1 if node.op_type in _ONE_INPUT else len(node.inputs)
        data = [value for k, value in enumerate(node.inputs[:n_data]) if constant_of(node, k) is None]
        if not data or not all(self._is_image(value) for value in (*data, *node.outputs)):
            return False
        if node.op_type == "Conv":
            return _is_product(node)
        if node.op_type == "Slice":
            return len(node.inputs) > 3 and constant_of(node, 3) is not None
        if node.op_type == "Pad":
            return len(node.inputs) in (2, 3) and constant_of(node, 1) is not None
        if node.op_type in ("Concat", "Split"):
            return len(data) == n_data
        return node.op_type in _POINTWISE

    def _is_image(self, value: ir.Value | None) -> bool:
        shapes = None if value is None else self._shapes.get(value.name or "")
        return bool(shapes) and all(len(s) == _RANK and s[0] == s[2] == 1 for s in shapes or ())


def _is_gate(node: ir.Node) -> bool:
    made_by = [None if value is None else value.producer() for value in node.inputs]
    return node.op_type == "Mul" and {p.op_type for p in made_by if p is not None} == {"Sigmoid", "Tanh"}


def _is_product(node: ir.Node) -> bool:
    """Whether a convolution looks at one step of all channels."""
    weight = constant_of(node, 1)
    if weight is None or weight.ndim != _RANK or weight.shape[2:] != (1, 1) or "auto_pad" in node.attributes:
        return False
    if len(node.inputs) > 2 and constant_of(node, 2) is None:
        return False
    ones = node.attributes["strides"].as_ints() if "strides" in node.attributes else [1]
    pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else [0]
    return node.attributes.get_int("group", 1) == 1 and set(ones) == {1} and not any(pads)


class _Rewriting:
    def __init__(self, graph: ir.Graph, region: Collection[ir.Node]) -> None:
        self._graph, self._names = graph, Names(graph)
        self._region = region
        self._rows: dict[ir.Value, ir.Value] = {}
        """The rows of an image."""

    def node(self, node: ir.Node) -> None:
        """Write a node anew, for rows."""
        write = Writer(self._graph, self._names, node.outputs[0].name or node.op_type)
        n_data = 1 if node.op_type in _ONE_INPUT else len(node.inputs)
        inputs = list(node.inputs)
        for index, value in enumerate(node.inputs[:n_data]):
            constant = constant_of(node, index)
            if constant is None:
                inputs[index] = self._rows_of(value)
            elif constant.ndim > 0:
                image = constant.reshape((1,) * (_RANK - constant.ndim) + constant.shape)
                inputs[index] = write.constant(image.transpose(_TO_ROWS))
        if node.op_type == "Conv":
            outputs = [_product(node, inputs[0], write)]
        else:
            if node.op_type == "Slice" and (axes := constant_of(node, 3)) is not None:
                inputs[3] = write.ints(*(_ROW_AXIS_OF[int(axis)] for axis in axes))
            if node.op_type == "Pad" and (pads := constant_of(node, 1)) is not None:
                inputs[1] = write.constant(pads.reshape(2, _RANK)[:, _TO_ROWS].reshape(-1))
            made = ir.node(node.op_type, inputs, dict(node.attributes), num_outputs=len(node.outputs))
            made.name = self._names.take(f"{node.name}.rows")
            if node.op_type in ("Concat", "Split"):
                made.attributes["axis"] = ir.AttrInt64(
                    "axis", _ROW_AXIS_OF[node.attributes.get_int("axis", 0)]
                )
            for old, new in zip(node.outputs, made.outputs, strict=True):
                new.name = self._names.take(f"{old.name}.rows")
            write.nodes.append(made)
            outputs = list(made.outputs)
        self._graph.insert_before(node, write.nodes)
        self._rows.update(zip(node.outputs, outputs, strict=True))

    def finish(self) -> None:
        """Give whatever reads an image, or the graph's outputs, the image of its rows."""
        for value, rows in list(self._rows.items()):
            producer = value.producer()
            if producer is None or producer not in self._region:
                continue
            users = [(user, index) for user, index in value.uses() if user not in self._region]
            if not users and not value.is_graph_output():
                continue
            turn = ir.node("Transpose", [rows], {"perm": _TO_IMAGE})
            turn.name = self._names.take(f"{value.name}.turned")
            self._graph.insert_before(producer, turn)
            turn.outputs[0].name, name = self._names.take(f"{value.name}.image"), value.name
            for user, index in users:
                user.replace_input_with(index, turn.outputs[0])
            if value.is_graph_output():
                turn.outputs[0].type, turn.outputs[0].shape = value.type, value.shape
                value.replace_all_uses_with(turn.outputs[0], replace_graph_outputs=True)
                value.name, turn.outputs[0].name = f"{name}.old", name

    def _rows_of(self, value: ir.Value | None) -> ir.Value | None:
        if value is not None and value not in self._rows:
            turn = ir.node("Transpose", [value], {"perm": _TO_ROWS})
            turn.name = self._names.take(f"{value.name}.turned")
            turn.outputs[0].name = self._names.take(f"{value.name}.rows")
            producer = value.producer()
            if producer is None:
                self._graph.insert_before(self._graph[0], turn)
            else:
                self._graph.insert_after(producer, turn)
            self._rows[value] = turn.outputs[0]
        return None if value is None else self._rows[value]


def _product(node: ir.Node, rows: ir.Value | None, write: Writer) -> ir.Value:
    """Case 2."""
    weight, bias = np.asarray(constant_of(node, 1)), constant_of(node, 2)
    made = write.one("MatMul", rows, write.constant(weight[:, :, 0, 0].T))
    return made if bias is None else write.one("Add", made, write.constant(bias))
