"""int8 in a plain graph: steps, zero points, and pairs of QuantizeLinear and DequantizeLinear (QDQ).

A tensor of activations ``x`` is kept as unsigned bytes ``q``, with one scale ``s`` and zero point ``z``, and
a kernel as signed ones, symmetric, with a scale for each output channel ([1] Jacob et al., "Quantization
and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", 2018, section 2)::

    x = s (q - z)        w = s_k q        s_bias = s s_k

Unsigned times signed bytes is what x86 multiplies fastest, and padding with ``z`` is padding with zeros.

A plain graph says so in standard operators: a weight is an int8 constant behind a DequantizeLinear, and a
tensor that is rounded goes through a QuantizeLinear and a DequantizeLinear. Any runtime computes the same
numbers from it, if slowly; a target reads it back (`read_qdq`) and writes what its kernels multiply::

    x ──Q──▶ uint8 ──DQ──▶ x'          w' ◀──DQ── int8            y = Conv(x', w')
    x ──Q──▶ uint8 ──Clip──▶ uint8 ──DQ──▶ x'                     where fewer of the bytes are used
    x ──DynamicQuantizeLinear──▶ uint8, s, z ──DQ──▶ x'           where the scale is the sentence's own
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.edit import Names, Writer, add_constant, constant_of, remove_unused

_LEVELS = 255
_NARROWEST = 1e-30  # a tensor of zeros needs a step as well
_LARGEST_WEIGHT = 127  # of signed bytes; -128 has no counterpart


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers that a tensor of activations may hold; larger ones are clipped."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (np.isfinite([self.low, self.high]).all() and self.low <= self.high):
            raise ParameterError(f"range {self.low} to {self.high} must be finite and in order")

    @property
    def scale(self) -> np.float32:
        """The step between two neighbouring numbers; zero is always one of the numbers."""
        width = max(self.high, 0.0) - min(self.low, 0.0)
        return np.float32(max(width, _NARROWEST) / _LEVELS)

    @property
    def zero_point(self) -> np.uint8:
        """The byte that stands for zero."""
        return np.uint8(np.clip(np.rint(-min(self.low, 0.0) / self.scale), 0, _LEVELS))

    @property
    def step(self) -> Step:
        """How a tensor of these numbers is rounded."""
        return self.step_of(_LEVELS)

    def step_of(self, largest: int) -> Step:
        """Return the same for bytes from 0 to a largest one."""
        scale = np.float32(self.scale * np.float32(_LEVELS / largest))
        return Step(scale, np.uint8(np.rint(self.zero_point * (largest / _LEVELS))), largest)


def quantize_kernel(weight: AnyArray, scales: AnyArray | None = None) -> tuple[AnyArray, AnyArray]:
    """Round a kernel (n_out, ...) to int8 by its filters' scales (n_out,); return both.

    Scales that are given are those that it was rounded to before; otherwise each filter's own range counts.
    """
    if scales is None:
        largest = np.abs(weight.reshape(len(weight), -1)).max(axis=1)
        scales = np.where(largest > 0, largest / _LARGEST_WEIGHT, 1.0)
    scales = np.asarray(scales, np.float32)
    steps = weight / scales.reshape(-1, *[1] * (weight.ndim - 1))
    return np.clip(np.rint(steps), -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.int8), scales


def quantize_bias(bias: AnyArray, scales: AnyArray) -> AnyArray:
    """Round a bias to the steps of the sums that it is added to, as int32."""
    limits = np.iinfo(np.int32)
    # In float32 a sum of that size has no bits left for its last steps.
    steps = np.rint(bias.astype(np.float64) / scales.astype(np.float64))
    return np.clip(steps, limits.min, limits.max).astype(np.int32)


@dataclass(frozen=True, slots=True)
class Step:
    """How a tensor of activations is rounded: ``x = scale (q - zero_point)``."""

    scale: np.float32
    zero_point: np.uint8
    largest: int = _LEVELS
    """The largest byte."""


@dataclass(frozen=True, slots=True)
class LayerRounding:
    """A convolution or product that is computed in int8."""

    weight_scales: AnyArray  # float32, one for each output channel
    input: Step | None = None  # None where the scale is the sentence's own
    output: Step | None = None  # None where what it gives isn't rounded


@dataclass(slots=True)
class Rounding:
    """What of a graph is in int8: layers by the node's name, and tensors that are rounded by theirs."""

    layers: dict[str, LayerRounding] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    dynamic: bool = False  # whether layers round what they read by the scale of the sentence at hand


def channel_axis(node: ir.Node) -> int:
    """Return the axis of a layer's weight along which its output channels lie."""
    return 1 if node.op_type in ("ConvTranspose", "MatMul", "Gemm") else 0


QuantizeKernel: TypeAlias = Callable[[AnyArray], tuple[AnyArray, AnyArray]]
"""Rounds a kernel (n_out, ...) to int8 by scales (n_out,) of its choice, and returns both."""


def write_weights(
    graph: ir.Graph,
    names: Names,
    layers: Collection[ir.Node],
    quantizers: Mapping[ir.Node, QuantizeKernel] | None = None,
) -> None:
    """Round the weights of layers to int8, each filter to steps of its own; some in a way of their own."""
    for node in layers:
        weight, axis = constant_of(node, 1), channel_axis(node)
        if weight is None:
            raise ModelError(f"the weight of {node.name!r} must be a constant")
        quantize = (quantizers or {}).get(node, quantize_kernel)
        kernel, scales = quantize(np.moveaxis(weight, axis, 0))
        stem = node.name or str(node.outputs[0].name)
        operands = [
            add_constant(graph, np.ascontiguousarray(array), names.take(f"{stem}.{what}"))
            for what, array in (
                ("int8", np.moveaxis(kernel, 0, axis)),
                ("scales", scales),
                # Optional, but without them ONNX Runtime gives a graph that it loads for processors without
                # exact sums of int8 products one zero point for all filters, which it then refuses.
                ("zeros", np.zeros(len(scales), np.int8)),
            )
        ]
        made = ir.node("DequantizeLinear", operands, {"axis": axis}, name=names.take(f"{stem}.float"))
        made.outputs[0].name = names.take(f"{made.name}.out")
        graph.insert_before(node, made)
        node.replace_input_with(1, made.outputs[0])


def write_steps(
    graph: ir.Graph, names: Names, steps: Mapping[str, Step], readers: Mapping[str, Collection[ir.Node]]
) -> None:
    """Round tensors, by name, for the nodes that are to read them rounded; others read them as they are."""
    values = {str(value.name): value for node in graph for value in node.outputs}
    values |= {str(value.name): value for value in graph.inputs}
    for name, step in steps.items():
        value = values[name]
        write = Writer(graph, names, f"{name}.rounded")
        parameters = [write.constant(np.array(step.scale)), write.constant(np.array(step.zero_point))]
        uses = [(user, index) for user, index in value.uses() if user in readers[name]]
        # `uses` was taken before: the new QuantizeLinear reads the value as well.
        stored = write.one("QuantizeLinear", value, *parameters)
        if step.largest < _LEVELS:
            stored = write.one("Clip", stored, None, write.constant(np.array(step.largest, np.uint8)))
        rounded = write.one("DequantizeLinear", stored, *parameters)
        rounded.shape, rounded.type = value.shape, value.type
        producer = value.producer()
        if producer is None:
            graph.insert_before(graph[0], write.nodes)
        else:
            graph.insert_after(producer, write.nodes)
        for user, index in uses:
            user.replace_input_with(index, rounded)


def write_dynamic_steps(graph: ir.Graph, names: Names, layers: Collection[ir.Node]) -> None:
    """Round what layers read by the scale of the sentence at hand; each tensor once."""
    rounded: dict[ir.Value, ir.Value] = {}
    for node in layers:
        value = node.inputs[0]
        if value is None:
            continue
        if value not in rounded:
            write = Writer(graph, names, f"{value.name}.rounded")
            parts = write.op("DynamicQuantizeLinear", value, n_outputs=3)
            rounded[value] = write.one("DequantizeLinear", *parts)
            graph.insert_before(node, write.nodes)
        node.replace_input_with(0, rounded[value])


def read_qdq(model: ir.Model) -> Rounding:
    """Take the QDQ pairs out of a graph, in place, and return what they said.

    Weights become what their int8 stands for; a target that rounds them to the same scales gets the same
    int8 again.
    """
    graph, found = model.graph, Rounding()
    scales_of: dict[ir.Node, AnyArray] = {}
    for node in list(graph):
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "DequantizeLinear" or source is None:
            continue
        stored, scales = constant_of(node, 0), constant_of(node, 1)
        if stored is not None and scales is not None:
            shape = [1] * stored.ndim
            shape[node.attributes.get_int("axis", 1)] = -1
            weight = (stored.astype(np.float32) * scales.reshape(shape)).astype(np.float32)
            scales_of |= {user: scales for user, index in node.outputs[0].uses() if index == 1}
            constant = add_constant(graph, weight, f"{node.outputs[0].name}.folded")
            node.outputs[0].replace_all_uses_with(constant)
            continue
        zero = constant_of(node, 2)
        zero_point = np.uint8(0 if zero is None else zero)
        rounding, largest = _rounding_of(source, zero_point)
        if rounding is None or (rounded := rounding.inputs[0]) is None:
            continue
        if rounding.op_type == "DynamicQuantizeLinear":
            found.dynamic = True
        elif rounding.op_type == "QuantizeLinear" and scales is not None:
            found.steps[str(rounded.name)] = Step(np.float32(scales), zero_point, largest)
        else:
            continue
        # An output of the graph may be rounded as well: then it is again what was rounded.
        node.outputs[0].replace_all_uses_with(rounded, replace_graph_outputs=True)
    # Only now each layer reads and gives what it does without the pairs, by whose names steps are known.
    for layer, scales in scales_of.items():
        ends = (layer.inputs[0], layer.outputs[0])
        given, made = (None if value is None else found.steps.get(str(value.name)) for value in ends)
        found.layers[str(layer.name)] = LayerRounding(scales, given, made)
    remove_unused(model)
    return found


def _rounding_of(stored: ir.Value, zero_point: np.uint8) -> tuple[ir.Node | None, int]:
    """Return the node that rounds a tensor to bytes, and the largest of these; no node for another Clip."""
    made = stored.producer()
    if made is None or made.op_type != "Clip":
        return made, _LEVELS
    largest, clipped = constant_of(made, 2), made.inputs[0]
    rounding = None if clipped is None else clipped.producer()
    if rounding is None or rounding.op_type != "QuantizeLinear" or largest is None or largest < zero_point:
        return None, _LEVELS
    return (rounding, int(largest)) if made.inputs[1] is None else (None, _LEVELS)
