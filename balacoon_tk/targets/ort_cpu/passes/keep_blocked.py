"""Keep the channels of residual blocks in the order that ONNX Runtime's convolutions work on.

Its fast convolutions take and give tensors in blocks of 8 or 16 channels, and it carries such tensors
through convolutions and sums. A LeakyRelu it does not know there: it brings the channels back to their
order before each, and into blocks again behind it, two passes over the samples of every channel. But
an activation that follows a convolution is made part of it. So in front of each stands one that
changes nothing, a kernel of a single 1 per channel; and another one where a tensor that is made in
the plain order goes into a block, so that what is added to the block's result is in blocks as well.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.known import Shapes
from balacoon_tk.graph.match import constant_of, name_of
from balacoon_tk.graph.shaped import RewritePass
from balacoon_tk.targets.ort_cpu.passes.base import CHANNELS

_BLOCK = 16
_MADE_IN_BLOCKS = frozenset({"Add", "Conv", "Sum"})


class KeepBlockedPass(RewritePass):
    """Put a convolution that changes nothing in front of every LeakyRelu that another convolution reads."""

    def __init__(self, shapes: Shapes) -> None:
        super().__init__(shapes)
        self._kernels: dict[int, ir.Value] = {}  # convolutions of as many channels share one

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        source = node.inputs[0] if node.op_type == "LeakyRelu" else None
        producer = None if source is None else source.producer()
        if source is None or producer is None or not self._is_between(node, source):
            return False
        if producer.op_type not in _MADE_IN_BLOCKS and len(source.uses()) > 1:
            users = list(source.uses())
            source = self._unchanged(graph, names, source, producer)
            for user, index in users:
                user.replace_input_with(index, source)
            producer = source.producer() or producer
        # Nobody but the activation reads this one, so the runtime makes the two a single node.
        node.replace_input_with(0, self._unchanged(graph, names, source, producer))
        return True

    def _is_between(self, node: ir.Node, source: ir.Value) -> bool:
        producer = source.producer()
        # Right behind a convolution it is made part of that already.
        follows = producer is not None and producer.op_type == "Conv" and len(source.uses()) == 1
        if follows or source.is_graph_output() or self._n_channels(source) % _BLOCK:
            return False
        weights = [constant_of(user, 1) for user, _ in node.outputs[0].uses() if user.op_type == "Conv"]
        return any(weight is not None and weight.dtype == np.float32 for weight in weights)

    def _n_channels(self, value: ir.Value) -> int:
        """Return the number of channels of a tensor of rank 4; 1 of others, which is no whole block."""
        shape = self.shapes_of(value)[0]
        return shape[CHANNELS] if len(shape) == 4 else 1

    def _unchanged(self, graph: ir.Graph, names: Names, value: ir.Value, after: ir.Node) -> ir.Value:
        """Return a value again, as the output of a convolution."""
        write, n_channels = Writer(graph, names, f"{value.name}.blocked"), self._n_channels(value)
        if n_channels not in self._kernels:
            self._kernels[n_channels] = write.constant(np.ones((n_channels, 1, 1, 1), np.float32))
        kernel = self._kernels[n_channels]
        again = write.one("Conv", value, kernel, group=n_channels, kernel_shape=[1, 1])
        graph.insert_after(after, write.nodes)
        self._shapes[name_of(again)] = self._shapes[name_of(value)]
        return again


def changes_nothing(node: ir.Node | None) -> bool:
    """Return whether a node is a convolution as this pass inserts them."""
    if node is None or node.op_type != "Conv" or len(node.inputs) > 2:
        return False
    weight = constant_of(node, 1)
    if weight is None or weight.shape[1:] != (1, 1, 1) or not (weight == 1).all():
        return False
    # Such a kernel in one group repeats a single channel; and pads or strides would change the steps.
    return set(node.attributes) == {"group", "kernel_shape"} and node.attributes["group"].value == len(weight)
