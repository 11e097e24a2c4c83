"""Write a transposed convolution as a convolution whose phases are interleaved.

``y[s t + p] = sum over j of x[t - j] w[p + s j]``: each of the s phases is a convolution of the
slow signal with every s-th tap ([1] Vaidyanathan, "Multirate Systems and Filter Banks", 1993, section
4.3). All phases are output channels of one convolution. Once its channels come last, the phases of a
step lie behind one another as they do in time, and interleaving them is only another shape::

    (1, s C, 1, T)  ->  (1, 1, T, s C)  =  (1, 1, T s, C)  ->  (1, C, 1, T s)

ONNX Runtime multiplies for a transposed convolution in any case, but adds up the overlapping columns
afterwards, element by element and in one thread. The two transposes it makes part of bringing the
convolutions' blocks of channels into order.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import FAR, Names, Writer
from balacoon_tk.graph.match import constant_of, ints_of, name_of
from balacoon_tk.graph.shaped import RewritePass
from balacoon_tk.targets.ort_cpu.passes.base import TO_IMAGE, TO_ROWS


class PolyphasePass(RewritePass):
    """Rewrite every transposed convolution (1, channels, rows, time) that goes up in rate along time."""

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        weight = constant_of(node, 1) if node.op_type == "ConvTranspose" else None
        bias = constant_of(node, 2)
        no_bias = len(node.inputs) < 3 or node.inputs[2] is None
        if weight is None or weight.ndim != 4 or (bias is None and not no_bias) or node.inputs[0] is None:
            return False
        strides, dilations = (ints_of(node, name, [1, 1]) for name in ("strides", "dilations"))
        first, pad_left, last, pad_right = ints_of(node, "pads", [0, 0, 0, 0])
        rows_more, more = ints_of(node, "output_padding", [0, 0])
        n_in, n_out, n_rows, length = weight.shape
        stride = strides[1]
        if node.attributes.get_int("group", 1) != 1 or dilations != [1, 1] or stride == 1:
            return False
        if (n_rows, strides[0], first, last, rows_more) != (1, 1, 0, 0, 0):
            return False
        n_taps = -(-length // stride)
        cut_right = n_taps * stride - length - more + pad_right
        # Below zero, more samples are asked for than all windows give.
        if cut_right < 0 or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return False
        taps = np.zeros((n_in, n_out, n_taps * stride), weight.dtype)
        taps[..., :length] = weight[:, :, 0]
        # Tap k of phase p is w[p + s k], and a convolution counts its taps the other way.
        phases = taps.reshape(n_in, n_out, n_taps, stride)[:, :, ::-1].transpose(3, 1, 0, 2)

        write = Writer(graph, names, node.name or name_of(node.outputs[0]))
        operands = [write.constant(phases.reshape(stride * n_out, n_in, 1, n_taps))]
        if bias is not None:
            operands.append(write.constant(np.tile(bias, stride)))
        pads = [0, n_taps - 1, 0, n_taps - 1]
        y = write.one("Conv", node.inputs[0], *operands, kernel_shape=[1, n_taps], pads=pads)
        # A zero in a shape copies what is at its place: rows, of which there may be two.
        y = write.one("Transpose", y, perm=TO_ROWS)
        y = write.one("Reshape", y, write.ints(0, 0, -1, n_out))
        if pad_left or cut_right:
            y = write.slice(y, 2, pad_left, -cut_right if cut_right else FAR)
        y = write.one("Transpose", y, perm=TO_IMAGE)
        graph.insert_before(node, write.nodes)
        # Under the old name, by which ranges of int8 are known.
        old, name = node.outputs[0], node.outputs[0].name
        y.shape, y.type = old.shape, old.type
        old.replace_all_uses_with(y, replace_graph_outputs=True)
        old.name, y.name = names.take(f"{name}.old"), name
        return True
