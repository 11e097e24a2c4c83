"""Following values through a graph, forwards and backwards, into branches as well."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx_ir as ir

_WITH_GRAPHS = frozenset({"If", "Loop", "Scan", "SequenceMap"})


def branches(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs that a node holds in its attributes: the branches of an If, the body of a Loop."""
    if node.op_type not in _WITH_GRAPHS:
        return  # looking at every attribute of every node takes most of a walk's time
    for attribute in node.attributes.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def read_by(node: ir.Node) -> list[ir.Value]:
    """Return the values that a node reads: its inputs, and what its branches take from outside."""
    values = [value for value in node.inputs if value is not None]
    for graph in branches(node):
        own = {*graph.inputs, *graph.initializers.values()}
        for inner in graph:
            values += (value for value in read_by(inner) if value not in own)
            own.update(inner.outputs)
    return values


def descendants(graph: ir.Graph, values: Iterable[ir.Value]) -> set[ir.Value]:
    """Return the values that depend on one of some values, those included."""
    found = set(values)
    for node in graph:  # in topological order
        if any(value in found for value in read_by(node)):
            found.update(node.outputs)
    return found


def ancestors(values: Iterable[ir.Value], *, stop: Iterable[ir.Value] = ()) -> set[ir.Value]:
    """Return the values that some values depend on, those included; nothing behind `stop`."""
    ends = set(stop)
    found: set[ir.Value] = set()
    pending = list(values)
    while pending:
        value = pending.pop()
        if value in found:
            continue
        found.add(value)
        producer = value.producer()
        if producer is not None and value not in ends:
            pending += read_by(producer)
    return found
