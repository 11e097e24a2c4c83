"""Write the stateful graph: the plan's segments as they are, every other node on what is newly known.

In the new graph a tensor with time holds, in each push, exactly the steps that have just become
known: its *frontier* moves from where it was to ``rate * n_frames - lag``. Nothing is computed for
times before the start, and nothing twice (but for the margins of segments).

Cases, per node:

1. Pointwise over time: the node itself, on inputs that are brought to the same frontier; the input
   that is ahead waits in a delay line, whose content is a state.
2. A convolution: without its own padding on ``state + new``. Its first state is the zeros of its own
   left padding; in the last push the zeros of its right padding follow. So the padding of the whole
   run is there, and nothing has to be masked.
3. The same, going down in rate: what the windows of this push have not used up stays in the state. If
   the stride skips steps, those that have yet to come are counted by the length of a second state.
4. Other operators with a window (transposed convolution, pooling, padding): a segment of one node.
5. A recurrence: its own state goes in and out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
import onnx_ir as ir

from balacoon_tk.export.graph.analysis import Analysis
from balacoon_tk.export.graph.errors import NotStreamableError
from balacoon_tk.export.graph.rules import Effect
from balacoon_tk.export.streaming.builder import GraphBuilder
from balacoon_tk.export.streaming.frontier import Frontiers, Steps
from balacoon_tk.export.streaming.plan import Plan
from balacoon_tk.export.streaming.segments import Segment, measure_segment, sources_of

__all__ = ["Rewritten", "rewrite"]

_FAR = 2**31 - 1
"""More steps than a tensor has."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The parts of a stateful graph."""

    builder: GraphBuilder
    values: Mapping[str, ir.Value]
    """The new value of every tensor of the original graph."""
    lags: Mapping[str, int]
    """Largest number of steps by which each output trails."""
    min_first_frames: int
    min_push_frames: int


def rewrite(analysis: Analysis, plan: Plan) -> Rewritten:
    """Write a stateful graph after a plan."""
    writer = _Writer(analysis)
    writer.write_static()
    for step in plan.steps:
        if step.segment is not None:
            writer.write_segment(step.segment)
        else:
            for node in step.nodes:
                writer.write_node(node)
    min_first, min_push = writer.frontiers.pushes()
    return Rewritten(
        builder=writer.builder,
        values=writer.values,
        lags={name: writer.frontiers.trailing(name, min_first) for name in analysis.outputs},
        min_first_frames=min_first,
        min_push_frames=min_push,
    )


class _Writer:
    def __init__(self, analysis: Analysis) -> None:
        self._analysis = analysis
        graph = analysis.model.graph
        taken = {value.name for value in graph.inputs if value.name}
        taken |= {value.name for node in graph for value in node.outputs if value.name}
        taken |= set(graph.initializers)
        self.builder = GraphBuilder(taken, opset=graph.opset_imports.get("", 0))
        self.values = {
            value.name: _fresh_copy(value)
            for value in (*graph.inputs, *graph.initializers.values())
            if value.name
        }
        self.frontiers = Frontiers(analysis)
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

    def write_segment(self, segment: Segment) -> None:
        """Run a segment's nodes unchanged on its tail and the new steps, and crop the result."""
        local = dict(self.values)
        axis = self._axis(segment.source)
        new = self.values[segment.source]
        state = None
        if segment.tail:
            state = self._state(segment.source, 0, segment.tail)
            local[segment.source] = window = self.builder.concat([state, new], axis)
            self.builder.keep(state, self.builder.after(window, axis, -segment.tail))
        for node in segment.nodes:
            self._copy(node, local, keep_names=segment.pointwise)
        out = local[segment.target]
        if not segment.pointwise:
            start: ir.Value | int = 0
            if state is not None:
                start = self._left_crop(state, axis, segment)
            out = self.builder.slice(
                out, self._axis(segment.target), start, self.builder.end_before(segment.right_crop)
            )
        self.values[segment.target] = out
        self.frontiers.need(segment.source, segment.min_length)
        lag = self._lag(segment.source) * segment.rate + segment.lag
        self._note(segment.target, lag, self._steps(segment.source) * segment.rate - segment.lag)

    def write_node(self, node: ir.Node) -> None:
        """Write one node on what is newly known."""
        effect = self._analysis.effects.get(node)
        if effect is None:  # it measures the length of a tensor with time
            self._copy(node, self.values, keep_names=True)
        elif effect.kind == "recurrent":
            self._write_recurrent(node)  # case 5
        elif effect.local.pointwise or node.op_type in ("ConstantOfShape", "Expand"):
            self._write_pointwise(node, effect)  # case 1
        elif effect.local.down > 1:
            self._write_reducing(node, effect)  # case 3
        elif effect.local.valid:
            self._write_valid(node, effect)  # case 2
        else:
            segment = measure_segment(
                self._analysis, [node], sources_of(node, self._analysis)[0], _name(node.outputs[0])
            )
            if segment is None:
                raise NotStreamableError(node, "no bounded margin makes a piece of it exact")
            self.write_segment(segment)  # case 4

    def _write_pointwise(self, node: ir.Node, effect: Effect) -> None:
        names = sources_of(node, self._analysis)
        if any(self._analysis.timelines[name].phased for name in names) and len(names) > 1:
            aligned = self._align_phased(names)
            lag = max(self._lag(name) for name in names)
        else:
            lag = max(self._lag(name) for name in names)
            aligned = {name: self._delay(name, lag) for name in names}
        local = {**self.values, **aligned}
        self._copy(node, local, keep_names=True)
        up = effect.local.up
        steps = self.frontiers.slowest(names)
        for value in node.outputs:
            if value.name:
                self.values[value.name] = local[value.name]
                self._note(value.name, lag * up, steps * up)

    def _write_valid(self, node: ir.Node, effect: Effect) -> None:
        name = _name(node.inputs[0])
        local = effect.local
        right = local.span - local.pad_left
        window = self._window(name, local.pad_left, local.span, local.pad_right)
        if local.span and local.pad_right == right:
            # The middle of the window is the input itself, as late as the output: a delay line for free.
            self._windows[name, self._lag(name) + right] = (window, local.pad_left)
        copy = self._copy_unpadded(node, window)
        self._set(node, copy, self._lag(name) + right, self._steps(name) - right)

    def _write_reducing(self, node: ir.Node, effect: Effect) -> None:
        name = _name(node.inputs[0])
        local, axis, down = effect.local, self._axis(name), effect.local.down
        shape, dtype = self._shape(name), self._dtype(name)
        longest = max(local.pad_left, local.span)
        state = self.builder.state(_with_length(shape, axis, local.pad_left), axis, longest, dtype)
        parts = [state, self.values[name]]
        if local.pad_right:
            parts.append(self.builder.at_the_end(shape, axis, local.pad_right, dtype))
        window = self.builder.concat(parts, axis)
        n_skipped = down - local.span - 1
        if n_skipped > 0:
            to_skip = self.builder.state((0,), 0, n_skipped, np.dtype(np.float32))
            window = self.builder.after(window, axis, self.builder.length(to_skip, 0))
        if node.op_type in ("Reshape", "Flatten"):
            whole = self.builder.op("Div", [self.builder.length(window, axis), self.builder.ints(down)])
            used = self.builder.op("Mul", [whole, self.builder.ints(down)])
            # A whole utterance that doesn't fold without a rest must fail, as it does in the original.
            copy = self._copy_unpadded(node, self.builder.slice(window, axis, 0, self._all_if_last(used)))
        else:
            copy = self._copy_unpadded(node, window)
            given = self.builder.length(copy.outputs[0], effect.axis)
            used = self.builder.op("Mul", [given, self.builder.ints(down)])
        self.builder.keep(state, self.builder.after(window, axis, used))
        if n_skipped > 0:
            ahead = self.builder.op("Sub", [used, self.builder.length(window, axis)])
            count = self._extreme("Max", ahead, self.builder.ints(0))
            zeros = self.builder.constant(np.zeros(n_skipped, dtype=np.float32))
            self.builder.keep(to_skip, self.builder.slice(zeros, 0, 0, count))
        right = local.span - local.pad_left
        steps = (self._steps(name) - right - 1) // down + 1
        self._set(node, copy, (self._lag(name) + right) / down, steps)

    def _write_recurrent(self, node: ir.Node) -> None:
        name = _name(node.inputs[0])
        if node.op_type == "CumSum":
            axis = self._axis(name)
            state = self._state(name, 0, 1)
            window = self.builder.concat([state, self.values[name]], axis)
            copy = self._copy_unpadded(node, window)
            total = copy.outputs[0]
            self.builder.keep(state, self.builder.after(total, axis, -1))
            self.values[_name(node.outputs[0])] = self.builder.after(
                total, axis, self.builder.length(state, axis)
            )
            self._note(_name(node.outputs[0]), self._lag(name), self._steps(name))
            return
        inputs = [None if value is None else self.values[str(value.name)] for value in node.inputs]
        inputs += [None] * (6 - len(inputs))
        weight = node.inputs[2]
        shape = self._shape(str(weight.name)) if weight is not None else ()
        batch = self._shape(name)[1]
        state_shape = (1, batch, shape[2])
        n_states = 2 if node.op_type == "LSTM" else 1
        states = []
        for k in range(n_states):
            first = inputs[5 + k] if 5 + k < len(inputs) else None
            if first is None:
                states.append(self.builder.state(state_shape, 0, 1, self._dtype(name)))
                inputs[5 + k : 6 + k] = states[-1:]
            else:  # an empty state is followed by the first one, which stands in for it
                states.append(self.builder.state((0, *state_shape[1:]), 0, 1, self._dtype(name)))
                either = self.builder.concat([states[-1], first], 0)
                inputs[5 + k] = self.builder.slice(either, 0, 0, 1)
        copy = ir.Node(
            node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=1 + n_states
        )
        copy.name = node.name
        for k, value in enumerate(copy.outputs):
            value.name = self.builder.fresh(f"{node.name or node.op_type}_out_{k}")
        self.builder.nodes.append(copy)
        for state, value in zip(states, copy.outputs[1:], strict=True):
            self.builder.keep(state, value)
        self._set(node, copy, self._lag(name), self._steps(name))

    def _window(self, name: str, before: int, span: int, after: int) -> ir.Value:
        """Return the new steps with the `span` steps before them; zeros stand beyond the ends."""
        if not (before or span or after):
            return self.values[name]
        axis = self._axis(name)
        state = self._state(name, before, max(before, span))
        parts = [state, self.values[name]]
        if after:
            parts.append(self.builder.at_the_end(self._shape(name), axis, after, self._dtype(name)))
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
        far = self.builder.op("Mul", [self.builder.last, self.builder.ints(_FAR)])
        return self.builder.op("Add", [n_steps, far])

    def _left_crop(self, state: ir.Value, axis: int, segment: Segment) -> ir.Value:
        """Return ``max(0, rate * len(tail) - lag)``, and 0 while the tail is empty."""
        build = self.builder
        length = build.length(state, axis)
        steps = build.op("Mul", [length, build.ints(segment.rate)])
        if segment.lag < 0:
            begun = build.op("Sign", [length])
            return build.op("Sub", [steps, build.op("Mul", [begun, build.ints(segment.lag)])])
        return self._extreme("Max", build.op("Sub", [steps, build.ints(segment.lag)]), build.ints(0))

    def _extreme(self, op_type: Literal["Max", "Min"], a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the larger or smaller of two lengths; ``Max`` and ``Min`` of integers are of opset 12."""
        if self._analysis.model.graph.opset_imports.get("", 0) >= 12:
            return self.builder.op(op_type, [a, b])
        first = self.builder.op("Greater" if op_type == "Max" else "Less", [a, b])
        return self.builder.op("Where", [first, a, b])

    def _state(self, name: str, first_length: int, max_length: int) -> ir.Value:
        axis = self._axis(name)
        shape = _with_length(self._shape(name), axis, first_length)
        return self.builder.state(shape, axis, max_length, self._dtype(name))

    def _copy(self, node: ir.Node, local: dict[str, ir.Value], *, keep_names: bool) -> ir.Node:
        inputs = [local[value.name] if value is not None and value.name else None for value in node.inputs]
        copy = self.builder.clone(node, inputs, keep_names=keep_names)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            if old.name:
                local[old.name] = new
        return copy

    def _copy_unpadded(self, node: ir.Node, window: ir.Value) -> ir.Node:
        """Copy a node to run on a window, without its own padding along time."""
        name = _name(node.inputs[0])
        copy = self._copy(node, {**self.values, name: window}, keep_names=False)
        if node.op_type in ("Reshape", "Flatten", "CumSum"):
            return copy
        n_spatial = len(self._shape(name)) - 2
        k = self._axis(name) - 2
        pads = [int(n) for n in node.attributes["pads"].as_ints()] if "pads" in node.attributes else []
        pads = pads or self._automatic_pads(node, n_spatial)
        pads[k] = pads[k + n_spatial] = 0
        copy.attributes["pads"] = ir.AttrInt64s("pads", pads)
        copy.attributes.pop("auto_pad", None)
        return copy

    def _automatic_pads(self, node: ir.Node, n_spatial: int) -> list[int]:
        """Write automatic padding out, for the axes that aren't time; along time it is taken off anyway."""
        automatic = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
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
            kernel = list(self._shape(_name(node.inputs[1]))[2:])
        for k, length in enumerate(self._shape(_name(node.inputs[0]))[2:]):
            last_start = (ceil(length / strides[k]) - 1) * strides[k]
            total = max(0, last_start + dilations[k] * (kernel[k] - 1) + 1 - length)
            smaller, larger = total // 2, total - total // 2
            upper = automatic == "SAME_UPPER"
            pads[k], pads[k + n_spatial] = (smaller, larger) if upper else (larger, smaller)
        return pads

    def _set(self, node: ir.Node, copy: ir.Node, lag: Fraction, steps: Steps) -> None:
        name = _name(node.outputs[0])
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


def _name(value: ir.Value | None) -> str:
    """Return a value's name; `analyse` has seen to it that those asked for have one."""
    return "" if value is None or value.name is None else value.name


def _fresh_copy(value: ir.Value) -> ir.Value:
    """Return a value that another graph can own."""
    return ir.Value(name=value.name, type=value.type, shape=value.shape, const_value=value.const_value)


def _with_length(shape: Sequence[int], axis: int, length: int) -> tuple[int, ...]:
    return tuple(length if k == axis else n for k, n in enumerate(shape))
