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
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk.graph.edit import Names, Writer, constant_of, only_user, remove_unused

_FILTERS_OF_A_PART = 64
_MAX_PARTS = 3  # with more of them the last one, alone, weighs little
_BLOCK = 16  # channels that the widest of the blocked kernels keeps together
_TO_ROWS = [0, 2, 3, 1]
_CHANNELS_OF_ROWS = 3


class SplitSumsPass(InPlacePass):
    """Cut the sums of convolutions over one row whose filters make an odd number of parts."""

    def call(self, model: ir.Model) -> PassResult:
        """Cut each that is turned over into rows behind it."""
        names = Names(model.graph)
        modified = False
        for node in list(model.graph):
            turn = _turned_behind(node)
            if turn is None:
                continue
            write = Writer(model.graph, names, f"{node.outputs[0].name}.halves")
            rows = _halves(write, node)
            model.graph.insert_before(turn, write.nodes)
            turn.outputs[0].replace_all_uses_with(rows)
            modified = True
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _turned_behind(node: ir.Node) -> ir.Node | None:
    """Return what turns over a convolution worth cutting."""
    weight = constant_of(node, 1) if node.op_type == "Conv" else None
    if weight is None or weight.ndim != 4 or weight.shape[2] != 1:
        return None
    if "group" in node.attributes and node.attributes["group"].as_int() != 1:
        return None
    n_parts, rest = divmod(weight.shape[0], _FILTERS_OF_A_PART)
    half, odd = divmod(weight.shape[1], 2)
    if rest or odd or n_parts % 2 == 0 or n_parts > _MAX_PARTS or half % _BLOCK or half < weight.shape[0]:
        return None
    turn = only_user(node.outputs[0])
    if turn is None or turn.op_type != "Transpose" or turn.outputs[0].is_graph_output():
        return None
    return turn if list(turn.attributes["perm"].as_ints()) == _TO_ROWS else None


def _halves(write: Writer, node: ir.Node) -> ir.Value:
    weight, bias = constant_of(node, 1), constant_of(node, 2) if len(node.inputs) > 2 else None
    if weight is None:
        raise ValueError(f"the weights of {node.name!r} are gone")
    n_filters, half = weight.shape[0], weight.shape[1] // 2
    weights = [write.constant(np.concatenate([weight[:, :half], weight[:, half:]]))]
    if bias is not None:
        weights.append(write.constant(np.concatenate([bias, np.zeros_like(bias)])))
    attributes = {
        name: list(node.attributes[name].as_ints())
        for name in ("dilations", "kernel_shape", "pads", "strides")
        if name in node.attributes
    }
    both = write.one("Conv", node.inputs[0], *weights, group=2, **attributes)
    both = write.one("Transpose", both, perm=_TO_ROWS)
    a, b = write.op("Split", both, write.ints(n_filters, n_filters), n_outputs=2, axis=_CHANNELS_OF_ROWS)
    return write.one("Add", a, b)
