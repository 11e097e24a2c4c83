"""Graphs whose weights were made smaller, in float32 again: halves are widened, integers scaled back.

A voice is cut, streamed and compared in float32, and can be made smaller afterwards (`quantize_voice`). What
was rounded stays rounded: a half is a float32 as it is, and an integer stands for its product with a scale.
What a quantized graph rounds while it runs it rounds no more.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk.export.sources.dequantize import dequantize
from balacoon_tk.graph.edit import bypass, remove_unused
from balacoon_tk.graph.walk import branches

_HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def to_float_weights(model: ir.Model) -> str | None:
    """Bring a graph to float32, in place, its constants lifted; say what it was in, or None if in float32.

    `ModelError` names a node that computes in integers in a way that isn't known here.
    """
    is_half = _widen(model)
    if dequantize(model):
        return "integers"
    return "half precision" if is_half else None


def _graphs(graph: ir.Graph) -> Iterator[ir.Graph]:
    yield graph
    for node in graph:
        for branch in branches(node):
            yield from _graphs(branch)


def _widen(model: ir.Model) -> bool:
    """Make everything that is in half precision float32; say whether anything was."""
    found = False
    for graph in _graphs(model.graph):
        for value in (*graph.inputs, *graph.initializers.values(), *_outputs(graph)):
            if value.dtype in _HALVES:
                value.type, found = ir.TensorType(ir.DataType.FLOAT), True
            if value.const_value is not None and value.const_value.dtype in _HALVES:
                value.const_value = _wide(value.const_value)
        for node in graph:
            for name, attribute in list(node.attributes.items()):
                if attribute.type == ir.AttributeType.TENSOR and _is_half(attribute.value.dtype):
                    node.attributes[name] = ir.AttrTensor(name, _wide(attribute.value))
                # What Cast, RandomNormalLike and their like give.
                if name in ("to", "dtype") and _is_half(attribute.value):
                    node.attributes[name] = ir.AttrInt64(name, int(ir.DataType.FLOAT))
                    found = True
    if found:
        _drop_idle_casts(model)
    return found


def _outputs(graph: ir.Graph) -> Iterator[ir.Value]:
    for node in graph:
        yield from node.outputs


def _is_half(dtype: object) -> bool:
    return dtype in _HALVES


def _wide(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)


def _drop_idle_casts(model: ir.Model) -> None:
    """Take out the casts between the two that converters leave, behind which no table would be found."""
    graph = onnx.shape_inference.infer_shapes(ir.to_proto(model)).graph
    known = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input)}
    known |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in list(model.graph):
        source = node.inputs[0] if node.op_type == "Cast" else None
        if source is not None and known.get(source.name or "") == node.attributes.get_int("to", 0):
            bypass(model.graph, node.outputs[0], source)
    remove_unused(model)
