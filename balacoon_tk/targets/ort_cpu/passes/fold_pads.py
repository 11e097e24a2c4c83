"""Let a convolution pad its own input, where an exporter pads in a node of its own.

``Conv(Pad(x, l, r), pads=[p, q])`` is ``Conv(x, pads=[p + l, q + r])`` if the padding is zeros along
time. The separate node copies its tensor, and keeps blocked convolutions from following each other.
"""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk.graph.edit import Names
from balacoon_tk.graph.match import constant_of, ints_of, is_standard, scalar_of
from balacoon_tk.targets.ort_cpu.passes.base import RewritePass

# Where a tensor of rank 3 is padded along time: six numbers, those in front of each axis and those behind.
_BEFORE, _AFTER = 2, 5


class FoldPadsPass(RewritePass):
    """Fold padding with zeros along time into the one-dimensional convolutions behind it."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        amounts = _amounts(node)
        if amounts is None or node.outputs[0].is_graph_output():
            return False
        users = [user for user, _ in node.outputs[0].uses()]
        if not users or not all(_takes_pads(user, node.outputs[0]) for user in users):
            return False
        for user in users:
            pads = [own + more for own, more in zip(ints_of(user, "pads", [0, 0]), amounts, strict=True)]
            user.attributes["pads"] = ir.AttrInt64s("pads", pads)
            user.replace_input_with(0, node.inputs[0])
        return True


def _amounts(node: ir.Node) -> tuple[int, int] | None:
    """Return how many zeros a node puts before and behind a tensor of rank 3, along its last axis alone."""
    pads = constant_of(node, 1) if node.op_type == "Pad" and is_standard(node) else None
    if pads is None or pads.size != 6 or node.attributes.get_string("mode", "constant") != "constant":
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and scalar_of(node, 2) != 0:
        return None
    before, after = int(pads[_BEFORE]), int(pads[_AFTER])
    # Negative padding cuts, and a convolution cannot.
    alone = all(n == 0 for k, n in enumerate(pads) if k not in (_BEFORE, _AFTER))
    return (before, after) if alone and before >= 0 and after >= 0 else None


def _takes_pads(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type != "Conv" or node.inputs[0] is not value or node.inputs.count(value) > 1:
        return False
    automatic = node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    return not automatic and len(ints_of(node, "pads", [0, 0])) == 2
