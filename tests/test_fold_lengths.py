"""What is computed from shapes but never varies becomes constant; a branch always taken is inlined."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper

from balacoon_tk.graph.edit import remove_unused
from balacoon_tk.graph.known import read_known
from balacoon_tk.graph.probe import probe
from balacoon_tk.graph.simplify.tidy import fold_branches, fold_lengths, lift_constants
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session

SEEN = (5, 8, 13)
LENGTHS = (1, 2, 7, 13, 100)


def read(text):
    model = ir.from_proto(onnx.parser.parse_model(text))
    lift_constants(model)
    return model, probe(model, {"x": 2}, {"x": 1}, lengths=(SEEN,)).shapes


def assert_same_function(proto, model):
    before, after = (
        Session(proto, RuntimeOptions(n_threads=1)),
        Session(ir.to_proto(model), RuntimeOptions(n_threads=1)),
    )
    for n in LENGTHS:
        x = np.random.default_rng(n).standard_normal((1, 4, n)).astype(np.float32)
        np.testing.assert_array_equal(after.run({"x": x})["y"], before.run({"x": x})["y"])


def same_function(text, model):
    assert_same_function(onnx.parser.parse_model(text), model)
    return Counter(node.op_type for node in model.graph)


HEADS = """
<ir_version: 8, opset_import: ["" : 15]>
g (float[1, 4, n] x) => (float[a, b, c, d] y) {
    int0 = Constant<value = int64 {0}>()
    int2 = Constant<value = int64 {2}>()
    axis = Constant<value = int64[1] {0}>()
    heads = Constant<value = int64[1] {2}>()
    shape = Shape(x)
    batch = Gather<axis = 0>(shape, int0)
    time = Gather<axis = 0>(shape, int2)
    b = Unsqueeze(batch, axis)
    t = Unsqueeze(time, axis)
    target = Concat<axis = 0>(b, heads, heads, t)
    y = Reshape(x, target)
}
"""


def test_the_batch_becomes_a_constant_and_the_length_stays():
    model, shapes = read(HEADS)
    assert fold_lengths(model, shapes)
    left = same_function(HEADS, model)
    assert left == {"Shape": 1, "Gather": 1, "Unsqueeze": 1, "Concat": 1, "Reshape": 1}


def test_folding_lengths_twice_changes_nothing_more():
    model, shapes = read(HEADS)
    assert fold_lengths(model, shapes)
    assert not fold_lengths(model, shapes)


def test_a_count_that_agrees_at_three_lengths_by_chance_is_not_taken_for_constant():
    """Min(n, 4) is 4 at all the lengths seen, and 1 at length 1."""
    text = """
    <ir_version: 8, opset_import: ["" : 15]>
    g (float[1, 4, n] x) => (float[a, b, c] y) {
        int2 = Constant<value = int64 {2}>()
        four = Constant<value = int64 {4}>()
        axis = Constant<value = int64[1] {0}>()
        axes = Constant<value = int64[1] {2}>()
        shape = Shape(x)
        n = Gather<axis = 0>(shape, int2)
        few = Min(n, four)
        end = Unsqueeze(few, axis)
        y = Slice(x, axis, end, axes)
    }
    """
    model, shapes = read(text)
    assert not fold_lengths(model, shapes)


def test_counts_are_what_the_graph_computes():
    model, shapes = read(HEADS)
    counts = read_known(model.graph, shapes).counts
    targets = next(arrays for value, arrays in counts.items() if value.name == "target")
    assert [array.tolist() for array in targets] == [[1, 2, 2, n] for n in SEEN]


# --- branches --------------------------------------------------------------------------------


def branching(axis, *, size=1, last=False):
    """Build x.squeeze(axis) of (1, 4, n) as torch exports it if the size is 1; unless `last`, and a Neg."""

    def graph(name, nodes, output):
        info = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [info])

    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [axis])
    squeezed = graph(
        "yes",
        [
            helper.make_node("Constant", [], ["where"], value=axes),
            helper.make_node("Squeeze", ["z", "where"], ["squeezed"]),
        ],
        "squeezed",
    )
    kept = graph("no", [helper.make_node("Identity", ["z"], ["kept"])], "kept")
    nodes = [
        helper.make_node("Tanh", ["x"], ["z"]),
        helper.make_node("Shape", ["z"], ["shape"]),
        helper.make_node("Gather", ["shape", "axis"], ["size"], axis=0),
        helper.make_node("Equal", ["size", "one"], ["is_one"]),
        helper.make_node(
            "If", ["is_one"], ["y" if last else "chosen"], then_branch=squeezed, else_branch=kept
        ),
    ]
    nodes += [] if last else [helper.make_node("Neg", ["chosen"], ["y"])]
    constants = [
        helper.make_tensor("axis", TensorProto.INT64, [], [axis]),
        helper.make_tensor("one", TensorProto.INT64, [], [size]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, "n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    whole = helper.make_graph(nodes, "g", [x], [y], constants)
    return helper.make_model(whole, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(("size", "left"), [(1, {"Tanh", "Squeeze"}), (3, {"Tanh", "Identity"})])
def test_a_branch_that_is_always_taken_is_inlined(size, left, last):
    proto = branching(0, size=size, last=last)
    model = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    lift_constants(model)
    shapes = probe(model, {"x": 2}, {"x": 1}, lengths=(SEEN,)).shapes
    assert fold_branches(model, shapes)
    assert {node.op_type for node in model.graph} == left | (set() if last else {"Neg"})
    assert_same_function(proto, model)


def test_a_branch_that_depends_on_the_length_stays():
    """At length 1 the last axis is squeezed, at others it isn't."""
    model = ir.from_proto(branching(2))
    lift_constants(model)
    shapes = probe(model, {"x": 2}, {"x": 1}, lengths=(SEEN,)).shapes
    assert not fold_branches(model, shapes)
    assert "If" in {node.op_type for node in model.graph}


def test_a_branch_that_nobody_reads_lets_go_of_what_it_read():
    model = ir.from_proto(branching(0))
    lift_constants(model)
    graph = model.graph
    z = next(node for node in graph if node.op_type == "Tanh").outputs[0]
    chosen = next(node for node in graph if node.op_type == "If").outputs[0]
    chosen.replace_all_uses_with(z)
    remove_unused(model)
    assert [node.op_type for node in graph] == ["Tanh", "Neg"]
    assert [user.op_type for user in z.consumers()] == ["Neg"]
