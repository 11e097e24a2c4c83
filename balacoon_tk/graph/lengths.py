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

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.counts import Counts, is_fixed
from balacoon_tk.graph.known import Known
from balacoon_tk.graph.match import is_standard
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.walk import branches

# Operators that give something else in every run.
RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)


def read_lengths(graph: ir.Graph, probe: Probe) -> dict[ir.Value, Counts]:
    """Return every small tensor that depends on the inputs by their lengths only, at each length."""
    known = Known(probe.shapes)
    known.learn_constants(graph)
    for node in graph:
        known.learn(node)
        first = node.outputs[0] if node.outputs else None
        if first is None or not is_standard(node):
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
                condition, yes, no = (None if v is None else known.counts.get(v) for v in node.inputs)
                if condition and is_fixed(condition) and yes and no:  # case 3
                    chosen = (np.where(condition[0], x, y) for x, y in zip(yes, no, strict=True))
                    known.counts[first] = tuple(chosen)
    return known.counts


def _learn_fixed(node: ir.Node, known: Known, probe: Probe) -> None:
    if node.op_type in RANDOM or any(branches(node)):
        return
    for value in node.inputs:
        # A constant too large to be counted is no less fixed.
        if value is not None and value.const_value is None:
            column = known.counts.get(value)
            if column is None or not is_fixed(column):
                return
    for value in node.outputs:
        seen = probe.values.get(value.name or "")
        if seen is not None:
            known.counts[value] = (seen[0],) * len(seen)


def _learn_equal(node: ir.Node, known: Known, probe: Probe) -> None:
    a, b = (None if value is None else known.counts.get(value) for value in node.inputs)
    if b is not None and not is_fixed(b):
        a, b = b, a
    if a is None or b is None or not is_fixed(b):
        return
    at_one_frame = _at_one_frame(a, probe)
    seen = tuple(np.equal(x, b[0]) for x in a)
    if is_fixed(seen) and at_one_frame is not None:
        varying = np.any([x != a[0] for x in a], axis=0)
        # Lengths grow: one that is above a number for one frame never comes down to it.
        if np.all(~varying | (at_one_frame > b[0])):
            known.counts[node.outputs[0]] = seen


def _is_large_at_once(node: ir.Node, known: Known, probe: Probe) -> bool:
    # A bound from below that does nothing even for a single frame never does: lengths grow.
    first = node.inputs[0]
    column = None if first is None else known.counts.get(first)
    if column is None or is_fixed(column):
        return column is not None
    at_one_frame = _at_one_frame(column, probe)
    return at_one_frame is not None and bool(np.all(at_one_frame >= 1))


def _at_one_frame(column: Counts, probe: Probe) -> AnyArray | None:
    """Return a value for a single frame, if it lies on a line that doesn't fall; else None."""
    n = probe.n_frames
    if any(array.shape != column[0].shape for array in column):
        return None
    slope = (column[1].astype(np.float64) - column[0]) / (n[1] - n[0])
    on_line = all(np.allclose(column[0] + slope * (m - n[0]), x) for m, x in zip(n, column, strict=True))
    if not on_line or np.any(slope < 0):
        return None
    result: AnyArray = column[0] + slope * (1 - n[0])
    return result
