"""A stateful graph as it is written: values and their copies, states, delay lines, frontiers.

This is what the writers of nodes build on (`Effect.write`, in the rules) and those of segments
(`rewrite`). Three things hold throughout:

- A tensor with time holds, in each push, exactly the steps that have just become known. How many that is
  after so many frames is in `frontiers`; whoever sets a tensor notes it there.
- Tensors that meet in a node are brought to the same frontier before. What is ahead waits in a state.
- Values inside a segment are not to be had outside it: only its target is.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import reduce

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.streaming.builder import Frontiers, GraphBuilder, Steps
from balacoon_tk.graph.streaming.segments import sources_of
from balacoon_tk.graph.timeline import POINTWISE, Local

_CUTS = frozenset({"Slice", "Split"})


class StreamWriter:
    """A stateful graph under construction, and where each tensor of the original is in it."""

    def __init__(self, analysis: Analysis) -> None:
        self.analysis = analysis
        graph = analysis.model.graph
        self.builder = GraphBuilder(graph)
        # Copies, as a value belongs to one graph only.
        self.values = {
            v.name: ir.Value(name=v.name, type=v.type, shape=v.shape, const_value=v.const_value)
            for v in (*graph.inputs, *graph.initializers.values())
            if v.name
        }
        self.frontiers = Frontiers(analysis)
        self._producers = {v.name: node for node in analysis.effects for v in node.outputs if v.name}
        # Tensors that wait, by the lag that they wait for: whoever asks for the same shares the state.
        self._delayed: dict[tuple[str, Fraction], ir.Value] = {}
        # Kernels' windows by tensor and the lag of the middle, which begins at the second number.
        self._windows: dict[tuple[str, Fraction], tuple[ir.Value, int]] = {}
        # What nodes of one kind have in common, by keys of that kind.
        self.shared: dict[object, object] = {}

    def write_static(self) -> None:
        """Copy the nodes that time doesn't reach."""
        # Not those that compute with lengths: these are other in each push, and come with what they measure.
        sized = self.analysis.sized_by
        for node in self.analysis.model.graph:
            timeless = node not in self.analysis.effects
            if timeless and not any(value.name in sized for value in node.outputs):
                self.copy(node, self.values, keep_names=True)

    def write_aligned(self, node: ir.Node, *, up: int = 1) -> None:
        """Write a node that gives `up` steps for one, as it is, on inputs brought to the same frontier."""
        aligned, lag, steps = self.align(sources_of(node, self.analysis))
        local = {**self.values, **aligned}
        self.copy(node, local, keep_names=True)
        for value in node.outputs:
            if value.name:
                self.values[value.name] = local[value.name]
                self.frontiers.note(value.name, lag * up, steps * up)

    def align(self, names: Sequence[str]) -> tuple[dict[str, ir.Value], Fraction, Steps]:
        """Bring tensors to the frontier of the slowest; return them, the lag and the steps known there."""
        lag = max(self.lag(name) for name in names)
        phased = len(names) > 1 and any(self.analysis.timelines[name].phased for name in names)
        aligned = self._align_phased(names) if phased else {name: self._delay(name, lag) for name in names}
        return aligned, lag, self.frontiers.slowest(list(names))

    def copy_on(self, node: ir.Node, value: ir.Value) -> ir.Node:
        """Copy a node with another value in place of its first input."""
        local = {**self.values, name_of(node.inputs[0]): value}
        return self.copy(node, local, keep_names=False)

    def set(self, node: ir.Node, value: ir.Value, lag: Fraction, steps: Steps) -> None:
        """Set what a node's output is in the stateful graph, and note how much of it is known."""
        name = name_of(node.outputs[0])
        self.values[name] = value
        self.frontiers.note(name, lag, steps)

    def line(
        self,
        name: str,
        max_length: int,
        local: Local = POINTWISE,
        *,
        fill: float = 0.0,
        new: ir.Value | None = None,
    ) -> tuple[ir.Value, ir.Value]:
        """Return a state that keeps steps of a tensor, and its new steps behind those, or others if given."""
        # An operator's own padding is its first state, and follows the last push: nothing has to be masked.
        axis, shape = self.axis(name), self.shape(name)
        first = tuple(local.pad_left if k == axis else n for k, n in enumerate(shape))
        state = self.builder.state(first, axis, max_length, self.dtype(name), fill=fill)
        parts = [state, self.values[name] if new is None else new]
        if local.pad_right:
            parts.append(self.builder.at_the_end(shape, axis, local.pad_right, self.dtype(name), fill=fill))
        return state, self.builder.concat(parts, axis)

    def window(self, name: str, local: Local, *, fill: float = 0.0) -> ir.Value:
        """Return a tensor's new steps with those before them that a kernel sees, and its padding's ends.

        What is kept of a view is kept of what it looks at: a turned tensor is joined as it was, and what
        is cut in channels as a whole, if the whole waits as well.
        """
        right = local.span - local.pad_left
        source, views = self._seen_through(name, right)
        axis = self.axis(source)
        state, window = self.line(source, max(local.pad_left, local.span), local, fill=fill)
        # Of one tap nothing is kept, and a slice from -0 on would keep all.
        used = -local.span if local.span else self.builder.length(window, axis)
        self.builder.keep(state, self.builder.after(window, axis, used))
        if local.span and local.pad_right == right:
            # The middle of the window is the input itself, as late as the output: a delay line for free.
            self._windows[source, self.lag(source) + right] = (window, local.pad_left)
        seen = {**self.values, source: window}
        for view in views:
            self.copy(view, seen, keep_names=False)
        return seen[name]

    def _seen_through(self, name: str, right: int) -> tuple[str, list[ir.Node]]:
        """Return the tensor that a window is taken of, and the nodes from there to the kernel's input."""
        views, producer = list[ir.Node](), self._producers.get(name)
        if producer is not None and producer.op_type == "Transpose":
            turned = name_of(producer.inputs[0])
            # Not if it is inside a segment, where nobody else can have it.
            if turned in self.values:
                name, views = turned, [producer]
        # The lag as analysed: those that will wait are not written yet.
        whole, cut = self._cut_from(name)
        if cut is not None and self._waits(whole, self.analysis.timelines[whole].lag + right):
            return whole, [cut, *views]
        return name, views

    def _delay(self, name: str, lag: Fraction) -> ir.Value:
        # What is ahead of the lag waits in a state; shared, as each state is copied in every push.
        ahead = lag - self.lag(name)
        if ahead == 0:
            return self.values[name]
        if (name, lag) not in self._delayed:
            axis, steps = self.axis(name), int(ahead)
            whole, cut = self._cut_from(name)
            if cut is not None and ((whole, lag) in self._windows or self._all_wait(cut, lag)):
                # What is cut in parts waits as a whole.
                later = {**self.values, whole: self._delay(whole, lag)}
                copies = self.copy(cut, later, keep_names=False).outputs
                # All parts at once, so that the whole is cut once.
                self._delayed |= {(name_of(a), lag): b for a, b in zip(cut.outputs, copies, strict=True)}
                return self._delayed[name, lag]
            if (name, lag) in self._windows:
                # Its end is as long as the wait, and is padding in the last push: cut off either way.
                window, start = self._windows[name, lag]
                out = self.builder.slice(window, axis, start, -steps)
            else:
                state, line = self.line(name, steps)
                out = self.builder.slice(line, axis, 0, self.builder.end_before(steps))
                self.builder.keep(state, self.builder.after(line, axis, -steps))
            self._delayed[name, lag] = out
        return self._delayed[name, lag]

    def _cut_from(self, name: str) -> tuple[str, ir.Node | None]:
        """Return the tensor that this one is some channels of, and the node that cuts them out."""
        node = self._producers.get(name)
        if node is None or node.op_type not in _CUTS or not self.analysis.effects[node].local.pointwise:
            return name, None
        return name_of(node.inputs[0]), node

    def _all_wait(self, cut: ir.Node, lag: Fraction) -> bool:
        return len(cut.outputs) > 1 and all(self._waits(name_of(part), lag) for part in cut.outputs)

    def _waits(self, name: str, lag: Fraction) -> bool:
        # For something else, whole or in part. As analysed, since those that will wait are not written yet.
        producer = self._producers.get(name)
        value = None if producer is None else next(v for v in producer.outputs if v.name == name)
        for user, _ in () if value is None else value.uses():
            effect = self.analysis.effects.get(user)
            if effect is None or not effect.local.pointwise:
                continue
            out = name_of(user.outputs[0])
            if self.analysis.timelines[out].lag == lag:
                return True
            if user.op_type in _CUTS and any(self._waits(name_of(part), lag) for part in user.outputs):
                return True
        return False

    def _align_phased(self, names: Sequence[str]) -> dict[str, ir.Value]:
        # By length, which is as far as the shortest goes: how many steps are ahead is other in each push.
        lines = {}
        slowest = self.frontiers.slowest(list(names))
        for name in names:
            # As much as it is ahead at its best phase.
            state, line = self.line(name, int(np.max(self.steps(name) - slowest)))
            lines[name] = (state, line, self.axis(name))
        shortest = reduce(
            self.builder.smaller, (self.builder.length(line, k) for _, line, k in lines.values())
        )
        out = {}
        for name, (state, line, axis) in lines.items():
            # Whole tensors of different lengths must fail to join, as they do in the original.
            out[name] = self.builder.slice(line, axis, 0, self.builder.all_if_last(shortest))
            self.builder.keep(state, self.builder.after(line, axis, shortest))
        return out

    def copy(self, node: ir.Node, local: dict[str, ir.Value], *, keep_names: bool) -> ir.Node:
        """Copy a node to read what its inputs are in `local`, where its outputs are put as well."""
        inputs = [local[value.name] if value is not None and value.name else None for value in node.inputs]
        copy = self.builder.clone(node, inputs, keep_names=keep_names)
        for old, new in zip(node.outputs, copy.outputs, strict=True):
            if old.name:
                local[old.name] = new
        return copy

    def source(self, node: ir.Node) -> str:
        """Return the tensor with time that a node of one such input reads."""
        return sources_of(node, self.analysis)[0]

    def lag(self, name: str) -> Fraction:
        """Return by how many steps a tensor trails ``rate * n_frames``."""
        return self.frontiers.lags[name]

    def lag_after(self, name: str, n_steps: int, down: int) -> Fraction:
        """Return the lag of every `down`-th step of a tensor that `n_steps` more are held back of."""
        return self.analysis.timelines[name].lag_after(n_steps, down, lag=self.lag(name))

    def steps(self, name: str) -> Steps:
        """Return how many steps of a tensor are known after 0, 1, 2, … frames."""
        return self.frontiers.steps[name]

    def axis(self, name: str) -> int:
        """Return a tensor's time axis."""
        return self.analysis.timelines[name].axis

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor with time, at the probe's first length."""
        return self.analysis.inputs.probe.shapes[name][0]

    def dtype(self, name: str) -> np.dtype[np.generic]:
        """Return a tensor's type."""
        return self.analysis.inputs.probe.dtypes[name]
