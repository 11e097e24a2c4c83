"""A program of the native engine in a voice: compiled, verified and stored, or the reason why not."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import onnx
import pytest

from balacoon_tk import TTS, load_voice
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.export.quantize.mixtures import OrtMixer, layers_of, name_nodes
from balacoon_tk.export.quantize.ranges import choose_range, collect_histograms
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.runtime.native import engine as native_engine
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.choice import NATIVE, SEVERAL_THREADS
from balacoon_tk.targets.native import compile_native, verified
from balacoon_tk.targets.native.verified import CompiledProgram, compile_decoder
from balacoon_tk.voice.backends import BACKEND_VARIABLE, BackendWarning
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.finish import PlainVoice, finish_voice, ignore_progress
from balacoon_tk.voice.weights import WEIGHTS_FILE
from tiny_graphs import TinyGraph
from tiny_voice import N_CHANNELS, decoder_model, pack_addon


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)


def recurrent() -> onnx.ModelProto:
    """Return a decoder that streams in ONNX Runtime, with a node that the native engine doesn't know."""
    g = TinyGraph()
    x = g.transpose(g.frames(), 2, 0, 1)
    weights = [g.weight(1, 9, 4), g.weight(1, 9, 3), g.weight(1, 18), "", g.weight(1, 1, 3)]
    y = g.squeeze(g.op("GRU", x, *weights, n_outputs=2, hidden_size=3)[0], 1)
    return g.model(g.conv(g.transpose(y, 1, 2, 0), 3, 1, 3, pads=[1, 1]))


def frames_of(n_frames: int, n_channels: int = N_CHANNELS) -> np.ndarray:
    shape = (1, n_channels, n_frames)
    return np.random.default_rng(n_frames).standard_normal(shape).astype(np.float32)


# --- in a voice ----------------------------------------------------------------------------------


def test_a_voice_speaks_with_either_engine_and_in_any_chunks(exported_vits_folder, tmp_path):
    text = "[[a bad bag]]"
    expected = TTS(exported_vits_folder, backend="onnxruntime", n_threads=1)
    whole = [chunk.samples for chunk in expected.stream(text, strategy="full", seed=3)]
    for path in (exported_vits_folder, pack_addon(exported_vits_folder, tmp_path / "voice.addon")):
        for n_threads in (1, 2):
            tts = TTS(path, backend="native", n_threads=n_threads)
            assert isinstance(tts.voice.decoder, NativeEngine)
            own = np.concatenate([chunk.samples for chunk in tts.stream(text, strategy="full", seed=3)])
            np.testing.assert_allclose(own, np.concatenate(whole), rtol=0, atol=2e-5)
            for sizes in (1, (3, 1, 8), 400):
                chunks = tts.stream(text, strategy="stateful", seed=3, chunk_frames=sizes)
                np.testing.assert_array_equal(np.concatenate([chunk.samples for chunk in chunks]), own)


def test_auto_measures_the_two_engines_of_a_real_voice_and_keeps_which_it_is(exported_vits_folder):
    voice = load_voice(exported_vits_folder, n_threads=1)
    assert "this machine" in voice.backend.reason or "of its time" in voice.backend.reason
    assert "agree" not in voice.backend.reason
    assert load_voice(exported_vits_folder, n_threads=1).backend == voice.backend


def test_the_manifest_says_what_the_native_engine_runs_and_how_near_it_comes(exported_vits_folder):
    manifest = VoiceFiles(exported_vits_folder).manifest
    target = manifest.targets[NATIVE]
    assert manifest.not_native is None
    assert target.decoder.file == "decoder.native.json"
    assert target.encoder.file == "encoder.native.json"
    assert manifest.encoder_not_native is None
    assert target.streaming.lag_samples == manifest.targets[SEVERAL_THREADS].streaming.lag_samples
    assert 0 < target.streaming.n_state_bytes < 2**20
    assert target.streaming.max_abs_diff <= 2e-5


def test_no_weight_of_the_plain_graph_is_stored_again_for_the_native_engine(exported_vits_folder):
    files = VoiceFiles(exported_vits_folder)
    places = json.loads(files.member("decoder.native.json"))["arrays"]
    of_graphs = set()
    for path in exported_vits_folder.glob("*.onnx"):
        for tensor in onnx.load(path, load_external_data=False).graph.initializer:
            of_graphs |= {int(entry.value) for entry in tensor.external_data if entry.key == "offset"}
    large = {name: place["offset"] for name, place in places.items() if 4 * np.prod(place["shape"]) >= 1024}
    assert large
    assert {name for name, offset in large.items() if offset not in of_graphs} == set()


def test_the_weights_of_a_voice_are_checked_before_a_program_is_made_of_them(exported_vits_folder, tmp_path):
    folder = shutil.copytree(exported_vits_folder, tmp_path / "voice")
    data = bytearray((folder / WEIGHTS_FILE).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_FILE).write_bytes(data)
    files = VoiceFiles(folder)
    with pytest.raises(VoiceError, match=r"weights\.bin is damaged or another file"):
        files.program(files.manifest.targets[NATIVE].decoder)


def test_a_decoder_that_the_native_engine_does_not_know_says_the_node_in_the_manifest(
    exported_vits_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(verified, "compile_native", lambda model: compile_native(recurrent()))
    files = VoiceFiles(exported_vits_folder)
    plain = PlainVoice(files.model(files.manifest.decoder), files.model(files.manifest.encoder))
    manifest = finish_voice(plain, files.manifest, tmp_path / "voice")
    assert NATIVE not in manifest.targets
    assert manifest.not_native.startswith("GRU node ")
    assert not (tmp_path / "voice" / "decoder.native.json").exists()
    voice = load_voice(tmp_path / "voice")
    assert str(voice.backend) == f"onnxruntime: {manifest.not_native}"
    with pytest.raises(VoiceError, match="backend='native' can't run it: GRU node"):
        load_voice(tmp_path / "voice", backend="native")


@pytest.mark.parametrize("where", ["everywhere", "where a stream goes on"])
def test_a_program_that_says_something_else_is_not_believed(monkeypatch, where):
    class Inexact(NativeEngine):
        def step(self, state, feeds, *, last):
            outputs, following = super().step(state, feeds, last=last)
            if where == "everywhere" or state is not None:
                outputs = {name: array + np.float32(1e-3) for name, array in outputs.items()}
            return outputs, following

    monkeypatch.setattr(native_engine, "NativeEngine", Inexact)
    made = compile_decoder(PlainVoice(decoder_model()), precision="fp32", progress=ignore_progress)
    assert isinstance(made, str)
    assert made.startswith("its program is not believed: streamed in ")
    assert "frames differ from the whole run by 0.001: must be <= 2e-05" in made


def test_a_stream_that_is_only_nearly_the_whole_run_is_not_believed(monkeypatch):
    class Nearly(NativeEngine):
        def step(self, state, feeds, *, last):
            outputs, following = super().step(state, feeds, last=last)
            if state is not None:
                outputs = {name: array * np.float32(1 + 2e-7) for name, array in outputs.items()}
            return outputs, following

    monkeypatch.setattr(native_engine, "NativeEngine", Nearly)
    made = compile_decoder(PlainVoice(decoder_model()), precision="fp32", progress=ignore_progress)
    assert "differ from the engine's own whole run" in made


def test_where_the_native_engine_was_not_built_onnx_runtime_runs_everything(
    exported_vits_folder, monkeypatch
):
    monkeypatch.setitem(sys.modules, "balacoon_tk.runtime.native.engine", None)
    made = compile_decoder(PlainVoice(decoder_model()), precision="fp32", progress=ignore_progress)
    assert "the native engine was not built for this system" in made
    with pytest.warns(BackendWarning, match="the native engine was not built for this system"):
        assert load_voice(exported_vits_folder).backend.name == "onnxruntime"
    for wrong in (
        lambda: load_voice(exported_vits_folder, backend="native"),
        lambda: StatefulDecoder(decoder_model(), backend="native"),
    ):
        with pytest.raises(ModelError, match="the native engine was not built for this system"):
            wrong()


@pytest.mark.parametrize("n_speakers", [0, 3])
def test_a_decoder_is_compiled_and_verified(n_speakers):
    plain = PlainVoice(decoder_model(n_speakers))
    made = compile_decoder(plain, precision="fp32", progress=ignore_progress)
    assert isinstance(made, CompiledProgram)
    assert made.streaming.max_abs_diff <= 2e-5


def rounded_decoder() -> onnx.ModelProto:
    """Return the tiny voice's decoder with all its layers in int8, by the ranges of some random frames."""
    mixer = OrtMixer(name_nodes(decoder_model()))
    histograms = collect_histograms(mixer.plain, [{"frames": frames_of(200)}], mixer.tensors)
    mixer.calibrate({name: choose_range(histogram, "minmax") for name, histogram in histograms.items()})
    return mixer.quantize(layers_of(mixer.blocks))


def test_a_decoder_in_int8_is_held_to_the_noise_of_its_rounding(monkeypatch):
    plain = PlainVoice(rounded_decoder())
    made = compile_decoder(plain, precision="int8", progress=ignore_progress)
    assert isinstance(made, CompiledProgram)
    assert any(array.dtype == np.int8 for array in made.program.arrays.values())

    class Noisy(NativeEngine):
        def step(self, state, feeds, *, last):
            outputs, following = super().step(state, feeds, last=last)
            return {name: array * np.float32(0.98) for name, array in outputs.items()}, following

    monkeypatch.setattr(native_engine, "NativeEngine", Noisy)
    made = compile_decoder(plain, precision="int8", progress=ignore_progress)
    assert isinstance(made, str)
    assert "of the noise that rounding makes in the plain decoder: must be <= " in made


def test_weights_that_are_not_finite_are_a_reason():
    made = compile_decoder(PlainVoice(decoder_model(bias=np.nan)), precision="fp32", progress=ignore_progress)
    assert isinstance(made, str)


# --- a graph alone -------------------------------------------------------------------------------


@pytest.fixture(params=["model", "bytes", "path"])
def graph(request, tmp_path):
    model = decoder_model()
    if request.param == "bytes":
        return model.SerializeToString()
    if request.param == "path":
        onnx.save(model, tmp_path / "decoder.onnx")
        return tmp_path / "decoder.onnx"
    return model


def test_a_plain_graph_streams_in_the_native_engine(graph):
    decoder = StatefulDecoder(graph, backend="native")
    x = frames_of(40)
    parts = [decoder.push(x[..., k : k + 7], last=k + 7 >= 40) for k in range(0, 40, 7)]
    expected = Session(decoder_model()).run({"frames": x})["samples"]
    np.testing.assert_allclose(np.concatenate(parts, axis=-1), expected, rtol=0, atol=2e-6)
    options = RuntimeOptions(n_threads=1, backend="native")
    assert StatefulDecoder(graph, options).lag_samples == decoder.lag_samples


def test_what_the_native_engine_can_not_take_is_refused_with_the_node_and_the_reason(tmp_path):
    with pytest.raises(ModelError, match=r"<model>: backend='native' can't run it: GRU node '.*'"):
        StatefulDecoder(recurrent(), backend="native")
    with pytest.raises(
        ModelError, match="takes the plain graph, and this is what make_streaming made of one"
    ):
        StatefulDecoder(make_streaming(decoder_model()), backend="native")
    with pytest.raises(ModelError, match=r"nowhere\.onnx: no such file"):
        StatefulDecoder(tmp_path / "nowhere.onnx", backend="native")
    (tmp_path / "text.onnx").write_text("text")
    with pytest.raises(ModelError, match=r"text\.onnx: not an ONNX file"):
        StatefulDecoder(tmp_path / "text.onnx", backend="native")
    with pytest.raises(ModelError, match="backend='native' can't run it: "):
        StatefulDecoder(b"", backend="native")
    options = RuntimeOptions(providers=("AnotherExecutionProvider",), backend="native")
    with pytest.raises(ModelError, match=r"providers=.* are ONNX Runtime's"):
        StatefulDecoder(decoder_model(), options)


def test_an_engine_and_a_backend_are_one_too_many():
    engine = StatefulDecoder(decoder_model(), backend="native")._engine
    with pytest.raises(ParameterError, match="backend='onnxruntime' must be None for an engine"):
        StatefulDecoder(engine, backend="onnxruntime")
    with pytest.raises(ModelError, match="not a stateful graph"):
        StatefulDecoder(decoder_model(), backend="onnxruntime")
    with pytest.raises(ParameterError, match="backend='fast' must be one of"):
        StatefulDecoder(decoder_model(), backend="fast")


def test_a_manifest_keeps_the_reason(tiny_voice):
    manifest = replace(tiny_voice.manifest, not_native="LSTM node 'x': unknown")
    assert type(manifest).from_json(manifest.to_json()).not_native == "LSTM node 'x': unknown"
