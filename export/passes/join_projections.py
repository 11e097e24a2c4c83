"""Make an attention's queries, keys and values by one product instead of three.

The three projections read the same tensor. One matrix with all their columns keeps two threads busy
where a single projection of a short sentence doesn't, and its heads are cut apart once::

    Reshape(Conv(x, Wq), heads), Reshape(Conv(x, Wk), heads), Reshape(Conv(x, Wv), heads)
    ->  Split(Reshape(Conv(x, [Wq; Wk; Wv]), 3 heads))
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk.export.passes.edit import Names, Writer, constant_of, only_user, remove_unused

__all__ = ["JoinProjectionsPass"]

_CHANNELS = 1


class JoinProjectionsPass(InPlacePass):
    """Join convolutions of one step that read the same tensor and are cut into heads."""

    def call(self, model: ir.Model) -> PassResult:
        """Join them wherever there are two or more of a size."""
        names = Names(model.graph)
        groups: dict[tuple[ir.Value | None, tuple[int, ...]], list[ir.Node]] = {}
        for node in model.graph:
            heads = _heads(node)
            if heads is not None:
                groups.setdefault((node.inputs[0], heads), []).append(node)
        joined = [(heads, nodes) for (_, heads), nodes in groups.items() if len(nodes) > 1]
        for heads, nodes in joined:
            _join(model.graph, heads, nodes, names)
        if joined:
            model.graph.sort()
            remove_unused(model)
        return PassResult(model, modified=bool(joined))


def _heads(node: ir.Node) -> tuple[int, ...] | None:
    """Return (n_heads, channels of a head) if a node is a projection with a bias that is cut into these."""
    weight = constant_of(node, 1) if node.op_type == "Conv" else None
    bias = constant_of(node, 2) if len(node.inputs) > 2 else None
    user = only_user(node.outputs[0])
    if weight is None or bias is None or weight.ndim != 3 or weight.shape[2] != 1 or user is None:
        return None
    plain = {"dilations": [1], "pads": [0, 0], "strides": [1]}
    if any(
        name in node.attributes and list(node.attributes[name].as_ints()) != v for name, v in plain.items()
    ):
        return None
    if "group" in node.attributes and node.attributes["group"].as_int() != 1:
        return None
    shape = constant_of(user, 1) if user.op_type == "Reshape" else None
    if shape is None or shape.size != 4 or shape[0] != 1 or shape[3] != -1 or (shape[1:3] < 1).any():
        return None
    return int(shape[1]), int(shape[2])


def _join(graph: ir.Graph, heads: tuple[int, ...], nodes: list[ir.Node], names: Names) -> None:
    write = Writer(graph, names, f"{nodes[0].outputs[0].name}.joined")
    weights, biases = (
        np.concatenate([array for node in nodes if (array := constant_of(node, index)) is not None])
        for index in (1, 2)
    )
    n_heads, n_channels = heads
    both = write.one("Conv", nodes[0].inputs[0], write.constant(weights), write.constant(biases))
    both = write.one("Reshape", both, write.ints(1, n_heads * len(nodes), n_channels, -1))
    parts = write.op("Split", both, write.ints(*[n_heads] * len(nodes)), n_outputs=len(nodes), axis=_CHANNELS)
    graph.insert_before(nodes[0], write.nodes)
    for node, part in zip(nodes, parts, strict=True):
        for user, _ in list(node.outputs[0].uses()):
            user.outputs[0].replace_all_uses_with(part)
