"""Writing into a graph: new nodes and constants under names that are free, and old ones taken out.

`Writer` is what every pass writes with, and what builds a stateful graph. (`onnx_ir.tape` would name
values by numbers; these names say in a plan or a profile which part of the original a node came of.)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.match import constant_of as constant_of
from balacoon_tk.graph.match import is_plain_gemm as is_plain_gemm
from balacoon_tk.graph.match import only_user as only_user
from balacoon_tk.graph.match import scalar_of as scalar_of
from balacoon_tk.graph.walk import branches

# The end of a slice that runs to the end of its axis: more steps than a tensor has.
FAR = 2**31 - 1

_Attribute = int | float | str | Sequence[int]


class Names:
    """Gives out names that no tensor and no node of a graph has."""

    def __init__(self, graph: ir.Graph) -> None:
        self._taken = {value.name for value in graph.inputs} | set(graph.initializers)
        for node in ir.traversal.RecursiveGraphIterator(graph):
            # Profiles and messages go by them, and some are names of values too.
            self._taken.add(node.name)
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

    Constants are registered at once; the names of nodes and values begin with `stem`.
    """

    def __init__(self, graph: ir.Graph, names: Names, stem: str) -> None:
        self._graph, self.names, self._stem = graph, names, stem
        self._opset = graph.opset_imports.get("", 0)
        self._ints: dict[tuple[int, ...], ir.Value] = {}
        self.nodes: list[ir.Node] = []

    def op(
        self, op_type: str, *inputs: ir.Value | None, n_outputs: int = 1, **attributes: _Attribute
    ) -> tuple[ir.Value, ...]:
        """Write a node; return its outputs."""
        node = ir.node(op_type, inputs, attributes, num_outputs=n_outputs)
        node.name = self.names.take(f"{self._stem}.{op_type.lower()}")
        for value in node.outputs:
            value.name = self.names.take(f"{node.name}.out")
        self.nodes.append(node)
        return tuple(node.outputs)

    def one(self, op_type: str, *inputs: ir.Value | None, **attributes: _Attribute) -> ir.Value:
        """Write a node with one output; return that."""
        return self.op(op_type, *inputs, n_outputs=1, **attributes)[0]

    def clone(
        self,
        node: ir.Node,
        inputs: Sequence[ir.Value | None],
        *,
        keep_names: bool = False,
        suffix: str = "",
        n_outputs: int = 0,
    ) -> ir.Node:
        """Write a copy of a node with other inputs, and more outputs than it has if `n_outputs` says so.

        It takes over the names (`keep_names`, for a graph that the node isn't in), or puts a suffix to them.
        """
        names = [value.name or "" for value in node.outputs]
        names += [f"{node.name or node.op_type}.out"] * (n_outputs - len(names))
        copy = ir.Node(
            node.domain, node.op_type, inputs, list(node.attributes.values()), num_outputs=len(names)
        )
        copy.name = node.name if keep_names else self.names.take(f"{node.name or node.op_type}{suffix}")
        for name, value in zip(names, copy.outputs, strict=True):
            # An output that is left out has no name, and gets none.
            value.name = name if keep_names or not name else self.names.take(f"{name}{suffix}")
        self.nodes.append(copy)
        return copy

    def slice(self, value: ir.Value, axis: int, start: ir.Value | int, end: ir.Value | int) -> ir.Value:
        """Cut steps out along an axis."""
        bounds = [self.ints(bound) if isinstance(bound, int) else bound for bound in (start, end)]
        return self.one("Slice", value, *bounds, self.ints(axis))

    def after(self, value: ir.Value, axis: int, start: ir.Value | int) -> ir.Value:
        """Cut the first steps off, or keep the last ones (negative start)."""
        return self.slice(value, axis, start, FAR)

    def concat(self, values: Sequence[ir.Value], axis: int) -> ir.Value:
        """Join along an axis."""
        return values[0] if len(values) == 1 else self.one("Concat", *values, axis=axis)

    def length(self, value: ir.Value, axis: int) -> ir.Value:
        """Return the number of steps along an axis as an int64 (1,) tensor."""
        # Before opset 15 Shape gives all axes.
        if self._opset >= 15:
            return self.one("Shape", value, start=axis, end=axis + 1)
        return self.one("Gather", self.one("Shape", value), self.ints(axis), axis=0)

    def over_axes(self, op_type: str, value: ir.Value, *axes: int) -> ir.Value:
        """Write a Squeeze, Unsqueeze or a reduction over some axes, as the graph's opset has it."""
        # An attribute before opset 13, an input since.
        if self._opset >= 13:
            return self.one(op_type, value, self.ints(*axes))
        return self.one(op_type, value, axes=axes)

    def constant(self, array: AnyArray) -> ir.Value:
        """Register a constant."""
        name = self.names.take(f"{self._stem}.constant")
        # Not ascontiguousarray: that would give a scalar an axis.
        return add_constant(self._graph, np.asarray(array, order="C"), name)

    def ints(self, *numbers: int) -> ir.Value:
        """Return a vector of int64: a shape, axes, sizes. Equal ones are registered once."""
        if numbers not in self._ints:
            self._ints[numbers] = self.constant(np.array(numbers, np.int64))
        return self._ints[numbers]

    def floats(self, number: float) -> ir.Value:
        """Register a single float32."""
        return self.constant(np.array(number, np.float32))


def add_constant(graph: ir.Graph, array: AnyArray, name: str) -> ir.Value:
    """Add an initializer to a graph, under a name that is free."""
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.shape, value.type = ir.Shape(array.shape), ir.TensorType(ir.DataType.from_numpy(array.dtype))
    graph.register_initializer(value)
    return value


def bypass(graph: ir.Graph, value: ir.Value, replacement: ir.Value) -> bool:
    """Let everything that reads a value read another one; return False if that would lose an output."""
    # An output keeps its name, so the replacement must be free to take it: an input or a constant isn't.
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
    # Backwards, so that what only a removed node has read is removed as well.
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
