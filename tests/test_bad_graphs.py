"""Graphs that can't be taken as they are: one sentence that names the file, the input and the axis."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export import export_voice, make_streaming
from balacoon_tk.runtime.session import Session
from balacoon_tk.voice import load_vocoder
from balacoon_tk.voice.inspection import inspect_graph
from streaming_laws import assert_streams
from tiny_graphs import TinyGraph

N = 4


def decoder(shape=(1, N, "n_frames"), before=lambda g, x: x, **options):
    g = TinyGraph(**options)
    x = before(g, g.input("frames", shape))
    return g.model(g.up(g.conv(x, N, N, 3, pads=[1, 1]), N, 1, 4, 2, pads=[1, 1]))


def write(folder, model, **said):
    path = folder / "tiny.onnx"
    onnx.save(model, path)
    path.with_name("tiny.onnx.json").write_text(json.dumps({"sample_rate": 1000, "n_channels": N, **said}))
    return path


def without_shape():
    model = decoder()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    return model


def frozen(g, x):
    """Reshape to the length of an example, as tracing leaves it."""
    return g.op("Reshape", x, g.const([1, N, 50]))


# What it is, what streaming says of it, and what its export says, the file's name before it.
BAD = {
    "a fixed length": (
        lambda: decoder((1, N, 50)),
        r"no input has a time axis: 'frames' of shape \[1, 4, 50\]: every axis has a fixed length",
        r"input 'frames' of shape \[1, 4, 50\] has no dynamic axis for time: .* axes 1 and 2",
    ),
    "a fixed length of any batch": (
        lambda: decoder(("batch", N, 50)),
        r"'frames' of shape \[batch, 4, 50\]: every axis has a fixed length \(or is the batch\)",
        r"input 'frames' of shape \['batch', 4, 50\] has no dynamic axis for time",
    ),
    "a fixed length of a batch that isn't called so": (
        lambda: decoder(("N", N, 50)),
        r"no input has a time axis: 'frames' of shape \[N, 4, 50\]: .* \(or is the batch\)",
        r"input 'frames' of shape \['N', 4, 50\] has no dynamic axis for time",
    ),
    "a length that was frozen within": (
        lambda: decoder(before=frozen),
        r"runs at none of the lengths tried on axis 2 of 'frames': if its export froze a length",
        r"input 'frames' of .* fails on 32 frames along axis 2; if its export froze a length",
    ),
    "no shape": (
        without_shape,
        "input 'frames' has no declared shape",
        r"input 'frames' of float32, shape \[\] must be of float32 \(codes: int64\), rank 3",
    ),
    "float64": (
        lambda: decoder(dtype=np.float64),
        "input 'frames' is float64, for which ONNX Runtime lacks kernels: export the graph in float32",
        "can't load it",
    ),
    "an opset that is too old": (
        lambda: decoder(opset=9),
        "the graph is of opset 9: 10 or newer is needed",
        "the graph is of opset 9: 10 or newer is needed",
    ),
    "an opset that nobody knows": (
        lambda: decoder(opset=onnx.defs.onnx_opset_version() + 1),
        r"the graph is of opset \d+: \d+ is the newest that is known here",
        r"the graph is of opset \d+: \d+ is the newest that is known here",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_graph_that_can_not_be_taken_says_why(name, tmp_path):
    build, streamed, exported = BAD[name]
    model = build()
    with pytest.raises(ModelError, match=streamed):
        make_streaming(model)
    with pytest.raises(ModelError, match=rf"tiny\.onnx: .*{exported}"):
        export_voice(write(tmp_path, model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_another_batch_streams_and_is_no_voice(tmp_path):
    model = decoder((2, N, "n_frames"))
    assert_streams(model)
    with pytest.raises(
        ModelError, match=r"tiny\.onnx: input 'frames' of shape \[2, 4, 'n_frames'\] has 2 on axis 0"
    ):
        export_voice(write(tmp_path, model), tmp_path / "out")


def test_half_precision_streams_and_is_no_voice(tmp_path):
    model = decoder(dtype=np.float16)
    assert make_streaming(model).graph.node
    with pytest.raises(ModelError, match=r"tiny\.onnx: input 'frames' of float16, .* must be of float32"):
        export_voice(write(tmp_path, model), tmp_path / "out")


def test_inspect_says_the_same_of_what_it_can_load_and_what_it_can_not(tmp_path):
    path = write(tmp_path, decoder((1, N, 50)))
    assert "'frames' of shape [1, 4, 50]" in (inspect_graph(path).no_field or "")
    path = write(tmp_path, decoder(opset=onnx.defs.onnx_opset_version() + 1))
    with pytest.raises(ModelError, match=r"tiny\.onnx: the graph is of opset \d+: \d+ is the newest"):
        inspect_graph(path)


@pytest.mark.parametrize("opset", [10, 11, 21, 24])
def test_opsets_between_are_taken(opset):
    assert_streams(decoder(opset=opset))


def test_a_branch_that_shapes_decide_is_followed():
    def branch(g, x):
        is_mono = g.op("Equal", g.length(x, axis=1), g.const([N]))
        value = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
        bodies = {
            key: helper.make_graph([helper.make_node(op_type, [x], ["given"])], key, [], [value])
            for key, op_type in (("then_branch", "Tanh"), ("else_branch", "Neg"))
        }
        return g.op("If", is_mono, **bodies)

    assert_streams(decoder(before=branch))


def test_weights_beside_the_graph_are_read_and_missed(tmp_path):
    path = write(tmp_path, decoder())
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    assert load_vocoder(export_voice(path, tmp_path / "out"), n_threads=1).manifest.n_channels == N
    info = inspect_graph(path)
    assert info.would_stream is not None
    assert info.would_stream.spec is not None
    with pytest.raises(ModelError, match=r"lies in 'weights\.bin' .* load the graph with onnx\.load\(path\)"):
        make_streaming(onnx.load(path, load_external_data=False))
    (tmp_path / "weights.bin").unlink()
    for take in (inspect_graph, lambda path: export_voice(path, tmp_path / "other")):
        with pytest.raises(ModelError, match=r"tiny\.onnx: .*weights\.bin"):
            take(path)


# --- codecs in ONNX


def codec(n_codes=7):
    g = TinyGraph()
    codes = g.input("codes", [1, 2, "n_frames"], np.int64)
    halves = g.split(codes, 1, 1)
    x = g.op("Add", *(g.op("Gather", g.weight(n_codes, N), g.squeeze(half, 1)) for half in halves))
    return g.model(g.up(g.transpose(x, 0, 2, 1), N, 1, 4, 2, pads=[1, 1]))


def test_a_codec_in_onnx_is_a_voice_whose_frames_are_codes(tmp_path):
    path = write(tmp_path, codec(), n_channels=2, codebook_size=7)
    voice = load_vocoder(export_voice(path, tmp_path / "out"), n_threads=1)
    assert (voice.manifest.codebook_size, voice.manifest.hop_length) == (7, 2)
    codes = np.random.default_rng(0).integers(0, 7, (2, 40))
    samples = np.concatenate([chunk.samples for chunk in voice.decode(codes, chunk_frames=6)])
    expected = Session(path).run({"codes": codes[None]})
    np.testing.assert_allclose(samples, next(iter(expected.values())).reshape(-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("model", "said"), [(codec(), {"n_channels": 2}), (decoder(), {"codebook_size": 7})])
def test_codes_and_the_size_of_a_codebook_go_together(tmp_path, model, said):
    with pytest.raises(ModelError, match="codes are int64 and need one, frames are float32"):
        export_voice(write(tmp_path, model, **said), tmp_path / "out")
