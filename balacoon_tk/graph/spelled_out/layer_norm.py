"""Write a layer norm that an exporter has spelled out as the one operator that it is.

Exporters to opsets before 17 write nine nodes for it, which is most of what a small encoder is made of::

    c = x - ReduceMean(x, -1)
    c / Sqrt(ReduceMean(c ** 2, -1) + epsilon) * scale + bias   ->   LayerNormalization(x, scale, bias)

([1] Ba, Kiros, Hinton, "Layer Normalization", 2016, equation 4). The operator is of opset 17, which
the graph has to be of (`balacoon_tk.graph.opset`).
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, bypass
from balacoon_tk.graph.match import constant_of, ints_of, only_user, producer_of, scalar_of
from balacoon_tk.graph.shaped import RewritePass


class FuseLayerNormPass(RewritePass):
    """Fuse every layer norm over the last axis that has a scale."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        centred = _centred(node.inputs[0]) if node.op_type == "Div" else None
        epsilon = None if centred is None else _epsilon(node, centred)
        scaled, scale = _applied(node, "Mul")
        if epsilon is None or scale is None:
            return False
        last, bias = _applied(scaled, "Add")
        result = last.outputs[0]
        write = Writer(graph, names, f"{result.name}.layer_norm")
        # The operator may go without a bias, but what comes later joins only norms that have one.
        weights = [write.constant(each) for each in (scale, np.zeros_like(scale) if bias is None else bias)]
        fused = write.one("LayerNormalization", centred, *weights, axis=-1, epsilon=epsilon)
        graph.insert_before(last, write.nodes)
        return bypass(graph, result, fused)


def _epsilon(node: ir.Node, centred: ir.Value) -> float | None:
    """Return what is added to the variance of x, if a node divides by its root."""
    root = producer_of(node.inputs[1], "Sqrt")
    shifted = None if root is None else producer_of(root.inputs[0], "Add")
    if shifted is None:
        return None
    epsilon = next((number for k in (0, 1) if (number := scalar_of(shifted, k)) is not None), None)
    variance = next((v for k, v in enumerate(shifted.inputs) if constant_of(shifted, k) is None), None)
    squares = _mean_over_last(variance)
    return epsilon if squares is not None and _centred(_square_root(squares)) is centred else None


def _centred(value: ir.Value | None) -> ir.Value | None:
    """Return x of ``x - ReduceMean(x)``."""
    node = producer_of(value, "Sub")
    return node.inputs[0] if node is not None and _mean_over_last(node.inputs[1]) is node.inputs[0] else None


def _mean_over_last(value: ir.Value | None) -> ir.Value | None:
    """Return what a value is the mean of, if that is taken over the last axis, which stays."""
    node = producer_of(value, "ReduceMean")
    if node is None:
        return None
    given = constant_of(node, 1)  # an input since opset 18
    axes = ints_of(node, "axes", [] if given is None else given.tolist())
    return node.inputs[0] if axes == [-1] and node.attributes.get_int("keepdims", 1) == 1 else None


def _square_root(value: ir.Value) -> ir.Value | None:
    """Return what a value is the square of."""
    power, product = producer_of(value, "Pow"), producer_of(value, "Mul")
    if power is not None and scalar_of(power, 1) == 2:
        return power.inputs[0]
    return product.inputs[0] if product is not None and product.inputs[0] is product.inputs[1] else None


def _applied(node: ir.Node, op_type: str) -> tuple[ir.Node, AnyArray | None]:
    """Return the only reader of what a node makes and the vector that it applies, or the node itself."""
    made = node.outputs[0]
    user = only_user(made)
    if user is not None and user.op_type == op_type:
        for index in (0, 1):
            array = constant_of(user, index)
            if user.inputs[1 - index] is made and array is not None and array.ndim == 1 and array.size > 1:
                return user, array
    return node, None
