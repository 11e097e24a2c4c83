"""Encoders that multiply bytes: matrix products and feed-forward convolutions, scaled sentence by sentence.

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

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.scheme import quantize_kernel
from balacoon_tk.graph.edit import (
    Names,
    Writer,
    bypass,
    constant_of,
    is_plain_gemm,
    only_user,
    remove_unused,
)
from balacoon_tk.graph.rules import ELEMENTWISE

_SMALLEST = 64 * 64
"""Weights that a product must have to gain by it."""
_FEWEST_INPUTS = 64
"""Shorter sums gain nothing, and one that gives the bins of a spline must not be rounded."""
_FAR = 2**31 - 1
_TO_FRONT, _TO_BACK = (0, 3, 1, 2), (0, 2, 3, 1)
_TIME_AXIS = 2


@dataclass(frozen=True, slots=True, eq=False)
class _Product:
    """What is replaced: rows times a matrix, or rows through two convolutions."""

    name: str
    source: ir.Value
    """Rows: channels on the last axis."""
    result: ir.Value
    first: AnyArray
    """Shape (n_in, n_out), or (n_out, n_in, 1, width)."""
    first_bias: AnyArray | None = None
    between: ir.Node | None = None
    second: AnyArray | None = None
    second_bias: AnyArray | None = None
    added: ir.Value | None = None
    """Rows that a product adds to its own."""


def find_products(encoder: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of what can multiply bytes, in the order of the graph.

    The name is that of the product, or of the first convolution of two.
    """
    return tuple(product.name for product in _find(ir.from_proto(encoder).graph))


def quantize_products(encoder: onnx.ModelProto, layers: Collection[str] | None = None) -> onnx.ModelProto:
    """Let an encoder multiply bytes.

    Parameters
    ----------
    encoder : ModelProto
        As an export has optimized it; it is not changed.
    layers : collection of str, optional
        Names of `find_products`; all of them if None.

    Returns
    -------
    ModelProto
        With weights rounded to 255 steps per output channel, and inputs to 256 per sentence.

    Raises
    ------
    ParameterError
        If there is no such layer.
    ModelError
        If nothing in the graph can multiply bytes.
    """
    model = ir.from_proto(encoder)
    found = {product.name: product for product in _find(model.graph)}
    if not found:
        raise ModelError(f"no product has {_SMALLEST} weights or more: there is nothing to quantize")
    unknown = sorted(set(layers or ()) - found.keys())
    if unknown:
        raise ParameterError(f"layers: {unknown[0]!r} must be one of find_products")
    names = Names(model.graph)
    # The last one first: what it reads is then still what was found.
    for name, product in reversed(found.items()):
        if layers is None or name in layers:
            _replace(model.graph, product, Writer(model.graph, names, f"{name}.bytes"))
    remove_unused(model)
    return ir.to_proto(model)


def _find(graph: ir.Graph) -> list[_Product]:
    found = []
    for node in graph:
        product = _matrix(node) if node.op_type in ("Gemm", "MatMul") else _feed_forward(node)
        if product is not None and product.first.size >= _SMALLEST:
            found.append(product)
    return found


def _matrix(node: ir.Node) -> _Product | None:
    """Return a product with a constant matrix, and what is added to it (case 1)."""
    weight, source, result = constant_of(node, 1), node.inputs[0], node.outputs[0]
    if weight is None or weight.ndim != 2 or source is None or constant_of(node, 0) is not None:
        return None
    if len(weight) < _FEWEST_INPUTS:
        return None
    if node.op_type == "Gemm":
        if not is_plain_gemm(node):
            return None
        bias = constant_of(node, 2)
        if bias is not None and bias.shape == weight.shape[1:]:
            return _Product(str(node.name), source, result, weight, bias)
        other = node.inputs[2] if len(node.inputs) > 2 else None
        return _Product(str(node.name), source, result, weight, added=other)
    added = only_user(result)
    if added is not None and added.op_type == "Add":
        index = 1 if added.inputs[0] is result else 0
        bias = constant_of(added, index)
        if bias is not None and bias.shape == weight.shape[1:]:
            return _Product(str(node.name), source, added.outputs[0], weight, bias)
    return _Product(str(node.name), source, result, weight)


def _feed_forward(node: ir.Node) -> _Product | None:
    """Return two convolutions of rows, from one transpose to the other (case 2)."""
    source = node.inputs[0].producer() if node.op_type == "Conv" and node.inputs[0] is not None else None
    first, between = _kernel(node), only_user(node.outputs[0])
    if source is None or first is None or not _transposes(source, _TO_FRONT) or between is None:
        return None
    if between.op_type not in ELEMENTWISE or len(between.inputs) != 1:
        return None
    other = only_user(between.outputs[0])
    second = None if other is None or other.op_type != "Conv" else _kernel(other)
    back = None if other is None else only_user(other.outputs[0])
    if other is None or second is None or back is None or not _transposes(back, _TO_BACK):
        return None
    result, rows = back.outputs[0], source.inputs[0]
    bias = constant_of(other, 2)
    n_groups = other.attributes.get_int("group", 1)
    if n_groups != 1:
        halves = only_user(result)
        total = None if halves is None or halves.op_type != "Split" else only_user(halves.outputs[0])
        if total is None or total.op_type != "Add" or set(total.inputs) != set(_values(halves)):
            return None
        result = total.outputs[0]
        second = np.concatenate(np.split(second, n_groups), axis=1)
        bias = None if bias is None else bias.reshape(n_groups, -1).sum(axis=0)
    if rows is None or second.shape[1] != len(first) or node.attributes.get_int("group", 1) != 1:
        return None
    return _Product(str(node.name), rows, result, first, constant_of(node, 2), between, second, bias)


def _values(node: ir.Node | None) -> tuple[ir.Value, ...]:
    return () if node is None else tuple(node.outputs)


def _transposes(node: ir.Node, order: tuple[int, ...]) -> bool:
    return node.op_type == "Transpose" and tuple(node.attributes["perm"].as_ints()) == order


def _kernel(node: ir.Node) -> AnyArray | None:
    """Return the weight of a convolution over time that gives as many steps as it gets."""
    weight = constant_of(node, 1)
    if weight is None or weight.ndim != 4 or weight.shape[2] != 1 or not weight.shape[3] % 2:
        return None
    half = weight.shape[3] // 2
    plain = (("strides", [1, 1]), ("dilations", [1, 1]), ("pads", [0, half, 0, half]))
    if any(
        name in node.attributes and list(node.attributes[name].as_ints()) != usual for name, usual in plain
    ):
        return None
    return weight if half == 0 or "pads" in node.attributes else None


def _replace(graph: ir.Graph, product: _Product, writer: Writer) -> None:
    rows = _multiply(writer, product.source, product.first, product.first_bias)
    if product.between is not None and product.second is not None:
        copied = ir.Node(
            "", product.between.op_type, [rows], list(product.between.attributes.values()), num_outputs=1
        )
        copied.name, copied.outputs[0].name = f"{product.name}.between", f"{product.name}.between.out"
        writer.nodes.append(copied)
        rows = _multiply(writer, copied.outputs[0], product.second, product.second_bias)
    if product.added is not None:
        rows = writer.one("Add", rows, product.added)
    producer = product.result.producer()
    if producer is None:
        return
    graph.insert_before(producer, writer.nodes)
    bypass(graph, product.result, rows)


def _multiply(writer: Writer, source: ir.Value, weight: AnyArray, bias: AnyArray | None) -> ir.Value:
    """Write a product of bytes, of windows if the weight is that of a convolution."""
    data, scale, zero = writer.op("DynamicQuantizeLinear", source, n_outputs=3)
    if weight.ndim == 4:
        data = _windows(writer, data, zero, weight.shape[3])
        weight = weight[:, :, 0].transpose(2, 1, 0).reshape(-1, len(weight))
    kernel, scales = quantize_kernel(weight.T)
    sums = writer.one("MatMulInteger", data, writer.constant(kernel.T), zero)
    steps = writer.one("Mul", scale, writer.constant(scales))
    product = writer.one("Mul", writer.one("Cast", sums, to=int(ir.DataType.FLOAT)), steps)
    return product if bias is None else writer.one("Add", product, writer.constant(bias.astype(np.float32)))


def _windows(writer: Writer, data: ir.Value, zero: ir.Value, width: int) -> ir.Value:
    """Return each step beside those around it, channels of the earliest first."""
    if width == 1:
        return data
    pads = [0] * 8
    pads[_TIME_AXIS] = pads[_TIME_AXIS + 4] = width // 2
    padded = writer.one("Pad", data, writer.ints(*pads), zero)
    axis = writer.ints(_TIME_AXIS)
    shifted = [
        writer.one("Slice", padded, writer.ints(k), writer.ints(k + 1 - width or _FAR), axis)
        for k in range(width)
    ]
    return writer.one("Concat", *shifted, axis=-1)
