"""Graphs that can't be taken as they are: one sentence that names the file, the input and the axis."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError, export_voice, make_streaming
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
    with pytest.raises(ModelError, match=rf"tiny\.onnx: (?!<model>).*{exported}"):
        export_voice(write(tmp_path, model), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [b"Tanh_0", b"Tanh", b"frames"])
def test_a_name_that_is_no_text_is_damage(name, tmp_path):
    g = TinyGraph()
    path = write(tmp_path, g.model(g.op("Tanh", g.frames(N))))
    path.write_bytes(path.read_bytes().replace(name, b"\xff" + name[1:]))
    with pytest.raises(ModelError, match=r"the graph is damaged: a name of node .* is not UTF-8"):
        make_streaming(onnx.load(path))
    with pytest.raises(ModelError, match=r"tiny\.onnx: the graph is damaged: a name of node"):
        export_voice(path, tmp_path / "out")


@pytest.mark.parametrize("of", ["a branch", "a function"])
def test_a_name_within_a_node_that_is_no_text_is_damage_too(of):
    g = TinyGraph()
    node = helper.make_node("Tanh", ["frames"], ["within"])
    if of == "a branch":
        value = helper.make_tensor_value_info("within", TensorProto.FLOAT, None)
        bodies = {key: helper.make_graph([node], key, [], [value]) for key in ("then_branch", "else_branch")}
        x = g.op("If", g.op("Equal", g.length(g.frames(N), axis=1), g.const([N])), **bodies)
    else:
        g.domains["tiny"] = 1
        opsets = [helper.make_opsetid("", 17)]
        g.functions = [helper.make_function("tiny", "Act", ["frames"], ["within"], [node], opsets)]
        x = g.op("Act", g.frames(N), domain="tiny")
    data = g.model(x).SerializeToString().replace(b"within", b"\xffithin")
    with pytest.raises(ModelError, match=r"the graph is damaged: a name of node .* is not UTF-8"):
        make_streaming(onnx.load_from_string(data))


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


def written_in_half(opset=17):
    g = TinyGraph(opset=opset)
    x = g.op("Cast", g.frames(N), to=TensorProto.FLOAT16)
    weight = np.random.default_rng(0).standard_normal((N, N, 3)) / 3
    x = g.op("Conv", x, g.const(weight, np.float16), pads=[1, 1])
    return g.model(g.up(g.op("Cast", x, to=TensorProto.FLOAT), N, 1, 4, 2, pads=[1, 1]))


def of_two_opsets():
    g = TinyGraph(opset=17)
    g.domains["tiny"] = 1
    body = [helper.make_node("Tanh", ["x"], ["y"])]
    g.functions = [helper.make_function("tiny", "Act", ["x"], ["y"], body, [helper.make_opsetid("", 18)])]
    return g.model(g.up(g.op("Act", g.frames(N), domain="tiny"), N, 1, 4, 2, pads=[1, 1]))


def with_lengths():
    g = TinyGraph()
    x, lengths = g.frames(N), g.input("lengths", [1], np.int64)
    steps = g.op("Range", g.const(0), g.squeeze(g.length(x), 0), g.const(1))
    seen = g.op("Cast", g.op("Less", steps, lengths), to=TensorProto.FLOAT)
    return g.model(g.up(g.op("Mul", x, seen), N, 1, 4, 2, pads=[1, 1]))


def of_sounds(dtype=np.float32, n_sounds=1, rank=3):
    g = TinyGraph()
    y = g.up(g.frames(N), N, n_sounds, 4, 2, pads=[1, 1])
    y = y if rank == 3 else g.squeeze(y, 0)
    return g.model(y if dtype is np.float32 else g.op("Cast", y, to=TensorProto.FLOAT16))


def codes_of(shape, dtype):
    g = TinyGraph()
    x = g.op("Gather", g.weight(7, N), g.input("codes", shape, dtype))
    x = g.op("ReduceSum", x, g.const([1]), keepdims=0) if len(shape) == 3 else x
    x = x if len(shape) > 1 else g.unsqueeze(x, 0)
    return g.model(g.up(g.transpose(x, 0, 2, 1), N, 1, 4, 2, pads=[1, 1]))


# What is no voice, and says so with file, input and what is asked for.
NO_VOICES = {
    "float16 within": (written_in_half, r"tiny: Conv node 'Conv_1' computes in float16, .* in float32"),
    "a function of another opset": (of_two_opsets, r"tiny\.onnx: a function .* can't be written out: Opset"),
    "lengths beside frames": (with_lengths, r"tiny\.onnx: a vocoder has one input, .* frames, lengths"),
    "stereo": (
        lambda: of_sounds(n_sounds=2),
        r"tiny\.onnx: input 'frames' of .*: output .* of shape \(1, 2, 64",
    ),
    "stereo without a batch": (
        lambda: of_sounds(n_sounds=2, rank=2),
        r"output .* \(2, 64\), float32 must be one",
    ),
    "samples in float16": (
        lambda: of_sounds(np.float16),
        r"\(1, 1, 64\), float16 must be one channel, float32",
    ),
    "codes of int32": (lambda: codes_of([1, 2, "n"], np.int32), r"input 'codes' of int32, .*codes: int64"),
    "codes without a batch": (
        lambda: codes_of(["n"], np.int64),
        r"input 'codes' of int64, shape \['n'\] must",
    ),
}


@pytest.mark.parametrize("name", NO_VOICES)
def test_what_is_no_voice_names_file_and_tensor(name, tmp_path):
    build, message = NO_VOICES[name]
    is_codes = name.startswith("codes")
    said = {"n_channels": 2, "codebook_size": 7} if is_codes else {}
    with pytest.raises(ModelError, match=message) as caught:
        export_voice(write(tmp_path, build(), **said), tmp_path / "out")
    assert "tiny" in str(caught.value)
    assert "froze" not in str(caught.value)


def test_a_sequence_of_tensors_is_refused_and_decoded_whole(tmp_path):
    def parted(g, x):
        return g.op("ConcatFromSequence", g.op("SplitToSequence", x, g.const(2), axis=1), axis=1)

    model = decoder(before=parted)
    with pytest.raises(NotStreamableError, match=r"SplitToSequence node .* no rule says what this operator"):
        make_streaming(model)
    voice = load_vocoder(export_voice(write(tmp_path, model), tmp_path / "out"), n_threads=1)
    assert voice.strategies == ("full", "overlap")


@pytest.mark.parametrize("by_length", [True, False])
def test_a_branch_that_shapes_do_not_decide_is_refused(by_length):
    def branch(g, x):
        flag = g.squeeze(g.length(x), 0) if by_length else g.input("flag", [], np.int64)
        value = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
        bodies = {
            key: helper.make_graph([helper.make_node(op_type, [x], ["given"])], key, [], [value])
            for key, op_type in (("then_branch", "Tanh"), ("else_branch", "Neg"))
        }
        return g.op("If", g.op("Greater", flag, g.const(20)), **bodies)

    with pytest.raises(NotStreamableError, match=r"If node .* shapes alone don't say which is taken"):
        make_streaming(decoder(before=branch))


def test_functions_within_functions_and_in_branches_are_written_out(tmp_path):
    g = TinyGraph()
    g.domains["tiny"] = 1
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("tiny", 1)]
    leak = helper.make_node("LeakyRelu", ["x"], ["y"])
    leak.attribute.add(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
    call = helper.make_node("Leak", ["x"], ["y"], domain="tiny", slope=0.3)
    g.functions = [
        helper.make_function("tiny", "Leak", ["x"], ["y"], [leak], opsets, attributes=["slope"]),
        helper.make_function("tiny", "Act", ["x"], ["y"], [call], opsets),
    ]
    x = g.op("Act", g.frames(N), domain="tiny")
    value = helper.make_tensor_value_info("given", TensorProto.FLOAT, None)
    node = helper.make_node("Act", [x], ["given"], domain="tiny")
    bodies = {key: helper.make_graph([node], key, [], [value]) for key in ("then_branch", "else_branch")}
    x = g.op("If", g.op("Equal", g.length(x, axis=1), g.const([N])), **bodies)
    model = g.model(g.up(x, N, 1, 4, 2, pads=[1, 1]))
    assert_streams(model)
    folder = export_voice(write(tmp_path, model), tmp_path / "out")
    assert not onnx.load(folder / "decoder.onnx", load_external_data=False).functions


def test_inspect_says_the_same_of_what_it_can_load_and_what_it_can_not(tmp_path):
    path = write(tmp_path, decoder((1, N, 50)))
    assert "'frames' of shape [1, 4, 50]" in (inspect_graph(path).no_field or "")
    path = write(tmp_path, decoder(opset=onnx.defs.onnx_opset_version() + 1))
    with pytest.raises(ModelError, match=r"tiny\.onnx: the graph is of opset \d+: \d+ is the newest"):
        inspect_graph(path)


@pytest.mark.parametrize("opset", [10, 11, 14, 18, 21, 23, 24])
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


def test_a_graph_that_is_no_graph_is_said_to_be_damaged():
    model = decoder()
    model.graph.initializer[0].data_type = 99
    with pytest.raises(ModelError, match="the graph is damaged"):
        make_streaming(model)
