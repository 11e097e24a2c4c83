"""Write a layer norm that an exporter has spelled out as the one operator that it is.

Exporters to opsets before 17 write nine nodes for it, which is most of what a small encoder is made of::

    c = x - ReduceMean(x, -1)
    c / Sqrt(ReduceMean(c ** 2, -1) + epsilon) * scale + bias   ->   LayerNormalization(x, scale, bias)

([1] Ba, Kiros, Hinton, "Layer Normalization", 2016, equation 4). The operator is of opset 17, which
the graph has to be of (`balacoon_tk.graph.opset`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import (
    Names,
    Writer,
    bypass,
    constant_of,
    only_user,
    remove_unused,
    scalar_of,
)


@dataclass(frozen=True, slots=True)
class _LayerNorm:
    """One that is spelled out."""

    source: ir.Value
    result: ir.Value
    scale: AnyArray | None
    bias: AnyArray | None
    epsilon: float


class FuseLayerNormPass(InPlacePass):
    """Fuse every layer norm over the last axis that has a scale."""

    def call(self, model: ir.Model) -> PassResult:
        """Fuse them all."""
        names = Names(model.graph)
        modified = False
        for node in list(model.graph):
            found = _match(node)
            if found is None or found.scale is None:
                continue
            write = Writer(model.graph, names, f"{found.result.name}.layer_norm")
            bias = np.zeros_like(found.scale) if found.bias is None else found.bias
            fused = write.one(
                "LayerNormalization",
                found.source,
                write.constant(found.scale),
                write.constant(bias),
                axis=-1,
                epsilon=found.epsilon,
            )
            producer = found.result.producer()
            if producer is None:
                continue
            model.graph.insert_before(producer, write.nodes)
            modified |= bypass(model.graph, found.result, fused)
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _match(node: ir.Node) -> _LayerNorm | None:
    """Return the layer norm whose division a node is."""
    if node.op_type != "Div" or (centred := _centred(node.inputs[0])) is None:
        return None
    root = _producer(node.inputs[1], "Sqrt")
    shifted = None if root is None else _producer(root.inputs[0], "Add")
    if shifted is None:
        return None
    epsilon = next((number for k in (0, 1) if (number := scalar_of(shifted, k)) is not None), None)
    variance = _mean_over_last(
        next((v for k, v in enumerate(shifted.inputs) if constant_of(shifted, k) is None), None)
    )
    if epsilon is None or variance is None or _centred(_square_root(variance)) is not centred:
        return None
    result, scale = _parameter(node.outputs[0], "Mul")
    result, bias = (result, None) if scale is None else _parameter(result, "Add")
    return _LayerNorm(centred, result, scale, bias, epsilon)


def _producer(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and node.op_type == op_type else None


def _centred(value: ir.Value | None) -> ir.Value | None:
    """Return x of ``x - ReduceMean(x)``."""
    node = _producer(value, "Sub")
    if node is None or _mean_over_last(node.inputs[1]) is not node.inputs[0]:
        return None
    return node.inputs[0]


def _mean_over_last(value: ir.Value | None) -> ir.Value | None:
    """Return what a value is the mean of, if that is taken over the last axis, which stays."""
    node = _producer(value, "ReduceMean")
    if node is None:
        return None
    keeps = node.attributes.get("keepdims")
    if "axes" in node.attributes:
        axes = list(node.attributes["axes"].as_ints())
    else:
        given = constant_of(node, 1)
        axes = [] if given is None else given.tolist()
    return node.inputs[0] if axes == [-1] and (keeps is None or keeps.as_int() == 1) else None


def _square_root(value: ir.Value) -> ir.Value | None:
    """Return what a value is the square of."""
    node = value.producer()
    if node is None:
        return None
    squares = (node.op_type == "Pow" and scalar_of(node, 1) == 2) or (
        node.op_type == "Mul" and node.inputs[0] is node.inputs[1]
    )
    return node.inputs[0] if squares else None


def _parameter(value: ir.Value, op_type: str) -> tuple[ir.Value, AnyArray | None]:
    """Return what the only user of a value makes of it with a vector, and that vector."""
    user = only_user(value)
    if user is not None and user.op_type == op_type:
        for index in (0, 1):
            array = constant_of(user, index)
            if user.inputs[1 - index] is value and array is not None and array.ndim == 1 and array.size > 1:
                return user.outputs[0], array
    return value, None
