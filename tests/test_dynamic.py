"""Encoders that multiply bytes: what is found, what rounding may do, and what it costs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.dynamic import find_products, quantize_products
from balacoon_tk.export.quantize.encoder_cost import measure_encoder
from balacoon_tk.runtime import session
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.encoder import Encoder
from tiny_voice import SYMBOLS, encoder_model

N, HIDDEN = 64, 128


def layer(*, halves: bool = True, width: int = 3, stride: int = 1, alone: bool = True) -> onnx.ModelProto:
    """Build a product and a feed-forward part, as the passes of an export leave them."""
    rng = np.random.default_rng(0)
    n_out, n_in, groups = (2 * N, HIDDEN // 2, 2) if halves else (N, HIDDEN, 1)
    half = width // 2
    shape = {"kernel_shape": [1, width], "pads": [0, half, 0, half], "strides": [1, stride]}
    tensors = {
        "matrix": rng.standard_normal((N, N)) / 8,
        "bias": rng.standard_normal(N),
        "first": rng.standard_normal((HIDDEN, N, 1, width)) / 14,
        "first_bias": rng.standard_normal(HIDDEN),
        "second": rng.standard_normal((n_out, n_in, 1, width)) / 20,
        "second_bias": rng.standard_normal(n_out),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["multiplied"], name="product"),
        helper.make_node("Add", ["bias", "multiplied"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["front"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["front", "first", "first_bias"], ["wide"], name="ffn", **shape),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("Conv", ["active", "second", "second_bias"], ["narrow"], group=groups, **shape),
        helper.make_node("Transpose", ["narrow"], ["back"], perm=[0, 2, 3, 1]),
    ]
    if halves:
        tensors["sizes"] = np.array([N, N])
        nodes += [
            helper.make_node("Split", ["back", "sizes"], ["a", "b"], axis=3),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["back"], ["y"]))
    outputs = ["y"] if alone else ["y", "wide"]
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs}
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "n", N])],
        list(info.values()),
        [
            numpy_helper.from_array(array.astype("i8" if name == "sizes" else "f4"), name)
            for name, array in tensors.items()
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("n_steps", [1, 2, 3, 17])
@pytest.mark.parametrize("changes", [{}, {"halves": False}, {"width": 1}, {"width": 5}], ids=str)
def test_products_of_bytes_are_off_by_a_few_steps_at_most_at_the_edges_too(changes, n_steps) -> None:
    model = layer(**changes)
    x = {"x": np.random.default_rng(n_steps).standard_normal((1, 1, n_steps, N)).astype("f4")}
    quantized = quantize_products(model)
    kinds = [node.op_type for node in quantized.graph.node]
    assert kinds.count("MatMulInteger") == 3 and not {"Conv", "MatMul", "Transpose", "Split"} & set(kinds)
    ours, theirs = (Session(each).run(x)["y"] for each in (quantized, model))
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 0.04 * np.abs(theirs).max()
    assert 0 < np.sqrt(np.mean((ours - theirs) ** 2)) < 0.015 * np.sqrt(np.mean(theirs**2))


@pytest.mark.parametrize("added", ["bias", "z", None])
def test_a_product_that_adds_something_itself_still_adds_it(added) -> None:
    made = layer()
    del made.graph.node[:]
    inputs = ["x", "matrix"] if added is None else ["x", "matrix", added]
    made.graph.node.append(helper.make_node("Gemm", inputs, ["y"], name="product"))
    for name, value in (("x", made.graph.input[0]), ("z", made.graph.input.add())):
        value.CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", N]))
    x, z = np.random.default_rng(1).standard_normal((2, 9, N)).astype("f4")
    z *= 20
    quantized = quantize_products(made)
    assert [node.op_type for node in quantized.graph.node].count("MatMulInteger") == 1
    ours, theirs = (Session(each).run({"x": x, "z": z})["y"] for each in (quantized, made))
    assert 0 < np.abs(ours - theirs).max() < 0.1


@pytest.mark.parametrize("changes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}, {"transB": 1}], ids=str)
def test_a_product_that_scales_or_turns_over_is_left(changes) -> None:
    made = layer()
    del made.graph.node[:]
    made.graph.node.append(helper.make_node("Gemm", ["x", "matrix", "bias"], ["y"], **changes))
    assert find_products(made) == ()


def test_a_product_of_short_sums_is_left() -> None:
    made = layer()
    del made.graph.node[:]
    made.graph.node.append(helper.make_node("MatMul", ["x", "short"], ["y"]))
    made.graph.initializer.append(numpy_helper.from_array(np.ones((N - 1, 2 * N), "f4"), "short"))
    assert find_products(made) == ()


def test_only_the_layers_that_are_named_multiply_bytes() -> None:
    model = layer()
    assert find_products(model) == ("product", "ffn")
    kinds = [node.op_type for node in quantize_products(model, ["product"]).graph.node]
    assert kinds.count("MatMulInteger") == 1 and kinds.count("Conv") == 2
    with pytest.raises(ParameterError, match="'conv_3' must be one of find_products"):
        quantize_products(model, ["product", "conv_3"])
    assert quantize_products(model).ByteSize() < 0.32 * model.ByteSize()


def test_convolutions_whose_inside_somebody_else_reads_or_that_skip_steps_are_left() -> None:
    assert find_products(layer(alone=False)) == ("product",)
    assert find_products(layer(stride=2)) == ("product",)
    with pytest.raises(ModelError, match="nothing to quantize"):
        quantize_products(encoder_model())


def test_an_encoder_is_measured_against_another_on_the_same_noise() -> None:
    plain, shifted = (
        Encoder(
            encoder_model(encoding_factor=factor), n_symbols=len(SYMBOLS), options=RuntimeOptions(n_threads=1)
        )
        for factor in (1.0, 1.1)
    )
    ids = [np.arange(1, 21), np.arange(5, 25), np.arange(3)]
    same = measure_encoder(plain, plain, ids, n_rounds=2)
    assert same.encodings_snr_db == np.inf and same.changed_durations == 0 == same.largest_change
    assert same.time_ratios.keys() == {20, 3} and all(ratio > 0 for ratio in same.time_ratios.values())
    assert measure_encoder(plain, shifted, ids, n_rounds=1).encodings_snr_db == pytest.approx(20.0, abs=0.1)
    longer = Encoder(
        encoder_model(duration_factor=1.5), n_symbols=len(SYMBOLS), options=RuntimeOptions(n_threads=1)
    )
    other = measure_encoder(plain, longer, ids, n_rounds=1)
    assert other.changed_durations > 0.5 and other.largest_change >= 1
    with pytest.raises(ParameterError, match="0 sentences"):
        measure_encoder(plain, plain, [])


@pytest.mark.parametrize(
    ("flags", "exact"),
    [("fma avx2 avx512_vnni", True), ("avx_vnni", True), ("amx_int8", True), ("avx2", False)],
)
def test_what_a_processor_says_of_sums_of_bytes_is_read(flags, exact, tmp_path, monkeypatch) -> None:
    (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n", encoding="ascii")
    monkeypatch.setattr(session, "Path", lambda name: tmp_path / "cpuinfo")
    assert session._sums_bytes_exactly.__wrapped__() is exact
    (tmp_path / "cpuinfo").unlink()
    assert session._sums_bytes_exactly.__wrapped__() is False
