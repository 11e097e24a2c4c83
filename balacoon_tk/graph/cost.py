"""Count the multiply-adds of a graph: what it costs to run, whatever machine runs it.

Only operators that do arithmetic in bulk are counted; pointwise ones are bound by memory, not by
arithmetic. With ``out``, ``in`` and ``w`` for the number of elements of output, input and weight:

=========================  ==========================================  ======================
operator                   multiply-adds                               weight's layout
=========================  ==========================================  ======================
Conv and its int8 forms    ``out * w[0]``, a kernel for each output    (out, in / groups, k…)
ConvTranspose              ``in * w[0]``, a kernel for each input      (in, out / groups, k…)
MatMul, Gemm, int8 forms   ``out * K``, K being the axis summed over   (…, K, n)
=========================  ==========================================  ======================

where ``w[0]`` is the size of one of the weight's rows. Shapes come from a run, so nothing depends on
shape inference. Nodes inside of If, Loop and Scan are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.session import Session


@dataclass(frozen=True, slots=True)
class NodeCost:
    """What one node costs in one run."""

    name: str
    op_type: str
    multiply_adds: int


# Which input of a counted operator is its weight.
WEIGHT_INPUT: Final = {
    **dict.fromkeys(("Conv", "ConvInteger", "ConvTranspose", "Gemm", "MatMul", "MatMulInteger"), 1),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), 3),
}


def count_multiply_adds(model: onnx.ModelProto, feeds: Mapping[str, AnyArray]) -> tuple[NodeCost, ...]:
    """Run a graph once and count the multiply-adds of each counted node, in the order of the graph.

    A ModelError says that the graph can't be loaded, or fails on `feeds`, an array for each input.
    """
    nodes = [node for node in model.graph.node if node.op_type in WEIGHT_INPUT]
    shapes: dict[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in model.graph.initializer}
    shapes |= {name: array.shape for name, array in feeds.items()}
    wanted = {name for node in nodes for name in _operands(node)} - shapes.keys()
    if wanted:
        # A copy: the graph isn't changed.
        exposed = onnx.ModelProto()
        exposed.CopyFrom(model)
        present = {output.name for output in exposed.graph.output}
        # ONNX Runtime infers the type of an output that is only named.
        exposed.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - present))
        arrays = Session(exposed).run(feeds, sorted(wanted))
        shapes |= {name: array.shape for name, array in arrays.items()}
    costs = []
    for node in nodes:
        x, weight, y = (shapes[name] for name in _operands(node))
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        cost = multiply_adds(node.op_type, x, weight, y, transposed=transposed)
        costs.append(NodeCost(node.name or node.output[0], node.op_type, cost))
    return tuple(costs)


def multiply_adds(
    op_type: str, x: Sequence[int], weight: Sequence[int], y: Sequence[int], *, transposed: bool = False
) -> int:
    """Return the multiply-adds of one node from the shapes of its operands, 0 if it isn't counted.

    `transposed` says whether a Gemm transposes its input.
    """
    if op_type not in WEIGHT_INPUT:
        return 0
    if op_type == "ConvTranspose":
        return math.prod(x) * math.prod(weight[1:])
    if op_type.endswith(("Conv", "ConvInteger")):
        return math.prod(y) * math.prod(weight[1:])
    return math.prod(y) * (x[0] if transposed else x[-1])


def count_parameters(model: onnx.ModelProto) -> int:
    """Return the number of weights: elements of floating-point initializers and of int8 ones."""
    # Integers of 32 and 64 bits are shapes and indices.
    tensor = onnx.TensorProto
    kinds = {tensor.FLOAT, tensor.FLOAT16, tensor.BFLOAT16, tensor.DOUBLE, tensor.INT8, tensor.UINT8}
    return sum(math.prod(t.dims) for t in model.graph.initializer if t.data_type in kinds)


def _operands(node: onnx.NodeProto) -> tuple[str, str, str]:
    return node.input[0], node.input[WEIGHT_INPUT[node.op_type]], node.output[0]
