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
from onnx_ir.passes import PassResult

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import Names, Writer, constant_of, only_user, remove_unused
from balacoon_tk.graph.shaped import ShapedPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.fold_products import bounds_of, product_of

_CHANNELS = 1
_RANK = 4
_BLOCK = 16
_MOST = 0.75
"""Of how many channels there may be left, for the convolution to gain what a copy of its input costs."""
_FIRST_OPSET = 11
"""``Pad`` takes its padding as an input from here on."""


class FoldProjectionsPass(ShapedPass):
    """Fold projections into the convolutions that read them, and into the sums behind these."""

    def call(self, model: ir.Model) -> PassResult:
        """Fold each projection that is followed by a gate."""
        names = Names(model.graph)
        modified = False
        for node in list(model.graph):
            projection = None if node.op_type != "Conv" or not node.inputs else node.inputs[0]
            producer = None if projection is None else projection.producer()
            if producer is None or model.graph.opset_imports.get("", 0) < _FIRST_OPSET:
                continue
            if self._can_fold(node, producer):
                _fold(model.graph, node, producer, names)
                modified = True
        if modified:
            model.graph.sort()
            remove_unused(model)
        return PassResult(model, modified)

    def _can_fold(self, node: ir.Node, projection: ir.Node) -> bool:
        weight, matrix = constant_of(node, 1), product_of(projection)
        if weight is None or matrix is None or weight.ndim != _RANK or weight.dtype != np.float32:
            return False
        if weight.shape[2] != 1 or weight.shape[3] == 1 or node.attributes.get_int("group", 1) != 1:
            return False
        if len(projection.inputs) < 3 or projection.inputs[2] is None:
            return False
        source = projection.inputs[0]
        shapes = None if source is None else self._shapes.get(source.name or "")
        if not shapes or any(len(shape) != _RANK or shape[0] != 1 for shape in shapes):
            return False
        return bool(_with_ones(matrix.shape[1]) <= _MOST * matrix.shape[0])


def _with_ones(n_channels: int) -> int:
    """Return the number of channels with one or more of ones: whole blocks."""
    return (n_channels // _BLOCK + 1) * _BLOCK


def _fold(graph: ir.Graph, node: ir.Node, projection: ir.Node, names: Names) -> None:
    write = Writer(graph, names, str(projection.name))
    weight, matrix = np.asarray(constant_of(node, 1)), np.asarray(product_of(projection)).astype(np.float64)
    bias = np.asarray(constant_of(projection, 2)).astype(np.float64)
    n_channels = matrix.shape[1]
    n_more = _with_ones(n_channels) - n_channels
    wide = np.zeros((matrix.shape[0], n_channels + n_more))
    wide[:, :n_channels], wide[:, n_channels] = matrix, bias
    padding = write.ints(0, 0, 0, 0, 0, n_more, 0, 0)
    source = write.one("Pad", projection.inputs[0], padding, write.floats(1.0))
    folded = np.einsum("omrk,mc->ocrk", weight.astype(np.float64), wide).astype(np.float32)
    node.replace_input_with(0, source)
    node.replace_input_with(1, write.constant(folded))
    for user, _ in list(projection.outputs[0].uses()):
        _fold_sum(user, projection, source, wide, write)
    graph.extend(write.nodes)


def _fold_sum(add: ir.Node, projection: ir.Node, source: ir.Value, wide: AnyArray, write: Writer) -> None:
    """Make one product of a sum and of what is joined to it, if they are all made of one gate."""
    projected = projection.outputs[0]
    other = next((value for value in add.inputs if value is not projected), None)
    join = only_user(add.outputs[0]) if add.op_type == "Add" and other is not None else None
    if join is None or other is None or join.op_type != "Concat" or only_user(other) is not add:
        return
    cuts = [other.producer(), None if join.inputs[-1] is None else join.inputs[-1].producer()]
    bounds = [None if cut is None else bounds_of(cut) for cut in cuts]
    both = None if cuts[0] is None else cuts[0].inputs[0]
    conv = None if both is None else both.producer()
    matrix = product_of(conv)
    if conv is None or matrix is None or None in bounds or cuts[1] is None or cuts[1].inputs[0] is not both:
        return
    n_sum = len(wide)
    axis = join.attributes.get_int("axis", 0)
    if axis != _CHANNELS or len(join.inputs) != 2 or join.inputs[0] is not add.outputs[0]:
        return
    (first, middle), (begin, end) = (each or (0, 0) for each in bounds)
    if (first, middle, begin) != (0, n_sum, n_sum) or end < len(matrix):
        return
    bias = constant_of(conv, 2)
    of_source = np.zeros((len(matrix), wide.shape[1]))
    of_source[:n_sum] = wide
    if bias is not None:
        of_source[:, np.asarray(product_of(projection)).shape[1]] += bias  # the channel of ones
    weight = np.concatenate([of_source, matrix], axis=1).astype(np.float32)[:, :, None, None]
    joined = write.one("Concat", source, conv.inputs[0], axis=_CHANNELS)
    made = write.one("Conv", joined, write.constant(weight), kernel_shape=[1, 1])
    join.outputs[0].replace_all_uses_with(made)
