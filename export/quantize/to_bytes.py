"""Rewrite the chosen convolutions of a decoder, and what lies between them, to compute with bytes.

Tensors have their channels last there, (1, rows, time, channels), which is how ONNX Runtime's
``QLinearConv`` multiplies; cutting and joining along time is then a plain copy, and interleaving the
phases of a polyphase convolution is no work at all, because phase and channel lie next to each other:

    channels first   (1, p C, 1, T) -> (p, C, 1, T) -> (C, 1, T, p) -> (1, C, 1, T p)
    channels last    (1, 1, T, p C) -> (1, 1, T p, C)

A tensor changes its layout where it enters or leaves, and nowhere else. A last convolution with one filter
stays in floating point and multiplies in the same layout: with its taps as columns of a matrix, which
leaves k numbers of a step instead of C, and these are added up by a small convolution.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.quantize.regions import match_interleaving, place_nodes
from balacoon_tk.export.quantize.scheme import Range, quantize_bias, quantize_kernel
from balacoon_tk.graph.edit import Names, add_constant, constant_of, remove_unused

CONTRIB_DOMAIN = "com.microsoft"
"""ONNX Runtime's own operators."""

_LAST, _FIRST = [0, 2, 3, 1], [0, 3, 1, 2]
_TIME = 2  # axis, with channels last
_BLOCK = 8  # channels that ONNX Runtime's fast convolutions read at a time


def byte_tensors(model: ir.Model, layers: Sequence[ir.Node]) -> tuple[str, ...]:
    """Return the names of the tensors that become bytes, whose ranges have to be known."""
    placed = place_nodes(model.graph, set(layers))
    names: dict[str, None] = {}
    for node, form in placed.items():
        if form == "bytes" and node.op_type in ("Add", "Conv", "LeakyRelu"):
            read = node.inputs[: 2 if node.op_type == "Add" else 1]
            names |= dict.fromkeys(str(value.name) for value in (*read, *node.outputs) if value is not None)
    return tuple(names)


def to_bytes(model: ir.Model, layers: Collection[ir.Node], ranges: Mapping[str, Range]) -> None:
    """Rewrite a decoder in place.

    Parameters
    ----------
    model : ir.Model
        Lifted to two dimensions, batch 1.
    layers : collection of ir.Node
        The convolutions that are to compute with bytes.
    ranges : mapping of str to Range
        What each tensor that becomes bytes holds; see `byte_tensors`.

    Raises
    ------
    ModelError
        If the range of a tensor is missing.
    """
    graph = model.graph
    placed = place_nodes(graph, set(layers))
    if not placed:
        return
    writer = _Writer(graph, ranges)
    for node in list(graph):
        if node in placed:
            writer.write(node, in_bytes=placed[node] == "bytes")
    writer.leave(placed)
    graph.opset_imports[CONTRIB_DOMAIN] = 1
    remove_unused(model)


class _Writer:
    def __init__(self, graph: ir.Graph, ranges: Mapping[str, Range]) -> None:
        self._graph = graph
        self._ranges = ranges
        self._names = Names(graph)
        self._bytes: dict[ir.Value, tuple[ir.Value, str]] = {}
        """The bytes that stand for a tensor, and the tensor whose range they have."""
        self._floats: dict[ir.Value, ir.Value] = {}
        """A tensor with its channels last."""
        self._parameters_of: dict[str, tuple[ir.Value, ir.Value]] = {}
        self._at = next(iter(graph))

    def write(self, node: ir.Node, *, in_bytes: bool) -> None:
        """Write a node's form with channels last in front of it, unless another node's does its work."""
        out = node.outputs[0]
        if out in self._bytes or out in self._floats:
            return
        self._at = node
        if node.op_type == "Conv" and in_bytes:
            self._write_convolution(node)
        elif node.op_type == "Conv":
            self._write_taps(node)
        elif node.op_type == "Slice":
            self._write_crop(node, in_bytes=in_bytes)
        elif in_bytes:
            sources = [self._in_bytes(value) for value in node.inputs]
            operands = [item for value, name in sources for item in (value, *self._parameters(name))]
            operands += self._parameters(str(out.name))
            made = self._op(f"QLinear{node.op_type}", operands, node.attributes, CONTRIB_DOMAIN)
            self._bytes[out] = made, str(out.name)
        else:
            operands = [self._in_floats(value) for value in node.inputs]
            self._floats[out] = self._op(node.op_type, operands, node.attributes)

    def leave(self, placed: Collection[ir.Node]) -> None:
        """Give all other nodes what they read with channels first, as numbers."""
        for value in (*self._bytes, *self._floats):
            producer = value.producer()
            users = [(user, index) for user, index in value.uses() if user not in placed]
            if producer not in placed or producer is None or not (users or value.is_graph_output()):
                continue
            self._at = producer
            if value in self._floats:
                first = self._op("Transpose", [self._floats[value]], {"perm": _FIRST})
            else:
                bytes_, name = self._bytes[value]
                first = self._op("Transpose", [bytes_], {"perm": _FIRST})
                first = self._op("DequantizeLinear", [first, *self._parameters(name)])
            first.shape, first.type = value.shape, value.type
            for user, index in users:
                user.replace_input_with(index, first)
            if value.is_graph_output():
                old = str(value.name)
                value.replace_all_uses_with(first, replace_graph_outputs=True)
                value.name, first.name = self._names.take(f"{old}.old"), old

    def _write_convolution(self, node: ir.Node) -> None:
        source, name = self._in_bytes(node.inputs[0])
        kernel, scales = quantize_kernel(_kernel(node))
        bias, out = constant_of(node, 2), str(node.outputs[0].name)
        stem = node.name or out
        operands = [source, *self._parameters(name), self._constant(kernel, f"{stem}.kernel")]
        zeros = self._constant(np.zeros(len(kernel), np.int8), f"{stem}.zeros")
        operands += [self._constant(scales, f"{stem}.scales"), zeros, *self._parameters(out)]
        if bias is not None:
            sums = quantize_bias(bias, self._range(name).scale * scales)
            operands.append(self._constant(sums, f"{stem}.bias"))
        attributes = {key: node.attributes[key] for key in ("dilations", "pads") if key in node.attributes}
        shape = ir.AttrInt64s("kernel_shape", list(kernel.shape[2:]))
        attributes |= {"kernel_shape": shape, "channels_last": ir.AttrInt64("channels_last", 1)}
        made = self._op("QLinearConv", operands, attributes, CONTRIB_DOMAIN)
        interleaving = match_interleaving(node.outputs[0])
        values = list(node.outputs)
        if interleaving is not None:
            made = self._op("Reshape", [made, self._ints([0, 0, -1, interleaving.n_channels])])
            values += [inner.outputs[0] for inner in interleaving.nodes]
        self._bytes |= dict.fromkeys(values, (made, out))

    def _write_taps(self, node: ir.Node) -> None:
        kernel, bias = _kernel(node)[0, :, 0], constant_of(node, 2)
        n_taps = kernel.shape[1]
        n_columns = -(-n_taps // _BLOCK) * _BLOCK
        columns = np.zeros((len(kernel), n_columns), np.float32)
        columns[:, :n_taps] = kernel
        diagonal = np.zeros((1, n_columns, 1, n_taps), np.float32)
        diagonal[0, range(n_taps), 0, range(n_taps)] = 1.0
        stem = node.name or str(node.outputs[0].name)
        source = self._in_floats(node.inputs[0])
        taps = self._op("MatMul", [source, self._constant(columns, f"{stem}.columns")])
        operands = [
            self._op("Transpose", [taps], {"perm": _FIRST}),
            self._constant(diagonal, f"{stem}.diagonal"),
        ]
        if bias is not None:
            operands.append(self._constant(bias, f"{stem}.bias"))
        total = self._op("Conv", operands, node.attributes)
        self._floats[node.outputs[0]] = self._op("Transpose", [total], {"perm": _LAST})

    def _write_crop(self, node: ir.Node, *, in_bytes: bool) -> None:
        bounds = [self._ints(np.asarray(constant_of(node, k)).tolist()) for k in (1, 2)]
        bounds.append(self._ints([_TIME]))
        if in_bytes:
            source, name = self._in_bytes(node.inputs[0])
            self._bytes[node.outputs[0]] = self._op("Slice", [source, *bounds]), name
        else:
            self._floats[node.outputs[0]] = self._op("Slice", [self._in_floats(node.inputs[0]), *bounds])

    def _in_bytes(self, value: ir.Value | None) -> tuple[ir.Value, str]:
        """Return the bytes of a tensor; what is computed in floating point is rounded first."""
        if value is None:
            raise ModelError("an input is missing")
        if value not in self._bytes:
            name = str(value.name)
            if value in self._floats:
                made = self._op("QuantizeLinear", [self._floats[value], *self._parameters(name)])
            else:
                rounded = self._op("QuantizeLinear", [value, *self._parameters(name)])
                made = self._op("Transpose", [rounded], {"perm": _LAST})
            self._bytes[value] = made, name
        return self._bytes[value]

    def _in_floats(self, value: ir.Value | None) -> ir.Value:
        """Return a tensor as numbers, with its channels last."""
        if value is None:
            raise ModelError("an input is missing")
        if value not in self._floats:
            bytes_, name = self._bytes[value]
            self._floats[value] = self._op("DequantizeLinear", [bytes_, *self._parameters(name)])
        return self._floats[value]

    def _range(self, name: str) -> Range:
        if name not in self._ranges:
            raise ModelError(f"the range of {name!r} is not known")
        return self._ranges[name]

    def _parameters(self, name: str) -> tuple[ir.Value, ir.Value]:
        """Return a tensor's scale and zero point, as constants."""
        if name not in self._parameters_of:
            found = self._range(name)
            scale = self._constant(np.array(found.scale), f"{name}.scale")
            zero = self._constant(np.array(found.zero_point), f"{name}.zero_point")
            self._parameters_of[name] = scale, zero
        return self._parameters_of[name]

    def _ints(self, values: list[int]) -> ir.Value:
        return self._constant(np.array(values, np.int64), "ints")

    def _constant(self, array: AnyArray, name: str) -> ir.Value:
        return add_constant(self._graph, array, self._names.take(name))

    def _op(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        attributes: Mapping[str, ir.Attr] | Mapping[str, list[int]] | None = None,
        domain: str = "",
    ) -> ir.Value:
        node = ir.node(op_type, inputs, dict(attributes or {}), domain=domain)
        node.name = self._names.take(f"{self._at.name or op_type}.{op_type.lower()}")
        node.outputs[0].name = self._names.take(f"{node.name}.out")
        self._graph.insert_before(self._at, node)
        return node.outputs[0]


def _kernel(node: ir.Node) -> AnyArray:
    weight = constant_of(node, 1)
    if weight is None:
        raise ModelError(f"the kernel of {node.name!r} must be a constant")
    return weight
