"""Multiply-adds are counted from shapes; the answers here are worked out by hand."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.cost import NodeCost, count_multiply_adds, count_parameters

N = 10


def one_node(
    op_type: str, shape: tuple[int, ...], weight: tuple[int, ...], **attributes: object
) -> onnx.ModelProto:
    node = helper.make_node(op_type, ["x", "w"], ["y"], name="node", **attributes)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.zeros(weight, np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def cost_of(model: onnx.ModelProto, shape: tuple[int, ...]) -> int:
    (cost,) = count_multiply_adds(model, {"x": np.zeros(shape, np.float32)})
    return cost.multiply_adds


def test_a_convolution_costs_a_kernel_for_each_output() -> None:
    model = one_node("Conv", (1, 4, N), (6, 4, 3), pads=[1, 1])
    assert cost_of(model, (1, 4, N)) == 6 * N * 4 * 3


def test_a_strided_convolution_costs_what_it_keeps() -> None:
    model = one_node("Conv", (1, 4, N), (6, 4, 2), strides=[2])
    assert cost_of(model, (1, 4, N)) == 6 * (N // 2) * 4 * 2


def test_groups_divide_the_cost() -> None:
    model = one_node("Conv", (1, 4, N), (4, 1, 3), pads=[1, 1], group=4)
    assert cost_of(model, (1, 4, N)) == 4 * N * 3


def test_a_transposed_convolution_costs_a_kernel_for_each_input() -> None:
    model = one_node("ConvTranspose", (1, 4, N), (4, 6, 8), strides=[4], pads=[2, 2])
    assert cost_of(model, (1, 4, N)) == 4 * N * 6 * 8


def test_a_matrix_product_costs_the_axis_it_sums_over() -> None:
    assert cost_of(one_node("MatMul", (2, N, 4), (4, 6)), (2, N, 4)) == 2 * N * 4 * 6


@pytest.mark.parametrize("transposed", [False, True])
def test_gemm_knows_which_axis_it_sums_over(transposed: bool) -> None:
    shape = (4, N) if transposed else (N, 4)
    assert cost_of(one_node("Gemm", shape, (4, 6), transA=int(transposed)), shape) == N * 4 * 6


def test_shapes_inside_of_the_graph_come_from_the_run_and_pointwise_nodes_are_free() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Conv", ["a", "w"], ["b"], name="first", strides=[2]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Conv", ["c", "w"], ["y"], strides=[2]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, "n"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, "m"))],
        [numpy_helper.from_array(np.zeros((2, 2, 2), np.float32), "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    before = model.SerializeToString()
    assert count_multiply_adds(model, {"x": np.zeros((1, 2, 16), np.float32)}) == (
        NodeCost("first", "Conv", 2 * 8 * 4),
        NodeCost("y", "Conv", 2 * 4 * 4),
    )
    assert model.SerializeToString() == before


def test_a_graph_that_fails_on_the_input_says_so() -> None:
    model = one_node("Conv", (1, 4, N), (6, 4, 3))
    with pytest.raises(ModelError, match="the run failed"):
        count_multiply_adds(model, {"x": np.zeros((1, 5, N), np.float32)})


def test_parameters_are_weights_but_not_shapes() -> None:
    model = one_node("Conv", (1, 4, N), (6, 4, 3))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(7, np.int64), "shape"))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(5, np.int8), "quantized"))
    model.graph.initializer.append(numpy_helper.from_array(np.float32(1.0), "scalar"))
    assert count_parameters(model) == 6 * 4 * 3 + 5 + 1
