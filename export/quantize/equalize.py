"""Give the channels of a decoder like extents, so that one step of a byte suits all of them.

All channels of a tensor share a step, which has to span the widest of them; a channel a quarter as wide
gets a quarter of the numbers. But a channel may be multiplied by any positive number where it is made if
it is divided by it where it is read: a LeakyRelu and a sum let a positive factor through, and convolutions
on either side take it into their kernels ([1] Nagel et al., "Data-Free Quantization Through Weight
Equalization and Bias Correction", 2019, section 4.1, there from one layer to the next; here one factor
serves all that residual connections tie together). Samples stay what they are, but for the last bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.export.quantize.ranges import collect_extents
from balacoon_tk.export.quantize.regions import Interleaving, is_crop, is_layer, match_interleaving
from balacoon_tk.graph.edit import add_constant, constant_of

_LEAST_SHARE = 1e-3
"""Of the widest channel; one that is hardly ever used isn't blown up further."""


@dataclass(frozen=True, slots=True)
class _Layer:
    """A convolution, and the phases behind it if it is a polyphase one."""

    node: ir.Node
    interleaving: Interleaving | None

    @property
    def output(self) -> ir.Value:
        return self.node.outputs[0] if self.interleaving is None else self.interleaving.output


def equalize(model: onnx.ModelProto, utterances: Sequence[Mapping[str, AnyArray]]) -> onnx.ModelProto:
    """Return a decoder whose channels were scaled to like extents; its samples stay what they are.

    Parameters
    ----------
    model : ModelProto
        The decoder without state, lifted to two dimensions; it is not changed.
    utterances : sequence of mapping of str to ndarray
        Inputs on which the extents are seen.
    """
    copy = ir.from_proto(model)
    layers = _find_layers(copy.graph)
    tied = _find_tied(copy.graph, layers)
    names = [str(value.name) for values in tied for value in values]
    extents = collect_extents(model, utterances, names)
    for values in tied:
        factors = _factors([extents[str(value.name)] for value in values])
        for layer in layers:
            _scale(copy.graph, layer, values, factors)
    return ir.to_proto(copy)


def _find_layers(graph: ir.Graph) -> list[_Layer]:
    return [_Layer(node, match_interleaving(node.outputs[0])) for node in graph if is_layer(node)]


def _find_tied(graph: ir.Graph, layers: Sequence[_Layer]) -> list[list[ir.Value]]:
    """Return the sets of tensors whose channels can only be scaled together, and can be."""
    parents: dict[ir.Value, ir.Value] = {}

    def root(value: ir.Value) -> ir.Value:
        while parents.setdefault(value, value) is not value:
            value = parents[value]
        return value

    inside = {inner for layer in layers if layer.interleaving for inner in layer.interleaving.nodes}
    inside |= {layer.node for layer in layers}
    fixed = {*graph.inputs, *graph.outputs}
    for node in graph:
        if node in inside:
            continue
        values = [value for value in (*node.inputs, *node.outputs) if value is not None]
        if node.op_type == "LeakyRelu" or is_crop(node):
            values = [values[0], node.outputs[0]]
        elif node.op_type != "Add" or any(value.const_value is not None for value in values):
            fixed.update(values)
            continue
        for value in values:
            parents[root(value)] = root(values[0])
    for layer in layers:
        fixed.update(value for value in layer.node.inputs[1:] if value is not None)
    fixed_roots = {root(value) for value in fixed}
    ends = dict.fromkeys(value for layer in layers for value in (layer.node.inputs[0], layer.output) if value)
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in (*ends, *parents):
        if root(value) not in fixed_roots and value not in groups.setdefault(root(value), []):
            groups[root(value)].append(value)
    return list(groups.values())


def _factors(extents: Sequence[AnyArray]) -> AnyArray:
    """Return a factor for each channel, by which no tensor gets wider than its widest channel is."""
    shares = [extent / extent.max() for extent in extents if extent.max() > 0]
    if not shares:
        return np.ones(len(extents[0]), np.float32)
    factors: AnyArray = 1.0 / np.maximum(np.max(shares, axis=0), _LEAST_SHARE)
    return factors.astype(np.float32)


def _scale(graph: ir.Graph, layer: _Layer, values: Sequence[ir.Value], factors: AnyArray) -> None:
    reads, makes = layer.node.inputs[0] in values, layer.output in values
    if not (reads or makes):
        return
    kernel, bias = np.asarray(constant_of(layer.node, 1)), constant_of(layer.node, 2)
    if reads:
        kernel = kernel / factors.reshape(1, -1, 1, 1)
    if makes:
        repeated = np.tile(factors, len(kernel) // len(factors))
        kernel = kernel * repeated.reshape(-1, 1, 1, 1)
        if bias is not None:
            _replace(graph, layer.node, 2, bias * repeated)
    _replace(graph, layer.node, 1, kernel)


def _replace(graph: ir.Graph, node: ir.Node, index: int, array: AnyArray) -> None:
    """Give a node another constant; other nodes that read the old one keep it."""
    old = node.inputs[index]
    name = f"{'' if old is None else old.name}.equalized"
    while name in graph.initializers:
        name += ".again"
    node.replace_input_with(index, add_constant(graph, array.astype(np.float32), name))
