"""Encoders in int8: what is found, what rounding may do, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import tiny_vits
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.judging import measure_encoder
from balacoon_tk.export.quantize.mixtures import quantize_encoder
from balacoon_tk.export.sources import find_source
from balacoon_tk.graph.edit import Names
from balacoon_tk.graph.int8 import read_qdq, write_weights
from balacoon_tk.runtime import session
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.ort_cpu.int8.products import multiply_int8
from balacoon_tk.targets.ort_cpu.optimize import optimize_encoder
from balacoon_tk.targets.ort_cpu.passes.split_sums import SplitSumsPass
from tiny_voice import SYMBOLS, encoder_model

N, HIDDEN = 64, 128


def layer(*, width: int = 3, stride: int = 1, alone: bool = True) -> onnx.ModelProto:
    """Build a product and a feed-forward part, as the passes leave them."""
    rng = np.random.default_rng(0)
    half = width // 2
    shape = {"kernel_shape": [1, width], "pads": [0, half, 0, half], "strides": [1, stride]}
    tensors = {
        "matrix": rng.standard_normal((N, N)) / 8,
        "bias": rng.standard_normal(N),
        "first": rng.standard_normal((HIDDEN, N, 1, width)) / 14,
        "first_bias": rng.standard_normal(HIDDEN),
        "second": rng.standard_normal((N, HIDDEN, 1, width)) / 20,
        "second_bias": rng.standard_normal(N),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "matrix"], ["multiplied"], name="product"),
        helper.make_node("Add", ["bias", "multiplied"], ["rows"]),
        helper.make_node("Transpose", ["rows"], ["front"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["front", "first", "first_bias"], ["wide"], name="ffn", **shape),
        helper.make_node("Relu", ["wide"], ["active"]),
        helper.make_node("Conv", ["active", "second", "second_bias"], ["narrow"], name="second", **shape),
        helper.make_node("Transpose", ["narrow"], ["back"], perm=[0, 2, 3, 1]),
        helper.make_node("Identity", ["back"], ["y"]),
    ]
    outputs = ["y"] if alone else ["y", "wide"]
    info = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs}
    made = helper.make_graph(
        nodes,
        "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, "n", N])],
        list(info.values()),
        [numpy_helper.from_array(array.astype("f4"), name) for name, array in tensors.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def multiplied(model: onnx.ModelProto, layers: Collection[str]) -> onnx.ModelProto:
    """Return what is compiled of a graph some of whose weights are rounded."""
    graph = ir.from_proto(model)
    write_weights(graph.graph, Names(graph.graph), [node for node in graph.graph if node.name in layers])
    read_qdq(graph)
    multiply_int8(graph)
    return ir.to_proto(graph)


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


ALL = ("product", "ffn", "second")


@pytest.mark.parametrize("n_steps", [1, 2, 3, 17])
@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("changes", [{}, {"width": 1}, {"width": 5}], ids=str)
def test_products_in_int8_are_off_by_a_few_steps_at_most_at_the_edges_too(changes, halves, n_steps) -> None:
    model = layer(**changes)
    x = {"x": np.random.default_rng(n_steps).standard_normal((1, 1, n_steps, N)).astype("f4")}
    in_pairs = quantize_encoder(model)
    graph = ir.from_proto(in_pairs)
    read_qdq(graph)
    if halves:
        assert SplitSumsPass()(graph).modified
    assert multiply_int8(graph)
    compiled = ir.to_proto(graph)
    kinds = count(compiled)
    assert kinds["MatMulInteger"] == 3 and not {"Conv", "MatMul", "Transpose", "Split"} & set(kinds)
    ours, plainly, theirs = (Session(each).run(x)["y"] for each in (compiled, in_pairs, model))
    assert ours.shape == theirs.shape
    for off in (ours - theirs, plainly - theirs):
        assert np.abs(off).max() < 0.04 * np.abs(theirs).max()
        assert 0 < np.sqrt(np.mean(off**2)) < 0.015 * np.sqrt(np.mean(theirs**2))
    # What was between two steps may have gone to the other one, here and there.
    assert np.abs(ours - plainly).mean() < 1e-3 * np.abs(theirs).max()


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
    quantized = multiplied(made, ALL)
    assert count(quantized)["MatMulInteger"] == 1
    ours, theirs = (Session(each).run({"x": x, "z": z})["y"] for each in (quantized, made))
    assert 0 < np.abs(ours - theirs).max() < 0.1


def assert_left(made: onnx.ModelProto) -> None:
    """See that it neither becomes int8 nor would if it were rounded."""
    with pytest.raises(ModelError, match="nothing to quantize"):
        quantize_encoder(made)
    assert count(multiplied(made, ALL))["MatMulInteger"] == 0


@pytest.mark.parametrize("changes", [{"alpha": 2.0}, {"beta": 0.5}, {"transA": 1}, {"transB": 1}], ids=str)
def test_a_product_that_scales_or_turns_over_is_left(changes) -> None:
    made = layer()
    del made.graph.node[:]
    made.graph.node.append(
        helper.make_node("Gemm", ["x", "matrix", "bias"], ["y"], name="product", **changes)
    )
    assert_left(made)


def test_a_product_of_short_sums_is_left() -> None:
    made = layer()
    del made.graph.node[:]
    made.graph.node.append(helper.make_node("MatMul", ["x", "short"], ["y"], name="product"))
    made.graph.initializer.append(numpy_helper.from_array(np.ones((N - 1, 2 * N), "f4"), "short"))
    assert_left(made)


@pytest.mark.parametrize(
    ("layers", "n_products"), [(("product",), 1), (("product", "ffn"), 1), (("ffn", "second"), 2), ((), 0)]
)
def test_only_what_the_plain_graph_rounds_multiplies_int8(layers, n_products) -> None:
    """Both convolutions of a feed-forward part, or neither."""
    kinds = count(multiplied(layer(), layers))
    assert kinds["MatMulInteger"] == n_products
    assert kinds["Conv"] == (0 if "second" in layers else 2)


def test_no_weight_stays_in_floating_point() -> None:
    model = layer()
    assert quantize_encoder(model).ByteSize() < 0.32 * model.ByteSize()


def test_convolutions_whose_inside_somebody_else_reads_or_that_skip_steps_are_left() -> None:
    for made in (layer(alone=False), layer(stride=2)):
        kinds = count(multiplied(made, ALL))
        assert kinds["MatMulInteger"] == 1 and kinds["Conv"] == 2
    with pytest.raises(ModelError, match="nothing to quantize"):
        quantize_encoder(encoder_model())


def test_an_encoder_in_int8_is_compiled_to_what_its_plain_graph_says(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tiny_vits, "N_HIDDEN", N)
    source = tiny_vits.write_tiny_vits(tmp_path, tiny_vits.TinyVits(seed=N))
    model = find_source(source).read(source, config=None, progress=lambda stage, share: None).encoder
    in_pairs = quantize_encoder(model)
    assert {node.domain for node in in_pairs.graph.node} == {""}
    assert in_pairs.ByteSize() < 0.6 * model.ByteSize()
    compiled = optimize_encoder(in_pairs, phoneme_ids=range(3, 11))
    assert compiled.passes[-1] == "int8"
    assert count(compiled.model)["MatMulInteger"] >= 4  # of the attention
    rng = np.random.default_rng(0)
    for length in (1, 5, 40):
        feeds = {
            "phoneme_ids": rng.integers(3, 11, (1, length)),
            "length_scale": np.ones(1, "f4"),
            "duration_noise": rng.standard_normal((1, 2, length)).astype("f4"),
        }
        exact, plainly, ours = (Session(each).run(feeds) for each in (model, in_pairs, compiled.model))
        power = np.square(exact["encodings"]).mean()
        assert 0 < np.square(plainly["encodings"] - exact["encodings"]).mean() < 1e-2 * power
        assert np.square(ours["encodings"] - plainly["encodings"]).mean() < 1e-4 * power
        assert np.abs(ours["durations"] - plainly["durations"]).max() <= 1


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
