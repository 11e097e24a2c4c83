"""Small changes to a graph that several passes make."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk._typing import AnyArray
from balacoon_tk.export.graph.walk import branches

__all__ = ["Names", "add_constant", "bypass", "constant_of", "only_user", "remove_unused"]


class Names:
    """Gives out names that no tensor of a graph has.

    Parameters
    ----------
    graph : ir.Graph
    """

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {value.name for value in graph.inputs} | set(graph.initializers)
        for node in ir.traversal.RecursiveGraphIterator(graph):
            self._taken.update(value.name for value in node.outputs)

    def take(self, stem: str) -> str:
        """Return a name that begins with `stem`, and give it to nobody else."""
        name, k = stem, 1
        while name in self._taken:
            name, k = f"{stem}_{k}", k + 1
        self._taken.add(name)
        return name


def add_constant(graph: ir.Graph, array: AnyArray, name: str) -> ir.Value:
    """Add an initializer to a graph, under a name that is free."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value


def constant_of(node: ir.Node, index: int) -> AnyArray | None:
    """Return the array that a node reads there, if it is an initializer that nobody can replace."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None or value.const_value is None or value.is_graph_input():
        return None
    return value.const_value.numpy()


def only_user(value: ir.Value) -> ir.Node | None:
    """Return the one node that reads a value, if it is one and nothing else depends on the value."""
    users = {node for node, _ in value.uses()}
    return users.pop() if len(users) == 1 and not value.is_graph_output() else None


def bypass(graph: ir.Graph, value: ir.Value, replacement: ir.Value) -> bool:
    """Let everything that reads a value read another one; return False if that would lose an output.

    Where the value is an output of the graph, the replacement takes over its place and its name.
    """
    if not value.is_graph_output():
        value.replace_all_uses_with(replacement)
        return True
    if replacement.producer() is None or replacement.is_graph_output() or replacement.graph is not graph:
        return False
    name = value.name
    replacement.type = replacement.type or value.type
    replacement.shape = replacement.shape or value.shape
    value.replace_all_uses_with(replacement, replace_graph_outputs=True)
    value.name, replacement.name = f"{replacement.name}.old", name
    return True


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and initializers that no output depends on."""
    for node in reversed(model.graph):
        if not any(value.uses() or value.is_graph_output() for value in node.outputs):
            # The branches of a node that is gone would go on holding what they read from outside.
            for branch in branches(node):
                _detach(branch)
            model.graph.remove(node, safe=True)
    RemoveUnusedNodesPass()(model)


def _detach(graph: ir.Graph) -> None:
    for node in graph:
        for index in range(len(node.inputs)):
            node.replace_input_with(index, None)
        for branch in branches(node):
            _detach(branch)
