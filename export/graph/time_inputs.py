"""Which inputs of a graph have a time axis, and how many steps each has for one frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.graph.probe import Probe, graph_inputs, probe

__all__ = ["TimeInputs", "find_time_inputs"]

_MAX_STEPS_PER_FRAME = 1024
"""Largest ratio of two inputs' rates that is looked for."""


@dataclass(frozen=True, slots=True)
class TimeInputs:
    """The inputs that bring new steps with every push; a frame is a step of the slowest."""

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
        it the time axis is the only dynamic axis of an input, leaving aside a dynamic first axis
        (the batch, which is taken to be 1).

    Raises
    ------
    ParameterError
        If `time_inputs` names an input or an axis that isn't there.
    ModelError
        If no input has a time axis, one has several candidates, or no ratio of rates fits.
    """
    inputs = graph_inputs(model)
    axes = _given(inputs, time_inputs) if time_inputs is not None else _found(inputs)
    if len(axes) == 1:
        steps = dict.fromkeys(axes, 1)
        return TimeInputs(axes, steps, probe(model, axes, steps))
    return _with_rates(model, inputs, axes)


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
        if len(dynamic) > 1 and dynamic[0] == 0:
            dynamic = dynamic[1:]  # a batch
        elif dynamic == [0] and len(dims) > 1 and name.lower() not in axes and _is_batch_only(dims, inputs):
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


def _with_rates(model: ir.Model, inputs: Mapping[str, ir.Value], axes: Mapping[str, int]) -> TimeInputs:
    """Try ratios of rates until the graph runs; equal names of axes mean equal rates."""
    names = list(axes)
    dims = {name: str(inputs[name].shape[axes[name]]) for name in names}  # type: ignore[index]
    same = all(dims[name] == dims[names[0]] for name in names)
    candidates = [1] if same else range(1, _MAX_STEPS_PER_FRAME + 1)
    error: ModelError | None = None
    # One input is the slowest; the others share one faster rate or have its rate.
    for ratio in candidates:
        for fast in _subsets(names) if ratio > 1 else [()]:
            steps = {name: ratio if name in fast else 1 for name in names}
            try:
                return TimeInputs(axes, steps, probe(model, axes, steps))
            except ModelError as failed:
                error = failed
    raise ModelError(
        f"no ratio up to {_MAX_STEPS_PER_FRAME} of the rates of {', '.join(names)} fits the graph: {error}"
    ) from error


def _subsets(names: list[str]) -> list[tuple[str, ...]]:
    """Return the subsets of the inputs that may be fast: some of them, not all."""
    masks = range(1, 2 ** len(names) - 1)
    return [tuple(name for bit, name in enumerate(names) if mask >> bit & 1) for mask in masks]
