"""Write an operator as its definition, where ONNX has one of other operators and no rule knows it.

Such as RotaryEmbedding, in which exporters join what models write as slices, products and sums.
"""

from __future__ import annotations

from typing import Any

import onnx
import onnx_ir as ir

from balacoon_tk.graph.match import is_standard, name_of
from balacoon_tk.graph.rules.base import has_rule
from balacoon_tk.graph.simplify.tidy import lift_constants

_DOMAIN = "balacoon_tk.definitions"


def write_definitions(model: ir.Model) -> None:
    """Put definitions in the place of nodes, in place."""
    opset = model.opset_imports.get("", 0)
    found = {node: schema for node in model.graph if (schema := _schema(node, opset)) is not None}
    if not found:
        return
    # A definition may depend on the types of the inputs, which exporters needn't say.
    graph = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph
    types = {value.name: value.type for value in (*graph.value_info, *graph.input)}
    for tensor in graph.initializer:
        types[tensor.name] = onnx.helper.make_tensor_type_proto(tensor.data_type, tensor.dims)
    for k, (node, schema) in enumerate(found.items()):
        definition = onnx.FunctionProto()
        definition.ParseFromString(_definition(node, schema, opset, types))
        # A loop would be refused in words of what isn't in the graph.
        if not definition.node or any(step.op_type == "Loop" for step in definition.node):
            continue
        definition.domain, definition.name = _DOMAIN, f"{node.op_type}_{k}"
        function = ir.serde.deserialize_function(definition)
        model.functions[function.identifier()] = function
        node.domain, node.op_type = _DOMAIN, definition.name
    model.opset_imports[_DOMAIN] = 1
    lift_constants(model)
    del model.opset_imports[_DOMAIN]


# What onnx says of the types of its schemas leaves their definitions out.
def _schema(node: ir.Node, opset: int) -> Any:
    """Return what ONNX says of an operator, if it has a definition and no rule."""
    if not is_standard(node) or has_rule(node):
        return None
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return None
    return schema if schema.has_function or schema.has_context_dependent_function else None


def _definition(node: ir.Node, schema: Any, opset: int, types: dict[str, onnx.TypeProto]) -> bytes:
    if schema.has_function:
        found: bytes = schema.get_function_with_opset_version(opset)
        return found
    given = [types.get(name_of(value), onnx.TypeProto()).SerializeToString() for value in node.inputs]
    found = schema.get_context_dependent_function_with_opset_version(
        opset, ir.to_proto(node).SerializeToString(), given
    )
    return found
