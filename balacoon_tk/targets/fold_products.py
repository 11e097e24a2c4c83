"""Let a WaveNet's layers do what is done to the sum of their skip signals.

A coupling layer adds up the skip signals of its layers, each the product of a gate and a matrix, and maps
their sum to what it has to say, of fewer channels. Two matrices after one another are one::

    P (S1 g1 + S2 g2 + ...) + c   =   (P S1) g1 + (P S2) g2 + ... + c

Where a matrix also makes the residual signal, only its rows for the skip signal change. The products of
weights are of double precision.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import FAR, Names, Writer, bypass
from balacoon_tk.graph.match import bounds_of, constant_of, only_user, producer_of, product_of
from balacoon_tk.graph.shaped import RewritePass

_CHANNELS = 1


class _Summand(NamedTuple):
    """Channels ``start`` to the end of what a convolution of one step makes."""

    conv: ir.Node
    # Cuts them out; nothing does if they are all.
    cut: ir.Node | None
    start: int


class FoldProductsPass(RewritePass):
    """Fold a projection of one step into the convolutions whose sum it reads, if it makes fewer channels."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        weight, source = product_of(node), node.inputs[0] if node.inputs else None
        # Each of the convolutions then makes as many channels as the projection: only fewer are a gain.
        if weight is None or weight.dtype != np.float32 or source is None or len(weight) >= weight.shape[1]:
            return False
        summands = _summands(source)
        if summands is None or len(summands) < 2:
            return False
        write = Writer(graph, names, f"{node.name}.folded")
        bias = constant_of(node, 2)
        for summand in summands:
            _fold(summand, weight.astype(np.float64), bias, write)
            bias = None  # it is added once
        return bypass(graph, node.outputs[0], source)


def _summands(value: ir.Value) -> list[_Summand] | None:
    """Return what a tree of sums adds up, if nothing else reads a part of it."""
    node = value.producer()
    if node is None or only_user(value) is None:
        return None
    if node.op_type == "Add" and constant_of(node, 0) is None and constant_of(node, 1) is None:
        parts = [None if source is None else _summands(source) for source in node.inputs]
        return None if None in parts else [summand for part in parts for summand in part or ()]
    if product_of(node) is not None:
        return [_Summand(node, None, 0)]
    conv = producer_of(node.inputs[0], "Conv") if node.op_type == "Slice" else None
    matrix = product_of(conv)
    if conv is None or matrix is None or conv.outputs[0].is_graph_output():
        return None
    start, end = bounds_of(node, _CHANNELS) or (-1, -1)
    others = [user for user, _ in conv.outputs[0].uses() if user is not node]
    # The rows from `start` on change, and nobody else may read what they make.
    alone = all(_ends_at(user, start) for user in others)
    return [_Summand(conv, node, start)] if start >= 0 and end >= len(matrix) and alone else None


def _ends_at(node: ir.Node, start: int) -> bool:
    """Whether a node reads no channel from `start` on."""
    bounds = bounds_of(node, _CHANNELS)
    return bounds is not None and bounds[0] >= 0 and 0 <= bounds[1] <= start


def _fold(summand: _Summand, weight: AnyArray, bias: AnyArray | None, write: Writer) -> None:
    conv, cut, start = summand
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
    if cut is not None:
        # Fewer channels follow than it was written for.
        cut.replace_input_with(2, write.ints(FAR))
