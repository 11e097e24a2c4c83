"""Write the operator Attention as the products and the softmax that it stands for.

So that what is masked is seen, whichever way a graph has it. With ``H`` heads of queries and ``K`` of keys::

    scores  = scale * Q K^T, each head of keys for H / K of queries; by default scale = 1 / sqrt(channels)
    scores += mask, or minus infinity where a mask of truth values is false
    scores  = minus infinity where the key is after the query, if it is causal
    Y       = softmax(scores) V

as ONNX defines it since opset 23. Left alone is what has no mask at all, which can't stream anyway, and what
keeps keys of its own (past and present), caps its scores or gives them out.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.match import input_of, is_standard
from balacoon_tk.graph.simplify.tidy import lift_constants

_MASK, _N_INPUTS = 3, 4


def attention_written_out(model: onnx.ModelProto | ir.Model) -> onnx.ModelProto | ir.Model:
    """Return a copy without masked Attention, or the model itself if it has none."""
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    nodes = [node for part in (proto.graph, *proto.functions) for node in part.node]
    if not any(node.op_type == "Attention" for node in nodes):
        return model
    copy = ir.from_proto(proto)
    lift_constants(copy)
    _write_out(copy)
    return copy


def _write_out(model: ir.Model) -> None:
    names = Names(model.graph)
    found = [node for node in model.graph if node.op_type == "Attention" and _is_masked(node)]
    # Exporters needn't say of which type a mask is.
    proto = onnx.shape_inference.infer_shapes(ir.to_proto(model)) if found else onnx.ModelProto()
    types = {v.name: v.type.tensor_type.elem_type for v in (*proto.graph.value_info, *proto.graph.input)}
    for node in found:
        write = Writer(model.graph, names, node.name or "attention")
        result = _written(write, node, of_truth=_has_truth_values(input_of(node, _MASK), types))
        old, name = node.outputs[0], node.outputs[0].name
        result.type, result.shape = old.type, old.shape
        model.graph.insert_before(node, write.nodes)
        old.replace_all_uses_with(result, replace_graph_outputs=True)
        model.graph.remove(node, safe=True)
        result.name = name


def _is_masked(node: ir.Node) -> bool:
    attributes = node.attributes
    more = any(value is not None for value in node.inputs[_N_INPUTS:])
    more |= any(value.uses() or value.is_graph_output() for value in node.outputs[1:])
    masked = input_of(node, _MASK) is not None or attributes.get_int("is_causal", 0) != 0
    return is_standard(node) and masked and not more and attributes.get_float("softcap", 0.0) == 0


def _has_truth_values(mask: ir.Value | None, types: Mapping[str, int]) -> bool:
    if mask is None:
        return False
    if mask.const_value is not None:
        return mask.const_value.dtype == ir.DataType.BOOL
    return types.get(mask.name or "") == int(ir.DataType.BOOL)


def _written(write: Writer, node: ir.Node, *, of_truth: bool) -> ir.Value:
    attributes = node.attributes
    n_heads = [attributes.get_int(f"{kind}_num_heads", 0) for kind in ("q", "kv", "kv")]
    query, key, value = (
        _by_heads(write, source, n) for source, n in zip(node.inputs[:3], n_heads, strict=True)
    )
    key, value = (_repeated(write, few, query) for few in (key, value))
    scores = write.one("MatMul", query, write.one("Transpose", key, perm=[0, 1, 3, 2]))
    n_channels = write.one("Cast", write.length(query, 3), to=int(ir.DataType.FLOAT))
    default = write.one("Reciprocal", write.one("Sqrt", n_channels))
    given = attributes.get_float("scale", 0.0)
    scores = write.one("Mul", scores, write.floats(given) if given else default)
    mask, lowest = input_of(node, _MASK), write.floats(-np.inf)
    if mask is not None and of_truth:
        mask = write.one("Where", mask, write.floats(0.0), lowest)
    if mask is not None:
        scores = write.one("Add", scores, mask)
    if attributes.get_int("is_causal", 0):
        scores = write.one("Where", _not_after(write, query, key), scores, lowest)
    result = write.one("MatMul", write.one("Softmax", scores, axis=-1), value)
    if not n_heads[0]:
        return result
    return write.one("Reshape", write.one("Transpose", result, perm=[0, 2, 1, 3]), write.ints(0, 0, -1))


def _by_heads(write: Writer, source: ir.Value | None, n_heads: int) -> ir.Value:
    """Return queries, keys or values as (batch, heads, steps, channels of a head)."""
    assert source is not None
    if not n_heads:
        return source
    return write.one(
        "Transpose", write.one("Reshape", source, write.ints(0, 0, n_heads, -1)), perm=[0, 2, 1, 3]
    )


def _repeated(write: Writer, few: ir.Value, query: ir.Value) -> ir.Value:
    """Return keys or values of as many heads as the queries, each repeated for those that share it."""
    n_times = write.one("Div", write.length(query, 1), write.length(few, 1))
    one = write.ints(1)
    repeats = write.one("Concat", one, one, n_times, one, one, axis=0)
    many = write.one("Expand", write.over_axes("Unsqueeze", few, 2), repeats)
    shape = write.one("Concat", one, write.ints(-1), write.length(few, 2), write.length(few, 3), axis=0)
    return write.one("Reshape", many, shape)


def _not_after(write: Writer, query: ir.Value, key: ir.Value) -> ir.Value:
    zero, one = (write.constant(np.array(n, np.int64)) for n in (0, 1))
    steps = [
        write.one("Range", zero, write.over_axes("Squeeze", write.length(source, 2), 0), one)
        for source in (query, key)
    ]
    return write.one("LessOrEqual", steps[1], write.over_axes("Unsqueeze", steps[0], 1))
