"""Rewrite the chosen convolutions of a decoder, and what lies between them, to compute in int8.

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

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Names, Writer, constant_of, remove_unused
from balacoon_tk.graph.int8 import LayerRounding, Rounding, Step, quantize_bias, quantize_kernel
from balacoon_tk.targets.ort_cpu.int8.regions import is_layer, match_interleaving, place_nodes
from balacoon_tk.targets.ort_cpu.passes.base import TO_IMAGE, TO_ROWS

CONTRIB_DOMAIN = "com.microsoft"
"""ONNX Runtime's own operators."""

# The axis, with channels last.
_TIME = 2
# `PolyphasePass` ends the name of a layer so.
_PHASES_SUFFIX = ".conv"
# Channels that ONNX Runtime's fast convolutions read at a time.
_BLOCK = 8


def round_convolutions(model: ir.Model, rounding: Rounding) -> bool:
    """Let a decoder compute in int8 what its plain graph rounds, in place; return whether anything is.

    The model is lifted to two dimensions and has phases; its layers have the names of the plain graph's, and
    so have the tensors between them.
    """
    graph = model.graph
    layers = {node: known for node in graph if (known := _rounding_of(node, rounding)) is not None}
    placed = place_nodes(graph, layers)
    if not placed:
        return False
    steps = dict(rounding.steps)
    for node, known in layers.items():
        # What a layer reads may have another name now: the same tensor with one axis more, say.
        for value, step in ((node.inputs[0], known.input), (_output(node), known.output)):
            if value is not None and step is not None:
                steps[str(value.name)] = step
    rewriting = _Rewriting(graph, steps, {node: known.weight_scales for node, known in layers.items()})
    for node in list(graph):
        if node in placed:
            rewriting.node(node, in_int8=placed[node] == "int8")
    rewriting.leave(placed)
    graph.opset_imports[CONTRIB_DOMAIN] = 1
    remove_unused(model)
    return True


def _rounding_of(node: ir.Node, rounding: Rounding) -> LayerRounding | None:
    """Return how a layer is rounded; one that became phases has its name and an ending."""
    if not is_layer(node):
        return None
    name = str(node.name)
    return rounding.layers.get(name) or rounding.layers.get(name.removesuffix(_PHASES_SUFFIX))


def _output(node: ir.Node) -> ir.Value:
    interleaving = match_interleaving(node.outputs[0])
    return (node if interleaving is None else interleaving.nodes[-1]).outputs[0]


class _Rewriting:
    def __init__(
        self, graph: ir.Graph, steps: Mapping[str, Step], scales: Mapping[ir.Node, AnyArray]
    ) -> None:
        self._graph, self._names = graph, Names(graph)
        self._steps, self._scales = steps, scales
        # The bytes that stand for a tensor, and the tensor whose range they have.
        self._int8: dict[ir.Value, tuple[ir.Value, str]] = {}
        # A tensor with its channels last.
        self._floats: dict[ir.Value, ir.Value] = {}
        # Scale and zero point, which all share that read a tensor.
        self._parameters_of: dict[str, tuple[ir.Value, ir.Value]] = {}
        self._write = Writer(graph, self._names, "")

    def node(self, node: ir.Node, *, in_int8: bool) -> None:
        """Write a node's form with channels last in front of it, unless another node's does its work."""
        out = node.outputs[0]
        if out in self._int8 or out in self._floats:
            return
        self._write = Writer(self._graph, self._names, node.name or node.op_type)
        read = [value for value in node.inputs if value is not None]
        if node.op_type == "Conv" and in_int8:
            self._convolution(node, read[0])
        elif node.op_type == "Conv":
            self._taps(node, read[0])
        elif node.op_type == "Slice":
            bounds = [*node.inputs[1:3], self._write.ints(_TIME)]
            if in_int8:
                source, name = self._in_int8(read[0])
                self._int8[out] = self._write.one("Slice", source, *bounds), name
            else:
                self._floats[out] = self._write.one("Slice", self._in_floats(read[0]), *bounds)
        elif in_int8:
            operands: list[ir.Value] = []
            for value in read:
                source, name = self._in_int8(value)
                operands += [source, *self._parameters(name)]
            operands += self._parameters(str(out.name))
            made = self._write.clone(node, operands, suffix=".int8")
            made.op_type, made.domain = f"QLinear{node.op_type}", CONTRIB_DOMAIN
            self._int8[out] = made.outputs[0], str(out.name)
        else:
            made = self._write.clone(node, [self._in_floats(value) for value in read], suffix=".rows")
            self._floats[out] = made.outputs[0]
        self._graph.insert_before(node, self._write.nodes)

    def leave(self, placed: Collection[ir.Node]) -> None:
        """Give all other nodes what they read with channels first, as numbers."""
        for value in (*self._int8, *self._floats):
            producer = value.producer()
            users = [(user, index) for user, index in value.uses() if user not in placed]
            if producer not in placed or producer is None or not (users or value.is_graph_output()):
                continue
            self._write = Writer(self._graph, self._names, producer.name or producer.op_type)
            if value in self._floats:
                first = self._write.one("Transpose", self._floats[value], perm=TO_IMAGE)
            else:
                # Bytes are turned over, and not the four times as many of the numbers.
                stored, name = self._int8[value]
                first = self._write.one("Transpose", stored, perm=TO_IMAGE)
                first = self._write.one("DequantizeLinear", first, *self._parameters(name))
            first.shape, first.type = value.shape, value.type
            self._graph.insert_before(producer, self._write.nodes)
            for user, index in users:
                user.replace_input_with(index, first)
            if value.is_graph_output():
                old = str(value.name)
                value.replace_all_uses_with(first, replace_graph_outputs=True)
                value.name, first.name = self._names.take(f"{old}.old"), old

    def _convolution(self, node: ir.Node, source: ir.Value) -> None:
        write, weight, bias = self._write, np.asarray(constant_of(node, 1)), constant_of(node, 2)
        stored, name = self._in_int8(source)
        interleaving, out = match_interleaving(node.outputs[0]), str(_output(node).name)
        # Phases of one channel share its scale, so that the int8 are those of the plain graph.
        scales = np.tile(self._scales[node], len(weight) // len(self._scales[node]))
        kernel, scales = quantize_kernel(weight, scales)
        operands = [stored, *self._parameters(name), write.constant(kernel), write.constant(scales)]
        operands += [write.constant(np.zeros(len(kernel), np.int8)), *self._parameters(out)]
        if bias is not None:
            operands.append(write.constant(quantize_bias(bias, self._step(name).scale * scales)))
        made = write.clone(node, operands, suffix=".int8")
        made.op_type, made.domain = "QLinearConv", CONTRIB_DOMAIN
        # All others of a layer have their usual values.
        made.attributes.clear()
        kept = {key: node.attributes[key] for key in ("dilations", "pads") if key in node.attributes}
        made.attributes.update(kept)
        made.attributes.add(ir.AttrInt64s("kernel_shape", list(kernel.shape[2:])))
        made.attributes.add(ir.AttrInt64("channels_last", 1))
        values, result = list(node.outputs), made.outputs[0]
        if interleaving is not None:
            result = write.one("Reshape", result, write.ints(0, 0, -1, interleaving.n_channels))
            for crop in (inner for inner in interleaving.nodes if inner.op_type == "Slice"):
                result = write.one("Slice", result, *crop.inputs[1:3], write.ints(_TIME))
            values += [inner.outputs[0] for inner in interleaving.nodes]
        self._int8 |= dict.fromkeys(values, (result, out))

    def _taps(self, node: ir.Node, source: ir.Value) -> None:
        write, bias = self._write, constant_of(node, 2)
        kernel = np.asarray(constant_of(node, 1))[0, :, 0]
        n_taps = kernel.shape[1]
        # Columns of zeros fill up the block.
        n_columns = -(-n_taps // _BLOCK) * _BLOCK
        columns = np.zeros((len(kernel), n_columns), np.float32)
        columns[:, :n_taps] = kernel
        diagonal = np.zeros((1, n_columns, 1, n_taps), np.float32)
        diagonal[0, range(n_taps), 0, range(n_taps)] = 1.0
        taps = write.one("MatMul", self._in_floats(source), write.constant(columns))
        operands = [write.one("Transpose", taps, perm=TO_IMAGE), write.constant(diagonal)]
        if bias is not None:
            operands.append(write.constant(bias))
        total = write.clone(node, operands, suffix=".taps").outputs[0]
        self._floats[node.outputs[0]] = write.one("Transpose", total, perm=TO_ROWS)

    def _in_int8(self, value: ir.Value) -> tuple[ir.Value, str]:
        """Return the bytes of a tensor; what is computed in floating point is rounded first."""
        if value not in self._int8:
            name = str(value.name)
            if value in self._floats:
                made = self._write.one("QuantizeLinear", self._floats[value], *self._parameters(name))
            else:
                rounded = self._write.one("QuantizeLinear", value, *self._parameters(name))
                made = self._write.one("Transpose", rounded, perm=TO_ROWS)
            self._int8[value] = made, name
        return self._int8[value]

    def _in_floats(self, value: ir.Value) -> ir.Value:
        if value not in self._floats:
            stored, name = self._int8[value]
            self._floats[value] = self._write.one("DequantizeLinear", stored, *self._parameters(name))
        return self._floats[value]

    def _step(self, name: str) -> Step:
        if name not in self._steps:
            raise ModelError(f"the step of {name!r} is not known")
        return self._steps[name]

    def _parameters(self, name: str) -> tuple[ir.Value, ir.Value]:
        if name not in self._parameters_of:
            step = self._step(name)
            scale, zero = (self._write.constant(np.array(each)) for each in (step.scale, step.zero_point))
            self._parameters_of[name] = scale, zero
        return self._parameters_of[name]
