"""Which engine runs a voice's decoder: what was asked for, what can, and what was measured to be faster."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time

import numpy as np
import pytest

from balacoon_tk import TTS, load_voice
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.runtime.native import engine as native_engine
from balacoon_tk.runtime.native.program import Edge, Port, Program, Stage
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.targets.choice import find_compiled
from balacoon_tk.voice import backends
from balacoon_tk.voice.backends import BACKEND_VARIABLE, BackendWarning
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.programs import pack_program
from balacoon_tk.voice.race import Race, race
from balacoon_tk.voice.weights import WEIGHTS_FILE, WeightsWriter
from tiny_voice import SPEAKERS, build_tiny_voice, decoder_model, pack_addon, set_field


class OtherEngine:
    """Stands in for the native engine: the tiny voice's decoder in ONNX Runtime, as slow as it is told."""

    n_loaded = 0
    kernels = "plain"

    def __init__(self, program=None, options=None, *, label="", n_speakers=0, factor=1.0, wait_s=0.0):
        type(self).n_loaded += 1
        self.engine = OrtEngine(make_streaming(decoder_model(n_speakers)), RuntimeOptions(n_threads=1))
        self.contract, self.factor, self.wait_s = self.engine.contract, factor, wait_s
        self.start, self.save, self.load = self.engine.start, self.engine.save, self.engine.load

    def whole(self, feeds):
        time.sleep(self.wait_s)
        return {"samples": self.factor * self.engine.whole(feeds)["samples"]}

    def step(self, state, feeds, *, last):
        time.sleep(self.wait_s)
        return self.engine.step(state, feeds, last=last)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    return tmp_path / "cache"


@pytest.fixture
def native(monkeypatch):
    """Put the other engine in the native one's place."""
    monkeypatch.setattr(OtherEngine, "n_loaded", 0)
    monkeypatch.setattr(native_engine, "NativeEngine", OtherEngine)
    return OtherEngine


def change(folder, **fields):
    path = folder / "voice.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, value in fields.items():
        set_field(data, name.replace("__", "."), value)
    path.write_text(json.dumps(data), encoding="utf-8")


@pytest.fixture
def folder(tmp_path):
    """A voice with a program beside its graphs; what it computes is up to the engine."""
    folder = build_tiny_voice(tmp_path / "voice", streaming=True)
    return add_program(folder)


def add_program(folder):
    weights = np.random.default_rng(0).standard_normal((1, 8, 3)).astype(np.float32)
    program = Program(
        edges=(Edge("frames", 8), Edge("samples", 1)),
        stages=(Stage("convolve", "conv", 0, 1, n_taps=3, weights="w"),),
        inputs=(Port("frames", 0, (1, 8)),),
        outputs=(Port("samples", 1, (1, 1)),),
        arrays={"w": weights},
    )
    writer = WeightsWriter()
    data = pack_program(program, writer)
    infos = {}
    for name, content in (("decoder.native.json", data), (WEIGHTS_FILE, writer.data)):
        (folder / name).write_bytes(content)
        infos[name] = {"file": name, "sha256": hashlib.sha256(content).hexdigest()}
    targets = json.loads((folder / "voice.json").read_text(encoding="utf-8"))["targets"]
    targets["native"] = {
        **targets["ort_cpu"],
        "encoder": None,
        "decoder": infos["decoder.native.json"] | {"passes": []},
    }
    change(folder, targets=targets, weights=infos[WEIGHTS_FILE])
    return folder


def says(monkeypatch, ratio, difference=None):
    """Have the engines measured as this."""
    races = []

    def measured(*arguments):
        races.append(arguments)
        return Race(ratio, difference)

    monkeypatch.setattr(backends, "race", measured)
    return races


def test_a_voice_runs_on_the_engine_that_is_asked_for(folder, native):
    voice = load_voice(folder, backend="onnxruntime")
    assert isinstance(voice.decoder, OrtEngine)
    assert str(voice.backend) == "onnxruntime: it was asked for"
    assert native.n_loaded == 0
    voice = load_voice(folder, backend="native", n_threads=1)
    assert isinstance(voice.decoder, OtherEngine)
    assert str(voice.backend) == "native: it was asked for"
    assert TTS(folder, backend="native").voice.backend.name == "native"
    options = RuntimeOptions(n_threads=1, backend="native")
    assert load_voice(folder, options=options).backend.name == "native"


def test_a_backend_that_there_is_not_and_one_too_many_are_refused(folder, tiny_voice):
    with pytest.raises(ParameterError, match="backend='fast' must be one of auto, native, onnxruntime"):
        load_voice(folder, backend="fast")
    with pytest.raises(ParameterError, match="backend='native' must be None where options say it"):
        load_voice(folder, backend="native", options=RuntimeOptions())
    with pytest.raises(
        ParameterError, match="backend=native must be None for a voice that is loaded already"
    ):
        TTS(tiny_voice, backend="native")


def test_the_faster_engine_is_measured_once_and_then_loaded_alone(folder, native, cache, monkeypatch):
    races = says(monkeypatch, 0.615)
    first = load_voice(folder, n_threads=1)
    assert str(first.backend) == "native: 0.61 of ONNX Runtime's time on this machine"
    assert isinstance(first.decoder, OtherEngine)
    assert first.renderer.strategies == ("full", "overlap", "stateful")
    again = load_voice(folder, n_threads=1)
    assert again.backend == first.backend
    assert (len(races), native.n_loaded) == (1, 2)
    assert len(list((cache / "backends").iterdir())) == 1
    load_voice(folder, n_threads=2)  # other threads are another measurement
    assert len(races) == 2


def test_where_onnx_runtime_is_faster_the_program_is_not_loaded(folder, native, monkeypatch):
    races = says(monkeypatch, 1.25)
    voice = load_voice(folder)
    assert str(voice.backend) == "onnxruntime: the native engine takes 1.25 of its time on this machine"
    assert isinstance(voice.decoder, OrtEngine)
    assert load_voice(folder).backend == voice.backend
    assert (len(races), native.n_loaded) == (1, 1)
    # But its checksum is looked at: on another machine it would be the one that runs.
    (folder / "decoder.native.json").write_bytes(b"")
    with pytest.raises(VoiceError, match=r"decoder\.native\.json is damaged"):
        load_voice(folder)


def test_engines_that_do_not_agree_are_told_apart_and_onnx_runtime_is_believed(folder, native, monkeypatch):
    monkeypatch.setattr(
        native_engine, "NativeEngine", lambda *args, **settings: OtherEngine(factor=np.float32(1.01))
    )
    with pytest.warns(BackendWarning, match="on this machine the two don't agree"):
        voice = load_voice(folder)
    assert voice.backend.name == "onnxruntime"
    assert "on this machine the two don't agree: their samples differ by 0.0" in voice.backend.reason
    assert load_voice(folder).backend == voice.backend


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_text(path.read_text()[:-40]),
        lambda path: path.write_bytes(b"\xff\xfe"),
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"key": {}})),
        lambda path: path.write_text(
            json.dumps(json.loads(path.read_text()) | {"choice": {"name": "fastest"}})
        ),
        lambda path: path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99})),
    ],
)
def test_what_is_kept_and_damaged_is_measured_again(folder, native, cache, monkeypatch, damage):
    races = says(monkeypatch, 0.5)
    load_voice(folder)
    damage(next((cache / "backends").iterdir()))
    assert load_voice(folder).backend.name == "native"
    assert len(races) == 2


@pytest.mark.parametrize("field", ["cpu_name", "runtime_version"])
def test_another_machine_measures_for_itself(folder, native, monkeypatch, field):
    races = says(monkeypatch, 0.5)
    load_voice(folder)
    monkeypatch.setattr(backends, field, lambda: "another")
    load_voice(folder)
    assert len(races) == 2


def test_other_kernels_are_measured_again(folder, native, monkeypatch):
    races = says(monkeypatch, 0.5)
    load_voice(folder)
    monkeypatch.setattr(native, "kernels", "wider")
    load_voice(folder)
    load_voice(folder)
    assert len(races) == 2


def test_a_cache_that_can_not_be_written_to_costs_no_voice(folder, native, cache, monkeypatch):
    says(monkeypatch, 0.5)
    cache.write_text("a file where the folder would be")
    assert load_voice(folder).backend.name == "native"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"targets__native": ..., "not_native": "LSTM node 'x' is unknown"}, "LSTM node 'x' is unknown"),
        ({"targets__native": ...}, "the voice holds no program for the native engine"),
        ({"targets__native__version": 99}, "its program was compiled by version 99"),
    ],
)
def test_what_has_no_program_runs_on_onnx_runtime_and_says_why(folder, native, fields, reason):
    change(folder, **fields)
    voice = load_voice(folder)
    assert voice.backend.name == "onnxruntime"
    assert reason in voice.backend.reason
    with pytest.raises(VoiceError, match=f"backend='native' can't run it: .*{reason}"):
        load_voice(folder, backend="native")


def test_other_providers_are_onnx_runtimes(folder):
    options = RuntimeOptions(providers=("AnotherExecutionProvider", "CPUExecutionProvider"), backend="native")
    files = VoiceFiles(folder)
    with pytest.raises(ModelError, match="backend='native' can't run it: providers="):
        backends.open_decoders(files.manifest, find_compiled(files, options), options)


def test_an_engine_that_can_not_load_the_program_is_passed_over_with_a_word(folder, native, monkeypatch):
    def refuse(*arguments, **settings):
        raise ModelError("this processor has no instructions that it needs")

    monkeypatch.setattr(native_engine, "NativeEngine", refuse)
    with pytest.warns(BackendWarning, match=r"decoder\.native\.json: this processor has no instructions"):
        voice = load_voice(folder)
    assert voice.backend.name == "onnxruntime"
    assert "has no instructions" in voice.backend.reason
    with pytest.raises(VoiceError, match="has no instructions"):
        load_voice(folder, backend="native")


def test_weights_that_are_not_finite_are_passed_over_with_a_word(folder, native):
    (folder / WEIGHTS_FILE).write_bytes(np.full(24, np.nan, np.float32).tobytes())
    change(folder, weights__sha256=hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest())
    with pytest.warns(BackendWarning, match=r"arrays\['w'\] holds NaN or infinity"):
        assert load_voice(folder).backend.name == "onnxruntime"


@pytest.mark.parametrize("backend", ["auto", "native"])
@pytest.mark.parametrize("packed", [False, True], ids=["folder", "addon"])
def test_a_damaged_program_is_a_damaged_voice(folder, native, tmp_path, backend, packed):
    (folder / "decoder.native.json").write_text("{}")
    path = pack_addon(folder, tmp_path / "voice.addon") if packed else folder
    with pytest.raises(VoiceError, match=r"decoder\.native\.json is damaged or another file"):
        load_voice(path, backend=backend)


def test_the_variable_says_what_auto_takes(folder, native, cache, monkeypatch):
    for name in ("native", "onnxruntime"):
        monkeypatch.setenv(BACKEND_VARIABLE, name)
        voice = load_voice(folder)
        assert str(voice.backend) == f"{name}: {BACKEND_VARIABLE} says so"
    assert not cache.exists()
    monkeypatch.setenv(BACKEND_VARIABLE, "fast")
    with pytest.raises(ParameterError, match="BALACOON_TK_BACKEND='fast' must be one of auto, native"):
        load_voice(folder)


def test_a_voice_of_several_speakers_is_measured_with_one_of_them(tmp_path, native, monkeypatch):
    folder = add_program(build_tiny_voice(tmp_path / "speakers", SPEAKERS, streaming=True))
    monkeypatch.setattr(
        native_engine, "NativeEngine", lambda *args, **settings: OtherEngine(n_speakers=len(SPEAKERS))
    )
    assert load_voice(folder).backend.reason != ""


@pytest.mark.parametrize("wait_s", [0.0, 0.004])
def test_a_race_of_an_engine_and_one_that_waits(tiny_voice, wait_s):
    start = time.perf_counter()
    found = race(OtherEngine(), OtherEngine(wait_s=wait_s), tiny_voice.manifest, {})
    assert time.perf_counter() - start < 3
    assert found.difference is None
    assert (found.ratio < 0.5) if wait_s else (0.2 < found.ratio < 5)


@pytest.mark.parametrize("precision", ["fp32", "int8", "fp16"])
def test_engines_that_differ_have_no_ratio(tiny_voice, precision):
    decoder = dataclasses.replace(tiny_voice.manifest.decoder, precision=precision)
    manifest = dataclasses.replace(tiny_voice.manifest, decoder=decoder)
    for factor in (np.float32(0.5), np.float32(np.nan)):
        found = race(OtherEngine(factor=factor), OtherEngine(), manifest, {})
        assert found.difference is not None and found.ratio == float("inf")


def test_the_commands_have_the_option_and_inspect_says_which_engine_runs(folder, native, cli, monkeypatch):
    says(monkeypatch, 0.5)
    said = cli("inspect", folder)
    assert b"engine            native: 0.50 of ONNX Runtime's time on this machine" in said.out
    assert b"native program    1 stages: 1 convolve" in said.out
    said = cli("inspect", folder, "--backend", "onnxruntime", "--json")
    assert json.loads(said.out)["engine"] == {"name": "onnxruntime", "reason": "it was asked for"}
    for command in ("synthesize", "resynthesize", "compare", "bench", "evaluate", "calibrate"):
        said = cli(command, "--help")
        assert b"--backend {auto,native,onnxruntime}" in said.out, command
    assert cli("calibrate", "-v", folder, "--backend", "fast").status == 2


def test_calibrating_measures_the_engines_anew(folder, native, cli, monkeypatch):
    races = says(monkeypatch, 0.5)
    load_voice(folder, n_threads=1)
    said = cli("calibrate", "-v", folder, "--threads", "1", "--json")
    assert said.status == 0
    assert "the decoder is run by native: 0.50 of ONNX Runtime's time" in said.err
    assert json.loads(said.out)["key"]["backend"] == "native"
    assert len(races) == 2
    assert cli("calibrate", "-v", folder, "--threads", "1", "--show").status == 0
    assert len(races) == 2
    assert cli("calibrate", "-v", folder, "--threads", "1", "--clear").status == 0
    load_voice(folder, n_threads=1)
    assert len(races) == 3


def test_a_copy_of_the_voice_shares_what_was_measured(folder, native, tmp_path, monkeypatch):
    races = says(monkeypatch, 0.5)
    load_voice(folder)
    load_voice(shutil.copytree(folder, tmp_path / "copy"))
    assert len(races) == 1
