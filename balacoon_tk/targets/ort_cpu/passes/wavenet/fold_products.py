"""Let a WaveNet's layers do what is done to the sum of their skip signals.

A coupling layer adds up the skip signals of its layers, each the product of a gate and a matrix, and maps
their sum to what it has to say, of fewer channels. Two matrices after one another are one::

    P (S1 g1 + S2 g2 + ...) + c   =   (P S1) g1 + (P S2) g2 + ... + c

Where a matrix also makes the residual signal, only its rows for the skip signal change. The products of
weights are of double precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, bypass, constant_of, only_user, remove_unused

_CHANNELS = 1
_TO_THE_END = 2**31 - 1


@dataclass(frozen=True, slots=True)
class _Product:
    """Channels ``start`` to the end of what a convolution of one step makes."""

    conv: ir.Node
    cut: ir.Node | None
    """Cuts them out; nothing does if they are all."""
    start: int


class FoldProductsPass(InPlacePass):
    """Fold a projection of one step into the convolutions whose sum it reads, if it makes fewer channels."""

    def call(self, model: ir.Model) -> PassResult:
        """Fold one after the other."""
        names = Names(model.graph)
        modified = False
        for node in list(model.graph):
            weight = product_of(node)
            source = node.inputs[0]
            if weight is None or source is None or weight.shape[0] >= weight.shape[1]:
                continue
            summands = _summands(source)
            if summands is None or len(summands) < 2:
                continue
            write = Writer(model.graph, names, f"{node.name}.folded")
            bias = constant_of(node, 2)
            for summand in summands:
                _fold(summand, weight.astype(np.float64), bias, write)
                bias = None
            modified |= bypass(model.graph, node.outputs[0], source)
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def product_of(node: ir.Node | None) -> AnyArray | None:
    """Return the matrix of a convolution that looks at one step of all channels; None if it is another."""
    if node is None or node.op_type != "Conv" or node.domain not in ("", "ai.onnx"):
        return None
    weight = constant_of(node, 1)
    if weight is None or weight.ndim < 3 or weight[0, 0].size != 1 or weight.dtype != np.float32:
        return None
    if "auto_pad" in node.attributes or (len(node.inputs) > 2 and constant_of(node, 2) is None):
        return None
    strides = node.attributes["strides"].as_ints() if "strides" in node.attributes else [1]
    pads = node.attributes["pads"].as_ints() if "pads" in node.attributes else [0]
    if node.attributes.get_int("group", 1) != 1 or set(strides) != {1} or any(pads):
        return None
    return weight.reshape(weight.shape[:2])


def _summands(value: ir.Value) -> list[_Product] | None:
    """Return what a tree of sums adds up, if nothing else reads a part of it."""
    node = value.producer()
    if node is None or only_user(value) is None:
        return None
    if node.op_type == "Add" and constant_of(node, 0) is None and constant_of(node, 1) is None:
        parts = [None if source is None else _summands(source) for source in node.inputs]
        return None if None in parts else [product for part in parts for product in part or ()]
    if product_of(node) is not None:
        return [_Product(node, None, 0)]
    conv = node.inputs[0].producer() if node.op_type == "Slice" and node.inputs[0] is not None else None
    matrix = product_of(conv)
    if conv is None or matrix is None:
        return None
    start = _last_channels(node, len(matrix))
    others = [user for user, _ in conv.outputs[0].uses() if user is not node]
    if start is None or conv.outputs[0].is_graph_output() or any(not _ends_at(u, start) for u in others):
        return None
    return [_Product(conv, node, start)]


def bounds_of(node: ir.Node) -> tuple[int, int] | None:
    """Return the bounds of a slice of channels; None if a node is something else."""
    starts, ends, axes, steps = (constant_of(node, index) for index in range(1, 5))
    if node.op_type != "Slice" or starts is None or ends is None or axes is None:
        return None
    if axes.tolist() != [_CHANNELS] or (steps is not None and steps.tolist() != [1]):
        return None
    return int(starts[0]), int(ends[0])


def _last_channels(node: ir.Node, n_channels: int) -> int | None:
    """Return where a slice begins, if it takes all channels from there on."""
    bounds = bounds_of(node)
    return bounds[0] if bounds is not None and bounds[0] >= 0 and bounds[1] >= n_channels else None


def _ends_at(node: ir.Node, start: int) -> bool:
    """Whether a node reads no channel from `start` on."""
    bounds = bounds_of(node)
    return bounds is not None and bounds[0] >= 0 and 0 <= bounds[1] <= start


def _fold(product: _Product, weight: AnyArray, bias: AnyArray | None, write: Writer) -> None:
    conv, start = product.conv, product.start
    old, old_bias = np.asarray(constant_of(conv, 1)).astype(np.float64), constant_of(conv, 2)
    new = np.concatenate([old[:start], np.einsum("ij,j...->i...", weight, old[start:])])
    new_bias = np.zeros(len(new))
    if old_bias is not None:
        new_bias[:start] = old_bias[:start]
        new_bias[start:] = weight @ old_bias[start:].astype(np.float64)
    if bias is not None:
        new_bias[start:] += bias
    conv.replace_input_with(1, write.constant(new.astype(np.float32)))
    conv.resize_inputs(3)
    conv.replace_input_with(2, write.constant(new_bias.astype(np.float32)))
    if product.cut is not None:
        product.cut.replace_input_with(2, write.ints(_TO_THE_END))
