"""Replace nodes one by one, each by what a function writes for its operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk.graph.edit import Names, Writer, bypass
from balacoon_tk.graph.match import is_standard
from balacoon_tk.graph.probe import Probe

WriteNode = Callable[[ir.Node, ir.Graph, Probe, Writer], ir.Value | None]
"""Writes what stands for a node, and returns it; None of one that stays."""


def replace_nodes(model: ir.Model, probe: Probe, writers: Mapping[str, WriteNode]) -> bool:
    """Replace the standard operators that `writers` know; say whether any were.

    The probe is of the graph; of what is new nothing has been seen: probe the graph again.
    """
    names, modified = Names(model.graph), False
    for node in list(model.graph):
        writer = writers.get(node.op_type) if is_standard(node) else None
        if writer is None:
            continue
        write = Writer(model.graph, names, f"{node.name or node.op_type}.written")
        out = writer(node, model.graph, probe, write)
        if out is not None:
            model.graph.insert_before(node, write.nodes)
            modified |= bypass(model.graph, node.outputs[0], out)
    if modified:
        RemoveUnusedNodesPass()(model)
    return modified
