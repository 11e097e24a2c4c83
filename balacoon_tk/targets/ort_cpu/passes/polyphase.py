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
from onnx_ir.passes import InPlacePass, PassResult

from balacoon_tk.graph.edit import Names, add_constant, constant_of, remove_unused

_RANK = 4
_TO_THE_END = 2**31 - 1


class PolyphasePass(InPlacePass):
    """Rewrite every transposed convolution (1, channels, rows, time) that goes up in rate along time."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite those that are of a form known here; others stay."""
        names = Names(model.graph)
        found = [node for node in model.graph if node.op_type == "ConvTranspose"]
        done = [_rewrite(model, node, names) for node in found]
        if any(done):
            remove_unused(model)
        return PassResult(model, any(done))


def _rewrite(model: ir.Model, node: ir.Node, names: Names) -> bool:
    graph = model.graph
    weight = constant_of(node, 1)
    bias = constant_of(node, 2) if len(node.inputs) > 2 else None
    no_bias = len(node.inputs) < 3 or node.inputs[2] is None
    if weight is None or weight.ndim != _RANK or (bias is None and not no_bias):
        return False
    strides, dilations = (_ints(node, name, [1, 1]) for name in ("strides", "dilations"))
    first, pad_left, last, pad_right = _ints(node, "pads", [0, 0, 0, 0])
    rows_more, more = _ints(node, "output_padding", [0, 0])
    n_in, n_out, n_rows, length = weight.shape
    stride = strides[1]
    automatic = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if (
        node.attributes.get_int("group", 1) != 1
        or (n_rows, strides[0], first, last, rows_more) != (1, 1, 0, 0, 0)
        or dilations != [1, 1]
        or stride == 1
        or automatic != "NOTSET"
    ):
        return False
    n_taps = -(-length // stride)
    cut_right = n_taps * stride - length - more + pad_right
    if cut_right < 0:  # more samples than all windows give
        return False
    taps = np.zeros((n_in, n_out, n_taps * stride), weight.dtype)
    taps[..., :length] = weight[:, :, 0]
    phases = taps.reshape(n_in, n_out, n_taps, stride)[:, :, ::-1].transpose(3, 1, 0, 2)
    kernel = phases.reshape(stride * n_out, n_in, 1, n_taps)

    made: list[ir.Node] = []
    stem = node.name or str(node.outputs[0].name)

    def op(op_type: str, inputs: list[ir.Value], **attributes: int | list[int]) -> ir.Value:
        new = ir.node(op_type, inputs, attributes)
        new.name = names.take(f"{stem}.{op_type.lower()}")
        new.outputs[0].name = names.take(f"{new.name}.out")
        made.append(new)
        return new.outputs[0]

    def ints(values: list[int]) -> ir.Value:
        return add_constant(graph, np.array(values, np.int64), names.take(f"{stem}.ints"))

    source = node.inputs[0]
    if source is None:
        return False
    operands = [source, add_constant(graph, np.ascontiguousarray(kernel), names.take(f"{stem}.phases"))]
    if bias is not None:
        operands.append(add_constant(graph, np.tile(bias, stride), names.take(f"{stem}.biases")))
    pads = [0, n_taps - 1, 0, n_taps - 1]
    y = op("Conv", operands, kernel_shape=[1, n_taps], pads=pads)
    # A zero in a shape copies what is at its place: rows, of which there may be two.
    y = op("Transpose", [y], perm=[0, 2, 3, 1])
    y = op("Reshape", [y, ints([0, 0, -1, n_out])])
    if pad_left or cut_right:
        end = -cut_right if cut_right else _TO_THE_END
        y = op("Slice", [y, ints([pad_left]), ints([end]), ints([2])])
    y = op("Transpose", [y], perm=[0, 3, 1, 2])
    y.shape, y.type = node.outputs[0].shape, node.outputs[0].type
    graph.insert_before(node, made)
    old = node.outputs[0]
    name = old.name
    old.replace_all_uses_with(y, replace_graph_outputs=True)
    old.name, y.name = names.take(f"{name}.old"), name
    return True


def _ints(node: ir.Node, name: str, default: list[int]) -> list[int]:
    return list(node.attributes[name].as_ints()) if name in node.attributes else default
