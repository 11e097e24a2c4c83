"""Where to cut: state at every convolution, or a margin that is computed again.

State costs a copy of a tensor in every push: cheap where the rate is low, dear where it is high.
A margin costs multiply-adds: dear where the rate is low (45 steps are six frames at 8 steps a
frame), nothing where it is high. Between two cuts (tensors through which everything passes) the
plan takes either a `Segment`, or each node with its own state, whichever the cost model finds
cheaper for the chunk size that the voice will be used with. The best chain of cuts is found by
dynamic programming over all of them.

Only what the two ways cost beyond the arithmetic of the whole run is compared: copies, margins, small
nodes, and time in which a part of the processor waits. A plan decides how fast a stream is, never what
comes out, so a wrong price makes a slow graph and no wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.cost import WEIGHT_INPUT, multiply_adds
from balacoon_tk.graph.streaming.costs import PlanCosts, SegmentForm, Work
from balacoon_tk.graph.streaming.segments import (
    Segment,
    find_cuts,
    measure_segment,
    measure_segments,
    sources_of,
    time_nodes,
)

DEFAULT_CHUNK_FRAMES = 32  # per push, if nobody says otherwise: about a third of a second

_MAX_MERGED_CUTS = 24  # stretches between cuts that one segment may span: planning stays fast on long graphs

# Small nodes that keep a tail and crop a piece, or keep a state: concatenations, slices, lengths.
_SEGMENT_NODES = 9
_STATE_NODES = 3


@dataclass(frozen=True, slots=True)
class Step:
    """A stretch between two cuts: one segment, or nodes that each keep their own state."""

    nodes: tuple[ir.Node, ...]
    segment: Segment | None
    source: str
    target: str
    multiply_adds: float  # per frame
    recomputed: float  # multiply-adds done again in each push
    form: SegmentForm | None = None  # how the segment is run, if not plainly


@dataclass(frozen=True, slots=True)
class CutPlan:
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
                how += f", {step.form.label}" if step.form is not None else ""
            mega = step.multiply_adds / 1e6
            lines.append(f"{step.source} -> {step.target}: {what}, {mega:.2f} M multiply-adds a frame, {how}")
        return tuple(lines)


def plan_cuts(analysis: Analysis, *, chunk_frames: int, costs: PlanCosts | None = None) -> CutPlan:
    """Choose the cuts for pushes of some frames, at the costs of a target, or at general ones."""
    return CutPlan(tuple(_Planner(analysis, chunk_frames, costs or PlanCosts()).best()), chunk_frames)


class _Planner:
    def __init__(self, analysis: Analysis, chunk_frames: int, costs: PlanCosts) -> None:
        self._analysis = analysis
        self._chunk_frames = chunk_frames
        self._costs = costs
        self._nodes = time_nodes(analysis)
        cuts = [
            (position, name)
            for position, name in find_cuts(analysis, self._nodes)
            if position == 0 or costs.can_cut(self._nodes[position - 1], name)
        ]
        # Where several tensors pass at an end of the graph the chain needs a place as well, but what
        # stands there is no cut: no segment may begin or end at it.
        self._cuts = [*([] if cuts and cuts[0][0] == 0 else [(0, next(iter(analysis.inputs.axes)))]), *cuts]
        if self._cuts[-1][0] != len(self._nodes):
            self._cuts.append((len(self._nodes), analysis.outputs[0]))
        real = {position for position, _ in cuts}
        self._real = [position in real for position, _ in self._cuts]
        self._weights = {node: self._multiply_adds(node) for node in self._nodes}
        self._segments: dict[int, dict[int, Segment | None]] = {}

    def best(self) -> list[Step]:
        """Return the cheapest chain: ``best[j] = min over i of best[i] + cost(i, j)``."""
        chains: list[tuple[float, list[Step]]] = [(0.0, [])]
        for j in range(1, len(self._cuts)):
            # There is always an option, states at every operator from the cut before.
            options = [
                (chains[i][0] + found[0], i, found[1])
                for i in range(max(0, j - _MAX_MERGED_CUTS), j)
                if (found := self._cheapest(i, j)) is not None
            ]
            cost, i, step = min(options, key=lambda option: option[0])
            chains.append((cost, [*chains[i][1], step]))
        return chains[-1][1]

    def _cheapest(self, i: int, j: int) -> tuple[float, Step] | None:
        """Return the cheapest way from one cut to another, None if there is none."""
        (start, source), (stop, target) = self._cuts[i], self._cuts[j]
        nodes = self._nodes[start:stop]
        options: list[tuple[Work, Segment | None, SegmentForm | None]] = []
        if self._real[i] and self._real[j]:
            segment = self._segments_from(i)[j]
            if segment is not None:
                plain = self._segment_work(segment)
                forms = self._costs.forms(segment, self._analysis)
                options = [(plain, segment, None), *((form.work(plain), segment, form) for form in forms)]
        if j == i + 1:
            options.append((self._state_work(nodes), None, None))
        if not options:
            return None
        work, chosen, form = min(options, key=lambda option: self._costs.seconds(option[0]))
        weight = sum(self._weights[node] for node in nodes)
        step = Step(tuple(nodes), chosen, source, target, weight, work.recomputed, form)
        return self._costs.seconds(work), step

    def _segments_from(self, i: int) -> dict[int, Segment | None]:
        """Return the segments that begin at a cut, by the cut where they end."""
        if i not in self._segments:
            (start, source), ends = (
                self._cuts[i],
                range(i + 1, min(i + 1 + _MAX_MERGED_CUTS, len(self._cuts))),
            )
            real = [j for j in ends if self._real[j]]
            targets = {self._cuts[j][0] - start: self._cuts[j][1] for j in real}
            nodes = self._nodes[start : start + max(targets, default=0)]
            found = measure_segments(self._analysis, nodes, source, targets)
            self._segments[i] = dict(zip(real, found, strict=True))
        return self._segments[i]

    def _segment_work(self, segment: Segment) -> Work:
        if segment.pointwise:
            return Work()
        frames_again = segment.tail / float(self._analysis.timelines[segment.source].rate)
        weight = sum(self._weights[node] for node in segment.nodes)
        # Tail and new steps are joined, the next tail is cut off them, and the result is cropped.
        moved = self._bytes(segment.source) * (self._chunk_frames + 2 * frames_again)
        moved += self._bytes(segment.target) * self._chunk_frames
        touched = sum(self._bytes(v.name) for node in segment.nodes for v in node.outputs) * frames_again
        return Work(frames_again * weight, self._idle(segment.nodes), moved + touched, _SEGMENT_NODES)

    def _idle(self, nodes: Sequence[ir.Node]) -> float:
        return sum(self._weights[node] for node in nodes if self._costs.is_idle(node)) * self._chunk_frames

    def _state_work(self, nodes: Sequence[ir.Node]) -> Work:
        """Return the cost of a state at every operator: a copy of each input that is looked back on."""
        work = Work(idle=self._idle(nodes))
        delays: set[tuple[str, object]] = set()
        for node in nodes:
            effect = self._analysis.effects.get(node)
            if effect is None:
                continue
            sources = sources_of(node, self._analysis)
            # As `rewrite` decides: nodes without a writer of their own are segments of one node.
            if effect.write is None and not effect.local.pointwise:
                alone = measure_segment(self._analysis, [node], sources[0], str(node.outputs[0].name))
                work += Work() if alone is None else self._segment_work(alone)
            elif effect.local.span:
                n_bytes = self._bytes(sources[0]) * self._chunk_frames
                work += Work(n_bytes=n_bytes, n_nodes=_STATE_NODES)
            # What is ahead of the slowest input waits; the same wait is kept once, whoever asks for it.
            lag = max(self._analysis.timelines[name].lag for name in sources)
            delays |= {(name, lag) for name in sources if self._analysis.timelines[name].lag != lag}
        # A wait is joined in front of what is new, and cut off it again: two copies.
        for name, _ in delays:
            work += Work(n_bytes=2 * self._bytes(name) * self._chunk_frames, n_nodes=_STATE_NODES)
        return work

    def _multiply_adds(self, node: ir.Node) -> float:
        # Per frame; cheaper ones count as so many fewer, so that all have one price.
        if node.op_type not in WEIGHT_INPUT or node not in self._analysis.effects:
            return 0.0
        operands = (node.inputs[0], node.inputs[WEIGHT_INPUT[node.op_type]], node.outputs[0])
        # The longest of the probe's runs: there what doesn't grow with the frames weighs least.
        shapes = (self._analysis.inputs.probe.shape_of(value, -1) for value in operands)
        count = multiply_adds(node.op_type, *shapes) / self._analysis.n_frames[-1]
        return count * self._costs.share(node)

    def _bytes(self, name: str | None) -> float:
        """Return a tensor's bytes per frame."""
        if name is None or name not in self._analysis.timelines:
            return 0.0
        probe = self._analysis.inputs.probe
        return probe.dtypes[name].itemsize * prod(probe.shapes[name][-1]) / self._analysis.n_frames[-1]
