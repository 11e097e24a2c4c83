"""A stateful graph under construction: its states, and how much of each tensor is known after so many frames.

That depends on the number of frames alone, and not on how they were cut into pushes: it is what makes a
stream's result independent of its chunks, and what lets it be worked out here, before anything runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from math import ceil, lcm

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.edit import FAR, Names, Writer
from balacoon_tk.runtime.stateful_graph import StateSpec

_Dtype = np.dtype[np.generic]
Steps = NDArray[np.int64]  # known steps of a tensor after 0, 1, 2, … frames


class GraphBuilder(Writer):
    """Writes the nodes of a stateful graph, and keeps its states; names avoid those of the original."""

    def __init__(self, source: ir.Graph) -> None:
        opsets = dict(source.opset_imports)
        # Nodes, inputs and outputs are put into it at the end: what they are isn't known before.
        self.graph = ir.Graph([], [], nodes=[], opset_imports=opsets, name=source.name or "decoder")
        super().__init__(self.graph, Names(source), "stream")
        self.states: list[StateSpec] = []
        self.state_inputs: list[ir.Value] = []
        self.state_outputs: list[ir.Value] = []
        self._shared: dict[tuple[object, ...], ir.Value] = {}
        self.last = self._input(self.names.take("last"), ir.DataType.INT64, ir.Shape([1]))

    def state(
        self, shape: Sequence[int], axis: int, max_length: int, dtype: _Dtype, *, fill: float = 0.0
    ) -> ir.Value:
        """Add a state and return its input; `keep` gives it its next value."""
        index = len(self.states)
        spec = StateSpec(
            input=self.names.take(f"state_{index}"),
            output=self.names.take(f"next_state_{index}"),
            dtype=dtype.name,
            shape=tuple(int(n) for n in shape),
            axis=axis,
            max_length=max_length,
            fill=fill,
        )
        value = self._input(spec.input, ir.DataType.from_numpy(dtype), _growing(spec, spec.input))
        self.states.append(spec)
        self.state_inputs.append(value)
        return value

    def keep(self, state: ir.Value, value: ir.Value) -> None:
        """Give a state its next value, which nothing but this must name."""
        # An output goes by the value's name: one that is an output already must not be given here.
        spec = next(spec for spec in self.states if spec.input == state.name)
        value.name, value.type, value.shape = spec.output, state.type, _growing(spec, spec.output)
        self.state_outputs.append(value)

    def length(self, value: ir.Value, axis: int) -> ir.Value:
        """Return the number of steps along an axis as an int64 (1,) tensor; it is asked for once."""
        return self._once(("length", value, axis), lambda: Writer.length(self, value, axis))

    def smaller(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the smaller of two lengths."""
        return self._extreme("Min", "Less", a, b)

    def larger(self, a: ir.Value, b: ir.Value) -> ir.Value:
        """Return the larger of two lengths."""
        return self._extreme("Max", "Greater", a, b)

    def _extreme(self, op_type: str, compare: str, a: ir.Value, b: ir.Value) -> ir.Value:
        if self._opset >= 12:  # of integers only since then
            return self.one(op_type, a, b)
        return self.one("Where", self.one(compare, a, b), a, b)

    def end_before(self, n_steps: int) -> ir.Value | int:
        """Return a slice's end that leaves off the last `n_steps`, and nothing in the last push."""
        if n_steps == 0:
            return FAR
        return self._once(("end", n_steps), lambda: self.one("Sub", self._far_if_last(), self.ints(n_steps)))

    def all_if_last(self, n_steps: ir.Value) -> ir.Value:
        """Return a slice's end: a number of steps, and no end in the last push."""
        return self.one("Add", n_steps, self._far_if_last())

    def _far_if_last(self) -> ir.Value:
        # More steps than there are in the last push, 0 before: a slice's end moves without a branch.
        return self._once(("far",), lambda: self.one("Mul", self.last, self.ints(FAR)))

    def _once(self, key: tuple[object, ...], make: Callable[[], ir.Value]) -> ir.Value:
        # Each of these is a small node, which costs more to start than to compute.
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def at_the_end(
        self, shape: Sequence[int], axis: int, n_steps: int, dtype: _Dtype, *, fill: float = 0.0
    ) -> ir.Value:
        """Return `n_steps` of padding in the last push, none before; made once for all that ask."""
        sizes = tuple(n_steps if k == axis else int(n) for k, n in enumerate(shape))

        def make() -> ir.Value:
            padding = self.constant(np.full(sizes, fill, dtype=dtype))
            return self.slice(padding, axis, 0, self.one("Mul", self.last, self.ints(n_steps)))

        return self._once(("padding", sizes, axis, dtype.name, fill), make)

    def _input(self, name: str, dtype: ir.DataType, shape: ir.Shape) -> ir.Value:
        return ir.Value(name=name, type=ir.TensorType(dtype), shape=shape)


def _growing(spec: StateSpec, name: str) -> ir.Shape:
    return ir.Shape([f"n_{name}" if k == spec.axis else n for k, n in enumerate(spec.shape)])


class Frontiers:
    """Books of the tensors of a stateful graph.

    Where the rate falls, a push brings a step more or less depending on the phase, so the steps are
    written down frame by frame instead of being worked out from the lag.
    """

    def __init__(self, analysis: Analysis) -> None:
        self._timelines = analysis.timelines
        # Frames after which the phases repeat.
        self._period = lcm(*(timeline.rate.denominator for timeline in analysis.timelines.values()))
        longest = max(ceil(timeline.lag / timeline.rate) for timeline in analysis.timelines.values())
        # Far beyond the longest lag and many periods: `pushes` looks for what holds from some frame on, and
        # a tensor that hasn't grown by then doesn't.
        n_frames = np.arange(8 * (max(0, longest) + self._period) + 256, dtype=np.int64)
        # By how many steps each tensor trails ``rate * n_frames``; at the best phase, where that matters.
        self.lags: dict[str, Fraction] = dict.fromkeys(analysis.inputs.axes, Fraction(0))
        self.steps: dict[str, Steps] = {
            name: n_frames * per_frame for name, per_frame in analysis.inputs.steps_per_frame.items()
        }
        self._least: dict[str, int] = {}

    def note(self, name: str, lag: Fraction, steps: Steps) -> None:
        """Write a tensor down."""
        # Before its lag has passed a tensor has no steps, not fewer than none.
        self.lags[name] = lag
        self.steps[name] = np.maximum(steps, 0)

    def need(self, name: str, n_steps: int) -> None:
        """Ask for a number of steps of a tensor in the first run; one is asked for of each anyway."""
        self._least[name] = max(self._least.get(name, 1), n_steps)

    def slowest(self, names: list[str]) -> Steps:
        """Return how many steps of all of some tensors are known."""
        result: Steps = np.min([self.steps[name] for name in names], axis=0)
        return result

    def pushes(self) -> tuple[int, int]:
        """Return how many frames the first run and any later one need: each brings every tensor a step."""
        steps = np.stack(list(self.steps.values()))
        least = np.array([self._least.get(name, 1) for name in self.steps])[:, None]
        enough = np.flatnonzero((steps >= least).all(axis=0))
        first = int(enough[0]) if enough.size else steps.shape[1]
        # An empty push would be a tensor of no steps, which not every operator takes. One period tells all.
        for n_frames in range(1, steps.shape[1] - first - self._period):
            later, earlier = steps[:, first + n_frames :], steps[:, first:-n_frames]
            if (later > earlier)[:, : self._period].all():
                return first, n_frames
        raise ModelError(f"some tensor of the graph doesn't grow over {steps.shape[1]} frames")

    def trailing(self, name: str, first: int) -> int:
        """Return by how many steps a tensor trails at most, once it has begun with the `first` frames."""
        rate, steps = self._timelines[name].rate, self.steps[name]
        return max(ceil(rate * n - int(steps[n])) for n in range(first, first + self._period))
