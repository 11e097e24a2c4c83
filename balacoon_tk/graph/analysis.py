"""One forward pass over a graph: time in every tensor, and what every node does with it.

Time enters with the inputs and is followed from node to node. A node belongs to one of four kinds:

1. Timeless: nothing that it reads depends on the utterance. It must be the same in every run, so what draws
   noise, or varies in shape all the same, is refused.
2. Measuring: it reads the length of a tensor with time, or computes with such a length, and gives a few
   numbers (`sized_by`). Lengths of two tensors in one node are refused: in a push they are known to
   different extents, so no arithmetic with both is right.
3. With time: its rule (`balacoon_tk.graph.rules`) says what it does with it, or refuses.
4. Made to a length (``ConstantOfShape``, ``Expand``, ``Tile``): a tensor with time though no input has any.

Nothing is guessed. What the rules say is held against the shapes that the probe has seen, so a rule that is
wrong about a node refuses the graph, and doesn't rewrite it into something else.

Made to a length are a ``Range`` and a ``Slice`` of a table as well, where they have a step for each of an
utterance's: positions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.counts import Counts
from balacoon_tk.graph.errors import DRAWS_NOISE, NotStreamableError
from balacoon_tk.graph.lengths import RANDOM, read_lengths
from balacoon_tk.graph.match import is_standard, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.rules import Effect, NodeContext, find_rule
from balacoon_tk.graph.time_inputs import TimeInputs
from balacoon_tk.graph.timeline import Timeline, join
from balacoon_tk.graph.walk import read_by

_SHAPE_MAKERS = ("ConstantOfShape", "Expand", "Range", "Slice", "Tile")


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known about time in a graph."""

    model: ir.Model
    inputs: TimeInputs
    # Every tensor that has time, by name, and every node, in the order of the graph.
    timelines: Mapping[str, Timeline]
    effects: Mapping[ir.Node, Effect]
    # Every small tensor that is computed from the length of a tensor with time, and that tensor.
    sized_by: Mapping[str, str]

    @property
    def n_frames(self) -> tuple[int, ...]:
        """Frames at each of the probe's lengths."""
        return self.inputs.probe.n_frames

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(value.name for value in self.model.graph.outputs if value.name is not None)


def analyse(
    model: ir.Model,
    inputs: TimeInputs,
    *,
    refused: list[NotStreamableError] | None = None,
    timeless_outputs: bool = False,
) -> Analysis:
    """Follow time through a graph; errors are those of `balacoon_tk.graph.prepare.analyse_model`.

    With `timeless_outputs` an output may be one without time.

    Where `refused` is given, refusals go there instead, and time is followed on as the shapes behind the node
    suggest it. Such an analysis is for reading, never for a rewrite.
    """
    probe, steps = inputs.probe, inputs.steps_per_frame
    timelines = {
        name: Timeline(axis, Fraction(steps[name]), tuple(n * steps[name] for n in probe.n_frames))
        for name, axis in inputs.axes.items()
    }
    effects: dict[ir.Node, Effect] = {}
    sized_by: dict[str, str] = {}
    opset = model.graph.opset_imports.get("", 0)
    lengths = {str(value.name): column for value, column in read_lengths(model.graph, probe).items()}

    def follow(node: ir.Node) -> None:
        _check_branches(node, timelines, sized_by)
        sources = time_names(node, timelines)
        sizes = (v.name for v in node.inputs if v is not None and v.name in sized_by)
        roots = list(dict.fromkeys(sized_by[str(name)] for name in sizes))
        names = [value.name for value in node.outputs if value.name]
        if not sources and not roots:
            _check_timeless(node, probe)
            return
        # Both give numbers, not steps, so they end the tensor's time and begin a length.
        if sources and is_standard(node) and node.op_type in ("Shape", "Size"):
            sized_by.update(dict.fromkeys(names, sources[0]))
            return
        # In a push each length is known to another extent.
        if len(roots) > 1:
            raise NotStreamableError(
                node, f"it computes with the lengths of {' and '.join(map(repr, roots))}"
            )
        if not sources and not _is_made_to_a_length(node, names, probe):
            if any(name not in probe.values or probe.varies(name) for name in names):
                raise NotStreamableError(node, f"it computes with the number of frames{_said(node, lengths)}")
            sized_by.update(dict.fromkeys(names, roots[0]))
            return
        if sources and roots:
            # In a push it would meet the length of a piece, which is not that of the utterance.
            raise NotStreamableError(
                node, f"one of its inputs is computed from the number of frames{_said(node, lengths)}"
            )
        effect = find_rule(node)(NodeContext(node, opset, probe, timelines, sized_by, lengths))
        start = join([timelines[name] for name in sources or roots])
        if effect.recurrent:
            # Begun in the middle it never comes right: there is no end to how far back it looks.
            start = replace(start, left=inf)
        _check_rates(node, [timelines[name] for name in sources])
        effects[node] = effect
        made = start.through(effect.local, axis=effect.axis, n_frames=probe.n_frames)
        for value in node.outputs:
            # What nothing reads may be a recurrence's final state, which has no time.
            if value.name and (value.uses() or value.is_graph_output()):
                timelines[value.name] = made
                _check_shape(node, value.name, made, probe)

    unclear: set[str] = set()
    for node in model.graph:
        # What computes with a guess would be refused for what the guess is, and not for what the node does.
        clear = unclear.isdisjoint(str(value.name) for value in read_by(node))
        try:
            if clear:
                follow(node)
        except NotStreamableError as error:
            if refused is None:
                raise
            refused.append(error)
            clear = False
        if not clear:
            unclear |= _assume(node, timelines, probe)
    for value in model.graph.outputs:
        if value.name not in timelines and not refused and not timeless_outputs:
            raise ModelError(f"output {value.name!r} has no time axis, so there is nothing to stream")
    return Analysis(model, inputs, timelines, effects, sized_by)


def time_names(node: ir.Node, timelines: Mapping[str, Timeline]) -> list[str]:
    """Return the names of a node's inputs that have time, each once, in order."""
    return list(dict.fromkeys(name for value in node.inputs if (name := name_of(value)) in timelines))


def _is_made_to_a_length(node: ir.Node, names: Sequence[str], probe: Probe) -> bool:
    # Shapes are put together by the same operators, of numbers that are always as many.
    return is_standard(node) and node.op_type in _SHAPE_MAKERS and any(map(probe.varies, names))


def _said(node: ir.Node, lengths: Mapping[str, Counts]) -> str:
    # As far as it is followed: n is the length of the graph's first input that has time.
    found = (lengths.get(name_of(value)) for value in node.inputs)
    varying = [f"{column} of n steps" for column in found if column is not None and column.fixed is None]
    return f": {' and '.join(varying)}" if varying else ""


def _assume(node: ir.Node, timelines: dict[str, Timeline], probe: Probe) -> set[str]:
    """Give a node's outputs the time that their shapes suggest; return those that can't be followed."""
    unclear: set[str] = set()
    for name in (value.name for value in node.outputs if value.name):
        timelines.pop(name, None)  # a rule may have been wrong about it
        shapes = probe.shapes.get(name, ())
        if len({len(shape) for shape in shapes}) != 1:
            unclear.add(name)
            continue
        varying = [axis for axis, seen in enumerate(zip(*shapes, strict=True)) if len(set(seen)) > 1]
        if not varying:
            # Whole numbers are arithmetic that nobody has followed; a mean over time is like a constant.
            if probe.dtypes[name].kind in "iub" and name in probe.values:
                unclear.add(name)
            continue
        lengths = tuple(shape[varying[0]] for shape in shapes)
        first, second, *_ = probe.n_frames
        rate = Fraction(lengths[1] - lengths[0], second - first)
        rests = {length - rate * n for length, n in zip(lengths, probe.n_frames, strict=True)}
        if len(varying) > 1 or len(rests) > 1 or rate <= 0:
            unclear.add(name)
        else:
            timelines[name] = Timeline(varying[0], rate, lengths, lag=max(Fraction(0), -rests.pop()))
    return unclear


def _check_branches(node: ir.Node, timelines: Mapping[str, Timeline], sized_by: Mapping[str, str]) -> None:
    # What branches read from outside can't be seen in a node's inputs, so no rule would know of it.
    inputs = set(node.inputs)
    for value in read_by(node):
        if value not in inputs and (value.name in timelines or value.name in sized_by):
            taken = "shapes alone don't say which is taken, and " if node.op_type == "If" else ""
            raise NotStreamableError(
                node, f"{taken}its branches read {value.name!r}, which has time, from outside"
            )


def _check_timeless(node: ir.Node, probe: Probe) -> None:
    # It is written once, and must be the same whatever the utterance.
    if node.op_type in RANDOM:
        raise NotStreamableError(node, DRAWS_NOISE)
    for value in node.outputs:
        if value.name and value.name in probe.shapes and probe.varies(value.name):
            raise NotStreamableError(node, "its output varies in shape, but none of its inputs has time")


def _check_rates(node: ir.Node, sources: Sequence[Timeline]) -> None:
    # Lengths as well: at one rate they still differ where one was cut.
    if any(source.rate != sources[0].rate or source.lengths != sources[0].lengths for source in sources):
        found = ", ".join(f"{float(source.rate):g}" for source in sources)
        raise NotStreamableError(node, f"its inputs differ in length or rate ({found} steps a frame)")


def _check_shape(node: ir.Node, name: str, timeline: Timeline, probe: Probe) -> None:
    # The rule's arithmetic against what a run gave: a wrong axis or a step too many shows here.
    for shape, length in zip(probe.shapes[name], timeline.lengths, strict=True):
        if timeline.axis >= len(shape) or shape[timeline.axis] != length:
            raise NotStreamableError(
                node,
                f"its output {name!r} has the shape {list(shape)} where time was expected to have "
                f"{length} steps on axis {timeline.axis}",
            )
    fixed = [tuple(n for axis, n in enumerate(s) if axis != timeline.axis) for s in probe.shapes[name]]
    if len(set(fixed)) > 1:
        raise NotStreamableError(node, f"several axes of its output {name!r} vary with time, as in attention")
