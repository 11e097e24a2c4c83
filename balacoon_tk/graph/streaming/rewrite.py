"""Write the stateful graph: the plan's segments as they are, every other node on what is newly known.

In the new graph a tensor with time holds, in each push, exactly the steps that have just become
known: its *frontier* moves from where it was to ``rate * n_frames - lag``. Nothing is computed for
times before the start, and nothing twice (but for the margins of segments).

A node is written by the rule of its operator (`local`, `stateful` in `balacoon_tk.graph.rules`), or as it is
if it is pointwise, on inputs that are brought to the same frontier; what is left, with a window and no writer
(transposed convolutions, padding, padded pools), is a segment of one node.
"""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.streaming.builder import GraphBuilder
from balacoon_tk.graph.streaming.costs import SegmentForm
from balacoon_tk.graph.streaming.plan import CutPlan
from balacoon_tk.graph.streaming.segments import Segment, measure_segment
from balacoon_tk.graph.streaming.writer import StreamWriter


def rewrite(analysis: Analysis, plan: CutPlan) -> StreamWriter:
    """Write all nodes of a stateful graph after a plan."""
    writer = StreamWriter(analysis)
    writer.write_static()
    for step in plan.steps:
        if step.segment is not None:
            _write_segment(writer, step.segment, step.form)
        else:
            for node in step.nodes:
                _write_node(writer, node)
    return writer


def _write_node(writer: StreamWriter, node: ir.Node) -> None:
    effect = writer.analysis.effects.get(node)
    if effect is None:  # it measures the length of a tensor with time
        writer.copy(node, writer.values, keep_names=True)
    elif effect.write is not None:
        effect.write(writer, node, effect)
    elif effect.local.pointwise:
        writer.write_aligned(node)
    else:
        target = name_of(node.outputs[0])
        segment = measure_segment(writer.analysis, [node], writer.source(node), target, late=True)
        if segment is None:
            raise NotStreamableError(node, "no bounded margin makes a piece of it exact")
        _write_segment(writer, segment)


def _write_segment(writer: StreamWriter, segment: Segment, form: SegmentForm | None = None) -> None:
    build = writer.builder
    piece = writer.values[segment.source]
    start: ir.Value | int = 0
    if segment.tail:
        axis = writer.axis(segment.source)
        # The tail is empty at first: there the graph's own padding stands, as in the whole run.
        state, piece = writer.line(segment.source, segment.tail)
        build.keep(state, build.after(piece, axis, -segment.tail))
        start = _left_crop(build, state, axis, segment)

    def run(source: ir.Value) -> ir.Value:
        local = {**writer.values, segment.source: source}
        for node in segment.nodes:
            # With a margin a tensor isn't the original's, step for step, so it doesn't go by its name.
            writer.copy(node, local, keep_names=segment.pointwise)
        return local[segment.target]

    end = build.end_before(segment.right_crop)
    if form is not None:
        out = form.write(build, piece, run, start, end)
    elif segment.pointwise:
        out = run(piece)
    else:
        out = build.slice(run(piece), writer.axis(segment.target), start, end)
    writer.values[segment.target] = out
    # The first push must bring as many steps; the tail sees to the later ones.
    writer.frontiers.need(segment.source, segment.min_length)
    lag = writer.lag(segment.source) * segment.rate + segment.lag
    writer.frontiers.note(segment.target, lag, writer.steps(segment.source) * segment.rate - segment.lag)


def _left_crop(build: GraphBuilder, state: ir.Value, axis: int, segment: Segment) -> ir.Value:
    # ``max(0, rate * len(tail) - lag)``, and 0 while the tail is empty: then the utterance begins here.
    length = build.length(state, axis)
    steps = build.one("Mul", length, build.ints(segment.rate))
    if segment.lag < 0:
        begun = build.one("Sign", length)
        return build.one("Sub", steps, build.one("Mul", begun, build.ints(segment.lag)))
    return build.larger(build.one("Sub", steps, build.ints(segment.lag)), build.ints(0))
