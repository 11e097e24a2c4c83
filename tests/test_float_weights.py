"""Voices whose weights were made smaller before: halves, and the forms of ONNX Runtime's quantizer."""

from __future__ import annotations

import shutil

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    quantize_dynamic,
    quantize_static,
)
from onnxruntime.transformers.float16 import convert_float_to_float16

from balacoon_tk import TTS
from balacoon_tk.errors import ModelError
from balacoon_tk.export import export_voice
from balacoon_tk.export.sources import SourceWarning
from balacoon_tk.export.sources.float_weights import to_float_weights
from balacoon_tk.export.sources.piper_onnx import PiperOnnx
from balacoon_tk.export.verify import verify_split
from tiny_vits import write_tiny_vits


class Utterances(CalibrationDataReader):
    """A few utterances to find ranges by."""

    def __init__(self):
        self.sizes = iter((8, 13))

    def get_next(self):
        size = next(self.sizes, None)
        if size is None:
            return None
        scales = np.array([0.5, 1.0, 0.5], np.float32)
        ids = np.arange(size, dtype=np.int64)[None] % 12
        return {"input": ids, "input_lengths": np.array([size]), "scales": scales}


def half(source, target, *, keep_io_types):
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=keep_io_types), target)


def stored_in_half(source, target):
    """Weights in float16, each behind a Cast."""
    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array, name = numpy_helper.to_array(tensor), tensor.name
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), f"{name}.half"))
            casts.append(helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    onnx.save(model, target)


def static(source, target, **options):
    quantize_static(source, target, Utterances(), quant_format=QuantFormat.QDQ, **options)


FORMS = {
    "half": (half, {"keep_io_types": False}, 0.01),
    "half inside": (half, {"keep_io_types": True}, 0.01),
    "stored in half": (stored_in_half, {}, 0.01),
    "dynamic": (quantize_dynamic, {}, 0.1),
    "static": (static, {"per_channel": True}, 0.1),
}


def silent(stage, share):
    """Report to nobody."""


def read(path):
    return PiperOnnx().read(path, config=None, progress=silent)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_tiny_vits(tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def smaller(source, tmp_path_factory):
    """Give the path of a form of the tiny voice, made once."""
    folder = tmp_path_factory.mktemp("smaller")

    def make(form):
        convert, options, _ = FORMS[form]
        path = folder / f"{form}.onnx"
        if not path.exists():
            convert(source, path, **options)
            shutil.copy(source.with_name("tiny.onnx.json"), folder / f"{form}.onnx.json")
        return path

    return make


def encode(voice):
    session = onnxruntime.InferenceSession(voice.encoder.SerializeToString())
    feeds = {
        "phoneme_ids": np.arange(1, 12, dtype=np.int64)[None],
        "length_scale": np.ones(1, np.float32),
        "duration_noise": np.zeros((1, 2, 11), np.float32),
    }
    return session.run(["encodings", "log_scales"], feeds)


@pytest.mark.filterwarnings("ignore::balacoon_tk.export.sources.SourceWarning")
@pytest.mark.parametrize("form", FORMS)
def test_it_is_the_voice_in_float32_but_for_what_was_rounded(source, smaller, form):
    whole, voice = read(source), read(smaller(form))
    for model in (voice.encoder, voice.decoder):
        assert {t.data_type for t in model.graph.initializer} <= {
            TensorProto.FLOAT,
            TensorProto.INT64,
            TensorProto.BOOL,
        }
        assert not [
            node.op_type for node in model.graph.node if "Linear" in node.op_type or "Integer" in node.op_type
        ]
    # The decoder has the same nodes, none of them to scale or round by.
    assert sorted(n.op_type for n in voice.decoder.graph.node) == sorted(
        n.op_type for n in whole.decoder.graph.node
    )
    for ours, theirs in zip(encode(voice), encode(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=FORMS[form][2])
    assert voice.facts.provenance["weights"].endswith("in float32 here")
    assert "weights" not in whole.facts.provenance


def test_it_is_compared_with_itself_in_float32(smaller):
    """Its own runtime would round where the voice doesn't, and ask for the scales in half precision."""
    assert 0 < verify_split(read(smaller("half")))["samples_with_noise"] < 1e-4


def test_it_is_exported_and_streams_exactly(smaller, tmp_path):
    with pytest.warns(
        SourceWarning, match="dynamic.onnx: is quantized; the voice has its weights in float32"
    ):
        folder = export_voice(smaller("dynamic"), tmp_path / "out", sandbox=False)
    tts = TTS(folder, n_threads=1)
    assert tts.strategies[-1] == "stateful"
    whole = tts.synthesize("[[abcd dcba]]", seed=1)
    chunks = [chunk.pcm16 for chunk in tts.stream("[[abcd dcba]]", seed=1, chunk_frames=3)]
    assert len(chunks) > 1
    np.testing.assert_allclose(np.concatenate(chunks), whole, atol=1)


def test_a_form_that_is_not_read_is_named_with_what_to_do(source, tmp_path):
    model = onnx.load(source)
    convolution = next(node for node in model.graph.node if node.op_type == "Conv")
    convolution.op_type = "QLinearConv"
    path = tmp_path / "other.onnx"
    path.write_bytes(model.SerializeToString())
    shutil.copy(source.with_name("tiny.onnx.json"), tmp_path / "other.onnx.json")
    with pytest.raises(
        ModelError, match=r"QLinearConv node .* in a form that isn't read .*: export the model that was"
    ):
        read(path)


def test_weights_may_be_scaled_block_by_block():
    """As opset 21 has it, which no exporter of voices writes yet."""
    integers, scales = np.arange(12, dtype=np.int8).reshape(2, 6), np.array([[1, 2], [3, 4]], np.float32)
    graph = helper.make_graph(
        [helper.make_node("DequantizeLinear", ["w", "s", "z"], ["y"], axis=1, block_size=4)],
        "blocks",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 6])],
        [
            numpy_helper.from_array(integers, "w"),
            numpy_helper.from_array(scales, "s"),
            numpy_helper.from_array(np.full((2, 2), 5, np.int8), "z"),
        ],
    )
    graph.node.append(helper.make_node("Neg", ["y"], ["n"]))
    graph.output[0].name = "n"
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (expected,) = onnxruntime.InferenceSession(proto.SerializeToString()).run(None, {})
    model = ir.from_proto(proto)
    assert to_float_weights(model) == "integers"
    assert [node.op_type for node in model.graph] == ["Neg"]
    np.testing.assert_array_equal(-model.graph[0].inputs[0].const_value.numpy(), expected)
