"""The error that says why a graph can't be streamed exactly."""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.advice import advice_for
from balacoon_tk.graph.match import label_of

DRAWS_NOISE = (
    "it draws its own noise, other in each run: make the noise an input, "
    "as balacoon_tk.export.noise_inputs does"
)
"""Why a random operator is refused."""


class NotStreamableError(ModelError):
    """A node of the graph can't give the samples of the whole-utterance run from a stream of frames.

    Attributes
    ----------
    node : str
        Name of the node, or of its first output where it has none.
    op_type : str
        Its operator.
    reason : str
        Why it can't be streamed.
    advice : str
        What would make it stream.
    """

    def __init__(self, node: ir.Node, reason: str) -> None:
        self.node = label_of(node)
        self.op_type = node.op_type
        self.reason = reason
        self.advice = advice_for(node.op_type, reason)
        super().__init__(
            f"{self.op_type} node {self.node!r} can't be streamed exactly: {reason}. "
            'What still works: decode the whole utterance, or strategy="overlap", which is approximate here.'
        )

    def advise(self, advice: str) -> None:
        """Add a sentence to the message: what else can be done about it."""
        self.args = (f"{self.args[0]} {advice}",)
