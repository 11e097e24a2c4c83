"""Graphs as TensorRT's parser of ONNX takes them: with operators that it knows, and parts of a stream alone.

A stateful decoder takes any number of frames, and its states are shorter in the first push. Cut into four
graphs, only those at the ends of a sentence have an axis left whose length isn't known:

    first    from nothing, a fixed number of frames after which all states have the lengths that they keep
    steady   a fixed number of frames; all of its shapes are known
    last     as many frames as are left; the sentence ends with them
    whole    a sentence too short for the three others
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import constant_of, remove_unused
from balacoon_tk.runtime.session import fold_constants

# Newest opset of TensorRT 10.0.
_MAX_OPSET = 20
# Those of docs/operators.md in onnx/onnx-tensorrt (TensorRT 10.0) that speech models are made of.
_KNOWN = """
Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat Constant ConstantOfShape
Conv ConvTranspose Cos CumSum DepthToSpace Div Einsum Elu Equal Erf Exp Expand Flatten Floor Gather
GatherElements GatherND Gelu Gemm GlobalAveragePool Greater GreaterOrEqual GRU HardSigmoid Identity
InstanceNormalization LayerNormalization LeakyRelu Less LessOrEqual Log LSTM MatMul Max Min Mod Mul Neg
Not Or Pad Pow PRelu Range Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize Round ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Size
Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh Tile Transpose Trilu
Unsqueeze Upsample Where Xor
"""
_OPERATORS = frozenset(_KNOWN.split())


def check_operators(model: onnx.ModelProto, name: str) -> None:
    """Check that TensorRT knows a graph's opset and its operators."""
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in _OPERATORS:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ModelError(f"{name}: TensorRT doesn't know the operator {operator} of node {node.name!r}")
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset > _MAX_OPSET:
        raise ModelError(f"{name}: opset {opset} must be <= {_MAX_OPSET}")


def fix_inputs(
    model: onnx.ModelProto,
    constants: Mapping[str, AnyArray],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    outputs: Collection[str],
) -> onnx.ModelProto:
    """Return a graph of some outputs, with inputs as constants or of known shapes, and folded."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    inputs = [value for value in graph.input if value.name not in constants]
    for value in inputs:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    kept = [value for value in graph.output if value.name in outputs]
    # What was inferred of any length is false of this one, and so is the streaming contract.
    del graph.input[:], graph.output[:], graph.value_info[:], fixed.metadata_props[:]
    graph.input.extend(inputs)
    graph.output.extend(kept)
    folded = ir.from_proto(onnx.load_model_from_string(fold_constants(fixed.SerializeToString())))
    _drop_empty(folded)
    # ONNX Runtime, which has folded it, declares all of its own domains.
    for domain in {domain for domain in folded.graph.opset_imports if domain}:
        del folded.graph.opset_imports[domain]
    # Declared for any length; `check_shapes` infers them anew.
    for value in folded.graph.outputs:
        value.shape = None
    return ir.to_proto(folded)


def check_shapes(model: onnx.ModelProto, *, static: bool) -> onnx.ModelProto:
    """Infer all shapes, which must be known of a static graph, and return it with those of its outputs."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the graph isn't sound: {error}") from error
    known = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for name in (name for node in inferred.graph.node for name in node.output) if static else ():
        dims = known[name].type.tensor_type.shape.dim if name in known else None
        if dims is None or not all(dim.HasField("dim_value") for dim in dims):
            raise ModelError(f"the shape of {name!r} must be known from those of the inputs")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.output.extend(inferred.graph.output)
    return result


def _drop_empty(model: ir.Model) -> None:
    """Take states without steps out of what is joined."""
    # Folding leaves them where only some of what is joined is constant.
    for node in model.graph:
        if node.op_type != "Concat":
            continue
        kept = [value for k, value in enumerate(node.inputs) if (c := constant_of(node, k)) is None or c.size]
        if len(kept) < len(node.inputs):
            for k, value in enumerate(kept):
                node.replace_input_with(k, value)
            node.resize_inputs(len(kept))
    remove_unused(model)
