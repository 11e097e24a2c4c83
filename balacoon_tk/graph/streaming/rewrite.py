"""Write the stateful graph: the plan's segments as they are, every other node on what is newly known.

In the new graph a tensor with time holds, in each push, exactly the steps that have just become
known: its *frontier* moves from where it was to ``rate * n_frames - lag``. Nothing is computed for
times before the start, and nothing twice (but for the margins of segments). A segment with few
filters is run as two halves side by side (see `halves`).

Cases, per node:

1. Pointwise over time: the node itself, on inputs that are brought to the same frontier; the input
   that is ahead waits in a delay line, whose content is a state.
2. A convolution: without its own padding on ``state + new``. Its first state is the zeros of its own
   left padding; in the last push the zeros of its right padding follow. So the padding of the whole
   run is there, and nothing has to be masked.
3. The same, going down in rate: what the windows of this push have not used up stays in the state. If
   the stride skips steps, those that have yet to come are counted by the length of a second state.
4. A slice of time: the first run leaves off its start, the last one its end, of which no more is held
   back before than the last run won't bring anyway.
5. Other operators with a window (transposed convolution, pooling, padding): a segment of one node.
6. A recurrence: its own state goes in and out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.rules import Effect
from balacoon_tk.graph.streaming.builder import GraphBuilder
from balacoon_tk.graph.streaming.plan import Plan
from balacoon_tk.graph.streaming.segments import Segment, measure_segment, sources_of
from balacoon_tk.graph.streaming.writer import FAR, Writer, name_of, padding_of
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import ROW_AXIS


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


@dataclass(frozen=True, slots=True)
class _Halves:
    """Where the outputs of a segment's two rows meet."""

    axis: int
    first_end: ir.Value
    second_start: ir.Value


def rewrite(analysis: Analysis, plan: Plan) -> Rewritten:
    """Write a stateful graph after a plan."""
    writer = _CaseWriter(analysis)
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


class _CaseWriter(Writer):
    """Writes segments and single nodes."""

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
        halves = self._cut_in_halves(local, axis, segment) if segment.in_halves else None
        for node in segment.nodes:
            self._copy(node, local, keep_names=segment.pointwise)
        out = local[segment.target]
        if not segment.pointwise:
            start: ir.Value | int = 0
            if state is not None:
                start = self._left_crop(state, axis, segment)
            end = self.builder.end_before(segment.right_crop)
            if halves is None:
                out = self.builder.slice(out, self._axis(segment.target), start, end)
            else:
                out = self._join_halves(out, halves, start, end)
        self.values[segment.target] = out
        self.frontiers.need(segment.source, segment.min_length)
        lag = self._lag(segment.source) * segment.rate + segment.lag
        self._note(segment.target, lag, self._steps(segment.source) * segment.rate - segment.lag)

    def _cut_in_halves(self, local: dict[str, ir.Value], axis: int, segment: Segment) -> _Halves:
        """Let the two halves of a piece stand in its place, as rows."""
        build, piece = self.builder, local[segment.source]
        n_steps = build.length(piece, axis)
        longer = build.op("Add", [n_steps, build.ints(segment.tail + 1)])
        length = self._extreme("Min", n_steps, build.op("Div", [longer, build.ints(2)]))
        offset = build.op("Sub", [n_steps, length])
        rows = [build.slice(piece, axis, 0, length), build.after(piece, axis, offset)]
        local[segment.source] = build.concat(rows, ROW_AXIS)
        rate = build.ints(segment.rate)
        known = build.op("Sub", [build.op("Mul", [length, rate]), build.ints(segment.lag)])
        first_end = self._extreme("Max", known, build.ints(0))
        second_start = build.op("Sub", [first_end, build.op("Mul", [offset, rate])])
        return _Halves(self._axis(segment.target), first_end, second_start)

    def _join_halves(
        self, rows: ir.Value, halves: _Halves, start: ir.Value | int, end: ir.Value | int
    ) -> ir.Value:
        build = self.builder
        first, second = build.slice(rows, ROW_AXIS, 0, 1), build.slice(rows, ROW_AXIS, 1, 2)
        return build.concat(
            [
                build.slice(first, halves.axis, start, halves.first_end),
                build.slice(second, halves.axis, halves.second_start, end),
            ],
            halves.axis,
        )

    def write_node(self, node: ir.Node) -> None:
        """Write one node on what is newly known."""
        effect = self._analysis.effects.get(node)
        if effect is None:  # it measures the length of a tensor with time
            self._copy(node, self.values, keep_names=True)
        elif effect.kind == "recurrent":
            self._write_recurrent(node)  # case 6
        elif effect.local.pointwise or node.op_type in ("ConstantOfShape", "Expand"):
            self._write_pointwise(node, effect)  # case 1
        elif effect.local.down > 1:
            self._write_reducing(node, effect)  # case 3
        elif effect.local.valid:
            self._write_valid(node, effect)  # case 2
        elif node.op_type == "Slice" and not self._analysis.timelines[name_of(node.inputs[0])].phased:
            self._write_slice(node, effect)  # case 4
        else:
            source = sources_of(node, self._analysis)[0]
            segment = measure_segment(self._analysis, [node], source, name_of(node.outputs[0]), late=True)
            if segment is None:
                raise NotStreamableError(node, "no bounded margin makes a piece of it exact")
            self.write_segment(segment)  # case 5

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
        name = name_of(node.inputs[0])
        local = effect.local
        right = local.span - local.pad_left
        source, views = self._seen_through(name, right)
        window = self._window(source, local.pad_left, local.span, local.pad_right, fill=padding_of(node))
        if local.span and local.pad_right == right:
            # The middle of the window is the input itself, as late as the output: a delay line for free.
            self._windows[source, self._lag(source) + right] = (window, local.pad_left)
        if views:
            seen = {**self.values, source: window}
            for view in views:
                self._copy(view, seen, keep_names=False)
            window = seen[name]
        copy = self._copy_unpadded(node, window)
        self._set(node, copy, self._lag(name) + right, self._steps(name) - right)

    def _seen_through(self, name: str, right: int) -> tuple[str, list[ir.Node]]:
        """Return the tensor that a convolution's window is taken of, and the nodes from there to its input.

        A turned tensor is joined as it was; what is cut in channels as a whole, if the whole waits as well.
        """
        views: list[ir.Node] = []
        producer = self._producers.get(name)
        if producer is not None and producer.op_type == "Transpose":
            turned = name_of(producer.inputs[0])
            if turned in self.values:  # not if it is inside a segment
                name = turned
                views.append(producer)
        whole, cut = self._cut_from(name)
        if cut is not None and self._waits(whole, self._analysis.timelines[whole].lag + right):
            return whole, [cut, *views]
        return name, views

    def _write_reducing(self, node: ir.Node, effect: Effect) -> None:
        name = name_of(node.inputs[0])
        local, axis, down = effect.local, self._axis(name), effect.local.down
        shape, dtype = self._shape(name), self._dtype(name)
        fill = padding_of(node)
        state = self._state(name, local.pad_left, max(local.pad_left, local.span), fill=fill)
        parts = [state, self.values[name]]
        if local.pad_right:
            parts.append(self.builder.at_the_end(shape, axis, local.pad_right, dtype, fill=fill))
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

    def _write_slice(self, node: ir.Node, effect: Effect) -> None:
        name, build = name_of(node.inputs[0]), self.builder
        axis, value = self._axis(name), self.values[name]
        n_start, n_end = -effect.local.pad_left, -effect.local.pad_right
        still_to_come = self._lag(name) - self._analysis.timelines[name].short(self._analysis.n_frames)
        n_held = max(0, n_end - int(still_to_come))
        if n_held:
            held = self._state(name, 0, n_held)
            value = build.concat([held, value], axis)
            build.keep(held, build.after(value, axis, -n_held))
        start: ir.Value | int = 0
        if n_start:
            to_skip = build.state((n_start,), 0, n_start, np.dtype(np.float32))
            start = build.length(to_skip, 0)
            build.keep(to_skip, build.slice(to_skip, 0, 0, 0))
        before_the_end = -n_held if n_held else FAR
        more = build.op("Mul", [build.last, build.ints(-n_end - before_the_end)])
        end = build.op("Add", [build.ints(before_the_end), more]) if n_end else before_the_end
        cut = build.slice(value, axis, start, end)
        out, right = name_of(node.outputs[0]), n_start + n_held
        self.values[out] = self._slice_other_axes(node, cut, axis)
        self._note(out, self._lag(name) + right, self._steps(name) - right)

    def _slice_other_axes(self, node: ir.Node, value: ir.Value, time_axis: int) -> ir.Value:
        starts, ends, *rest = [
            bound.const_value.numpy()
            for bound in node.inputs[1:]
            if bound is not None and bound.const_value is not None
        ]
        rank = len(self._shape(name_of(node.inputs[0])))
        axes = [int(axis) % rank for axis in rest[0]] if rest else list(range(len(starts)))
        if len(axes) == 1:
            return value
        is_time = np.array(axes) == time_axis
        bounds = [np.where(is_time, 0, starts), np.where(is_time, FAR, ends), *rest]
        return self.builder.op("Slice", [value, *(self.builder.constant(bound) for bound in bounds)])

    def _write_recurrent(self, node: ir.Node) -> None:
        name = name_of(node.inputs[0])
        if node.op_type == "CumSum":
            axis = self._axis(name)
            state = self._state(name, 0, 1)
            window = self.builder.concat([state, self.values[name]], axis)
            copy = self._copy_unpadded(node, window)
            total = copy.outputs[0]
            self.builder.keep(state, self.builder.after(total, axis, -1))
            self.values[name_of(node.outputs[0])] = self.builder.after(
                total, axis, self.builder.length(state, axis)
            )
            self._note(name_of(node.outputs[0]), self._lag(name), self._steps(name))
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

    def _left_crop(self, state: ir.Value, axis: int, segment: Segment) -> ir.Value:
        """Return ``max(0, rate * len(tail) - lag)``, and 0 while the tail is empty."""
        build = self.builder
        length = build.length(state, axis)
        steps = build.op("Mul", [length, build.ints(segment.rate)])
        if segment.lag < 0:
            begun = build.op("Sign", [length])
            return build.op("Sub", [steps, build.op("Mul", [begun, build.ints(segment.lag)])])
        return self._extreme("Max", build.op("Sub", [steps, build.ints(segment.lag)]), build.ints(0))
