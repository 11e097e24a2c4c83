"""Voices that want more than to speak: each is refused before it is run, by name, and at little cost."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import socket
import struct
import threading
import tracemalloc
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk import TTS, load_voice
from balacoon_tk.cli import main
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.session import Session
from balacoon_tk.runtime.stateful_graph import StreamingSpec
from balacoon_tk.voice import load_vocoder, read_manifest
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.guard.graphs import ExternalFile, check_graph
from balacoon_tk.voice.guard.onnx_reader import read_model
from balacoon_tk.voice.guard.operators import STANDARD
from balacoon_tk.voice.guard.recurrences import guard_recurrences
from tiny_graphs import TinyGraph
from tiny_voice import build_tiny_voice, decoder_model, encoder_model, pack_addon, write_voice
from voice_damage import damaged_voice, flip_bits, rehash

# What a refusal may take: a hundredth of what the voices here unpack to or wait for.
MOST_BYTES = 16 << 20


@pytest.fixture
def folder(tmp_path, tiny_voice_folder):
    return shutil.copytree(tiny_voice_folder, tmp_path / "voice")


def refuses(path, message, **settings):
    """Check that a voice is refused with a message, and that little is allocated for it."""
    tracemalloc.start()
    try:
        with pytest.raises(VoiceError, match=message):
            load_voice(path, **settings)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["voice.json", "encoder.onnx", "decoder.onnx"])
def test_a_pipe_is_not_waited_for(folder, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    refuses(folder, rf"{re.escape(name)} can't be read: it is a pipe, and must be a regular file")


def test_an_addon_that_is_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "voice.addon")
    refuses(tmp_path / "voice.addon", "it is a pipe")


def test_devices_sockets_and_folders_are_no_files_of_a_voice(tmp_path, folder):
    (folder / "decoder.onnx").unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "decoder.onnx"))
        refuses(folder, r"decoder\.onnx can't be read: it is a socket")
    refuses(tmp_path.__class__("/dev/zero"), "it is a device")


@pytest.mark.parametrize("name", ["voice.json", "encoder.onnx"])
def test_a_link_leads_nowhere_out_of_the_folder(tmp_path, folder, name):
    shutil.move(folder / name, tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refuses(folder, rf"{re.escape(name)} is a link that leads out of the voice's folder")
    (folder / name).unlink()
    (folder / name).symlink_to(name)
    refuses(folder, re.escape(name))


def test_links_within_a_folder_and_to_it_are_followed(tmp_path, folder):
    (folder / "encoder.onnx").rename(folder / "other.onnx")
    (folder / "encoder.onnx").symlink_to("other.onnx")
    (tmp_path / "link").symlink_to(folder)
    assert load_voice(tmp_path / "link").path == tmp_path / "link"


def test_a_manifest_that_is_too_large_is_not_read(folder):
    with (folder / "voice.json").open("r+b") as file:
        file.truncate(1 << 40)  # takes no room on the disk
    refuses(folder, r"voice\.json has 1099511627776 bytes: must be <= 4194304")


@pytest.mark.parametrize("name", ["voice.json", "encoder.onnx"])
def test_what_unpacks_to_gigabytes_is_refused_by_what_it_says(tmp_path, folder, name):
    addon = pack_addon(folder, tmp_path / "a.addon")
    zeros = zipfile.ZipFile(tmp_path / "b.addon", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(addon) as whole, zeros:
        for entry in whole.infolist():
            if entry.filename != name:
                zeros.writestr(entry, whole.read(entry))
        with zeros.open(name, "w") as file:
            for _ in range(80):
                file.write(bytes(1 << 20))
    refuses(tmp_path / "b.addon", r"the archive of \d+ bytes says that it unpacks to \d+: must be <= \d+")


def test_what_unpacks_to_more_than_it_says_is_cut_there(tmp_path, folder):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("voice.json", bytes(128 << 20))
    data = bytearray(packed.getvalue())
    for signature, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        struct.pack_into("<I", data, data.index(signature) + place, 1000)
    (tmp_path / "a.addon").write_bytes(data)
    refuses(tmp_path / "a.addon", r"voice\.json is damaged: Bad CRC-32")


def entries(path, names, **settings):
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name in names:
            archive.writestr(name, b"{}")
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_directories_of_archives_are_bounded(tmp_path):
    refuses(
        entries(tmp_path / "a.addon", map(str, range(1001))), "the archive has 1001 entries: must be <= 1000"
    )
    refuses(entries(tmp_path / "b.addon", ["voice.json"] * 2), "the archive has two entries of one name")
    many = entries(tmp_path / "c.addon", (f"{k:0250d}" for k in range(4000)))
    refuses(many, r"the archive has a directory of \d+ bytes: must be <= 1048576")
    lzma = entries(tmp_path / "d.addon", ["voice.json"], compression=zipfile.ZIP_LZMA)
    refuses(lzma, r"voice\.json is packed by method 14: must be stored or deflated")


def test_an_addon_may_be_packed(tmp_path, folder, tiny_voice):
    with zipfile.ZipFile(tmp_path / "a.addon", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, file.name)
    assert load_voice(tmp_path / "a.addon").manifest == tiny_voice.manifest


def test_no_name_of_a_voice_leads_out_of_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BALACOON_TK_CACHE", str(tmp_path / "cache"))
    changes = {"name": "../../../out", "targets": {}}
    voice = load_voice(write_voice(tmp_path / "voice", encoder_model(), decoder_model(), changes=changes))
    assert voice.speakers == ("../../../out",)
    assert {path.name for path in tmp_path.iterdir()} == {"voice", "cache"}
    assert not list(tmp_path.parent.glob("out*"))


# --- checksums -----------------------------------------------------------------------------------


def test_a_flipped_bit_is_found_in_any_file(tmp_path):
    whole = build_tiny_voice(tmp_path / "whole", streaming=True)
    pin, rng = load_voice(whole).sha256, random.Random(0)
    names = [path.name for path in whole.iterdir()]
    assert len(names) == 4
    for name in names * 10:
        folder = shutil.copytree(whole, tmp_path / "voice")
        (folder / name).write_bytes(flip_bits(rng, (folder / name).read_bytes()))
        with pytest.raises(VoiceError, match=re.escape(name)):
            load_voice(folder, sha256=pin)
        shutil.rmtree(folder)


def test_a_voice_is_pinned_by_the_checksum_of_its_manifest(tmp_path, folder):
    addon = pack_addon(folder, tmp_path / "a.addon")
    pin = load_voice(folder).sha256
    for path in (folder, addon):
        assert load_voice(path, sha256=pin.upper()).sha256 == pin
        assert read_manifest(path, sha256=pin) == read_manifest(path)
        assert TTS(path, sha256=pin, frontend="text").voice.sha256 == pin
    # Files that fit each other, and another name.
    manifest = folder / "voice.json"
    manifest.write_text(manifest.read_text().replace('"tiny"', '"tuny"'))
    assert load_voice(folder).sha256 != pin
    for load in (load_voice, load_vocoder, read_manifest, TTS):
        with pytest.raises(
            VoiceError, match=rf"voice\.json has the sha256 \w+, and sha256='{pin}' was asked"
        ):
            load(folder, sha256=pin)


@pytest.mark.parametrize("sha256", ["", "abc", "g" * 64, b"0" * 64, 5])
def test_a_pin_is_a_whole_checksum(folder, sha256):
    with pytest.raises(ParameterError, match="must be 64 hexadecimal digits"):
        load_voice(folder, sha256=sha256)


def test_a_loaded_voice_takes_no_pin(tiny_voice):
    with pytest.raises(ParameterError, match=r"sha256=.* must be None for a voice that is loaded already"):
        TTS(tiny_voice, sha256=tiny_voice.sha256)


def test_the_command_line_says_the_pin_and_takes_it(folder, capsys, tmp_path):
    assert main(["inspect", str(folder), "--json"]) == 0
    pin = json.loads(capsys.readouterr().out)["sha256"]
    assert pin == load_voice(folder).sha256
    assert main(["inspect", str(folder), "--sha256", pin]) == 0
    assert pin in capsys.readouterr().out
    how = ["--frontend", "text", "--strategy", "full", "-o", str(tmp_path / "a.wav")]
    say = ["synthesize", "a cab", "-v", str(folder), *how]
    assert main([*say, "--sha256", pin]) == 0
    assert main([*say, "--sha256", "0" * 64]) == 1
    assert "this is another voice, or another version of it" in capsys.readouterr().err


# --- graphs --------------------------------------------------------------------------------------


def graph_of(build, **settings):
    """Return the bytes of a graph whose output is made of `frames`."""
    g = TinyGraph(**settings)
    return g.model(build(g, g.frames())).SerializeToString()


def refused_graph(data, message, beside=None):
    with pytest.raises(ModelError, match=message):
        check_graph(data, beside)


def test_the_allowed_operators_are_onnxs_own():
    assert {schema.name for schema in onnx.defs.get_all_schemas_with_history()} >= STANDARD - {
        "SimplifiedLayerNormalization"
    }


def body(*nodes, inputs=(), outputs=("y",)):
    info = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names]
            for names in (inputs, outputs)]  # fmt: skip
    return helper.make_graph(list(nodes), "body", *info)


def loop(g, x):
    """10^15 trips."""
    steps = body(
        helper.make_node("Identity", ["c"], ["going"]),
        helper.make_node("Neg", ["v"], ["y"]),
        inputs=("i", "c", "v"),
        outputs=("going", "y"),
    )
    return g.op("Loop", g.const(10**15), "", x, body=steps)


def nested(depth, op_type="If"):
    """Give a graph within graphs; of scans, each goes over all steps for each step of the one around it."""

    def build(g, x):
        inner = body(helper.make_node("Neg", [x if op_type == "If" else "s"], ["y"]), inputs=("s",))
        for _ in range(depth - 1):
            graphs = {"then_branch": inner, "else_branch": inner} if op_type == "If" else {"body": inner}
            operands = ["flag"] if op_type == "If" else [x]
            more = {} if op_type == "If" else {"num_scan_inputs": 1}
            inner = body(helper.make_node(op_type, operands, ["y"], **graphs, **more), inputs=("s",))
        if op_type == "If":
            return g.op("If", g.const(True, bool), then_branch=inner, else_branch=inner)
        return g.op("Scan", x, body=inner, num_scan_inputs=1)

    return build


def size_of_product(g, x):
    """200000 * 200000, which only comes out when it is computed."""
    return g.op("ConstantOfShape", g.op("Mul", g.const([200_000]), g.const([200_000])))


def branch_with_a_gru(g, x):
    inner = body(helper.make_node("GRU", [x, "w", "r"], ["y"], hidden_size=3))
    return g.op("If", g.const(True, bool), then_branch=inner, else_branch=inner)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (loop, "Loop node 'Loop_0': a voice's graph may not have this operator"),
        (nested(7), "its graphs lie more than 4 deep in each other"),
        (nested(2, "Scan"), "Scan node '': it may not stand within another"),
        (lambda g, x: g.op("Evil", x, domain="my.own"), r"my\.own\.Evil node 'Evil_0': a voice's graph"),
        (lambda g, x: g.op("Gemm8", x, domain="com.microsoft"), r"com\.microsoft\.Gemm8 node"),
        (lambda g, x: g.op("StringSplit", x, n_outputs=2)[0], "StringSplit node"),
        (lambda g, x: g.op("Neg", x, body=body()), "Neg node 'Neg_0': it may not hold a graph"),
        (lambda g, x: g.op("ConstantOfShape", g.const([1 << 29])), r"its size makes 5\.\d+e\+08 numbers"),
        (lambda g, x: g.op("ConstantOfShape", g.const([1 << 29], as_node=True)), "its size makes"),
        (size_of_product, r"ConstantOfShape node 'ConstantOfShape_1': its size makes 4e\+10 numbers"),
        (lambda g, x: g.op("Expand", x, g.const([1 << 20, 4, 1 << 20])), "Expand node .*its size makes"),
        (lambda g, x: g.op("Tile", x, g.const([1, 1 << 30, 1])), "Tile node .*its size makes"),
        (lambda g, x: g.op("Tile", g.weight(1024, 4), g.const([1 << 20, 1])), "Tile node .*its size makes"),
        (lambda g, x: g.op("Range", g.const(0), g.const(1 << 40), g.const(1)), "Range node .*its size makes"),
        (lambda g, x: g.op("Range", g.const(0), g.const(9), g.const(0)), "Range node .*its size makes inf"),
        (lambda g, x: g.op("Pad", x, g.const([0, 0, 0, 0, 1 << 31, 1 << 31])), "Pad node .*its size makes"),
        (lambda g, x: g.op("Resize", x, "", g.const([1, 1e6, 1e6], np.float32)), "Resize node .*size makes"),
        (lambda g, x: g.op("Resize", x, "", "", g.const([1, 1 << 20, 1 << 20])), "Resize node .*size makes"),
        (lambda g, x: g.op("OneHot", x, g.const(1 << 30), g.const([0, 1])), "OneHot node .*its size makes"),
        (lambda g, x: g.op("RandomNormal", shape=[1 << 20, 1 << 20]), "RandomNormal node .*its shape makes"),
        (lambda g, x: g.op("MaxPool", x, kernel_shape=[1 << 30]), "MaxPool node .*its kernel_shape makes"),
        (lambda g, x: g.up(x, 4, 4, 4, 1 << 20), "ConvTranspose node .*its strides makes"),
        (lambda g, x: g.conv(x, 4, 4, 3, pads=[1 << 30, 0]), "Conv node .*its pads makes"),
        (branch_with_a_gru, "GRU node '': it may not stand within a branch or a loop"),
    ],
)  # fmt: skip
def test_a_graph_that_would_take_the_machine_is_refused_unrun(build, message):
    refused_graph(graph_of(build), message)


def test_many_small_sizes_are_one_large_one():
    def build(g, x):
        for _ in range(5):
            x = g.op("Add", x, g.op("ConstantOfShape", g.const([1, 4, 1 << 21])))
        return x

    refused_graph(graph_of(build), r"its nodes make 4.*e\+07 numbers of nothing: must be <= 33554432")


def test_functions_that_multiply_are_not_written_out():
    model = onnx.ModelProto()
    model.graph.node.append(helper.make_node("F12", ["x"], ["y"], domain="f"))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for k in range(13):
        op_type, domain = ("Neg", "") if k == 0 else (f"F{k - 1}", "f")
        nodes = [helper.make_node(op_type, ["x"], [name], domain=domain) for name in ("a", "b", "c", "y")]
        model.functions.append(helper.make_function("f", f"F{k}", ["x"], ["y"], nodes, opsets))
    refused_graph(model.SerializeToString(), "it has 13 functions: must have none")


def test_ordinary_sizes_and_branches_are_left_alone():
    def build(g, x):
        g.op("Range", g.const(0), g.op("Squeeze", g.length(x)), g.const(1))
        g.op("Range", g.const(10), g.const(0), g.const(-1))
        g.op("ConstantOfShape", g.op("Concat", g.const([1]), g.length(x), axis=0))
        g.op("ConstantOfShape", g.const([], np.int64))
        g.op(
            "Expand",
            g.weight(1, 4, 1),
            g.op(
                "Where", g.op("Equal", g.const([1, -1]), g.const([-1, -1])), g.const([1, 1]), g.const([1, 4])
            ),
        )
        g.op("Resize", x, "", g.const([1, 1, 2], np.float32))
        # As torch writes the padding of a convolution: tables aren't lists.
        pairs = g.op("Reshape", g.const([0, 0, 2**62, 1]), g.const([-1, 2]))
        last = g.op("Gather", g.op("Transpose", pairs, perm=[1, 0]), g.const([0]))
        g.op("Pad", x, g.op("Concat", g.op("Reshape", last, g.const([-1])), g.const([0, 0, 0, 1]), axis=0))
        g.op("ConstantOfShape", g.op("Gather", g.const([[3, 2**62], [4, 5]]), g.const([0]), axis=1))
        g.op("Slice", x, g.const([0]), g.const([2**63 - 1]), g.const([2]))
        g.op("Tile", g.weight(1, 4, 1), g.op("Concat", g.const([1, 1]), g.length(x), axis=0))
        return g.op("Add", nested(3)(g, x), g.pad(x, 2, 3))

    check_graph(graph_of(build), None)


def constant(dims, dtype=TensorProto.FLOAT, data=b"", **external):
    tensor = TensorProto(name="w", dims=dims, data_type=dtype)
    for key, value in external.items():
        tensor.external_data.add(key=key, value=str(value))
    if external:
        tensor.data_location = TensorProto.EXTERNAL
    else:
        tensor.raw_data = data
    return tensor


INT4, STRING = 22, TensorProto.STRING
WEIGHTS = ExternalFile("weights.bin", 4096)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (constant([1 << 30]), r"the constant 'w' of shape \(1073741824,\) needs 4294967296 bytes, and the"),
        (constant([1 << 62, 1 << 62]), "its axes must be >= 0, and at most"),
        (constant([-1]), "its axes must be >= 0"),
        (constant([1], STRING), "must be of numbers and at most 16 axes, and is of texts"),
        (constant([1], 99), "is of the dtype 99"),
        (constant([1] * 17, data=bytes(4)), "at most 16 axes"),
        (constant([4], INT4, bytes(1)), "needs 2 bytes, and the file has 1"),
        (constant([4], location="/etc/passwd", length=16), "lies in the file '/etc/passwd': must lie in we"),
        (constant([4], location="../weights.bin", length=16), "must lie in weights.bin"),
        (constant([4], location="./weights.bin", length=16), "must lie in weights.bin"),
        (constant([4], length=16), "lies in the file '': must lie in weights.bin"),
        (constant([4], location="weights.bin", offset=-4, length=16), "lies at byte -4, 16 bytes long"),
        (constant([4], location="weights.bin", offset=4090, length=16), "must be 16 bytes within the"),
        (constant([4], location="weights.bin", length=17), "must be 16 bytes within"),
        (constant([4], location="weights.bin", length="x"), "its offset and length must be whole numbers"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", ["initializer", "attribute", "branch"])
def test_a_constant_is_as_long_as_it_says_and_in_its_own_file(tensor, message, place):
    graph = onnx.ModelProto()
    if place == "initializer":
        graph.graph.initializer.append(tensor)
    elif place == "attribute":
        graph.graph.node.append(helper.make_node("Constant", [], ["w"], value=tensor))
    else:
        inner = onnx.GraphProto(initializer=[tensor])
        graph.graph.node.append(helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner))
    refused_graph(graph.SerializeToString(), message, WEIGHTS)


def test_only_weights_of_a_manifest_lie_beside_a_graph():
    graph = onnx.ModelProto()
    graph.graph.initializer.append(constant([4], location="weights.bin", length=16))
    check_graph(graph.SerializeToString(), WEIGHTS)
    refused_graph(graph.SerializeToString(), "must lie in no other file")


def test_sparse_constants_are_refused():
    sparse = onnx.SparseTensorProto(dims=[1 << 40])
    graph = onnx.ModelProto()
    graph.graph.sparse_initializer.append(sparse)
    refused_graph(graph.SerializeToString(), "a constant is sparse")
    graph = onnx.ModelProto()
    graph.graph.node.append(helper.make_node("Constant", [], ["w"], sparse_value=sparse))
    refused_graph(graph.SerializeToString(), "its attribute 'sparse_value' is sparse")


def test_a_graph_of_too_many_nodes_or_fields_is_refused(monkeypatch):
    monkeypatch.setattr("balacoon_tk.voice.guard.graphs._MOST_NODES", 100)
    monkeypatch.setattr("balacoon_tk.voice.guard.wire._MOST_FIELDS", 1000)
    graph = onnx.ModelProto()
    graph.graph.node.extend([helper.make_node("Neg", ["x"], ["y"])] * 101)
    refused_graph(graph.SerializeToString(), "it has 101 nodes or more: must be <= 100")
    refused_graph(b"\x08\x01" * 1001, "it has more than 1000 fields and numbers")
    many = onnx.ModelProto()
    many.graph.node.append(helper.make_node("Neg", ["x"], ["y"], numbers=[1000] * 1001))
    refused_graph(many.SerializeToString(), "it has more than 1000 fields and numbers")


# --- recurrences -------------------------------------------------------------------------------------------


def recurrent(op_type, layout, opset=17):
    """Return a graph of one recurrence over any input of rank 3, as bytes."""
    g = TinyGraph(opset=opset)
    x = g.input("x", ["a", "b", 2])
    gates = {"GRU": 3, "LSTM": 4}[op_type]
    weights = g.weight(1, 3 * gates, 2), g.weight(1, 3 * gates, 3)
    given = {"layout": layout} if opset >= 14 else {}
    return g.model(g.op(op_type, x, *weights, hidden_size=3, **given)).SerializeToString()


@pytest.mark.parametrize("opset", [10, 11, 17])
@pytest.mark.parametrize("op_type", ["GRU", "LSTM"])
def test_a_guard_changes_no_number_and_turns_an_abort_into_an_error(op_type, opset):
    graph = recurrent(op_type, 0, opset)
    guarded = guard_recurrences(graph)
    check_graph(guarded, None)
    plain, session = Session(graph), Session(guarded)
    x = np.random.default_rng(0).standard_normal((5, 1, 2)).astype(np.float32)
    assert np.array_equal(
        session.run({"x": x})[plain_output(plain)], plain.run({"x": x})[plain_output(plain)]
    )
    # The plain graphs would end this process.
    empty = [x[:, :0], *([x[:0]] if op_type == "GRU" else [])]
    for each in empty:
        with pytest.raises(ModelError, match=r"the run failed: .*Gather"):
            session.run({"x": each})
    if op_type == "LSTM":
        assert session.run({"x": x[:0]})[plain_output(plain)].shape[0] == 0


def plain_output(session):
    return next(iter(session.outputs))


def test_guards_leave_other_graphs_as_they_are_and_their_names_alone():
    data = decoder_model().SerializeToString()
    model, guarded = (onnx.load_model_from_string(each) for each in (data, guard_recurrences(data)))
    assert [*guarded.graph.node] == [*model.graph.node]
    assert [*guarded.graph.output] == [*model.graph.output]
    assert guarded.opset_import == model.opset_import
    with pytest.raises(ModelError, match=r"names that begin with 'balacoon_tk\.guard\.'"):
        guard_recurrences(guard_recurrences(data))


def test_a_voice_with_a_recurrence_over_nothing_is_refused_and_ends_no_process(tmp_path):
    def decoder(steps):
        g = TinyGraph()
        x = g.frames(8)
        cut = g.slice(g.transpose(x, 2, 0, 1), 0, steps, 0)
        weights = g.weight(1, 9, 8), g.weight(1, 9, 3)
        last = g.op("GRU", cut, *weights, n_outputs=2, hidden_size=3)[1]
        up = g.op("Tanh", g.up(x, 8, 1, 4, 4))
        mean = g.reduce("ReduceMean", last, 0, 1, 2)
        return g.model(g.op("Add", up, g.op("Reshape", mean, g.const([1, 1, 1]))), names=["samples"])

    for name, steps in (("good", 1), ("bad", 0)):
        folder = write_voice(tmp_path / name, encoder_model(), decoder(steps))
        for path in (folder, pack_addon(folder, folder.with_suffix(".addon"))):
            if steps:
                load_voice(path)
            else:
                with pytest.raises(VoiceError, match=r"decoder\.onnx: .*the run failed"):
                    load_voice(path)


# --- the reader ----------------------------------------------------------------------------------


def described(graph):
    """Return of ONNX's own graph what the reader says of one."""
    return [
        [
            (
                n.op_type,
                n.domain,
                n.name,
                [*n.input],
                [*n.output],
                sorted(t.name for t in n.attribute if t.type == 4),
            )
            for n in graph.node
        ],
        [(t.name, [*t.dims], t.data_type) for t in graph.initializer],
        [value.name for value in graph.input],
        [value.name for value in graph.output],
    ]


def read_described(graph):
    return [
        [(n.op_type, n.domain, n.name, n.inputs, n.outputs, sorted(n.tensors)) for n in graph.nodes],
        [(t.name, t.dims, t.dtype) for t in graph.constants],
        graph.inputs,
        graph.outputs,
    ]


def test_the_reader_reads_what_onnx_reads(streaming_folder):
    files = sorted(streaming_folder.glob("*.onnx"))
    assert len(files) == 3
    for file in files:
        data = file.read_bytes()
        model, ours = onnx.load_model_from_string(data), read_model(data)
        assert read_described(ours.graph) == described(model.graph)
        assert ours.metadata == {entry.key: entry.value for entry in model.metadata_props}
        values = {t.name: t.values for t in ours.graph.constants if t.values is not None}
        for tensor in model.graph.initializer:
            if tensor.name in values:
                np.testing.assert_array_equal(values[tensor.name], numpy_helper.to_array(tensor).ravel())


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63)])
def test_numbers_are_read_however_they_are_written(number):
    packed = helper.make_tensor("w", TensorProto.INT64, [1], [number])
    raw = numpy_helper.from_array(np.array([number], np.int64), "w")
    for tensor in (packed, raw):
        model = onnx.ModelProto(graph=onnx.GraphProto(initializer=[tensor]))
        node = helper.make_node("Neg", ["x"], ["y"], k=number, ks=[number, 5])
        model.graph.node.append(node)
        graph = read_model(model.SerializeToString()).graph
        assert graph.constants[0].values == (number,)
        assert graph.nodes[0].numbers == {"k": (number,), "ks": (number, 5)}


def test_a_damaged_graph_gives_a_model_error_and_nothing_else(tiny_voice_folder):
    rng, counts = random.Random(3), [0, 0]
    files = [path.read_bytes() for path in sorted(tiny_voice_folder.glob("*.onnx"))]
    for _ in range(3000):
        data = rng.choice(files)
        data = flip_bits(rng, data) if rng.random() < 0.7 else data[: rng.randrange(len(data))]
        try:
            check_graph(data, None)
            counts[0] += 1
        except ModelError as error:
            assert str(error)
            counts[1] += 1
    assert min(counts) > 100


def test_a_field_of_another_kind_stands_for_nothing():
    """What other readers pass over must not hide what they run: a number in the place of a name."""
    node = onnx.NodeProto(op_type="Loop", output=["y"]).SerializeToString()
    for extra in (b"\x20\x05", b"\x25abcd", b"\x21abcdefgh"):
        graph = b"\x0a" + bytes([len(node + extra)]) + node + extra
        data = b"\x3a" + bytes([len(graph)]) + graph
        assert onnx.load_model_from_string(data).graph.node[0].op_type == "Loop"
        refused_graph(data, "Loop node '': a voice's graph may not have this operator")


# --- voices with such graphs ---------------------------------------------------------------------


def test_a_voice_is_refused_before_onnx_runtime_sees_its_graph(tmp_path, folder, monkeypatch):
    evil = graph_of(loop)
    monkeypatch.setattr("balacoon_tk.runtime.session._load", lambda *_: pytest.fail("it was loaded"))
    for name in ("encoder.onnx", "decoder.onnx"):
        voice = shutil.copytree(folder, tmp_path / name)
        rehash(voice, voice / name, lambda _: evil)
        for path in (voice, pack_addon(voice, voice.with_suffix(".addon"))):
            with pytest.raises(VoiceError, match=rf"{re.escape(name)}: Loop node"):
                VoiceFiles(path).graph(getattr(read_manifest(path), name.partition(".")[0]))
            with pytest.raises(VoiceError, match=rf"{re.escape(name)}: Loop node"):
                VoiceFiles(path).model(getattr(read_manifest(path), name.partition(".")[0]))


def test_a_name_of_an_axis_that_is_no_text(folder):
    rehash(folder, folder / "decoder.onnx", lambda data: data.replace(b"n_frames", b"n_fr\xe1mes"))
    refuses(folder, r"decoder\.onnx: .*a name in the graph is not UTF-8")


def test_a_graph_of_one_format_does_not_pass_for_the_other(folder):
    rehash(folder, folder / "encoder.onnx", lambda data: data[:4] + b"ORTM" + data[8:])
    refuses(folder, r"encoder\.onnx: the name of the file must end in \.ort if")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"states": {"shape": [1 << 40]}}, r"states\.shape=1099511627776 must be a whole number"),
        ({"states": {"shape": [1, 1 << 20, 1 << 20]}}, r"states\.shape=.* must be at most 268435456 bytes"),
        ({"states": {"max_length": 1 << 30}}, r"a stream's state has \d+ bytes: must be <= 268435456"),
        ({"states": {"dtype": "object"}}, r"states\.dtype='object' must be one of float32"),
        ({"states": {"input": "nobody"}}, r"states\.input='nobody' must be a name of the graph"),
        ({"states": {"fill": float("nan")}}, r"states\.fill=nan must be a finite number"),
        ({"states": {"axis": 7}}, r"states\.axis=7 must be a whole number >= 0 and <= 2"),
        ({"inputs": {"steps_per_frame": 0}}, "steps_per_frame=0 must be a whole number >= 1"),
        ({"outputs": {"lag": "1"}}, "lag='1' must be a whole number"),
        ({"outputs": {"hop_length": 0}}, "hop_length=0 must be a number above 0"),
        ({"last_input": ["x"]}, "last_input=.* must be a name of the graph"),
        ({"min_push_frames": 1 << 31}, "min_push_frames=2147483648 must be a whole number"),
        ({"inputs": []}, "it must have inputs, outputs and a fingerprint"),
        ({"plan": None}, "the graph's metadata is damaged"),
        ("[" * 100_000, "is not JSON"),
        ("[" * 100 + "]" * 100, "is more than 32 levels deep"),
    ],
)  # fmt: skip
def test_what_a_graph_says_of_its_streams_is_held_against_it(streaming_folder, tmp_path, change, message):
    folder = shutil.copytree(streaming_folder, tmp_path / "voice")

    def changed(data):
        model = onnx.load_model_from_string(data)
        entry = next(e for e in model.metadata_props if e.key == StreamingSpec.METADATA_KEY)
        spec = json.loads(entry.value)
        for name, value in change.items() if isinstance(change, dict) else ():
            if isinstance(value, dict):
                spec[name][0] |= value
            else:
                spec[name] = value
        entry.value = json.dumps(spec) if isinstance(change, dict) else change
        return model.SerializeToString()

    rehash(folder, folder / "decoder.stateful.onnx", changed)
    refuses(folder, rf"decoder\.stateful\.onnx: balacoon_tk\.streaming:? .*{message}")


@pytest.fixture(scope="module")
def streaming_folder(tmp_path_factory):
    return build_tiny_voice(tmp_path_factory.mktemp("voices") / "streaming", streaming=True)


# --- damage --------------------------------------------------------------------------------------


def test_a_damaged_voice_is_refused_on_purpose_or_loads(streaming_folder, tmp_path, monkeypatch):
    """Hundreds of cases here, and as many as one likes by `make fuzz`."""
    monkeypatch.setenv("BALACOON_TK_CACHE", str(tmp_path / "cache"))
    kinds = set()
    for seed in range(300):
        with damaged_voice(random.Random(seed), streaming_folder, tmp_path / "voice") as (kind, path):
            kinds.add(kind)
            with contextlib.suppress(VoiceError, ModelError, ParameterError):
                load_voice(path)
    assert kinds == {"field", "text", "bits", "cut", "rehashed", "zip"}
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("load-", "check-"))]
