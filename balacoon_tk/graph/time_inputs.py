"""Which inputs of a graph have a time axis, and how many steps each has for one frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.probe import Probe, graph_inputs, probe
from balacoon_tk.graph.rates import find_rates


@dataclass(frozen=True, slots=True)
class TimeInputs:
    """The inputs that bring new steps with every push; a frame is a step of the slowest, as a rule."""

    axes: Mapping[str, int]
    steps_per_frame: Mapping[str, int]
    probe: Probe


def find_time_inputs(model: ir.Model, time_inputs: Mapping[str, int] | None = None) -> TimeInputs:
    """Find the time axis of each input, the ratio of their rates, and probe the graph.

    Parameters
    ----------
    model : ir.Model
    time_inputs : mapping of str to int, optional
        The time axis of every input that has one, where it can't be told from the graph. Without
        it the time axis is the only dynamic axis of an input, leaving aside one whose name says
        "batch", or else a first one beside others (the batch, which is taken to be 1).

    Raises
    ------
    ParameterError
        If `time_inputs` names an input or an axis that isn't there.
    ModelError
        If no input has a time axis, one has several candidates, or the graph can't be run.
    """
    inputs = graph_inputs(model)
    axes = _given(inputs, time_inputs) if time_inputs is not None else _found(inputs)
    steps = dict.fromkeys(axes, 1) if len(axes) == 1 else find_rates(model, axes)
    return TimeInputs(axes, steps, probe(model, axes, steps))


def _given(inputs: Mapping[str, ir.Value], time_inputs: Mapping[str, int]) -> dict[str, int]:
    axes: dict[str, int] = {}
    for name, axis in time_inputs.items():
        if name not in inputs:
            raise ParameterError(f"time_inputs names {name!r}: the graph's inputs are {', '.join(inputs)}")
        shape = inputs[name].shape
        rank = len(shape) if shape is not None else 0
        if not -rank <= axis < rank:
            raise ParameterError(f"time_inputs[{name!r}]={axis} must be an axis of a tensor of rank {rank}")
        axes[name] = axis % rank
        if shape is not None and isinstance(shape[axes[name]], int):
            raise ParameterError(
                f"time_inputs[{name!r}]={axis} has the fixed length {shape[axis]}: export with a dynamic axis"
            )
    if not axes:
        raise ParameterError("time_inputs={} must name at least one input")
    return axes


def _found(inputs: Mapping[str, ir.Value]) -> dict[str, int]:
    axes: dict[str, int] = {}
    for name, value in inputs.items():
        dims = list(value.shape) if value.shape is not None else []
        dynamic = [axis for axis, n in enumerate(dims) if not isinstance(n, int)]
        named = [axis for axis in dynamic if "batch" in str(dims[axis]).lower()]
        if named or (len(dynamic) > 1 and dynamic[0] == 0):
            dynamic.remove((named or dynamic)[0])
        elif dynamic == [0] and _is_batch_only(dims, inputs):
            dynamic = []
        if len(dynamic) > 1:
            raise ModelError(
                f"input {name!r} has several axes that could be time ({', '.join(map(str, dynamic))}): "
                f"say which, as in time_inputs={{{name!r}: {dynamic[-1]}}}"
            )
        if dynamic:
            axes[name] = dynamic[0]
    if not axes:
        raise ModelError(
            "no input has a time axis: every axis has a fixed length. Export the graph with a dynamic axis"
        )
    return axes


def _is_batch_only(dims: Sequence[object], inputs: Mapping[str, ir.Value]) -> bool:
    """Whether a dynamic first axis is the batch: another input has the same name for its first of several."""
    batches = {
        str(value.shape[0])
        for value in inputs.values()
        if value.shape is not None and sum(not isinstance(n, int) for n in value.shape) > 1
    }
    return str(dims[0]) in batches
