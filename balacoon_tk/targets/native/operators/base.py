"""What the function of an operator gets to see, and where it is found by the operator's name."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NoReturn, TypeAlias

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.int8 import LayerRounding, Step, channel_axis, quantize_kernel
from balacoon_tk.graph.match import constant_of, is_standard, name_of
from balacoon_tk.targets.native.builder import Builder
from balacoon_tk.targets.native.errors import NotNativeError
from balacoon_tk.targets.native.views import Operand, View

KEEPING_PADS = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
"""Operators that are views of what they read, padding included."""
MOVING = KEEPING_PADS | {"Concat", "Gather", "Slice", "Split"}
"""Operators that are views."""


class Context:
    """One node, and what is known of what it reads."""

    def __init__(
        self,
        node: ir.Node,
        analysis: Analysis,
        builder: Builder,
        views: dict[str, View],
        rounding: Mapping[str, LayerRounding],
    ) -> None:
        self.node = node
        self.builder = builder
        self.rounding = rounding.get(str(node.name))
        self._all_rounding = rounding
        self._analysis = analysis
        self._views = views
        self.name = node.name or name_of(node.outputs[0])

    def at(self, node: ir.Node) -> Context:
        """Return the same of another node."""
        return Context(node, self._analysis, self.builder, self._views, self._all_rounding)

    @property
    def model(self) -> ir.Model:
        """The graph."""
        return self._analysis.model

    @property
    def opset(self) -> int:
        """Version of ONNX's operators in the graph."""
        return self.model.graph.opset_imports.get("", 0)

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that says why the engine doesn't know this node."""
        raise NotNativeError(self.node, reason)

    def has(self, index: int) -> bool:
        """Whether an input is given."""
        return index < len(self.node.inputs) and self.node.inputs[index] is not None

    def weights(self) -> tuple[AnyArray, str | None, Step | None]:
        """Return a kernel, the name of its scales if it is in int8, and how what it reads is rounded."""
        weights, rounding = self.constant(1), self.rounding
        if rounding is None or rounding.input is None:
            return weights.astype(np.float32), None, None
        axis = channel_axis(self.node)
        kernel, scales = quantize_kernel(np.moveaxis(weights, axis, 0), rounding.weight_scales)
        # Of a sum of bytes; what is read has a step of its own.
        worth = scales.reshape(-1) * np.float32(rounding.input.scale)
        name = self.builder.array(worth.astype(np.float32), f"{self.name}.scales")
        return np.ascontiguousarray(np.moveaxis(kernel, 0, axis)), name, rounding.input

    def is_constant(self, index: int) -> bool:
        """Whether an input is a constant."""
        return constant_of(self.node, index) is not None

    def constant(self, index: int) -> AnyArray:
        """Return an input that must be a constant."""
        array = constant_of(self.node, index)
        if array is None:
            self.refuse(f"its input {index} is not a constant")
        return array

    def ints(self, attribute: str, index: int) -> list[int] | None:
        """Return integers that older opsets hold in an attribute and newer ones in an input."""
        if attribute in self.node.attributes:
            return [int(n) for n in self.node.attributes[attribute].as_ints()]
        return [int(n) for n in self.constant(index).reshape(-1)] if self.has(index) else None

    def view(self, index: int, *, padded: bool = False, windows: bool = False) -> View:
        """Return an input that isn't a constant.

        Only whoever reads a window takes a padded one, and only whoever knows of them one whose channels are
        windows themselves.
        """
        found = self._views.get(name_of(self.node.inputs[index]))
        if found is None:
            self.refuse(f"its input {index} is neither a tensor with time nor a constant")
        if found.windows is not None:
            if not windows:
                self.refuse("it reads windows of time in a way that isn't known")
        elif any(found.pads) and not padded:
            self.refuse("it reads what is padded, and is no convolution")
        return found

    def operand(self, index: int) -> Operand:
        """Return an input as a function reads it: one channel, or each channel of the output."""
        if not self.is_constant(index):
            return self._spread(self.view(index), index)
        array = self.constant(index).astype(np.float32)
        if array.size == 1:
            return float(array.reshape(-1)[0])
        out, axis = self.shape(self.node.outputs[0]), self.time_axis(self.node.outputs[0])
        if axis is not None:
            place = axis - len(out) + array.ndim
            if place >= 0 and array.shape[place] != 1:
                self.refuse(f"its constant of shape {array.shape} varies with time")
            out = (*out[:axis], 1, *out[axis + 1 :])
        return np.broadcast_to(array, out).reshape(-1)

    def _spread(self, view: View, index: int) -> View:
        """Return a view that has a channel for each of the output's, or one for all."""
        made = self.node.outputs[0]
        wanted, axis = self.channel_shape(made), self.time_axis(made)
        if view.n_channels in (1, math.prod(wanted)):
            return view
        shape = self.shape(self.node.inputs[index])
        shape = (1,) * (len(self.shape(made)) - len(shape)) + shape
        if axis is not None:
            shape = (*shape[:axis], *shape[axis + 1 :])
        if math.prod(shape) != view.n_channels:
            self.refuse("its inputs have time on different axes")
        places = np.arange(view.n_channels).reshape(shape)
        return view.take(np.broadcast_to(places, wanted).reshape(-1))

    def shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """Return the shape of a tensor at the probe's first length."""
        return self._analysis.inputs.probe.shape_of(value)

    def time_axis(self, value: ir.Value | None) -> int | None:
        """Return the axis of a tensor that is time; None if it has none."""
        timeline = self._analysis.timelines.get(name_of(value))
        return None if timeline is None else timeline.axis

    def rate(self, value: ir.Value | None) -> Fraction:
        """Return the steps of a tensor for a frame."""
        timeline = self._analysis.timelines.get(name_of(value))
        return Fraction(1) if timeline is None else timeline.rate

    def channel_shape(self, value: ir.Value | None) -> tuple[int, ...]:
        """Return the shape of a tensor without its time."""
        shape, axis = self.shape(value), self.time_axis(value)
        return shape if axis is None else (*shape[:axis], *shape[axis + 1 :])

    def channel_axis(self, value: ir.Value | None, axis: int) -> int:
        """Return which axis of `channel_shape` an axis of a tensor is."""
        time, rank = self.time_axis(value), len(self.shape(value))
        axis %= rank
        if axis == time:
            self.refuse("it works along time")
        return axis - (time is not None and axis > time)

    def check(self, value: ir.Value, view: View) -> None:
        """Refuse the node if what it has become isn't a tensor of the channels and the rate that it makes."""
        n_channels = int(np.prod(self.channel_shape(value)))
        timeless = self.time_axis(value) is None
        if (view.n_channels, view.timeless) != (n_channels, timeless) or (
            not timeless and view.rate != self.rate(value)
        ):
            self.refuse("its shapes are none that the native engine knows for it")

    def is_windowed(self, index: int) -> bool:
        """Whether an input is a tensor whose channels are windows of time."""
        found = self._views.get(name_of(self.node.inputs[index]))
        return found is not None and found.windows is not None

    def readers(self, value: ir.Value, through: frozenset[str]) -> set[str]:
        """Return the operators that read a tensor, behind those of `through`; "" for the graph's output.

        Operators of `through` that change the rate are readers themselves.
        """
        found = {""} if value.is_graph_output() else set()
        for node, _ in value.uses():
            made = node.outputs[0]
            if node.op_type in through and self.rate(made) == self.rate(value):
                found |= self.readers(made, through)
            else:
                found.add(node.op_type)
        return found

    def sized_by(self) -> tuple[View, int]:
        """Return a tensor, and how many times the output of this node is as long."""
        wanted = self._analysis.timelines[name_of(self.node.outputs[0])].lengths
        for value in self.node.inputs:
            root = self._analysis.sized_by.get(name_of(value))
            if root is not None and root in self._views:
                lengths = self._analysis.timelines[root].lengths
                times = wanted[0] // lengths[0]
                if times and wanted == tuple(times * n for n in lengths):
                    return self._views[root], times
        self.refuse("nothing says the length of what it makes")

    def window(self, index: int) -> int:
        """Check that a kernel has its channels on the axis behind the batch, and time behind that."""
        shape, axis = self.shape(self.node.inputs[index]), self.time_axis(self.node.inputs[index])
        if axis is None and len(shape) == 3 and shape[2] == 1:
            return 2
        if axis != 2 or len(shape) != 3 or shape[0] != 1:
            self.refuse(f"its input of shape {shape} isn't (1, channels, time)")
        return axis


Operator: TypeAlias = Callable[[Context], list[View]]
_OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(*op_types: str, domain: str = "") -> Callable[[Operator], Operator]:
    """Register what becomes of some operators of a domain, the standard one if none is given."""

    def register(function: Operator) -> Operator:
        for op_type in op_types:
            _OPERATORS[domain, op_type] = function
        return function

    return register


def find_operator(node: ir.Node) -> Operator:
    """Return what becomes of a node; `NotNativeError` if nobody knows."""
    found = _OPERATORS.get(("" if is_standard(node) else node.domain, node.op_type))
    if found is None:
        raise NotNativeError(node, "the native engine doesn't know this operator")
    return found
