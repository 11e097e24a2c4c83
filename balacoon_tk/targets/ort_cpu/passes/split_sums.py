"""Halve a convolution's sums, so that two threads share its filters evenly.

ONNX Runtime's blocked convolutions give a thread 64 filters of a row at a time. A row of 192 filters is
three such parts, so of two threads one has twice the work of the other. The sum over input channels can
be cut in two instead: a convolution of two groups, each with half of the channels and all filters,
makes six parts of half the size, and one addition of rows puts the halves together::

    Transpose(Conv(x, W))   ->   a + b,   [a; b] = Transpose(Conv(x, [W[:, :half]; W[:, half:]], group=2))
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.match import constant_of, ints_of, only_user
from balacoon_tk.graph.shaped import RewritePass
from balacoon_tk.targets.ort_cpu.passes.base import TO_ROWS

_FILTERS_OF_A_PART = 64
# With more of them the last one, alone, weighs little.
_MAX_PARTS = 3
# Channels that the widest of the blocked kernels keeps together.
_BLOCK = 16
_CHANNELS_OF_ROWS = 3


class SplitSumsPass(RewritePass):
    """Cut the sums of convolutions over one row whose filters make an odd number of parts."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        weight = constant_of(node, 1) if node.op_type == "Conv" else None
        if weight is None or not _is_worth_cutting(node, weight):
            return False
        turn = only_user(node.outputs[0])
        if turn is None or turn.op_type != "Transpose" or turn.outputs[0].is_graph_output():
            return False
        if ints_of(turn, "perm", []) != TO_ROWS:
            return False
        write = Writer(graph, names, f"{node.outputs[0].name}.halves")
        rows = _halves(write, node, weight)
        graph.insert_before(turn, write.nodes)
        turn.outputs[0].replace_all_uses_with(rows)
        return True


def _is_worth_cutting(node: ir.Node, weight: AnyArray) -> bool:
    if weight.ndim != 4 or weight.shape[2] != 1 or node.attributes.get_int("group", 1) != 1:
        return False
    n_parts, rest = divmod(weight.shape[0], _FILTERS_OF_A_PART)
    half, odd = divmod(weight.shape[1], 2)
    if rest or odd or n_parts % 2 == 0 or n_parts > _MAX_PARTS or half % _BLOCK:
        return False
    # A sum shorter than there are filters costs more to put together than it saves.
    return bool(half >= weight.shape[0])


def _halves(write: Writer, node: ir.Node, weight: AnyArray) -> ir.Value:
    n_filters, half, bias = weight.shape[0], weight.shape[1] // 2, constant_of(node, 2)
    weights = [write.constant(np.concatenate([weight[:, :half], weight[:, half:]]))]
    if bias is not None:  # it is added once
        weights.append(write.constant(np.concatenate([bias, np.zeros_like(bias)])))
    names = ("dilations", "kernel_shape", "pads", "strides")
    attributes = {name: ints_of(node, name, []) for name in names if name in node.attributes}
    both = write.one("Conv", node.inputs[0], *weights, group=2, **attributes)
    both = write.one("Transpose", both, perm=TO_ROWS)
    a, b = write.op("Split", both, write.ints(n_filters, n_filters), n_outputs=2, axis=_CHANNELS_OF_ROWS)
    return write.one("Add", a, b)
