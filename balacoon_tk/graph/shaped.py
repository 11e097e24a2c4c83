"""What passes share that look at the shapes of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import InPlacePass

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
