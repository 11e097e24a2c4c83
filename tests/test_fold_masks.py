"""Masks that are all ones and zeros that are made from shapes leave the graph; everything else stays."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.graph.probe import probe
from balacoon_tk.graph.simplify.tidy import fold_masks, lift_constants
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session

SEEN = (5, 8, 13)
LENGTHS = (1, 2, 3, 8, 13, 100, 101)

# Every body reads x of shape (1, 2, n) and makes y. What stands here may be used by all of them.
COMMON = """
    zero = Constant<value = float {0.0}>()
    one = Constant<value = float {1.0}>()
    two = Constant<value = float {2.0}>()
    int0 = Constant<value = int64 {0}>()
    int1 = Constant<value = int64 {1}>()
    int2 = Constant<value = int64 {2}>()
    axis0 = Constant<value = int64[1] {0}>()
    axis1 = Constant<value = int64[1] {1}>()
    axis2 = Constant<value = int64[1] {2}>()
    shape = Shape(x)
    n = Gather<axis = 0>(shape, int2)
    ramp = Range(int0, n, int1)
    inside = Less(ramp, n)
    mask = Cast<to = 1>(inside)
    zeros = ConstantOfShape<value = float[1] {0.0}>(shape)
    ones = ConstantOfShape<value = float[1] {1.0}>(shape)
"""


def model_of(body, *, opset=15):
    head = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[1, 2, n] x) => (float y)'
    text = f"{head} {{ {COMMON} {body} }}"
    proto = onnx.parser.parse_model(text)
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    return proto


def fold(body):
    """Fold a graph, check that it is still the same function, and count what is left."""
    proto = model_of(body)
    model = ir.from_proto(onnx.ModelProto.FromString(proto.SerializeToString()))
    lift_constants(model)
    seen = probe(model, {"x": 2}, {"x": 1}, lengths=(SEEN,))
    modified = fold_masks(model, seen.shapes)
    folded = ir.to_proto(model)
    before, after = Session(proto, RuntimeOptions(n_threads=1)), Session(folded, RuntimeOptions(n_threads=1))
    assert list(after.outputs) == ["y"]
    rng = np.random.default_rng(0)
    for n in LENGTHS:
        x = rng.standard_normal((1, 2, n)).astype(np.float32)
        np.testing.assert_array_equal(after.run({"x": x})["y"], before.run({"x": x})["y"])
    return modified, Counter(node.op_type for node in folded.graph.node)


@pytest.mark.parametrize(
    "expression",
    [
        "Mul(z, mask)",
        "Mul(mask, z)",
        "Mul(z, one)",
        "Div(z, ones)",
        "Pow(z, one)",
        "Add(z, zeros)",
        "Add(zero, z)",
        "Sub(z, zeros)",
        "Identity(z)",
        "Concat<axis = 1>(z)",
        "Max(z)",
        "Expand(z, shape)",
        "Where(inside, z, two)",
        "Slice(z, axis0, huge, axis2)",
        "Slice(z, axis0, length, axis2, axis1)",
        "Slice(z, axis0, axis2, axis1, axis1)",
        "Reshape(z, shape)",
        "Squeeze(deep, axis0)",
    ],
)
def test_what_gives_an_input_back_is_folded(expression):
    modified, left = fold(
        f"""
        z = Tanh(x)
        huge = Constant<value = int64[1] {{9223372036854775807}}>()
        length = Unsqueeze(n, axis0)
        deep = Unsqueeze(z, axis0)
        w = {expression}
        y = Neg(w)
        """
    )
    assert modified
    assert left == {"Tanh": 1, "Neg": 1}


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("Mul(z, two)", "Mul"),
        ("Add(z, one)", "Add"),
        ("Sub(zero, z)", "Sub"),
        ("Div(one, z)", "Div"),
        ("Pow(one, z)", "Pow"),
        ("Mul(z, zeros)", "Mul"),
        ("Mul(z, bigger)", "Mul"),
        ("Add(z, bigger0)", "Add"),
        ("Where(inside, two, z)", "Where"),
        ("Where(unsure, z, two)", "Where"),
        ("Slice(z, minus1, minushuge, axis1, minus1)", "Slice"),
        ("Slice(z, axis0, hundred, axis2)", "Slice"),
        ("Concat<axis = 1>(z, zeros)", "Concat"),
        ("Expand(z, bigshape)", "Expand"),
        ("Reshape(z, swapped)", "Reshape"),
    ],
)
def test_what_computes_or_enlarges_stays(expression, kept):
    _, left = fold(
        f"""
        z = Tanh(x)
        minus1 = Constant<value = int64[1] {{-1}}>()
        minushuge = Constant<value = int64[1] {{-9223372036854775807}}>()
        hundred = Constant<value = int64[1] {{100}}>()
        bigshape = Constant<value = int64[3] {{3, 2, 1}}>()
        swapped = Constant<value = int64[3] {{1, -1, 2}}>()
        bigger = ConstantOfShape<value = float[1] {{1.0}}>(bigshape)
        bigger0 = ConstantOfShape<value = float[1] {{0.0}}>(bigshape)
        unsure = Greater(z, zero)
        y = {expression}
        """
    )
    assert left[kept] == 1


@pytest.mark.parametrize(
    "mask",
    [
        "Less(ramp, n)",
        "Greater(n, ramp)",
        "Not(outside)",
        "Less(framp, fn)",
        "Less(row, column)",
        "Less(clipped_ramp, clipped)",
        "Less(max_ramp, column)",
        "And(inside, inside)",
        "Equal(zeros, zero)",
    ],
)
def test_a_mask_up_to_its_own_length_is_folded(mask):
    modified, left = fold(MASKS + f" m = {mask}  c = Cast<to = 1>(m)  y0 = Mul(z, c)  y = Neg(y0)")
    assert modified
    assert left == {"Tanh": 1, "Neg": 1}


@pytest.mark.parametrize(
    "mask",
    [
        "Less(ramp, shorter)",
        "LessOrEqual(ramp, shorter)",
        "Less(ramp, hundred)",
        "Less(ramp, square)",
        "Less(from1, n)",
        "Greater(ramp, n)",
        "GreaterOrEqual(ramp, n)",
        "Less(ramp, half)",
        "Less(ramp, capped)",
        "Equal(ramp, n)",
        "Less(small_ramp, n)",
    ],
)
def test_a_mask_up_to_another_length_stays(mask):
    _, left = fold(MASKS + f" m = {mask}  c = Cast<to = 1>(m)  y = Mul(z, c)")
    assert left["Mul"] >= 1


MASKS = """
    z = Tanh(x)
    outside = GreaterOrEqual(ramp, n)
    fn = Cast<to = 1>(n)
    framp = Range(zero, fn, one)
    row = Unsqueeze(ramp, axis0)
    nvec = Unsqueeze(n, axis0)
    column = Unsqueeze(nvec, axis1)
    clipped = Clip(n, int1)
    clipped_ramp = Range(int0, clipped, int1)
    max = ReduceMax<keepdims = 0>(nvec)
    max_ramp = Range(int0, max, int1)
    shorter = Sub(n, int1)
    hundred = Constant<value = int64 {100}>()
    square = Mul(n, n)
    after = Add(n, int1)
    from1 = Range(int1, after, int1)
    half = Div(n, int2)
    capped = Min(n, hundred)
    small_n = Sub(hundred, n)
    big_ramp = Range(int0, n, int1)
    shift = Constant<value = int64 {13}>()
    small_ramp = Sub(big_ramp, shift)
"""


def test_a_convolution_over_ones_is_not_uniform():
    """Its padding makes other values at the ends, so multiplying by it is not to be folded."""
    _, left = fold(
        """
        z = Tanh(x)
        weight = Constant<value = float[1, 1, 3] {0.25, 0.5, 0.25}>()
        flat = ReduceMax<axes = [1]>(ones)
        around = Conv<kernel_shape = [3], pads = [1, 1]>(flat, weight)
        y = Mul(z, around)
        """
    )
    assert left["Conv"] == 1
    assert left["Mul"] == 1


def test_zeros_go_through_what_the_flow_does_with_them():
    modified, left = fold(
        """
        z = Tanh(x)
        negative = Neg(zeros)
        scale = Exp(negative)
        scaled = Mul(z, scale)
        y = Tanh(scaled)
        """
    )
    assert modified
    assert left == {"Tanh": 2}


def test_a_pair_mask_is_folded_where_it_hides_nothing():
    modified, left = fold(
        """
        up = Transpose<perm = [0, 2, 1]>(x)
        scores = MatMul(up, x)
        row = Unsqueeze(mask, axis0)
        a = Unsqueeze(row, axis1)
        b = Unsqueeze(row, axis2)
        pair = Mul(a, b)
        hidden = Equal(pair, zero)
        low = Constant<value = float {-10000.0}>()
        kept = Where(hidden, low, scores)
        y = Softmax<axis = -1>(kept)
        """
    )
    assert modified
    assert left == {"Transpose": 1, "MatMul": 1, "Softmax": 1}


def test_an_output_that_would_become_an_input_stays():
    modified, left = fold("y = Mul(x, mask)")
    assert not modified
    assert left["Mul"] == 1


def test_the_output_keeps_its_name_when_its_node_goes():
    modified, left = fold("z = Tanh(x)  y = Mul(z, mask)")
    assert modified
    assert left == {"Tanh": 1}


def test_folding_twice_changes_nothing_more():
    model = ir.from_proto(model_of("z = Tanh(x)  w = Mul(z, mask)  y = Neg(w)"))
    lift_constants(model)
    shapes = probe(model, {"x": 2}, {"x": 1}, lengths=(SEEN,)).shapes
    assert fold_masks(model, shapes)
    assert not fold_masks(model, shapes)


OPERANDS = ("mask", "ones", "zeros", "one", "zero", "two", "short", "z", "batch", "row")
STEPS = st.tuples(
    st.sampled_from(("Mul", "Add", "Sub", "Div", "Max")), st.sampled_from(OPERANDS), st.booleans()
)


@settings(max_examples=15, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6))
def test_folding_never_changes_the_function(steps):
    body = """
        z = Tanh(x)
        last = Sub(n, int1)
        below = Less(ramp, last)
        short = Cast<to = 1>(below)
        three = Constant<value = int64[3] {3, 1, 1}>()
        batch = ConstantOfShape<value = float[1] {1.0}>(three)
        row = Unsqueeze(mask, axis0)
        v0 = Neg(z)
    """
    for k, (op_type, operand, swapped) in enumerate(steps):
        a, b = (operand, f"v{k}") if swapped else (f"v{k}", operand)
        body += f"v{k + 1} = {op_type}({a}, {b}) "
    fold(body + f"y = Identity(v{len(steps)})")
