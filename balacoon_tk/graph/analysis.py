"""One forward pass over a graph: time in every tensor, and what every node does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import inf

import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.lengths import RANDOM, read_lengths
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.rules import Effect, NodeContext, find_rule
from balacoon_tk.graph.time_inputs import TimeInputs
from balacoon_tk.graph.timeline import Timeline, join
from balacoon_tk.graph.walk import read_by

_SHAPE_MAKERS = ("ConstantOfShape", "Expand")


@dataclass(frozen=True, slots=True)
class Analysis:
    """What is known about time in a graph."""

    model: ir.Model
    inputs: TimeInputs
    timelines: Mapping[str, Timeline]
    """Every tensor that has time, by name."""
    effects: Mapping[ir.Node, Effect]
    """Every node that has time, in the order of the graph."""
    sized_by: Mapping[str, str]
    """Every small tensor that is computed from the length of a tensor with time, and that tensor."""

    @property
    def n_frames(self) -> tuple[int, ...]:
        """Frames at each of the probe's lengths."""
        return self.inputs.probe.n_frames

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs."""
        return tuple(value.name for value in self.model.graph.outputs if value.name is not None)


def analyse(model: ir.Model, inputs: TimeInputs) -> Analysis:
    """Follow time through a graph.

    Raises
    ------
    NotStreamableError
        If a node has no bounded view of time, or isn't known.
    ModelError
        If an output of the graph has no time axis.
    """
    timelines = input_timelines(inputs)
    effects: dict[ir.Node, Effect] = {}
    sized_by: dict[str, str] = {}
    opset = model.graph.opset_imports.get("", 0)
    lengths = {str(value.name): column for value, column in read_lengths(model.graph, inputs.probe).items()}
    for node in model.graph:
        _check_branches(node, timelines, sized_by)
        sources = time_names(node, timelines)
        sizes = [str(v.name) for v in node.inputs if v is not None and v.name in sized_by]
        roots = list(dict.fromkeys(sized_by[name] for name in sizes))
        names = [value.name for value in node.outputs if value.name]
        standard = node.domain in ("", "ai.onnx")
        if not sources and not roots:
            _check_timeless(node, inputs.probe)
            continue
        if standard and node.op_type in ("Shape", "Size") and sources:
            sized_by |= dict.fromkeys(names, sources[0])
            continue
        if len(roots) > 1:
            raise NotStreamableError(
                node, f"it computes with the lengths of {' and '.join(map(repr, roots))}"
            )
        if not sources and not (standard and node.op_type in _SHAPE_MAKERS):
            if not all(_is_small(name, inputs.probe) for name in names):
                raise NotStreamableError(node, "it computes with the number of frames")
            sized_by |= dict.fromkeys(names, roots[0])
            continue
        context = NodeContext(node, opset, inputs.probe, timelines, sized_by, lengths)
        if sources and roots:
            raise NotStreamableError(node, "one of its inputs is computed from the number of frames")
        effect = find_rule(node)(context)
        start = join([timelines[name] for name in sources or roots])
        if effect.kind == "recurrent":
            start = replace(start, left=inf)
        _check_rates(node, [timelines[name] for name in sources])
        effects[node] = effect
        for value in node.outputs:
            if value.name:
                timelines[value.name] = start.through(
                    effect.local, axis=effect.axis, n_frames=inputs.probe.n_frames
                )
                _check_shape(node, value.name, timelines[value.name], inputs.probe)
    for value in model.graph.outputs:
        if value.name not in timelines:
            raise ModelError(f"output {value.name!r} has no time axis, so there is nothing to stream")
    return Analysis(model, inputs, timelines, effects, sized_by)


def input_timelines(inputs: TimeInputs) -> dict[str, Timeline]:
    """Return the timelines of a graph's inputs."""
    return {
        name: Timeline(
            axis=axis,
            rate=Fraction(inputs.steps_per_frame[name]),
            lengths=tuple(n * inputs.steps_per_frame[name] for n in inputs.probe.n_frames),
        )
        for name, axis in inputs.axes.items()
    }


def time_names(node: ir.Node, timelines: Mapping[str, Timeline]) -> list[str]:
    """Return the names of a node's inputs that have time, each once, in order."""
    names = [value.name for value in node.inputs if value is not None and value.name in timelines]
    return list(dict.fromkeys(name for name in names if name is not None))


def _check_branches(node: ir.Node, timelines: Mapping[str, Timeline], sized_by: Mapping[str, str]) -> None:
    """Refuse a node whose branches read time from outside: that can't be seen in its inputs."""
    inputs = set(node.inputs)
    for value in read_by(node):
        if value not in inputs and (value.name in timelines or value.name in sized_by):
            raise NotStreamableError(node, f"its branches read {value.name!r}, which has time, from outside")


def _check_timeless(node: ir.Node, probe: Probe) -> None:
    """Refuse a node that has no input with time, and yet isn't the same whatever the utterance."""
    if node.op_type in RANDOM:
        raise NotStreamableError(node, "it draws its own noise, other in each run: make the noise an input")
    for value in node.outputs:
        if value.name and value.name in probe.shapes and probe.varies(value.name):
            raise NotStreamableError(node, "its output varies in shape, but none of its inputs has time")


def _is_small(name: str, probe: Probe) -> bool:
    return name in probe.values and not probe.varies(name)


def _check_rates(node: ir.Node, sources: Sequence[Timeline]) -> None:
    if any(source.rate != sources[0].rate or source.lengths != sources[0].lengths for source in sources):
        found = ", ".join(f"{float(source.rate):g}" for source in sources)
        raise NotStreamableError(node, f"its inputs differ in length or rate ({found} steps a frame)")


def _check_shape(node: ir.Node, name: str, timeline: Timeline, probe: Probe) -> None:
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
