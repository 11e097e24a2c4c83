"""Half precision: weights that take half the room, and graphs that compute in it where a GPU gains by it.

On a CPU nothing gets faster by `halve_weights`, and nothing slower: ONNX Runtime makes the weights float32
again when it loads the graph, and runs what it always did.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Names, add_constant, constant_of, remove_unused

SENSITIVE = frozenset(
    {
        *("Cast", "Ceil", "CumSum", "Exp", "LayerNormalization", "Pow", "Range", "ReduceMean"),
        *("ReduceSum", "Resize", "ScatterElements", "Softmax", "Softplus", "Sqrt"),
    }
)
"""Operators that stay in float32: sums of many numbers, what grows fast, what decides lengths or types."""

_DURATIONS = "durations"
_MAX_HALF = float(np.finfo(np.float16).max)
_LEAST = 256
"""Numbers that a tensor must have to be worth a node of its own."""
_SUFFIX = ".half"


def halve_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Store a graph's weights in half precision; it computes in float32 as before.

    In front of each weight stands a Cast, which ONNX Runtime runs once, when it loads the graph.

    Parameters
    ----------
    model : ModelProto
        An encoder or a decoder, stateful or not; it is not changed.

    Returns
    -------
    ModelProto
        Each weight is off by at most 2**-11 of itself (2**-25 where it is below 2**-14).
        Small tensors, and those with numbers that half precision doesn't reach, stay as they are.

    Raises
    ------
    ModelError
        If there is no weight to halve.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph, casts = halved.graph, list[onnx.NodeProto]()
    declared = {value.name for value in (*graph.input, *graph.output)}
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name in declared:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size < _LEAST or not np.abs(array).max() <= _MAX_HALF:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}{_SUFFIX}"))
        casts.append(
            helper.make_node(
                "Cast", [tensor.name], [name], to=TensorProto.FLOAT, name=f"{name}{_SUFFIX}.cast"
            )
        )
    if not casts:
        raise ModelError(f"no weight of {_LEAST} numbers or more is in float32: there is nothing to halve")
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return halved


def to_half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let a graph compute in half precision, but for what is sensitive to it.

    Inputs, outputs and states stay in float32, and so does all that is there for durations alone: a rounded
    duration is another length. `SENSITIVE` operators stay as well, and casts stand where the two meet.

    Parameters
    ----------
    model : ModelProto
        An encoder or a decoder, stateful or not; it is not changed.

    Raises
    ------
    ModelError
        If there are operators of another domain than ONNX's, such as those that compute with bytes.

    Notes
    -----
    Meant for GPUs. A CPU without arithmetic of its own in half precision computes in float32 between
    casts.
    """
    foreign = next((node for node in model.graph.node if node.domain not in ("", "ai.onnx")), None)
    if foreign is not None:
        raise ModelError(f"{foreign.domain}::{foreign.op_type} has no form in half precision")
    kept = _only_for(model.graph, _DURATIONS)
    typed = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    graph = typed.graph
    halved = {node for node in graph if node.name not in kept and _can_be_half(node)}
    names = Names(graph)
    for value in [
        *graph.inputs,
        *graph.initializers.values(),
        *(output for node in graph for output in node.outputs),
    ]:
        if value.dtype == ir.DataType.FLOAT:
            _let_meet(graph, value, halved, names)
    remove_unused(typed)
    graph.sort()
    return ir.to_proto(typed)


def _can_be_half(node: ir.Node) -> bool:
    if node.op_type in SENSITIVE:
        return False
    if not any(value is not None and value.dtype == ir.DataType.FLOAT for value in node.inputs):
        return False
    constants = (constant_of(node, k) for k in range(len(node.inputs)))
    return all(
        array is None or array.dtype != np.float32 or np.abs(array).max(initial=0.0) <= _MAX_HALF
        for array in constants
    )


def _let_meet(graph: ir.Graph, value: ir.Value, halved: AbstractSet[ir.Node], names: Names) -> None:
    """Make a value half if it comes out of a halved node, and give every other kind of user its own form."""
    producer = value.producer()
    is_half = producer in halved
    others = [(user, index) for user, index in value.uses() if (user in halved) != is_half]
    if is_half:
        value.dtype = ir.DataType.FLOAT16
    is_output = is_half and value.is_graph_output()
    if not others and not is_output:
        return
    name = names.take(f"{value.name}{_SUFFIX}")
    if value.const_value is not None:
        other = add_constant(graph, value.const_value.numpy().astype(np.float16), name)
    else:
        kind = ir.DataType.FLOAT if is_half else ir.DataType.FLOAT16
        cast = ir.node("Cast", [value], {"to": int(kind)}, name=f"{name}.cast")
        other = cast.outputs[0]
        other.name, other.dtype = name, kind
        graph.append(cast)
    if is_output:
        graph.outputs[graph.outputs.index(value)] = other
        other.shape, value.name, other.name = value.shape, name, value.name
    for user, index in others:
        user.replace_input_with(index, other)


def _only_for(graph: onnx.GraphProto, name: str) -> AbstractSet[str]:
    """Return the nodes that one output needs and no other."""
    producers = {value: node for node in graph.node for value in node.output}

    def needed(names: list[str]) -> set[str]:
        found: set[str] = set()
        while names:
            node = producers.get(names.pop())
            if node is not None and node.name not in found:
                found.add(node.name)
                names += node.input
        return found

    others = [value.name for value in graph.output if value.name != name]
    return needed([name]) - needed(others)
