"""What a graph computes from lengths: the values of its shape arithmetic at each of the probe's lengths.

`balacoon_tk.graph.known` follows arithmetic that stays polynomial in the length, so that what is
seen at three lengths holds at every one. Three things are added here, as just as certain:

1. What is computed from nothing but constants and fixed lengths (``Div`` of the number of channels) is
   what the probe saw.
2. ``Equal`` of a length and a number that no length can be, as in ``Expand`` to -1.
3. ``Where`` by a condition that is the same at every length.

And one is taken away: ``Max`` and ``Clip`` keep a length only if it is as large already for one frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.known import Known
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.walk import branches

RANDOM = frozenset(
    {
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
        "RandomUniformLike",
    }
)
"""Operators that give something else in every run."""

_Column = tuple[AnyArray, ...]


def is_fixed(column: Sequence[AnyArray]) -> bool:
    """Whether a value is the same at all of the lengths."""
    return all(np.array_equal(array, column[0]) for array in column)


def read_lengths(graph: ir.Graph, probe: Probe) -> dict[ir.Value, tuple[AnyArray, ...]]:
    """Return every small tensor that depends on the inputs by their lengths only, at each length.

    Parameters
    ----------
    graph : ir.Graph
        Sorted topologically, its constants lifted to initializers.
    probe : Probe
        What was seen of it.
    """
    known = Known(probe.shapes)
    for value in graph.initializers.values():
        if not value.is_graph_input():
            known.learn_constant(value)
    for node in graph:
        known.learn(node)
        first = node.outputs[0] if node.outputs else None
        if first is None or node.domain not in ("", "ai.onnx"):
            continue
        if node.op_type in ("Clip", "Max") and first in known.counts:
            if not _is_large_at_once(node, known, probe):
                del known.counts[first]
                known.uniform.pop(first, None)
        elif first not in known.counts:
            _learn_fixed(node, known, probe)  # case 1
            if node.op_type == "Equal":
                _learn_equal(node, known, probe)  # case 2
            elif node.op_type == "Where":
                _learn_where(node, known)  # case 3
    return known.counts


def _learn_fixed(node: ir.Node, known: Known, probe: Probe) -> None:
    if node.op_type in RANDOM or any(branches(node)):
        return
    for value in node.inputs:
        if value is None or value.const_value is not None:
            continue
        column = known.counts.get(value)
        if column is None or not is_fixed(column):
            return
    for value in node.outputs:
        seen = probe.values.get(value.name or "")
        if seen is not None:
            known.counts[value] = (seen[0],) * len(seen)


def _learn_equal(node: ir.Node, known: Known, probe: Probe) -> None:
    a, b = (None if value is None else known.counts.get(value) for value in node.inputs)
    if a is None or b is None:
        return
    if not is_fixed(b):
        a, b = b, a
    if not is_fixed(b):
        return
    at_one_frame = _extrapolate(a, probe, 1)
    seen = tuple(np.equal(x, b[0]) for x in a)
    if is_fixed(seen) and at_one_frame is not None:
        varying = np.any([x != a[0] for x in a], axis=0)
        # Lengths grow: one that is above a number for one frame never comes down to it.
        if np.all(~varying | (at_one_frame > b[0])):
            known.counts[node.outputs[0]] = seen


def _learn_where(node: ir.Node, known: Known) -> None:
    condition, yes, no = (None if value is None else known.counts.get(value) for value in node.inputs)
    if condition is not None and is_fixed(condition) and yes is not None and no is not None:
        known.counts[node.outputs[0]] = tuple(
            np.where(condition[0], x, y) for x, y in zip(yes, no, strict=True)
        )


def _is_large_at_once(node: ir.Node, known: Known, probe: Probe) -> bool:
    """Whether a bound from below does nothing even for a single frame."""
    first = node.inputs[0]
    column = None if first is None else known.counts.get(first)
    if column is None or is_fixed(column):
        return column is not None
    at_one_frame = _extrapolate(column, probe, 1)
    return at_one_frame is not None and bool(np.all(at_one_frame >= 1))


def _extrapolate(column: _Column, probe: Probe, n_frames: int) -> AnyArray | None:
    """Return a value at another number of frames, if it lies on a line that doesn't fall; else None."""
    n = probe.n_frames
    if any(array.shape != column[0].shape for array in column):
        return None
    slope = (column[1].astype(np.float64) - column[0]) / (n[1] - n[0])
    on_line = all(np.allclose(column[0] + slope * (m - n[0]), x) for m, x in zip(n, column, strict=True))
    if not on_line or np.any(slope < 0):
        return None
    result: AnyArray = column[0] + slope * (n_frames - n[0])
    return result
