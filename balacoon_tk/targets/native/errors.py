"""The error that says why a decoder isn't run by the native engine."""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.match import label_of


class NotNativeError(ModelError):
    """A node of a decoder that the native engine doesn't know; ONNX Runtime runs such a decoder, whole.

    Attributes
    ----------
    node : str
        Name of the node, or of its first output where it has none.
    op_type : str
        Its operator.
    reason : str
        What about it isn't known.
    """

    def __init__(self, node: ir.Node, reason: str) -> None:
        self.node = label_of(node)
        self.op_type = node.op_type
        self.reason = reason
        super().__init__(f"{self.op_type} node {self.node!r}: {reason}")
