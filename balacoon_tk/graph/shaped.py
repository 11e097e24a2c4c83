"""What passes share that look at the shapes of tensors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk.graph.edit import Names, remove_unused
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.match import name_of


class ShapedPass(InPlacePass):
    """A pass that knows the shapes that tensors have in a run, at one length or more."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self._shapes = dict(shapes)

    def shapes_of(self, value: ir.Value | None) -> Sequence[tuple[int, ...]]:
        """Return a tensor's shapes, none if it was not seen."""
        return self._shapes.get(name_of(value), ())


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
