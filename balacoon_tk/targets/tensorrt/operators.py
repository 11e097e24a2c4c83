"""What TensorRT's parser of ONNX knows."""

from __future__ import annotations

import onnx

from balacoon_tk.errors import ModelError

MAX_OPSET = 20
"""Newest opset of TensorRT 10.0."""

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
OPERATORS = frozenset(_KNOWN.split())
"""Those of docs/operators.md in onnx/onnx-tensorrt (TensorRT 10.0) that speech models are made of."""


def check_operators(model: onnx.ModelProto, name: str) -> None:
    """Check that TensorRT can read a graph.

    Raises
    ------
    ModelError
        If it has an operator or a version that TensorRT doesn't know.
    """
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            operator = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise ModelError(f"{name}: TensorRT doesn't know the operator {operator} of node {node.name!r}")
    opset = max(item.version for item in model.opset_import if item.domain in ("", "ai.onnx"))
    if opset > MAX_OPSET:
        raise ModelError(f"{name}: opset {opset} must be <= {MAX_OPSET}")
