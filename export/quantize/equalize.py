"""Give the channels of a plain decoder like extents, so that one step of int8 suits all of them.

All channels of a tensor share a step, which has to span the widest of them; a channel a quarter as wide
gets a quarter of the numbers. But a channel may be multiplied by any positive number where it is made if
it is divided by it where it is read: a LeakyRelu and a sum let a positive factor through, and convolutions
on either side take it into their kernels ([1] Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1, there from one layer to the next; here one factor
serves all that residual connections tie together). Samples stay what they are, but for the last bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.export.quantize.ranges import collect_extents
from balacoon_tk.graph.edit import add_constant, bypass, constant_of, only_user, remove_unused, scalar_of
from balacoon_tk.graph.int8 import channel_axis
from balacoon_tk.graph.match import name_of
from balacoon_tk.runtime.engine import Feeds
from balacoon_tk.targets.fold_products import FoldProductsPass
from balacoon_tk.targets.ort_cpu.int8.regions import is_crop, is_layer

# Of the widest channel; one that is hardly ever used isn't blown up further.
_LEAST_SHARE = 1e-3


def equalize(model: onnx.ModelProto, utterances: Sequence[Feeds]) -> onnx.ModelProto:
    """Return a plain decoder whose channels were scaled to like extents, as seen on some inputs."""
    copy = ir.from_proto(model)
    fold_scales(copy)
    FoldProductsPass()(copy)
    layers = [node for node in copy.graph if is_layer(node)]
    tied = _find_tied(copy.graph, layers)
    names = [name_of(value) for values in tied for value in values]
    # Of the graph with its scales folded, which are no part of what is rounded later.
    extents = collect_extents(ir.to_proto(copy), utterances, names)
    for values in tied:
        seen = [extents[name_of(value)] for value in values]
        # Tensors of zeros have nothing to say; where all are, every channel stays as it is.
        shares = [extent / extent.max() for extent in seen if extent.max() > 0] or [np.ones(len(seen[0]))]
        factors = (1.0 / np.maximum(np.max(shares, axis=0), _LEAST_SHARE)).astype(np.float32)
        for layer in layers:
            _scale(copy.graph, layer, values, factors)
    return ir.to_proto(copy)


def fold_scales(model: ir.Model) -> None:
    """Take constant scales in front of layers into their weights, in place.

    HiFi-GAN divides the sum of each stage's residual blocks by their number, which would be another pass
    over all numbers, between two that are in int8. What stands between may scale along:
    ``LeakyRelu(c x) = c LeakyRelu(x)`` for every c > 0.
    """
    for node in list(model.graph):
        factor = scalar_of(node, 1) if node.op_type in ("Div", "Mul") else None
        layer, source = only_user(node.outputs[0]), node.inputs[0] if node.inputs else None
        while layer is not None and layer.op_type == "LeakyRelu":
            layer = only_user(layer.outputs[0])
        if factor is None or not factor > 0 or source is None or layer is None or not is_layer(layer):
            continue
        if bypass(model.graph, node.outputs[0], source):
            # In float64, so that the weight is rounded once.
            weight = np.asarray(constant_of(layer, 1), np.float64)
            _replace(model.graph, layer, 1, weight / factor if node.op_type == "Div" else weight * factor)
    remove_unused(model)


def _find_tied(graph: ir.Graph, layers: Sequence[ir.Node]) -> list[list[ir.Value]]:
    """Return the sets of tensors whose channels can only be scaled together, and can be."""
    # A forest of sets. None stands for what can't be scaled: a set with it in is left out.
    parents: dict[ir.Value | None, ir.Value | None] = {}

    def root(value: ir.Value | None) -> ir.Value | None:
        while parents.setdefault(value, value) is not value:
            value = parents[value]
        return value

    def tie(*values: ir.Value | None) -> None:
        for value in values:
            parents[root(value)] = root(values[0])

    tie(None, *graph.inputs, *graph.outputs)
    for node in graph:
        if node in layers:
            # A layer takes other factors on either side; its weights are scaled by both.
            tie(None, *node.inputs[1:])
        elif node.op_type == "LeakyRelu" or is_crop(node):
            tie(node.inputs[0], node.outputs[0])
        elif node.op_type == "Add" and all(value and value.const_value is None for value in node.inputs):
            tie(*node.inputs, *node.outputs)
        else:
            tie(None, *node.inputs, *node.outputs)
    ends = [value for node in layers for value in (node.inputs[0], node.outputs[0])]
    groups: dict[ir.Value | None, list[ir.Value]] = {}
    for value in dict.fromkeys((*ends, *parents)):
        if value is not None and root(value) is not root(None):
            groups.setdefault(root(value), []).append(value)
    return list(groups.values())


def _scale(graph: ir.Graph, layer: ir.Node, values: Sequence[ir.Value], factors: AnyArray) -> None:
    reads, makes = layer.inputs[0] in values, layer.outputs[0] in values
    kernel, bias, axis_out = np.asarray(constant_of(layer, 1)), constant_of(layer, 2), channel_axis(layer)

    def along(axis: int) -> AnyArray:
        return factors.reshape([-1 if k == axis else 1 for k in range(kernel.ndim)])

    if reads:
        kernel = kernel / along(1 - axis_out)
    if makes:
        kernel = kernel * along(axis_out)
        if bias is not None:
            _replace(graph, layer, 2, bias * factors)
    if reads or makes:
        _replace(graph, layer, 1, kernel)


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: AnyArray) -> None:
    """Give a node another constant; other nodes that read the old one keep it."""
    old = node.inputs[index]
    name = f"{name_of(old)}.equalized"
    # A kernel may be scaled where it is read and once more where it makes.
    while name in graph.initializers:
        name += ".again"
    node.replace_input_with(index, add_constant(graph, array.astype(np.float32), name))
