"""Let a flow's flips of channels pass into the weights around them.

Between VITS's coupling layers all channels are turned round, ``Slice`` with a step of -1, so that the two
halves change places. Written ``flip(x)``, the order of a tensor's channels moves down the graph until it
meets weights, which can be turned round once and for all, or another flip::

    flip(flip(x))                 =  x
    Split(flip([a; b]))           =  flip(b), flip(a)
    Conv(flip(x), W)              =  Conv(x, W with its input channels turned round)
    flip(x) - Conv(y, W)          =  flip(x - Conv(y, W with its output channels turned round))
    Concat(flip(a), flip(b))      =  flip(Concat(b, a))

Where a flip meets something else, it is left there.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.export.graph.known import Shapes
from balacoon_tk.export.passes.drop_flips import is_flip
from balacoon_tk.export.passes.edit import Names, Writer, bypass, constant_of, only_user, remove_unused
from balacoon_tk.export.passes.shaped import ShapedPass

__all__ = ["FoldFlipsPass"]

_CHANNELS = 1
_FAR = 2**31
_JOINS = frozenset({"Add", "Sub"})


class FoldFlipsPass(ShapedPass):
    """Move flips of channels down the graph, and into the weights that they meet."""

    def call(self, model: ir.Model) -> PassResult:
        """Go through the graph in its order, and write what reads a flip anew."""
        if not any(is_flip(node) for node in model.graph):
            return PassResult(model, modified=False)
        rewriting = _Rewriting(model.graph, self._shapes)
        for node in list(model.graph):
            rewriting.node(node)
        rewriting.finish()
        remove_unused(model)
        return PassResult(model, rewriting.modified)


class _Rewriting:
    def __init__(self, graph: ir.Graph, shapes: Shapes) -> None:
        self._graph, self._shapes, self._names = graph, shapes, Names(graph)
        self._unflipped: dict[ir.Value, ir.Value] = {}
        """Of each value that is a flip, what it is the flip of."""
        self.modified = False

    def node(self, node: ir.Node) -> None:
        """Write a node anew, if it reads a flip: to pass it on, or with the flip in front of it."""
        write = Writer(self._graph, self._names, node.outputs[0].name or node.op_type)
        reads_flip = any(value in self._unflipped for value in node.inputs)
        passed_on = self._pass_on(node, write)
        self.modified |= passed_on and reads_flip
        if reads_flip and not passed_on:
            for index, value in enumerate(node.inputs):
                if value in self._unflipped:
                    node.replace_input_with(index, self._flipped(value, write))
        self._graph.insert_before(node, write.nodes)

    def finish(self) -> None:
        """Give the graph's outputs as they were."""
        for value in [value for value in self._graph.outputs if value in self._unflipped]:
            producer = value.producer()
            if producer is not None and not is_flip(producer):
                write = Writer(self._graph, self._names, f"{value.name}.output")
                flipped = self._flipped(value, write)
                self._graph.insert_after(producer, write.nodes)
                bypass(self._graph, value, flipped)

    def _pass_on(self, node: ir.Node, write: Writer) -> bool:
        source = node.inputs[0] if node.inputs else None
        if node.domain not in ("", "ai.onnx") or source is None:
            return False
        if is_flip(node):
            if source in self._unflipped:
                return bypass(self._graph, node.outputs[0], self._unflipped[source])
            self._unflipped[node.outputs[0]] = source
            return True
        if node.op_type == "Split":
            return source in self._unflipped and self._split(node, self._unflipped[source], write)
        if node.op_type == "Conv":
            return source in self._unflipped and self._conv(node, self._unflipped[source], write)
        if node.op_type == "Concat" and node.attributes.get_int("axis", 0) == _CHANNELS:
            parts = [self._unflipped.get(value) for value in node.inputs if value is not None]
            if None in parts:
                return False
            self._unflipped[node.outputs[0]] = write.one("Concat", *parts[::-1], axis=_CHANNELS)
            return True
        return node.op_type in _JOINS and self._join(node, write)

    def _split(self, node: ir.Node, source: ir.Value, write: Writer) -> bool:
        shapes = [self._shapes.get(value.name or "") for value in node.outputs]
        if node.attributes.get_int("axis", 0) != _CHANNELS or any(shape is None for shape in shapes):
            return False
        sizes = [shape[0][_CHANNELS] for shape in shapes if shape is not None][::-1]
        n_outputs = len(sizes)
        if "split" in node.attributes:
            parts = write.op("Split", source, n_outputs=n_outputs, axis=_CHANNELS, split=sizes)
        else:
            parts = write.op("Split", source, write.ints(*sizes), n_outputs=n_outputs, axis=_CHANNELS)
        self._unflipped.update(zip(node.outputs, parts[::-1], strict=True))
        return True

    def _conv(self, node: ir.Node, source: ir.Value, write: Writer) -> bool:
        weight = constant_of(node, 1)
        if weight is None or node.attributes.get_int("group", 1) != 1:
            return False
        node.replace_input_with(0, source)
        node.replace_input_with(1, write.constant(weight[:, ::-1]))
        return True

    def _join(self, node: ir.Node, write: Writer) -> bool:
        inputs = [value for value in node.inputs if value is not None]
        flips = [value in self._unflipped for value in inputs]
        shapes = [self._shapes.get(value.name or "") for value in inputs]
        if len(inputs) != 2 or not any(flips) or shapes[0] is None or shapes[0] != shapes[1]:
            return False
        if not all(flips) and not self._turn_round(inputs[flips.index(False)], write):
            return False
        made = write.one(node.op_type, *(self._unflipped[value] for value in inputs))
        self._unflipped[node.outputs[0]] = made
        return True

    def _turn_round(self, value: ir.Value, write: Writer) -> bool:
        """Make a convolution's output the flip of that of another one."""
        conv = value.producer()
        weights = [] if conv is None else [constant_of(conv, index) for index in range(1, len(conv.inputs))]
        if conv is None or conv.op_type != "Conv" or only_user(value) is None:
            return False
        if conv.attributes.get_int("group", 1) != 1 or any(weight is None for weight in weights):
            return False
        turned = [write.constant(weight[::-1]) for weight in weights if weight is not None]
        made = ir.node("Conv", [conv.inputs[0], *turned], dict(conv.attributes))
        made.name = self._names.take(f"{conv.name}.flipped")
        made.outputs[0].name = self._names.take(f"{value.name}.flipped")
        write.nodes.append(made)
        self._unflipped[value] = made.outputs[0]
        return True

    def _flipped(self, value: ir.Value, write: Writer) -> ir.Value:
        """Return the flip of what a value is the flip of."""
        producer = value.producer()
        if producer is not None and is_flip(producer):
            return value
        bounds = (write.ints(number) for number in (-1, -_FAR, _CHANNELS, -1))
        return write.one("Slice", self._unflipped[value], *bounds)
