"""Half precision: how far it is off, that streams stay exact, and what stays in single precision."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk import TTS, load_voice
from balacoon_tk.cli import main
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize import half_voice
from balacoon_tk.export.quantize.half_voice import SENSITIVE, halve_voice, to_half
from balacoon_tk.graph.half import halve_weights
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.graph.streaming.equivalence import verify_streaming
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.choice import NATIVE
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from balacoon_tk.voice.files import VoiceFiles


@pytest.fixture(scope="module")
def source(exported_vits_folder):
    return exported_vits_folder


@pytest.fixture(scope="module", params=["encoder", "decoder"])
def graph(request, source) -> onnx.ModelProto:
    return onnx.load(source / f"{request.param}.onnx")


def one_product(weight: np.ndarray) -> onnx.ModelProto:
    info = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 16]) for name in ("x", "y")]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")]
    made = helper.make_graph(nodes, "g", info[:1], info[1:], [numpy_helper.from_array(weight, "w")])
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def dtypes(model: onnx.ModelProto) -> dict[str, int]:
    known = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    tensors = {tensor.name: tensor.data_type for tensor in known.initializer}
    return tensors | {
        value.name: value.type.tensor_type.elem_type
        for value in (*known.value_info, *known.input, *known.output)
    }


def test_weights_are_rounded_by_half_a_step_at_most_and_those_out_of_reach_stay() -> None:
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype("f4")
    halved = halve_weights(one_product(weight))
    assert halved.ByteSize() < 0.75 * one_product(weight).ByteSize()
    seen = Session(halved).run({"x": np.eye(16, dtype="f4")})["y"]
    assert (np.abs(seen - weight) <= np.abs(weight) * 2.0**-11).all()
    assert not np.array_equal(seen, weight)
    for unreachable in (1e5, np.inf, np.nan):
        weight[3, 3] = unreachable
        with pytest.raises(ModelError, match="nothing to halve"):
            halve_weights(one_product(weight))
    with pytest.raises(ModelError, match="nothing to halve"):
        halve_weights(one_product(weight[:8, :8]))


def test_inputs_outputs_and_metadata_stay_as_they_are(graph) -> None:
    for made in (halve_weights(graph), to_half(graph)):
        onnx.checker.check_model(made, full_check=True)
        assert list(made.graph.input) == list(graph.graph.input)
        for ours, theirs in zip(made.graph.output, graph.graph.output, strict=True):
            assert (ours.name, ours.type.tensor_type.elem_type) == (
                theirs.name,
                theirs.type.tensor_type.elem_type,
            )
        assert list(made.metadata_props) == list(graph.metadata_props)


@pytest.mark.parametrize("halve", [halve_weights, to_half])
def test_a_halved_decoder_streams_exactly(source, halve) -> None:
    plain = halve(onnx.load(source / "decoder.onnx"))
    stateful = halve_weights(make_streaming(optimize_decoder(plain).model), exact=True)
    check = verify_streaming(plain, stateful, tolerance=1e-3)
    assert check.max_abs_diff <= (2e-5 if halve is halve_weights else 1e-3)


def test_what_computes_in_half_precision_is_not_what_is_sensitive_nor_what_makes_durations(source) -> None:
    made = to_half(onnx.load(source / "encoder.onnx"))
    kinds = dtypes(made)
    halved = {
        node.op_type
        for node in made.graph.node
        if any(kinds.get(name) == TensorProto.FLOAT16 for name in node.input)
    }
    assert {"MatMul", "Add"} <= halved
    assert not halved & (SENSITIVE - {"Cast"})
    producers = {name: node for node in made.graph.node for name in node.output}
    node = producers["durations"]
    for _ in range(5):  # back from the durations, into their predictor
        assert all(kinds.get(name) != TensorProto.FLOAT16 for name in node.input)
        node = producers[next(name for name in node.input if name in producers)]


def test_a_graph_that_computes_with_bytes_has_no_form_in_half_precision() -> None:
    model = one_product(np.ones((16, 16), "f4"))
    model.graph.node[0].domain = "com.microsoft"
    with pytest.raises(ModelError, match=r"com\.microsoft::MatMul has no form"):
        to_half(model)


def test_a_weight_out_of_reach_keeps_its_node_in_single_precision() -> None:
    weight = np.eye(16, dtype="f4") * 1e5
    seen = Session(to_half(one_product(weight))).run({"x": np.eye(16, dtype="f4")})["y"]
    np.testing.assert_array_equal(seen, weight)


@pytest.mark.parametrize("compute", [False, True])
def test_a_halved_voice_is_half_as_large_and_says_the_same(source, tmp_path, compute) -> None:
    made = halve_voice(source, tmp_path / "half", compute=compute)
    manifest = load_voice(made.path).manifest
    assert manifest.decoder.precision == "fp16"
    files = VoiceFiles(made.path)
    compiled = [files.model(info.decoder) for name, info in manifest.targets.items() if name != NATIVE]
    # The native engine computes in single precision alone, from the same halves of the weights.
    assert (manifest.not_native or "").startswith("Cast node") == compute
    if not compute:
        places = json.loads(files.member("decoder.native.json"))["arrays"].values()
        assert {place.get("stored") for place in places if np.prod(place["shape"]) >= 256} == {"float16"}
    for model in (files.model(manifest.decoder), files.model(manifest.encoder), *compiled):
        halves = {each.name for each in model.graph.initializer if each.data_type == TensorProto.FLOAT16}
        readers = {node.op_type for node in model.graph.node if halves & set(node.input)}
        assert halves and (readers != {"Cast"}) == compute
    assert manifest.verified["halved_snr_db"] == made.snr_db > 40
    assert made.changed_durations < 0.05
    ours, theirs = (TTS(path).synthesize("[[a bad cab]]", seed=1) for path in (made.path, source))
    assert abs(len(ours) - len(theirs)) <= 2 * manifest.hop_length
    with pytest.raises(ModelError, match="in fp16 already"):
        halve_voice(made.path, tmp_path / "again")
    with pytest.raises(ParameterError, match="exists"):
        halve_voice(source, made.path)


def test_a_voice_that_loses_more_than_rounding_explains_is_not_written(source, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(half_voice, "_LEAST_SNR_DB", 1000.0)
    with pytest.raises(ModelError, match=r"an SNR of .* dB must be >= 1000"):
        halve_voice(source, tmp_path / "half")
    assert not (tmp_path / "half").exists()


def test_the_command_halves_a_voice_and_says_what_it_lost(source, tmp_path, capsysbinary) -> None:
    arguments = ["quantize", str(source), "-o", str(tmp_path / "half"), "--precision", "fp16"]
    assert main([*arguments, "--json"]) == 0
    told = json.loads(capsysbinary.readouterr().out)
    assert told["path"] == str(tmp_path / "half") and told["size_ratio"] < 1 and told["snr_db"] > 30
    assert load_voice(tmp_path / "half").manifest.decoder.precision == "fp16"
    assert main([*arguments, "--overwrite"]) == 0
    assert b"dB SNR" in capsysbinary.readouterr().out
