"""Voices in other runtimes' forms: they say the same there, as far as that can be seen without them."""

from __future__ import annotations

import functools
import importlib.util
import itertools
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
from google.protobuf import text_format
from onnx import TensorProto, helper

from balacoon_tk import TTS, load_voice
from balacoon_tk.cli import main
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.export import deploy_voice
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets import deploy as deploying
from balacoon_tk.targets.deploy import Deployed
from balacoon_tk.targets.source import Source
from balacoon_tk.targets.tensorrt.form import _Cuts
from balacoon_tk.targets.tensorrt.graphs import check_operators, check_shapes
from balacoon_tk.targets.triton.config import initial_state_file, model_config, sequence_batching
from balacoon_tk.targets.triton.held_states import HeldState
from balacoon_tk.voice.files import VoiceFiles
from tiny_voice import SPEAKERS, build_tiny_voice

FORMS = ("ort", "tensorrt", "triton")


@pytest.fixture(scope="module")
def source(exported_vits_folder):
    return exported_vits_folder


@pytest.fixture(scope="module")
def speakers(tmp_path_factory) -> Path:
    return build_tiny_voice(tmp_path_factory.mktemp("voices") / "speakers", SPEAKERS, streaming=True)


@pytest.fixture(scope="module")
def deployed(source, speakers, tmp_path_factory):
    """Give a voice in a form, made once."""

    @functools.cache
    def make(name: str, form: str) -> Deployed:
        voice = {"source": source, "speakers": speakers}[name]
        return deploy_voice(voice, tmp_path_factory.mktemp("deployed") / "out", form=form, chunk_frames=9)

    return make


def frames_of(voice, n_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        name: rng.standard_normal([n if isinstance(n, int) else n_frames for n in spec.shape]).astype("f4")
        for name, spec in voice.decoder.contract.inputs.items()
    }


def whole(voice, feeds) -> np.ndarray:
    return voice.decoder.whole(voice.decoder.contract.check(feeds))["samples"].reshape(-1)


def part(feeds, start: int, stop: int) -> dict[str, np.ndarray]:
    return {**feeds, "frames": feeds["frames"][..., start:stop]}


def test_a_voice_in_onnx_runtimes_format_is_a_voice_that_says_the_same(source, deployed) -> None:
    made = deployed("source", "ort")
    assert made.not_run_on is None
    text = "[[a bad cab had a bag]]"
    for strategy in ("full", "stateful"):
        ours, theirs = (
            np.concatenate([chunk.samples for chunk in TTS(folder).stream(text, strategy=strategy, seed=3)])
            for folder in (made.path, source)
        )
        np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert made.verified.keys() == {"encodings", "samples_whole", "samples_streamed"}


def compiled_decoder(folder: Path) -> onnx.ModelProto:
    files = VoiceFiles(folder)
    return files.model(files.manifest.targets["ort_cpu"].decoder)


def test_the_list_of_operators_has_types_and_all_that_the_graphs_have_and_no_paths(source, deployed) -> None:
    made = deployed("source", "ort")
    text = (made.path / "required_operators.config").read_text(encoding="utf-8")
    assert "/" not in text and "#" not in text
    assert "nchwc" not in text  # convolutions in blocks run on machines of one kind only
    assert 'Concat{"inputs": {"0": ["float"' in text
    listed = {
        entry.partition("{")[0] for line in text.splitlines() for entry in line.split(";")[-1].split(",")
    }
    left = {node.op_type for node in compiled_decoder(source).graph.node} - listed
    # Constant folding and fusion take these out; everything else must be there.
    assert left <= {"Identity", "LeakyRelu", "Conv", "Shape", "Squeeze", "Unsqueeze"}, left


def model_config_class():
    """Return the message that Triton itself reads, without the client's other parts."""
    (folder,) = importlib.util.find_spec("tritonclient").submodule_search_locations
    path = Path(folder) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ModelConfig


class SequenceBatcher:
    """Does for one model what Triton's does, from its configuration alone."""

    DTYPES: ClassVar = {"TYPE_FP32": "f4", "TYPE_INT64": "i8", "TYPE_INT32": "i4", "TYPE_UINT8": "u1"}

    def __init__(self, folder: Path) -> None:
        self.config = model_config_class()()
        text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), self.config)
        assert self.config.name == folder.name
        self.session = Session(folder / "1" / "model.onnx")
        self.states = {}
        batching = self.config.sequence_batching
        (self.control,) = batching.control_input
        assert {state.input_name for state in batching.state} | {self.control.name} | {
            item.name for item in self.config.input
        } == set(self.session.inputs)

    def dtype(self, number: int) -> str:
        kind = self.config.DESCRIPTOR.fields_by_name["input"].message_type.fields_by_name["data_type"]
        return self.DTYPES[kind.enum_type.values_by_number[number].name]

    def first_states(self):
        for state in self.config.sequence_batching.state:
            (first,) = state.initial_state
            assert list(first.dims) == list(state.dims) and min(state.dims) >= 1
            assert first.data_type == state.data_type and first.zero_data and first.name
            yield state.input_name, np.zeros(list(first.dims), self.dtype(first.data_type))

    def infer(self, feeds, sequence_id: int, *, start: bool, end: bool) -> np.ndarray:
        if start:
            self.states[sequence_id] = dict(self.first_states())
        states = self.states.pop(sequence_id)
        for item in self.config.input:
            array = feeds[item.name]
            assert all(n in (m, -1) for n, m in zip(item.dims, array.shape, strict=True))
        (control,) = self.control.control
        flag = np.array([control.int32_false_true[end]], np.int32)
        outputs = self.session.run({**feeds, **states, self.control.name: flag})
        if not end:
            pairs = self.config.sequence_batching.state
            self.states[sequence_id] = {pair.input_name: outputs[pair.output_name] for pair in pairs}
            for pair in pairs:  # what Triton takes back must be as large as it says
                assert outputs[pair.output_name].shape == tuple(pair.dims)
        (output,) = self.config.output
        return outputs[output.name].reshape(-1)


@pytest.mark.parametrize("name", ["source", "speakers"])
def test_streams_that_triton_would_carry_at_the_same_time_are_the_voices_own(name, request, deployed) -> None:
    made = deployed(name, "triton")
    assert made.not_run_on == "Triton"
    voice = load_voice(request.getfixturevalue(name), backend="onnxruntime")
    spec = voice.decoder.streaming
    batcher = SequenceBatcher(made.path / "models" / "decoder")
    cuts = [0, spec.min_first_frames, spec.min_first_frames + 1, spec.min_first_frames + 8, 90]
    streams = {k: frames_of(voice, cuts[-1], seed=k) for k in (1, 2)}
    decoders = {k: StatefulDecoder(voice.decoder) for k in streams}
    for start, stop in itertools.pairwise(cuts):
        for k, feeds in streams.items():
            piece = part(feeds, start, stop)
            said = batcher.infer(piece, k, start=start == 0, end=stop == cuts[-1])
            expected = decoders[k].push(piece if len(piece) > 1 else piece["frames"], last=stop == cuts[-1])
            np.testing.assert_array_equal(said, expected.reshape(-1))
    assert not batcher.states


def test_a_sentence_shorter_than_the_lag_is_one_request(source, deployed) -> None:
    made = deployed("source", "triton")
    voice, batcher = (
        load_voice(source, backend="onnxruntime"),
        SequenceBatcher(made.path / "models" / "decoder"),
    )
    for n_frames in (1, 2, voice.decoder.streaming.min_first_frames - 1):
        feeds = frames_of(voice, n_frames)
        np.testing.assert_array_equal(batcher.infer(feeds, 7, start=True, end=True), whole(voice, feeds))


def test_the_encoder_in_the_repository_is_the_voices_and_its_configuration_is_its_own(
    source, deployed
) -> None:
    made = deployed("source", "triton")
    folder = made.path / "models" / "encoder"
    config = text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), model_config_class()())
    session = Session(folder / "1" / "model.onnx")
    for items, specs in ((config.input, session.inputs), (config.output, session.outputs)):
        shapes = {item.name: [n if n != -1 else "any" for n in item.dims] for item in items}
        assert shapes == {
            name: [n if isinstance(n, int) else "any" for n in spec.shape] for name, spec in specs.items()
        }
    assert not config.HasField("sequence_batching")


def test_a_state_of_bytes_begins_with_its_zero_point_from_a_file() -> None:
    state = HeldState("held", "next_held", "uint8", (1, 2, 3), 128.0)
    assert initial_state_file(state) == ("held.bin", bytes([128] * 6))
    text = model_config("m", {}, {}, batching=sequence_batching([state], max_streams=3, max_idle_s=1.5))
    config = text_format.Parse(text, model_config_class()())
    (first,) = config.sequence_batching.state[0].initial_state
    assert first.data_file == "held.bin"
    assert config.sequence_batching.oldest.max_candidate_sequences == 3
    assert config.sequence_batching.max_sequence_idle_microseconds == 1_500_000


@pytest.mark.parametrize("name", ["source", "speakers"])
def test_graphs_for_tensorrt_have_its_operators_and_give_the_voices_samples(name, request, deployed) -> None:
    folder = request.getfixturevalue(name)
    made = deployed(name, "tensorrt")
    assert made.not_run_on == "TensorRT"
    assert made.verified["samples_in_parts"] < 1e-6
    for graph in ("decoder_first", "decoder_steady"):
        session = Session(made.path / f"{graph}.onnx")
        tensors = (*session.inputs.values(), *session.outputs.values())
        assert all(isinstance(n, int) for tensor in tensors for n in tensor.shape)
    assert Session(made.path / "decoder_steady.onnx").inputs["frames"].shape[-1] == 9
    for path in made.path.glob("*.onnx"):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        assert {item.domain for item in model.opset_import} <= {"", "ai.onnx"}
    voice, feeds = load_voice(folder), frames_of(load_voice(folder), 300)
    states, pieces = {}, []
    cuts = _Cuts(Session(made.path / "decoder_first.onnx").inputs["frames"].shape[-1], 9, 1)
    for kind, start, stop in cuts(300):
        said = Session(made.path / f"decoder_{kind}.onnx").run({**part(feeds, start, stop), **states})
        pieces.append(said.pop("samples").reshape(-1))
        states = {key.removeprefix("next_"): value for key, value in said.items()}
    files = VoiceFiles(folder)
    plainly = Session(files.model(files.manifest.decoder)).run(feeds)["samples"].reshape(-1)
    np.testing.assert_allclose(np.concatenate(pieces), plainly, atol=1e-6, rtol=0)
    np.testing.assert_allclose(np.concatenate(pieces), whole(voice, feeds), atol=1e-5, rtol=0)


def test_a_sentence_is_cut_without_gap_and_rest_for_every_length() -> None:
    cuts = _Cuts(first=11, chunk=4, later=2)
    for n_frames in range(1, 60):
        steps = list(cuts(n_frames))
        assert [start for _, start, _ in steps] == [0, *(stop for _, _, stop in steps[:-1])]
        assert steps[-1][2] == n_frames and steps[-1][0] in ("last", "whole")
        assert all(stop - start == 4 for kind, start, stop in steps if kind == "steady")
        assert all(2 <= stop - start <= 5 for kind, start, stop in steps if kind == "last")


def test_the_readme_of_graphs_for_tensorrt_builds_an_engine_of_each(source, deployed) -> None:
    made = deployed("source", "tensorrt")
    text = (made.path / "README.md").read_text(encoding="utf-8")
    assert "Not run on TensorRT" in text
    for path in made.path.glob("*.onnx"):
        assert f"--onnx={path.name} --saveEngine={path.stem}.plan" in text
    assert "--maxShapes=phoneme_ids:1x512,duration_noise:1x2x512" in text


def test_an_operator_or_an_opset_that_tensorrt_does_not_know_is_named() -> None:
    def graph(node, opset):
        info = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
        out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
        made = helper.make_graph([node], "g", [info], [out])
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)])

    own = helper.make_node("Gelu", ["x"], ["y"], name="here", domain="com.microsoft")
    with pytest.raises(
        ModelError, match=r"d: TensorRT doesn't know the operator com.microsoft::Gelu of node 'here'"
    ):
        check_operators(graph(own, 17), "d")
    with pytest.raises(ModelError, match="the operator Unique"):
        check_operators(graph(helper.make_node("Unique", ["x"], ["y"]), 17), "d")
    with pytest.raises(ModelError, match="opset 24 must be <= 20"):
        check_operators(graph(helper.make_node("Relu", ["x"], ["y"]), 24), "d")
    with pytest.raises(ModelError, match="the shape of 'y' must be known"):
        dynamic = graph(helper.make_node("Relu", ["x"], ["y"]), 17)
        for value in (*dynamic.graph.input, *dynamic.graph.output):
            value.type.tensor_type.shape.dim[0].dim_param = "n"
        check_shapes(dynamic, static=True)


def test_a_voice_that_is_not_streamed_exactly_has_no_form_for_triton_and_whole_sentences_elsewhere(
    tiny_voice_folder, tmp_path
) -> None:
    with pytest.raises(ModelError, match=r"tiny can't be streamed exactly \(nobody has rewritten it\)"):
        deploy_voice(tiny_voice_folder, tmp_path / "triton", form="triton")
    assert not (tmp_path / "triton").exists()
    made = deploy_voice(tiny_voice_folder, tmp_path / "trt", form="tensorrt")
    assert {path.stem for path in made.path.glob("*.onnx")} == {"encoder", "decoder_whole"}
    assert deploy_voice(tiny_voice_folder, tmp_path / "ort", form="ort").verified.keys() == {
        "encodings",
        "samples_whole",
    }


def test_a_voice_in_int8_has_no_form_for_tensorrt(speakers, tmp_path) -> None:
    folder = tmp_path / "int8"
    folder.mkdir()
    for file in speakers.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    manifest = json.loads((folder / "voice.json").read_text(encoding="utf-8"))
    manifest["decoder"]["precision"] = "int8"
    (folder / "voice.json").write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ModelError, match="was rounded to int8 already: deploy the voice that it was"):
        deploy_voice(folder, tmp_path / "trt", form="tensorrt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"form": "coreml"}, "form='coreml' must be one of ort, tensorrt, triton"),
        ({"platform": "riscv"}, "platform='riscv' must be one of arm, amd64"),
        ({"chunk_frames": 0}, "chunk_frames=0 must be an int >= 1"),
        ({"max_phonemes": 1.5}, r"max_phonemes=1\.5 must be an int >= 1"),
        ({"out": "joe.addon"}, r"out='joe\.addon' must be a folder"),
    ],
)
def test_arguments_that_cannot_be_are_refused(changes, message, speakers, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {"out": "out", "form": "ort"} | changes
    with pytest.raises(ParameterError, match=message):
        deploy_voice(speakers, arguments.pop("out"), **arguments)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_replaced_only_if_asked_and_only_if_it_was_deployed(speakers, tmp_path) -> None:
    target = tmp_path / "out"
    deploy_voice(speakers, target, form="triton")
    with pytest.raises(ParameterError, match="overwrite=True replaces"):
        deploy_voice(speakers, target, form="tensorrt")
    deploy_voice(speakers, target, form="tensorrt", overwrite=True)
    assert not (target / "models").exists()
    (target / "voice.json").unlink()
    with pytest.raises(ParameterError, match="no voice: it is not replaced"):
        deploy_voice(speakers, target, form="ort", overwrite=True)


def test_samples_that_differ_leave_nothing_behind(speakers, tmp_path, monkeypatch) -> None:
    reading = deploying.read_source

    def louder(path):
        source = reading(path)
        for utterance in source.utterances:
            utterance.samples[0] += 0.01
        return source

    monkeypatch.setattr(deploying, "read_source", louder)
    monkeypatch.setattr(Source, "plain_utterances", lambda source: source.utterances)
    for form in FORMS:
        with pytest.raises(ModelError, match=r"samples differ from the voice's by 0\.01"):
            deploy_voice(speakers, tmp_path / form, form=form)
    assert not list(tmp_path.iterdir())
    with pytest.raises(VoiceError, match="no such voice"):
        deploy_voice(tmp_path / "nothing", tmp_path / "out", form="ort")


def test_the_command_says_what_was_compared_and_what_was_not_run(speakers, tmp_path, capsys) -> None:
    assert main(["deploy", str(speakers), "-o", str(tmp_path / "t"), "--form", "triton"]) == 0
    said = capsys.readouterr().out
    assert "samples_streamed: " in said and "on Triton: only in ONNX Runtime" in said
    assert main(["deploy", str(speakers), "-o", str(tmp_path / "o"), "--form", "ort", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["not_run_on"] is None and said["verified"]["samples_streamed"] < 1e-5
    assert main(["deploy", str(speakers), "-o", str(tmp_path / "o"), "--form", "ort"]) == 1
