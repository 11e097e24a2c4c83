"""Take a constant scale in front of a convolution into its weights.

HiFi-GAN divides the sum of each stage's residual blocks by their number, a pass over every sample of
every channel; the convolution behind it can do the same for nothing. Between the two may stand what
scales along: ``LeakyRelu(c x) = c LeakyRelu(x)`` for every c > 0.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk.export.passes.edit import Names, add_constant, bypass, constant_of, only_user, remove_unused

__all__ = ["FoldScalesPass"]

_SCALES_ALONG = frozenset({"Identity", "LeakyRelu", "PRelu", "Relu"})


class FoldScalesPass(InPlacePass):
    """Fold ``x * c`` and ``x / c`` into the one convolution that reads them."""

    def call(self, model: ir.Model) -> PassResult:
        """Fold every such scale."""
        names = Names(model.graph)
        modified = False
        for node in list(model.graph):
            scale = _scale(node)
            convolution = None if scale is None else _convolution_behind(node.outputs[0])
            if scale is None or convolution is None:
                continue
            source, factor = scale
            weight = constant_of(convolution, 1)
            if weight is None or not bypass(model.graph, node.outputs[0], source):
                continue
            name = names.take(f"{convolution.name or convolution.outputs[0].name}.scaled")
            scaled = (weight.astype(np.float64) * factor).astype(weight.dtype)
            convolution.replace_input_with(1, add_constant(model.graph, scaled, name))
            modified = True
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _scale(node: ir.Node) -> tuple[ir.Value, float] | None:
    """Return what a node scales, and by how much, if that is one positive constant."""
    if node.op_type not in ("Div", "Mul") or node.domain not in ("", "ai.onnx"):
        return None
    for index in (1, 0) if node.op_type == "Mul" else (1,):
        constant, source = constant_of(node, index), node.inputs[1 - index]
        if constant is not None and source is not None and constant.size == 1 and constant.ndim <= 1:
            factor = float(constant.reshape(-1)[0])
            if np.isfinite(factor) and factor > 0:
                return source, 1.0 / factor if node.op_type == "Div" else factor
    return None


def _convolution_behind(value: ir.Value) -> ir.Node | None:
    node = only_user(value)
    while node is not None and node.op_type in _SCALES_ALONG and node.inputs[0] is value:
        value = node.outputs[0]
        node = only_user(value)
    if node is None or node.op_type not in ("Conv", "ConvTranspose") or node.inputs[0] is not value:
        return None
    return node
