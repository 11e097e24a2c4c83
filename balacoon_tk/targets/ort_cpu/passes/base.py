"""What passes share that rewrite one place of a graph after the other."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, remove_unused
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.shaped import ShapedPass

CHANNELS = 1
TO_ROWS, TO_IMAGE = [0, 2, 3, 1], [0, 3, 1, 2]
"""From (1, C, 1, T) to (1, 1, T, C) and back."""

# Operators that read one tensor; their other inputs say what they do with it.
_ONE_INPUT = frozenset({"Conv", "ConvTranspose", "Pad", "Slice", "Split"})


def data_inputs(node: ir.Node) -> range:
    """Return the places of the inputs that an operator treats as tensors of a kind."""
    return range(1 if node.op_type in _ONE_INPUT else len(node.inputs))


def insert_behind(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Insert nodes where a value has just been made, or is an input."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)


class RewritePass(ShapedPass):
    """Offers each node of a graph to `_rewrite`, which knows one pattern by one of its nodes."""

    def __init__(self, shapes: Shapes | None = None) -> None:
        super().__init__(shapes or {})

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite wherever the pattern is found."""
        names = Names(model.graph)
        # Of a copy: nodes that a rewrite has written are not looked at again.
        done = [self._rewrite(node, model.graph, names) for node in list(model.graph)]
        if any(done):
            remove_unused(model)
        return PassResult(model, any(done))

    @abstractmethod
    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        """Rewrite the pattern that a node stands for; return False of any other node."""
