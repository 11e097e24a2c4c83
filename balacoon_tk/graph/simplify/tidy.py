"""Everything that a graph is freed of after it has been cut, in the order in which it works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx_ir as ir
from onnx_ir.passes.common import (
    ClearMetadataAndDocStringPass,
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
)

from balacoon_tk.graph.edit import remove_unused
from balacoon_tk.graph.probe import Probe, probe
from balacoon_tk.graph.simplify.fold_branches import FoldBranchesPass
from balacoon_tk.graph.simplify.fold_lengths import FoldLengthsPass
from balacoon_tk.graph.simplify.fold_masks import FoldMasksPass

_LENGTHS = (
    (5, 8, 13),
    (41, 48, 72),
)  # short, because every tensor is kept; longer ones for graphs that need it
_MAX_SHARED = 1024  # elements; larger weights are not there twice, and comparing them takes long


def lift_constants(model: ir.Model) -> None:
    """Bring a graph into the form that all passes read: no functions, constants as initializers."""
    InlinePass()(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


def tidy(model: ir.Model, time_axes: Mapping[str, int], outputs: Mapping[str, Sequence[int | str]]) -> Probe:
    """Fold branches, masks and lengths of a graph, in place.

    Parameters
    ----------
    model : ir.Model
        Its constants lifted to initializers, its batch 1.
    time_axes : mapping of str to int
        The time axis of each input that has one.
    outputs : mapping of str to sequence of int or str
        The shapes to declare for the outputs.

    Returns
    -------
    Probe
        The shapes of what is left, at several lengths.
    """
    seen = _look(model, time_axes)
    if FoldBranchesPass(seen.shapes)(model).modified:
        seen = _look(model, time_axes)
    FoldMasksPass(seen.shapes)(model)
    FoldLengthsPass(seen.shapes)(model)
    DeduplicateInitializersPass(size_limit=_MAX_SHARED)(model)
    ClearMetadataAndDocStringPass()(model)
    remove_unused(model)
    for node in model.graph:
        for value in node.outputs:
            value.shape = None  # what the exporter declared was for another batch
    for value in model.graph.outputs:
        value.shape = ir.Shape(outputs[value.name or ""])
        dtype = ir.DataType.INT64 if value.name == "durations" else ir.DataType.FLOAT
        value.type = ir.TensorType(dtype)
    return seen


def _look(model: ir.Model, time_axes: Mapping[str, int]) -> Probe:
    return probe(model, time_axes, dict.fromkeys(time_axes, 1), lengths=_LENGTHS)
