"""What passes share that lay tensors out anew."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

CHANNELS = 1
TO_ROWS, TO_IMAGE = [0, 2, 3, 1], [0, 3, 1, 2]
"""From (1, C, 1, T) to (1, 1, T, C) and back."""

# Operators that read one tensor; their other inputs say what they do with it.
_ONE_INPUT = frozenset({"Conv", "ConvTranspose", "Pad", "Slice", "Split"})


def data_inputs(node: ir.Node) -> range:
    """Return the places of the inputs that an operator treats as tensors of a kind."""
    return range(1 if node.op_type in _ONE_INPUT else len(node.inputs))


def insert_behind(graph: ir.Graph, value: ir.Value, nodes: Sequence[ir.Node]) -> None:
    """Insert nodes where a value has just been made, or is an input."""
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], nodes)
    else:
        graph.insert_after(producer, nodes)
