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
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, add_constant, constant_of
from balacoon_tk.graph.shaped import ShapedPass

_CHANNELS = 1
_RANK = 4
_BLOCK = 16
_MADE_IN_BLOCKS = frozenset({"Add", "Conv", "Sum"})


class KeepBlockedPass(ShapedPass):
    """Put a convolution that changes nothing in front of every LeakyRelu that another convolution reads."""

    def call(self, model: ir.Model) -> PassResult:
        """Insert all of them."""
        inserter = _Inserter(model.graph)
        modified = False
        for node in [node for node in model.graph if node.op_type == "LeakyRelu"]:
            source = node.inputs[0]
            producer = None if source is None else source.producer()
            if source is None or producer is None or not self._is_between(node, source):
                continue
            n_channels = self._n_channels(source)
            if producer.op_type not in _MADE_IN_BLOCKS and len(source.uses()) > 1:
                users = list(source.uses())
                entered = inserter.unchanged(source, producer, n_channels)
                for user, index in users:
                    user.replace_input_with(index, entered)
                self._shapes[str(entered.name)] = self._shapes[str(source.name)]
                source, producer = entered, entered.producer() or producer
            node.replace_input_with(0, inserter.unchanged(source, producer, n_channels))
            modified = True
        return PassResult(model, modified)

    def _is_between(self, node: ir.Node, source: ir.Value) -> bool:
        producer = source.producer()
        follows = producer is not None and producer.op_type == "Conv" and len(source.uses()) == 1
        if follows or source.is_graph_output() or self._n_channels(source) % _BLOCK:
            return False
        weights = [constant_of(user, 1) for user, _ in node.outputs[0].uses() if user.op_type == "Conv"]
        return any(weight is not None and weight.dtype == np.float32 for weight in weights)

    def _n_channels(self, value: ir.Value) -> int:
        """Return the number of channels of a tensor of rank 4; 1 of others, which is no whole block."""
        shape = self._shapes[str(value.name)][0]
        return shape[_CHANNELS] if len(shape) == _RANK else 1


def changes_nothing(node: ir.Node | None) -> bool:
    """Return whether a node is a convolution as this pass inserts them."""
    if node is None or node.op_type != "Conv" or len(node.inputs) > 2:
        return False
    weight = constant_of(node, 1)
    return weight is not None and weight.shape[1:] == (1, 1, 1) and bool((weight == 1).all())


class _Inserter:
    """Adds convolutions that change nothing; those of as many channels share a kernel."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._names = graph, Names(graph)
        self._kernels: dict[int, ir.Value] = {}

    def unchanged(self, value: ir.Value, after: ir.Node, n_channels: int) -> ir.Value:
        """Return the value again, as the output of a convolution."""
        if n_channels not in self._kernels:
            ones = np.ones((n_channels, 1, 1, 1), np.float32)
            self._kernels[n_channels] = add_constant(
                self._graph, ones, self._names.take(f"ones_{n_channels}")
            )
        node = ir.node(
            "Conv", [value, self._kernels[n_channels]], {"group": n_channels, "kernel_shape": [1, 1]}
        )
        node.name = self._names.take(f"{value.name}.blocked")
        node.outputs[0].name = self._names.take(f"{node.name}.out")
        self._graph.insert_after(after, node)
        return node.outputs[0]
