"""Small changes to a graph that several passes make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.walk import branches

_Attribute = int | float | str | Sequence[int]


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


class Writer:
    """Writes new nodes, each behind the one before, to be put into a graph at one place.

    Parameters
    ----------
    graph : ir.Graph
        Where constants are registered.
    names : Names
        Gives out the names of nodes and values.
    stem : str
        Begins all of them.
    """

    def __init__(self, graph: ir.Graph, names: Names, stem: str) -> None:
        self._graph, self._names, self._stem = graph, names, stem
        self.nodes: list[ir.Node] = []
        """What has been written, in order."""

    def op(
        self, op_type: str, *inputs: ir.Value | None, n_outputs: int = 1, **attributes: _Attribute
    ) -> tuple[ir.Value, ...]:
        """Write a node; return its outputs."""
        return self._node(op_type, inputs, attributes, n_outputs)

    def one(self, op_type: str, *inputs: ir.Value | None, **attributes: _Attribute) -> ir.Value:
        """Write a node with one output; return that."""
        return self._node(op_type, inputs, attributes, 1)[0]

    def _node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, _Attribute],
        n_outputs: int,
    ) -> tuple[ir.Value, ...]:
        node = ir.node(op_type, inputs, attributes, num_outputs=n_outputs)
        node.name = self._names.take(f"{self._stem}.{op_type.lower()}")
        for value in node.outputs:
            value.name = self._names.take(f"{node.name}.out")
        self.nodes.append(node)
        return tuple(node.outputs)

    def constant(self, array: AnyArray) -> ir.Value:
        """Register a constant."""
        return add_constant(
            self._graph, np.ascontiguousarray(array), self._names.take(f"{self._stem}.constant")
        )

    def ints(self, *numbers: int) -> ir.Value:
        """Register a vector of int64: a shape, axes, sizes."""
        return self.constant(np.array(numbers, np.int64))

    def floats(self, number: float) -> ir.Value:
        """Register a single float32."""
        return add_constant(
            self._graph, np.array(number, np.float32), self._names.take(f"{self._stem}.constant")
        )


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


def scalar_of(node: ir.Node, index: int) -> float | None:
    """Return the number that a node reads there, if it is a constant of one element."""
    array = constant_of(node, index)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None


def is_plain_gemm(node: ir.Node) -> bool:
    """Whether a node multiplies two matrices as they are, without factors, and may add something."""
    usual = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    return node.op_type == "Gemm" and all(
        attribute.value == usual.get(name) for name, attribute in node.attributes.items()
    )


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
