"""Which versions of ONNX's operators are read, and the one that the encoder's passes write for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError

_OLDEST_READ = 10  # before it Slice has its bounds as attributes, and Resize doesn't exist

_OPSET = 17  # has LayerNormalization, and ScatterElements that adds
_OLDEST = 13  # since when axes and sizes are inputs
_CHANGED_SINCE = frozenset({"BatchNormalization", "RoiAlign"})
"""Operators whose meaning changed between the two."""


def check_readable(model: onnx.ModelProto) -> None:
    """Raise ModelError if a graph is of an opset that isn't read, or has names that are no text."""
    # Protobuf gives what isn't UTF-8 as bytes, which nothing behind this looks for.
    for node in chain(_nodes(model.graph.node), *(_nodes(each.node) for each in model.functions)):
        if not all(isinstance(name, str) for name in (node.op_type, node.domain, *node.input, *node.output)):
            raise ModelError(f"the graph is damaged: a name of node {node.name!r} is not UTF-8")
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if opset < _OLDEST_READ:
        raise ModelError(
            f"the graph is of opset {opset}: {_OLDEST_READ} or newer is needed, export it again "
            "(onnx.version_converter raises most graphs)"
        )
    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise ModelError(
            f"the graph is of opset {opset}: {newest} is the newest that is known here, export it with that "
            "one, or update onnx and onnxruntime"
        )


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """Yield nodes, and those of the graphs that they hold."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph.node)


def raise_opset(model: ir.Model) -> bool:
    """Raise a graph to opset 17 if none of its nodes changes by that; say whether it is that or newer now."""
    opset = model.graph.opset_imports.get("", 0)
    if opset < _OLDEST or any(node.op_type in _CHANGED_SINCE for node in model.graph):
        return False
    model.graph.opset_imports[""] = max(opset, _OPSET)
    return True
