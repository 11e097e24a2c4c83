"""Let a convolution read what its input is projected from, if that has far fewer channels.

A coupling layer takes C channels up to H with a matrix, ``x = P h + c``, and its first convolution reads x.
The two are one convolution of h, but for the ends of an utterance: there x is padded with zeros, and these
have no share in c. So h gets one more channel, of ones, which is padded with zeros like the others::

    Conv(P h + c, W)              =  Conv([h; 1], [W P, W c])

What the layer adds to x is the product of a gate and a matrix, and a part of what that makes is joined to
the sum. All of it is then a single product, with the biases in the channel of ones::

    Concat(P h + c + R g + r, S g + s)   =   [P, c + r, R; 0, s, S] [h; 1; g]

Products of weights are of double precision.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.match import bounds_of, constant_of, only_user, producer_of, product_of
from balacoon_tk.graph.shaped import RewritePass
from balacoon_tk.targets.ort_cpu.passes.base import CHANNELS

_RANK = 4
_BLOCK = 16
# Of how many channels there may be left, for the convolution to gain what a copy of its input costs.
_MOST = 0.75


class FoldProjectionsPass(RewritePass):
    """Fold projections into the convolutions that read them, and into the sums behind these."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        projection = producer_of(node.inputs[0], "Conv") if node.op_type == "Conv" else None
        too_old = graph.opset_imports.get("", 0) < 11  # there ``Pad`` doesn't take its padding as an input
        if projection is None or too_old or not self._can_fold(node, projection):
            return False
        _fold(graph, node, projection, names)
        graph.sort()
        return True

    def _can_fold(self, node: ir.Node, projection: ir.Node) -> bool:
        weight, matrix = constant_of(node, 1), product_of(projection)
        if weight is None or matrix is None or weight.ndim != _RANK or weight.dtype != np.float32:
            return False
        if weight.shape[2] != 1 or weight.shape[3] == 1 or node.attributes.get_int("group", 1) != 1:
            return False
        if len(projection.inputs) < 3 or projection.inputs[2] is None:
            return False
        shapes = self.shapes_of(projection.inputs[0])
        if not shapes or any(len(shape) != _RANK or shape[0] != 1 for shape in shapes):
            return False
        return bool(_with_ones(matrix.shape[1]) <= _MOST * matrix.shape[0])


def _with_ones(n_channels: int) -> int:
    """Return the number of channels with one or more of ones: whole blocks."""
    return (n_channels // _BLOCK + 1) * _BLOCK


def _fold(graph: ir.Graph, node: ir.Node, projection: ir.Node, names: Names) -> None:
    write = Writer(graph, names, str(projection.name))
    weight, matrix = np.asarray(constant_of(node, 1)), np.asarray(product_of(projection))
    n_projected, n_channels = matrix.shape
    n_wide = _with_ones(n_channels)
    wide = np.zeros((n_projected, n_wide))
    # One channel of ones carries the bias, and the others fill up the block.
    wide[:, :n_channels], wide[:, n_channels] = matrix, constant_of(projection, 2)
    padding = write.ints(0, 0, 0, 0, 0, n_wide - n_channels, 0, 0)
    source = write.one("Pad", projection.inputs[0], padding, write.floats(1.0))
    folded = np.einsum("omrk,mc->ocrk", weight.astype(np.float64), wide).astype(np.float32)
    node.replace_input_with(0, source)
    node.replace_input_with(1, write.constant(folded))
    for user, _ in list(projection.outputs[0].uses()):
        _fold_sum(user, projection.outputs[0], source, wide, n_channels, write)
    graph.extend(write.nodes)


def _fold_sum(
    add: ir.Node, projected: ir.Value, source: ir.Value, wide: AnyArray, ones: int, write: Writer
) -> None:
    """Make one product of a sum and of what is joined to it, if they are all made of one gate."""
    other = next((value for value in add.inputs if value is not projected), None)
    join = only_user(add.outputs[0]) if add.op_type == "Add" else None
    if other is None or join is None or join.op_type != "Concat" or only_user(other) is not add:
        return
    if join.attributes.get_int("axis", 0) != CHANNELS or len(join.inputs) != 2:
        return
    # R g + r and S g + s are cut out of what one convolution makes of the gate, one behind the other.
    residual, skip = producer_of(other, "Slice"), producer_of(join.inputs[1], "Slice")
    if join.inputs[0] is not add.outputs[0] or residual is None or skip is None:
        return
    conv = producer_of(residual.inputs[0], "Conv")
    matrix = product_of(conv)
    if conv is None or matrix is None or skip.inputs[0] is not residual.inputs[0]:
        return
    n_sum = len(wide)
    begin, end = bounds_of(skip, CHANNELS) or (0, 0)
    if bounds_of(residual, CHANNELS) != (0, n_sum) or begin != n_sum or end < len(matrix):
        return
    bias = constant_of(conv, 2)
    of_source = np.zeros((len(matrix), wide.shape[1]))
    of_source[:n_sum] = wide
    if bias is not None:
        of_source[:, ones] += bias
    weight = np.concatenate([of_source, matrix], axis=1).astype(np.float32)[:, :, None, None]
    joined = write.one("Concat", source, conv.inputs[0], axis=CHANNELS)
    made = write.one("Conv", joined, write.constant(weight), kernel_shape=[1, 1])
    join.outputs[0].replace_all_uses_with(made)
