"""weights.bin: each weight once, whatever the order in which a graph reads it, and back again."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.runtime.session import PackedGraph, Session
from balacoon_tk.voice.rearranged import find_view
from balacoon_tk.voice.weights import WEIGHTS_FILE, WeightsWriter, put_back


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Return weights as a training leaves them: close to zero, some of them twice."""
    return (np.random.default_rng(seed).standard_normal(shape) * 0.05).astype(np.float32)


def product(matrix: np.ndarray) -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in ("x", "y")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", info[:1], info[1:], [numpy_helper.from_array(matrix, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint32)


@given(st.data())
def test_any_order_of_axes_is_found_again(data):
    shape = data.draw(st.lists(st.integers(2, 7), min_size=1, max_size=4))
    source = np.random.default_rng(0).permutation(int(np.prod(shape))).astype(np.uint32).reshape(shape)
    order = data.draw(st.permutations(range(len(shape))))
    flipped = data.draw(st.sets(st.sampled_from(range(len(shape)))))
    wanted = np.flip(source, tuple(flipped)).transpose(order).reshape(-1)
    view = find_view(source.reshape(-1), wanted)
    assert view is not None
    np.testing.assert_array_equal(view.of(source.reshape(-1)), wanted)


def test_numbers_that_occur_twice_do_not_hide_an_order():
    kernel = numbers(64, 32, 2, 2)
    kernel[:, ::7] = kernel[:, 1::7][:, : kernel[:, ::7].shape[1]]
    kernel[3] = 0.0
    phases = kernel.transpose(3, 1, 0, 2)[..., ::-1]
    view = find_view(bits(kernel), bits(phases))
    assert view is None or np.array_equal(view.of(bits(kernel)), bits(phases))
    rare = numbers(64, 32, 2, 2)
    rare.reshape(-1)[::50] = 0.0
    phases = rare.transpose(3, 1, 0, 2)[..., ::-1]
    assert find_view(bits(rare), bits(phases)) is not None


def test_numbers_that_all_occur_often_are_no_order_rather_than_an_error():
    """As weights that were halved and widened again do."""
    halves = np.random.default_rng(0).standard_normal((128, 64)).astype(np.float16).astype(np.float32)
    view = find_view(bits(halves), bits(halves[::-1]))
    assert view is None or np.array_equal(view.of(bits(halves)), bits(halves[::-1]))


def test_what_is_in_no_order_of_axes_is_not_taken_for_one():
    source = numbers(4096)
    shuffled = np.random.default_rng(1).permutation(source)
    assert find_view(bits(source), bits(shuffled)) is None
    assert find_view(bits(source), bits(source[:-1])) is None


@pytest.mark.parametrize(
    "change",
    [lambda w: w, lambda w: w.T, lambda w: w[::-1], lambda w: w.reshape(96, 2, 64).transpose(1, 0, 2)],
    ids=["same", "transposed", "backwards", "halves"],
)
def test_a_weight_in_another_order_is_stored_once_and_computes_the_same(change):
    source = numbers(96, 128)
    other = np.ascontiguousarray(change(source)).reshape(-1, 96)
    writer = WeightsWriter()
    graphs = [writer.take(product(matrix)) for matrix in (source, other)]
    assert len(writer.data) == source.nbytes
    for data, matrix in zip(graphs, (source, other), strict=True):
        x = np.eye(len(matrix), dtype=np.float32)
        loaded = Session(PackedGraph(data, {WEIGHTS_FILE: writer.data})).run({"x": x})["y"]
        np.testing.assert_array_equal(loaded, matrix)
        again = put_back(onnx.load_model_from_string(data), writer.data)
        assert [node.op_type for node in again.graph.node] == ["MatMul"]
        assert [tensor.name for tensor in again.graph.initializer] == ["w"]
        np.testing.assert_array_equal(numpy_helper.to_array(again.graph.initializer[0]), matrix)


def test_a_graph_in_memory_is_loaded_by_an_older_runtime_too(monkeypatch):
    import onnxruntime

    writer, matrix = WeightsWriter(), numbers(64, 64)
    packed = PackedGraph(writer.take(product(matrix)), {WEIGHTS_FILE: writer.data})
    name = "add_external_initializers_from_files_in_memory"
    if hasattr(onnxruntime.SessionOptions, name):
        monkeypatch.delattr(onnxruntime.SessionOptions, name)
    x = np.eye(64, dtype=np.float32)
    np.testing.assert_array_equal(Session(packed).run({"x": x})["y"], matrix)
