"""Raise a graph to the opset that the encoder's passes write for."""

from __future__ import annotations

import onnx_ir as ir

_OPSET = 17  # has LayerNormalization, and ScatterElements that adds
_OLDEST = 13  # since when axes and sizes are inputs
_CHANGED_SINCE = frozenset({"BatchNormalization", "RoiAlign"})
"""Operators whose meaning changed between the two."""


def raise_opset(model: ir.Model) -> bool:
    """Raise a graph to opset 17 if none of its nodes changes by that; say whether it is that or newer now."""
    opset = model.graph.opset_imports.get("", 0)
    if opset < _OLDEST or any(node.op_type in _CHANGED_SINCE for node in model.graph):
        return False
    model.graph.opset_imports[""] = max(opset, _OPSET)
    return True
