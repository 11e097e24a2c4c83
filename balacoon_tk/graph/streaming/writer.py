"""What every case of the rewriting needs: values and their copies, states, delay lines, frontiers."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.edit import constant_of
from balacoon_tk.graph.rules import first_spatial_axis
from balacoon_tk.graph.streaming.builder import GraphBuilder
from balacoon_tk.graph.streaming.frontier import Frontiers, Steps

_CUTS = frozenset({"Slice", "Split"})

FAR = 2**31 - 1
"""More steps than a tensor has."""


class Writer:
    """A stateful graph under construction, and where each tensor of the original is in it."""

    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        graph = analysis.model.graph
        taken = {value.name for value in graph.inputs if value.name}
        taken |= {value.name for node in graph for value in node.outputs if value.name}
        taken |= set(graph.initializers) | {node.name for node in graph if node.name}
        self.builder = GraphBuilder(taken, opset=graph.opset_imports.get("", 0))
        self.values = {
            value.name: _fresh_copy(value)
            for value in (*graph.inputs, *graph.initializers.values())
            if value.name
        }
        self.frontiers = Frontiers(analysis)
        self._producers = {v.name: node for node in analysis.effects for v in node.outputs if v.name}
        self._delayed: dict[tuple[str, Fraction], ir.Value] = {}
        self._windows: dict[tuple[str, Fraction], tuple[ir.Value, int]] = {}
        """Convolutions' windows by tensor and the lag of the middle, which begins at the second number."""

    def write_static(self) -> None:
        """Copy the nodes that time doesn't reach."""
        sized = self._analysis.sized_by
        for node in self._analysis.model.graph:
            timeless = node not in self._analysis.effects
            if timeless and not any(value.name in sized for value in node.outputs):
                self._copy(node, self.values, keep_names=True)

    def _window(self, name: str, before: int, span: int, after: int, *, fill: float = 0.0) -> ir.Value:
        """Return the new steps with the `span` steps before them; `fill` stands beyond the ends."""
        if not (before or span or after):
            return self.values[name]
        axis = self._axis(name)
        state = self._state(name, before, max(before, span), fill=fill)
        parts = [state, self.values[name]]
        if after:
            shape, dtype = self._shape(name), self._dtype(name)
            parts.append(self.builder.at_the_end(shape, axis, after, dtype, fill=fill))
        window = self.builder.concat(parts, axis)
        used = -span if span else self.builder.length(window, axis)
        self.builder.keep(state, self.builder.after(window, axis, used))
        return window

    def _delay(self, name: str, lag: Fraction) -> ir.Value:
        """Return the tensor as late as `lag`: what is ahead of that waits in a state."""
        ahead = lag - self._lag(name)
        if ahead == 0:
            return self.values[name]
        if (name, lag) not in self._delayed:
            axis, steps = self._axis(name), int(ahead)
            whole, cut = self._cut_from(name)
            parts = () if cut is None else cut.outputs
            if cut is not None and (
                (whole, lag) in self._windows
                or (len(parts) > 1 and all(self._waits(name_of(part), lag) for part in parts))
            ):
                # What is cut in parts waits as a whole.
                later = {**self.values, whole: self._delay(whole, lag)}
                copies = self._copy(cut, later, keep_names=False).outputs
                self._delayed |= {(name_of(a), lag): b for a, b in zip(parts, copies, strict=True)}
                return self._delayed[name, lag]
            if (name, lag) in self._windows:
                window, start = self._windows[name, lag]
                out = self.builder.slice(window, axis, start, -steps)
            else:
                state = self._state(name, 0, steps)
                line = self.builder.concat([state, self.values[name]], axis)
                out = self.builder.slice(line, axis, 0, self.builder.end_before(steps))
                self.builder.keep(state, self.builder.after(line, axis, -steps))
            self._delayed[name, lag] = out
        return self._delayed[name, lag]

    def _cut_from(self, name: str) -> tuple[str, ir.Node | None]:
        """Return the tensor that this one is some channels of, and the node that cuts them out."""
        node = self._producers.get(name)
        if node is None or node.op_type not in _CUTS or not self._analysis.effects[node].local.pointwise:
            return name, None
        return name_of(node.inputs[0]), node

    def _waits(self, name: str, lag: Fraction) -> bool:
        """Return whether a tensor has to wait until `lag` for something else, whole or in part."""
        producer = self._producers.get(name)
        value = None if producer is None else next(v for v in producer.outputs if v.name == name)
        for user, _ in () if value is None else value.uses():
            effect = self._analysis.effects.get(user)
            if effect is None or not effect.local.pointwise:
                continue
            out = name_of(user.outputs[0])
            if self._analysis.timelines[out].lag == lag:
                return True
            if user.op_type in _CUTS and any(self._waits(name_of(part), lag) for part in user.outputs):
                return True
        return False

    def _align_phased(self, names: Sequence[str]) -> dict[str, ir.Value]:
        """Bring tensors whose lags depend on the phase to the same step: as far as the shortest goes."""
        lines = {}
        slowest = self.frontiers.slowest(list(names))
        for name in names:
            axis = self._axis(name)
            state = self._state(name, 0, int(np.max(self._steps(name) - slowest)))
            lines[name] = (state, self.builder.concat([state, self.values[name]], axis), axis)
        lengths = [self.builder.length(line, axis) for _, line, axis in lines.values()]
        shortest = lengths[0]
        for length in lengths[1:]:
            shortest = self._extreme("Min", shortest, length)
        out = {}
        for name, (state, line, axis) in lines.items():
            # Whole tensors of different lengths must fail to join, as they do in the original.
            out[name] = self.builder.slice(line, axis, 0, self._all_if_last(shortest))
            self.builder.keep(state, self.builder.after(line, axis, shortest))
        return out

    def _all_if_last(self, n_steps: ir.Value) -> ir.Value:
        """Return a slice's end: a number of steps, and no end in the last push."""
        far = self.builder.op("Mul", [self.builder.last, self.builder.ints(FAR)])
        return self.builder.op("Add", [n_steps, far])

    def _extreme(self, op_type: Literal["Max", "Min"], a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the larger or smaller of two lengths; ``Max`` and ``Min`` of integers are of opset 12."""
        if self._analysis.model.graph.opset_imports.get("", 0) >= 12:
            return self.builder.op(op_type, [a, b])
        first = self.builder.op("Greater" if op_type == "Max" else "Less", [a, b])
        return self.builder.op("Where", [first, a, b])

    def _state(self, name: str, first_length: int, max_length: int, *, fill: float = 0.0) -> ir.Value:
        axis = self._axis(name)
        shape = _with_length(self._shape(name), axis, first_length)
        return self.builder.state(shape, axis, max_length, self._dtype(name), fill=fill)

    def _copy(self, node: ir.Node, local: dict[str, ir.Value], *, keep_names: bool) -> ir.Node:
        inputs = [local[value.name] if value is not None and value.name else None for value in node.inputs]
        copy = self.builder.clone(node, inputs, keep_names=keep_names)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            if old.name:
                local[old.name] = new
        return copy

    def _copy_unpadded(self, node: ir.Node, window: ir.Value) -> ir.Node:
        """Copy a node to run on a window, without its own padding along time."""
        name = name_of(node.inputs[0])
        copy = self._copy(node, {**self.values, name: window}, keep_names=False)
        if node.op_type in ("Reshape", "Flatten", "CumSum"):
            return copy
        n_spatial = len(self._shape(name)) - 2
        k = self._axis(name) - first_spatial_axis(node)
        pads = self._pads(node, n_spatial)
        pads[k] = pads[k + n_spatial] = 0
        copy.attributes["pads"] = ir.AttrInt64s("pads", pads)
        copy.attributes.pop("auto_pad", None)
        return copy

    def _pads(self, node: ir.Node, n_spatial: int) -> list[int]:
        """Return a node's padding, with what is automatic written out (along time it is taken off anyway)."""
        automatic = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
        if automatic == "NOTSET" and "pads" in node.attributes:
            return [int(n) for n in node.attributes["pads"].as_ints()]
        pads = [0] * 2 * n_spatial
        if not automatic.startswith("SAME"):
            return pads
        strides, dilations = (
            list(node.attributes[key].as_ints()) if key in node.attributes else [1] * n_spatial
            for key in ("strides", "dilations")
        )
        if "kernel_shape" in node.attributes:
            kernel = list(node.attributes["kernel_shape"].as_ints())
        else:
            kernel = list(self._shape(name_of(node.inputs[1]))[2:])
        for k, length in enumerate(self._shape(name_of(node.inputs[0]))[2:]):
            last_start = (ceil(length / strides[k]) - 1) * strides[k]
            total = max(0, last_start + dilations[k] * (kernel[k] - 1) + 1 - length)
            smaller, larger = total // 2, total - total // 2
            upper = automatic == "SAME_UPPER"
            pads[k], pads[k + n_spatial] = (smaller, larger) if upper else (larger, smaller)
        return pads

    def _set(self, node: ir.Node, copy: ir.Node, lag: Fraction, steps: Steps) -> None:
        name = name_of(node.outputs[0])
        self.values[name] = copy.outputs[0]
        self._note(name, lag, steps)

    def _note(self, name: str, lag: Fraction, steps: Steps) -> None:
        self.frontiers.note(name, lag, steps)

    def _lag(self, name: str) -> Fraction:
        return self.frontiers.lags[name]

    def _steps(self, name: str) -> Steps:
        return self.frontiers.steps[name]

    def _axis(self, name: str) -> int:
        return self._analysis.timelines[name].axis

    def _shape(self, name: str) -> tuple[int, ...]:
        value = self._analysis.model.graph.initializers.get(name)
        if value is not None and value.const_value is not None:
            return value.const_value.numpy().shape
        return self._analysis.inputs.probe.shapes[name][0]

    def _dtype(self, name: str) -> np.dtype[np.generic]:
        return self._analysis.inputs.probe.dtypes[name]


def padding_of(node: ir.Node) -> float:
    """Return what a convolution pads with: of bytes the zero point, a constant as `analyse` has seen."""
    zero = constant_of(node, 2) if node.op_type == "QLinearConv" else None
    return 0.0 if zero is None else float(zero.reshape(-1)[0])


def name_of(value: ir.Value | None) -> str:
    """Return a value's name; `analyse` has seen to it that those asked for have one."""
    return "" if value is None or value.name is None else value.name


def _fresh_copy(value: ir.Value) -> ir.Value:
    """Return a value that another graph can own."""
    return ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=value.const_value)


def _with_length(shape: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    return tuple(length if k == axis else n for k, n in enumerate(shape))
