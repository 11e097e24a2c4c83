"""What passes share that look at the shapes of tensors."""

from __future__ import annotations

from onnx_ir.passes import InPlacePass

from balacoon_tk.graph.known import Shapes


class ShapedPass(InPlacePass):
    """A pass that knows the shapes that tensors have in a run.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor, at one length or more.
    """

    def __init__(self, shapes: Shapes) -> None:
        super().__init__()
        self._shapes = dict(shapes)
