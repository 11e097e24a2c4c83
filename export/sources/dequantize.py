"""Undo a quantization: the network in floating point that the integers stand for.

ONNX Runtime's tools write two forms. In the dynamic one a tensor is rounded by its own range, which depends
on the whole of it, so that chunks would be rounded otherwise than the utterance::

    x ─ DynamicQuantizeLinear ─ ConvInteger(weight) ─ Cast ─ Mul(scale of x · scale of weight)

In the static one (QDQ) every tensor goes through ``QuantizeLinear`` and ``DequantizeLinear``. Either way a
weight is (integer - zero point) · scale, and what is rounded on the way is left as it was.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Names, add_constant, bypass, constant_of, only_user, remove_unused

_FLOAT_FORMS = {"ConvInteger": "Conv", "MatMulInteger": "MatMul"}
# They give the integers of their input another order or shape, so that what is before them counts.
_LAYOUT = frozenset(
    [
        "Concat",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ]
)
# What a Relu comes behind; others that give no negative number, as Exp does, give none anyway.
_RECTIFIED = frozenset(
    {"Add", "BatchNormalization", "Conv", "ConvTranspose", "Gemm", "LayerNormalization", "MatMul"}
)
_UNKNOWN = frozenset({"QLinearConv", "QLinearMatMul", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"})


def dequantize(model: ir.Model) -> bool:
    """Bring a quantized graph to floating point, in place, its constants lifted; say whether it was one."""
    graph = model.graph
    kinds = {node.op_type for node in graph}
    for node in graph:
        if node.op_type in _UNKNOWN or node.op_type.startswith("QLinear"):
            raise ModelError(
                f"{node.op_type} node {node.name!r} computes in integers, in a form that isn't read (dynamic "
                "quantization and QDQ are): export the model that was quantized"
            )
    if not kinds & {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", *_FLOAT_FORMS}:
        return False
    names = Names(graph)
    # First what needs scales, then what gives them.
    for node in list(graph):
        if node.op_type == "DequantizeLinear":
            _undo_linear(graph, node, names)
        elif node.op_type in _FLOAT_FORMS:
            _undo_integer_product(graph, node, names)
    for node in list(graph):
        if node.op_type == "QuantizeLinear":
            _undo_rounding(graph, node, names)
        elif node.op_type == "DynamicQuantizeLinear":
            _put(graph, node.outputs[0], _input(node, 0))
            one = add_constant(graph, np.array(1, np.float32), names.take(f"{node.outputs[1].name}.one"))
            _put(graph, node.outputs[1], one)
    remove_unused(model)
    return True


def _undo_linear(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Take out a DequantizeLinear: behind it lie weights, or what a QuantizeLinear has rounded."""
    source = _input(node, 0)
    for constant, integers in _constants_behind(source):
        weights = _scaled(integers, node)
        new = add_constant(graph, weights, names.take(f"{constant.name}.float"))
        if constant is source:
            source = new
        else:
            constant.replace_all_uses_with(new)
    _put(graph, node.outputs[0], source)


def _undo_rounding(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Take out a QuantizeLinear; a rectifier stays behind where integers left no room below zero.

    The quantizer takes a Relu out in front of such a one, since the integers do the same.
    """
    source = _input(node, 0)
    producer = source.producer()
    zero = constant_of(node, 2)
    is_lowest = zero is None or (
        zero.size == 1 and zero.dtype.kind in "iu" and int(zero.item()) == np.iinfo(zero.dtype).min
    )
    if is_lowest and producer is not None and producer.op_type in _RECTIFIED:
        relu = ir.node("Relu", [source])
        relu.name = names.take(f"{node.name}.relu")
        relu.outputs[0].name = names.take(f"{relu.name}.out")
        relu.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        graph.insert_before(node, relu)
        source = relu.outputs[0]
    _put(graph, node.outputs[0], source)


def _constants_behind(value: ir.Value) -> list[tuple[ir.Value, AnyArray]]:
    """Return the integers that were written down, past what only moves them."""
    if value.const_value is not None:
        # A table that several look into is scaled by the first.
        is_scaled = value.const_value.dtype == ir.DataType.FLOAT
        return [] if is_scaled else [(value, value.const_value.numpy())]
    producer = value.producer()
    if producer is None or producer.op_type not in _LAYOUT:
        return []
    moved = producer.inputs if producer.op_type == "Concat" else producer.inputs[:1]
    return [found for each in moved if each is not None for found in _constants_behind(each)]


def _undo_integer_product(graph: ir.Graph, node: ir.Node, names: Names) -> None:
    """Make a product of integers one of floats, with the weight's scale in the weight where it is found."""
    weight = _constant(node, 1).astype(np.float32) - _zero(node, 3, last=node.op_type == "ConvInteger")
    scaled = _scaling(node)
    bias = None
    result = node.outputs[0]
    if scaled is not None:
        product, scale = scaled
        weight = weight * scale
        result = product.outputs[0]
        bias = _bias(product, len(weight)) if node.op_type == "ConvInteger" else None
    inputs = [_input(node, 0), add_constant(graph, weight, names.take(f"{node.name}.weight"))]
    if bias is not None:
        add, array = bias
        inputs.append(add_constant(graph, array, names.take(f"{node.name}.bias")))
        result = add.outputs[0]
    new = ir.Node("", _FLOAT_FORMS[node.op_type], inputs, list(node.attributes.values()), num_outputs=1)
    new.name, new.outputs[0].name = names.take(f"{node.name}.float"), names.take(f"{node.name}.float.out")
    new.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    graph.insert_before(node, new)
    _put(graph, result, new.outputs[0])


def _scaling(node: ir.Node) -> tuple[ir.Node, AnyArray] | None:
    """Find ``Mul(Cast(product), Mul(scale of x, scale of weight))``; return the outer Mul and the last."""
    cast = only_user(node.outputs[0])
    product = only_user(cast.outputs[0]) if cast is not None and cast.op_type == "Cast" else None
    if cast is None or product is None or product.op_type != "Mul":
        return None
    others = [value for value in product.inputs if value is not cast.outputs[0]]
    inner = others[0].producer() if len(others) == 1 and others[0] is not None else None
    if inner is None or inner.op_type != "Mul":
        return None
    scale = next((array for index in (0, 1) if (array := constant_of(inner, index)) is not None), None)
    # One for each channel lies along the last axis of a matrix; of a convolution it would be the first.
    if scale is None or not (scale.size == 1 or (node.op_type == "MatMulInteger" and scale.ndim == 1)):
        return None
    return product, scale.reshape(-1) if scale.size > 1 else scale.reshape(())


def _bias(product: ir.Node, n_channels: int) -> tuple[ir.Node, AnyArray] | None:
    """Find the bias that is added to a convolution, which the quantizer has taken out of it."""
    add = only_user(product.outputs[0])
    if add is None or add.op_type != "Add":
        return None
    for value in add.inputs:
        reshape = value.producer() if value is not None else None
        array = constant_of(reshape, 0) if reshape is not None and reshape.op_type == "Reshape" else None
        if array is not None and array.shape == (n_channels,):
            return add, array
    return None


def _scaled(integers: AnyArray, node: ir.Node) -> AnyArray:
    """Return what integers stand for, by the scale and the zero point of a DequantizeLinear."""
    scale, zero = _constant(node, 1), _zero(node, 2)
    axis, block = node.attributes.get_int("axis", 1), node.attributes.get_int("block_size", 0)
    array = integers.astype(np.float32)
    if block:
        scale, zero = (
            np.repeat(each, block, axis).take(range(array.shape[axis]), axis) if each.size > 1 else each
            for each in (scale, zero)
        )
    elif scale.size > 1:
        shape = [1] * array.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape) if zero.size > 1 else zero
    return np.asarray((array - zero) * scale, np.float32)


def _constant(node: ir.Node, index: int) -> AnyArray:
    array = constant_of(node, index)
    if array is None:
        raise ModelError(
            f"{node.op_type} node {node.name!r} takes a weight or a scale that is computed, and only those "
            "that are written down can be read: export the model that was quantized"
        )
    return array


def _zero(node: ir.Node, index: int, *, last: bool = False) -> AnyArray:
    """Return a zero point; it is 0 where it is left out."""
    if len(node.inputs) <= index or node.inputs[index] is None:
        return np.array(0, np.float32)
    zero = _constant(node, index).astype(np.float32)
    # A convolution has its channels first.
    return zero.reshape(-1, *[1] * (_constant(node, 1).ndim - 1)) if last and zero.size > 1 else zero


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise ModelError(f"{node.op_type} node {node.name!r} has no input {index}")
    return value


def _put(graph: ir.Graph, value: ir.Value, replacement: ir.Value) -> None:
    if not bypass(graph, value, replacement):
        raise ModelError(f"the output {value.name!r} is what was quantized, and nothing else")
