"""One forward pass over a graph: time in every tensor, and what every node does with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.export.graph.errors import NotStreamableError
from balacoon_tk.export.graph.probe import Probe
from balacoon_tk.export.graph.rules import Effect, NodeContext, find_rule
from balacoon_tk.export.graph.time_inputs import TimeInputs
from balacoon_tk.export.graph.timeline import Timeline, join

__all__ = ["Analysis", "analyse", "time_names"]

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
    """Every small tensor whose values are computed from the length of a tensor with time, and that tensor."""

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
    for node in model.graph:
        sources = time_names(node, timelines)
        roots = [sized_by[str(v.name)] for v in node.inputs if v is not None and v.name in sized_by]
        if node.op_type in ("Shape", "Size") and sources:
            sized_by |= dict.fromkeys(_varying(node, inputs.probe), sources[0])
            continue
        if not sources and not roots:
            continue
        if not sources and node.op_type not in _SHAPE_MAKERS:
            computed = _varying(node, inputs.probe)
            if not all(_is_small(name, inputs.probe) for name in computed):
                raise NotStreamableError(node, "it computes with the number of frames")
            sized_by |= dict.fromkeys(computed, roots[0])
            continue
        context = NodeContext(node, opset, inputs.probe, timelines, sized_by)
        if sources and roots:
            raise NotStreamableError(node, "one of its inputs is computed from the number of frames")
        effect = find_rule(node)(context)
        start = join([timelines[name] for name in sources or roots[:1]])
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


def _varying(node: ir.Node, probe: Probe) -> list[str]:
    """Return the outputs whose values or shapes differ between the probe's lengths."""
    found = []
    for value in node.outputs:
        if not value.name:
            continue
        seen = probe.values.get(value.name)
        if probe.varies(value.name) or seen is None or any(not np.array_equal(v, seen[0]) for v in seen):
            found.append(value.name)
    return found


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
