"""Encoders that multiply int8: matrix products and feed-forward convolutions, scaled sentence by sentence.

The scale of a product's input is taken from the whole sentence when it comes, so nothing is calibrated. For a
decoder that would be wrong, which never sees a whole sentence; an encoder always does.

1. A product with a constant matrix, ``MatMul`` or ``Gemm``: ``DynamicQuantizeLinear``, ``MatMulInteger``,
   and its steps as float32; then what is added to it.
2. Two convolutions with a pointwise operator between them, channels brought to the front before and to the
   back after: the feed-forward part of a layer. Each becomes a product of windows, which are cut out of the
   bytes. Where the second was split in two by its inputs
   (`balacoon_tk.targets.ort_cpu.passes.split_sums`), it is put together again.

ONNX Runtime joins what is written here to a node or two per product.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.edit import FAR, Names, Writer, bypass, remove_unused
from balacoon_tk.graph.int8 import quantize_kernel
from balacoon_tk.graph.match import constant_of, ints_of, is_plain_gemm, only_user, producer_of
from balacoon_tk.graph.rules import ELEMENTWISE
from balacoon_tk.targets.ort_cpu.passes.base import TO_IMAGE, TO_ROWS

# Weights that a product must have to gain by it.
_SMALLEST = 64 * 64
# Shorter sums gain nothing, and one that gives the bins of a spline must not be rounded.
_FEWEST_INPUTS = 64
_TIME = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Product:
    """What is replaced: rows times a matrix, or rows through two convolutions."""

    name: str
    # Rows: channels on the last axis.
    source: ir.Value
    result: ir.Value
    # Shape (n_in, n_out), or (n_out, n_in, 1, width).
    first: AnyArray
    first_bias: AnyArray | None = None
    between: ir.Node | None = None
    second: AnyArray | None = None
    second_bias: AnyArray | None = None
    # Rows that a product adds to its own.
    added: ir.Value | None = None


def multiply_int8(model: ir.Model) -> bool:
    """Let the products of an encoder that its plain graph rounds multiply int8; return whether there are any.

    The model is changed. It has no QDQ pairs any more (`read_qdq`), and all passes behind it. Weights are in
    255 steps for each output channel, and inputs are rounded to 256 per sentence.
    """
    found = []
    for node in model.graph:
        product = _matrix(node) if node.op_type in ("Gemm", "MatMul") else _feed_forward(node)
        if product is None or product.first.size < _SMALLEST:
            continue
        if all(weight is None or _is_rounded(weight) for weight in (product.first, product.second)):
            found.append(product)
    names = Names(model.graph)
    # The last one first: what it reads is then still what was found.
    for product in reversed(found):
        _replace(model.graph, product, Writer(model.graph, names, f"{product.name}.int8"))
    remove_unused(model)
    return bool(found)


def can_round(node: ir.Node) -> bool:
    """Return whether a product or convolution of a plain encoder is one that is to multiply int8."""
    weight = constant_of(node, 1)
    if weight is None or weight.size < _SMALLEST or weight.dtype != np.float32 or node.domain:
        return False
    if node.op_type == "Conv":
        return node.attributes.get_int("group", 1) == 1 and weight.shape[1] >= _FEWEST_INPUTS
    multiplies = node.op_type == "MatMul" or is_plain_gemm(node)
    return multiplies and weight.ndim == 2 and len(weight) >= _FEWEST_INPUTS


def _is_rounded(weight: AnyArray) -> bool:
    """Return whether each output channel of a weight is in 255 steps, as that of a layer in int8 is.

    Passes give layers other names and other shapes; that a weight was rounded still shows in its numbers.
    """
    filters = weight.T if weight.ndim == 2 else weight
    kernel, scales = quantize_kernel(filters)
    return np.allclose(kernel * scales.reshape(-1, *[1] * (filters.ndim - 1)), filters, rtol=1e-5, atol=0.0)


def _matrix(node: ir.Node) -> _Product | None:
    """Return a product with a constant matrix, and what is added to it (case 1)."""
    weight, source, result = constant_of(node, 1), node.inputs[0], node.outputs[0]
    if weight is None or weight.ndim != 2 or source is None or constant_of(node, 0) is not None:
        return None
    if len(weight) < _FEWEST_INPUTS or not (node.op_type == "MatMul" or is_plain_gemm(node)):
        return None
    # A Gemm adds by itself, and a MatMul leaves it to the next node.
    add, index, added = node, 2, None
    if node.op_type == "Gemm":
        added = node.inputs[2] if len(node.inputs) > 2 else None
    elif (user := only_user(result)) is not None and user.op_type == "Add":
        add, index = user, 1 if user.inputs[0] is result else 0
    bias = constant_of(add, index)
    if bias is not None and bias.shape == weight.shape[1:]:
        return _Product(str(node.name), source, add.outputs[0], weight, bias)
    return _Product(str(node.name), source, result, weight, added=added)


def _feed_forward(node: ir.Node) -> _Product | None:
    """Return two convolutions of rows, from one transpose to the other (case 2)."""
    first, between = _kernel(node), only_user(node.outputs[0])
    other = None if between is None else only_user(between.outputs[0])
    second = None if other is None else _kernel(other)
    back = None if other is None else only_user(other.outputs[0])
    if first is None or between is None or other is None or second is None or back is None:
        return None
    if between.op_type not in ELEMENTWISE or len(between.inputs) != 1:
        return None
    source = producer_of(node.inputs[0], "Transpose")
    if source is None or ints_of(source, "perm", []) != TO_IMAGE:
        return None
    if back.op_type != "Transpose" or ints_of(back, "perm", []) != TO_ROWS:
        return None
    result, rows, bias = back.outputs[0], source.inputs[0], constant_of(other, 2)
    n_groups = other.attributes.get_int("group", 1)
    if n_groups != 1:
        # `SplitSumsPass` has cut it in two by its inputs, and what adds the halves up goes with it.
        halves = only_user(result)
        total = None if halves is None or halves.op_type != "Split" else only_user(halves.outputs[0])
        if halves is None or total is None or total.op_type != "Add":
            return None
        if set(total.inputs) != set(halves.outputs):
            return None
        result = total.outputs[0]
        second = np.concatenate(np.split(second, n_groups), axis=1)
        bias = None if bias is None else bias.reshape(n_groups, -1).sum(axis=0)
    if rows is None or second.shape[1] != len(first) or node.attributes.get_int("group", 1) != 1:
        return None
    return _Product(str(node.name), rows, result, first, constant_of(node, 2), between, second, bias)


def _kernel(node: ir.Node) -> AnyArray | None:
    """Return the weight of a convolution over time that gives as many steps as it gets."""
    weight = constant_of(node, 1) if node.op_type == "Conv" else None
    if weight is None or weight.ndim != 4 or weight.shape[2] != 1 or not weight.shape[3] % 2:
        return None
    half = weight.shape[3] // 2
    given = [ints_of(node, name, [1, 1]) for name in ("strides", "dilations")]
    fits = given == [[1, 1], [1, 1]] and ints_of(node, "pads", [0] * 4) == [0, half, 0, half]
    return weight if fits else None


def _replace(graph: ir.Graph, product: _Product, write: Writer) -> None:
    rows = _multiply(write, product.source, product.first, product.first_bias)
    if product.between is not None and product.second is not None:
        rows = write.clone(product.between, [rows], suffix=".int8").outputs[0]
        rows = _multiply(write, rows, product.second, product.second_bias)
    if product.added is not None:
        rows = write.one("Add", rows, product.added)
    producer = product.result.producer()
    if producer is not None:
        graph.insert_before(producer, write.nodes)
        bypass(graph, product.result, rows)


def _multiply(write: Writer, source: ir.Value, weight: AnyArray, bias: AnyArray | None) -> ir.Value:
    """Write a product of bytes, of windows if the weight is that of a convolution."""
    data, scale, zero = write.op("DynamicQuantizeLinear", source, n_outputs=3)
    if weight.ndim == 4:
        data = _windows(write, data, zero, weight.shape[3])
        weight = weight[:, :, 0].transpose(2, 1, 0).reshape(-1, len(weight))
    kernel, scales = quantize_kernel(weight.T)
    sums = write.one("MatMulInteger", data, write.constant(kernel.T), zero)
    # One step of the whole input and one of each output: the sums are counted in their products.
    steps = write.one("Mul", scale, write.constant(scales))
    product = write.one("Mul", write.one("Cast", sums, to=int(ir.DataType.FLOAT)), steps)
    return product if bias is None else write.one("Add", product, write.constant(bias.astype(np.float32)))


def _windows(write: Writer, data: ir.Value, zero: ir.Value, width: int) -> ir.Value:
    """Return each step beside those around it, channels of the earliest first."""
    if width == 1:
        return data
    pads = [0] * 8
    pads[_TIME] = pads[_TIME + 4] = width // 2
    # With the zero point, which is the byte that stands for 0.
    padded = write.one("Pad", data, write.ints(*pads), zero)
    shifted = [write.slice(padded, _TIME, k, k + 1 - width or FAR) for k in range(width)]
    return write.one("Concat", *shifted, axis=-1)
