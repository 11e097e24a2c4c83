"""What a graph computes from lengths: its shape arithmetic, as functions of the length.

`balacoon_tk.graph.known` follows what is computed from shapes and constants. What is computed from nothing
but constants and fixed lengths, by an operator that is not followed, is as certain: it is what the probe saw.
"""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk.graph.counts import Counts
from balacoon_tk.graph.known import Known
from balacoon_tk.graph.match import is_standard
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.walk import branches

# Operators that give something else in every run.
RANDOM = frozenset(
    ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")
)


def read_lengths(graph: ir.Graph, probe: Probe) -> dict[ir.Value, Counts]:
    """Return every small tensor that depends on the inputs by their lengths only."""
    known = Known(probe.shapes)
    known.learn_constants(graph)
    for node in graph:
        known.learn(node)
        if node.outputs and is_standard(node) and node.outputs[0] not in known.counts:
            _learn_fixed(node, known, probe)
    return known.counts


def _learn_fixed(node: ir.Node, known: Known, probe: Probe) -> None:
    if node.op_type in RANDOM or any(branches(node)):
        return
    for value in node.inputs:
        # A constant too large to be counted is no less fixed.
        if value is not None and value.const_value is None:
            column = known.counts.get(value)
            if column is None or column.fixed is None:
                return
    for value in node.outputs:
        seen = probe.values.get(value.name or "")
        if seen is not None:
            known.counts[value] = Counts(seen[0], known.n)
