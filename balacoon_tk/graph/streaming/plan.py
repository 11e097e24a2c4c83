"""Where to cut: state at every convolution, or a margin that is computed again.

State costs a copy of a tensor in every push: cheap where the rate is low, dear where it is high.
A margin costs multiply-adds: dear where the rate is low (45 steps are six frames at 8 steps a
frame), nothing where it is high. Between two cuts (tensors through which everything passes) the
plan takes either a `Segment`, or each node with its own state, whichever the cost model finds
cheaper for the chunk size that the voice will be used with. The best chain of cuts is found by
dynamic programming over all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.cost import WEIGHT_INPUT, multiply_adds
from balacoon_tk.graph.streaming.segments import (
    Segment,
    find_cuts,
    measure_segment,
    sources_of,
    time_nodes,
)
from balacoon_tk.targets.ort_cpu.halves import can_halve, is_narrow
from balacoon_tk.targets.ort_cpu.passes.keep_blocked import changes_nothing

DEFAULT_CHUNK_FRAMES = 32
"""Frames per push that a plan is made for, if nobody says otherwise: about a third of a second."""

_MAX_MERGED_CUTS = 24
"""How many stretches between cuts one segment may span; keeps planning fast on long graphs."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """What things cost, in seconds; only their ratios matter for the plan.

    As measured with two threads on one x86 machine: blocked convolutions; copies along time, whose
    rows are short; and a small node, which the threads wait for.
    """

    per_multiply_add: float = 1 / 100e9
    per_byte_multiply_add: float = 1 / 400e9
    per_byte: float = 1 / 2.5e9
    per_node: float = 8e-6


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch between two cuts: one segment, or nodes that each keep their own state."""

    nodes: tuple[ir.Node, ...]
    segment: Segment | None
    source: str
    target: str
    multiply_adds: float
    """Per frame."""
    recomputed: float
    """Multiply-adds done again in each push."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A chain of steps from the inputs to the outputs."""

    steps: tuple[Step, ...]
    chunk_frames: int

    @property
    def recomputed_share(self) -> float:
        """Multiply-adds done again, as a share of the whole, at the planned chunk size."""
        total = sum(step.multiply_adds for step in self.steps) * self.chunk_frames
        return sum(step.recomputed for step in self.steps) / total if total else 0.0

    def describe(self) -> tuple[str, ...]:
        """Return a line for each step, for a person to read."""
        lines = []
        for step in self.steps:
            what = f"{len(step.nodes)} node{'s' if len(step.nodes) != 1 else ''}"
            if step.segment is None:
                how = "state at every operator"
            elif step.segment.pointwise:
                how = "no state"
            else:
                how = f"tail of {step.segment.tail} steps, margin computed again"
                how += ", run as two halves" if step.segment.in_halves else ""
            mega = step.multiply_adds / 1e6
            lines.append(f"{step.source} -> {step.target}: {what}, {mega:.2f} M multiply-adds a frame, {how}")
        return tuple(lines)


def make_plan(analysis: Analysis, *, chunk_frames: int, costs: CostModel | None = None) -> Plan:
    """Choose the cuts for a chunk size.

    Parameters
    ----------
    analysis : Analysis
    chunk_frames : int
        Frames per push that the voice will be used with.
    costs : CostModel, optional
    """
    planner = _Planner(analysis, chunk_frames, costs or CostModel())
    return Plan(tuple(planner.best()), chunk_frames)


class _Planner:
    def __init__(self, analysis: Analysis, chunk_frames: int, costs: CostModel) -> None:
        self._analysis = analysis
        self._chunk_frames = chunk_frames
        self._costs = costs
        self._nodes = time_nodes(analysis)
        end = (len(self._nodes), analysis.outputs[0])
        first = next(iter(analysis.inputs.axes))
        cuts = [
            (position, name)
            for position, name in find_cuts(analysis, self._nodes)
            if not _enters_blocks(self._nodes[position - 1], name)
        ]
        self._cuts = [*([] if cuts and cuts[0][0] == 0 else [(0, first)]), *cuts]
        if self._cuts[-1][0] != end[0]:
            self._cuts.append(end)
        real = {position for position, _ in cuts}
        self._real = [position in real for position, _ in self._cuts]
        self._weights = {node: self._multiply_adds(node) for node in self._nodes}

    def best(self) -> list[Step]:
        """Return the cheapest chain: ``best[j] = min over i of best[i] + cost(i, j)``."""
        chains: list[tuple[float, list[Step]]] = [(0.0, [])]
        for j in range(1, len(self._cuts)):
            options = []
            for i in range(max(0, j - _MAX_MERGED_CUTS), j):
                found = self._cheapest(i, j)
                if found is not None:
                    cost, step = found
                    options.append((chains[i][0] + cost, i, step))
            cost, i, step = min(options, key=lambda option: option[0])
            chains.append((cost, [*chains[i][1], step]))
        return chains[-1][1]

    def _cheapest(self, i: int, j: int) -> tuple[float, Step] | None:
        (start, source), (stop, target) = self._cuts[i], self._cuts[j]
        nodes = self._nodes[start:stop]
        weight = sum(self._weights[node] for node in nodes)
        options: list[tuple[float, Step]] = []
        if self._real[i] and self._real[j]:
            segment = measure_segment(self._analysis, nodes, source, target)
            if segment is not None:
                forms = [segment]
                if self._narrow(nodes) and can_halve(segment, self._analysis):
                    forms.append(replace(segment, in_halves=True))
                for form in forms:
                    cost, recomputed = self._segment_cost(form, weight)
                    options.append((cost, Step(tuple(nodes), form, source, target, weight, recomputed)))
        if j == i + 1:
            cost, recomputed = self._state_cost(nodes)
            options.append((cost, Step(tuple(nodes), None, source, target, weight, recomputed)))
        return min(options, key=lambda option: option[0]) if options else None

    def _segment_cost(self, segment: Segment, weight: float) -> tuple[float, float]:
        if segment.pointwise:
            return 0.0, 0.0
        timeline = self._analysis.timelines[segment.source]
        frames_again = segment.tail / float(timeline.rate)
        recomputed = frames_again * weight
        alone = 0.0 if segment.in_halves else self._narrow(segment.nodes)
        moved = self._bytes(segment.source) * (self._chunk_frames + 2 * frames_again)
        moved += self._bytes(segment.target) * self._chunk_frames
        touched = sum(self._bytes(v.name) for node in segment.nodes for v in node.outputs) * frames_again
        cost = alone + self._price(recomputed, moved + touched, 9)
        if segment.in_halves:  # two margins, and the piece is copied once more at either end
            recomputed *= 2
            cost += self._price(recomputed / 2, moved + touched, 12)
        return cost, recomputed

    def _narrow(self, nodes: Sequence[ir.Node]) -> float:
        """Return the time that all threads but one lose over a chunk, unless it is run in halves."""
        lost = sum(self._weights[node] for node in nodes if is_narrow(node)) * self._chunk_frames
        return self._price(lost, 0, 0)

    def _state_cost(self, nodes: Sequence[ir.Node]) -> tuple[float, float]:
        """Return the cost of a state at every operator: a copy of each input that is looked back on."""
        cost, recomputed = self._narrow(nodes), 0.0
        delays: set[tuple[str, object]] = set()
        for node in nodes:
            effect = self._analysis.effects.get(node)
            if effect is None:
                continue
            sources = sources_of(node, self._analysis)
            if not effect.local.pointwise:
                alone = measure_segment(self._analysis, [node], sources[0], str(node.outputs[0].name))
                if alone is not None and not effect.local.valid:
                    extra, again = self._segment_cost(alone, self._weights[node])
                    cost, recomputed = cost + extra, recomputed + again
                elif effect.local.span:
                    cost += self._price(0, self._bytes(sources[0]) * self._chunk_frames, 3)
            lag = max(self._analysis.timelines[name].lag for name in sources)
            delays |= {(name, lag) for name in sources if self._analysis.timelines[name].lag != lag}
        for name, _ in delays:
            cost += self._price(0, 2 * self._bytes(name) * self._chunk_frames, 3)
        return cost, recomputed

    def _price(self, multiply_adds: float, n_bytes: float, n_nodes: int) -> float:
        costs = self._costs
        return multiply_adds * costs.per_multiply_add + n_bytes * costs.per_byte + n_nodes * costs.per_node

    def _multiply_adds(self, node: ir.Node) -> float:
        """Return a node's multiply-adds per frame, those with bytes at what they cost less."""
        if node.op_type not in WEIGHT_INPUT or node not in self._analysis.effects:
            return 0.0
        operands = (node.inputs[0], node.inputs[WEIGHT_INPUT[node.op_type]], node.outputs[0])
        shapes = [self._shape(value) for value in operands]
        count = multiply_adds(node.op_type, *shapes) / self._analysis.n_frames[-1]
        if node.op_type.startswith("QLinear"):
            count *= self._costs.per_byte_multiply_add / self._costs.per_multiply_add
        return count

    def _shape(self, value: ir.Value | None) -> tuple[int, ...]:
        if value is None or value.name is None:
            return ()
        if value.const_value is not None:
            return value.const_value.numpy().shape
        return self._analysis.inputs.probe.shapes[value.name][-1]

    def _bytes(self, name: str | None) -> float:
        """Return a tensor's bytes per frame."""
        if name is None or name not in self._analysis.timelines:
            return 0.0
        probe = self._analysis.inputs.probe
        return probe.dtypes[name].itemsize * prod(probe.shapes[name][-1]) / self._analysis.n_frames[-1]


def _enters_blocks(node: ir.Node, name: str) -> bool:
    """Whether a tensor has only just been brought into blocks: a state would bring it back again."""
    if node.op_type == "LeakyRelu" and node.inputs[0] is not None:
        return changes_nothing(node.inputs[0].producer())
    return changes_nothing(node) and node.outputs[0].name == name
