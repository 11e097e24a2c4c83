"""Let a convolution pad its own input, where an exporter pads in a node of its own.

``Conv(Pad(x, l, r), pads=[p, q])`` is ``Conv(x, pads=[p + l, q + r])`` if the padding is zeros along
time. The separate node copies its tensor, and keeps blocked convolutions from following each other.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk.graph.edit import constant_of, remove_unused, scalar_of


class FoldPadsPass(InPlacePass):
    """Fold padding with zeros along time into the one-dimensional convolutions behind it."""

    def call(self, model: ir.Model) -> PassResult:
        """Fold each padding that is read by convolutions alone."""
        modified = False
        for node in list(model.graph):
            amounts = _amounts(node)
            padded = node.outputs[0] if node.outputs else None
            if amounts is None or padded is None or padded.is_graph_output():
                continue
            users = [user for user, _ in padded.uses()]
            if not users or not all(_takes_pads(user, padded) for user in users):
                continue
            for user in users:
                pads = user.attributes.get("pads")
                own = (0, 0) if pads is None else tuple(pads.as_ints())
                user.attributes["pads"] = ir.AttrInt64s(
                    "pads", [a + b for a, b in zip(own, amounts, strict=True)]
                )
                user.replace_input_with(0, node.inputs[0])
            modified = True
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _amounts(node: ir.Node) -> tuple[int, int] | None:
    """Return how many zeros a node puts before and behind a tensor of rank 3, along its last axis alone."""
    if node.op_type != "Pad" or node.domain not in ("", "ai.onnx"):
        return None
    mode = node.attributes.get("mode")
    pads = constant_of(node, 1)
    if (mode is not None and mode.as_string() != "constant") or pads is None or pads.size != 6:
        return None
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        return None
    if len(node.inputs) > 2 and node.inputs[2] is not None and scalar_of(node, 2) != 0:
        return None
    before, after = int(pads[2]), int(pads[5])
    others = [int(n) for n in pads]
    others[2] = others[5] = 0
    return (before, after) if before >= 0 and after >= 0 and not any(others) else None


def _takes_pads(node: ir.Node, value: ir.Value) -> bool:
    auto = node.attributes.get("auto_pad")
    if node.op_type != "Conv" or node.inputs[0] is not value or node.inputs.count(value) > 1:
        return False
    pads = node.attributes.get("pads")
    return (auto is None or auto.as_string() == "NOTSET") and (pads is None or len(pads.as_ints()) == 2)
