"""Other execution providers of ONNX Runtime: named, refused, given way to, and where their tensors lie.

None of them is here. Where a test needs one, ONNX Runtime's kernels for processors compute under its name,
with tensors that say they lie on its device: all but the kernels is as it would be.
"""

import json
import pickle
import warnings
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

import bench_providers
from balacoon_tk import load_voice
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.pacing.calibration import CalibrationKey
from balacoon_tk.runtime import session as session_module
from balacoon_tk.runtime.execution_providers import provider_settings
from balacoon_tk.runtime.options import HOST, Memory, RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.choice import STANDARD, find_compiled
from balacoon_tk.voice import race
from balacoon_tk.voice.backends import BackendWarning
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.inspection import inspect_voice
from decoder_streams import N_CHANNELS, close, push_all, vocoder
from pages import ROOT, commands, fences, run_python
from streaming_laws import make_streaming
from tiny_voice import build_tiny_voice, decoder_model, encoder_model, write_voice

CPU, OPENVINO, CUDA = "CPUExecutionProvider", "OpenVINOExecutionProvider", "CUDAExecutionProvider"
FRAMES = np.random.default_rng(0).standard_normal((8, 40)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    return build_tiny_voice(tmp_path / "tiny", streaming=True)


@pytest.fixture
def places(monkeypatch, tmp_path):
    """Let every execution provider be there, and note on which device each tensor is asked for, by shape."""
    found: list[tuple[str, tuple[int, ...], tuple[str, int]]] = []
    inference_session, value, binding = (
        onnxruntime.InferenceSession,
        onnxruntime.OrtValue,
        onnxruntime.IOBinding,
    )

    class Elsewhere(inference_session):
        def __init__(self, model, sess_options=None, providers=(), **kwargs):
            self.asked = [name for name, _ in providers]
            super().__init__(model, sess_options, providers=[CPU], **kwargs)

        def get_providers(self):
            return self.asked

    def note(what, owner, name, shape_of):
        plain = getattr(owner, name)

        def noted(*args):
            found.append((what, shape_of(*args), args[-2:]))
            return plain(*args[:-2], "cpu", 0)

        monkeypatch.setattr(owner, name, staticmethod(noted) if what != "output" else noted)

    # Nothing that another test has compiled.
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    known = [CPU, OPENVINO, CUDA]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: known)
    monkeypatch.setattr(onnxruntime, "InferenceSession", Elsewhere)
    note("given", value, "ortvalue_from_numpy", lambda array, *_: array.shape)
    note("empty", value, "ortvalue_from_shape_and_type", lambda shape, *_: tuple(shape))
    note("output", binding, "bind_output", lambda _self, name, *_: name)
    return found


def test_the_page_s_code_runs(places, tmp_path, monkeypatch, cli):
    monkeypatch.chdir(tmp_path)
    build_tiny_voice(tmp_path / "voices/joe", streaming=True)
    page = ROOT / "docs/execution_providers.md"
    (block,) = fences(page, "python")
    names = {}
    run_python(block, names)
    assert names["tts"].voice.backend.name == "onnxruntime"
    for command in commands("balacoon-tk", page):
        done = cli(*command)
        assert done.status == 0, done.err
    assert (tmp_path / "hello.wav").is_file()


# --- how they are named --------------------------------------------------------------------------


def test_settings_are_kept_as_texts_that_can_be_compared_and_sent():
    options = RuntimeOptions(providers=[(CUDA, {"device_id": 1}), CPU])
    assert options.providers == ((CUDA, (("device_id", "1"),)), CPU)
    assert options.named_providers == {CUDA: {"device_id": "1"}, CPU: {}}
    assert pickle.loads(pickle.dumps(options)) == replace(options) == options
    assert hash(options) == hash(replace(options)) != hash(RuntimeOptions())


@pytest.mark.parametrize(
    ("providers", "memory", "device"),
    [
        ((CPU,), HOST, "cpu"),
        ((OPENVINO, CPU), HOST, "cpu"),
        ((CUDA,), Memory("cuda", 0), "cuda:0"),
        (("TensorrtExecutionProvider", CUDA), Memory("cuda", 0), "cuda:0"),
        (((CUDA, {"device_id": "2"}), CPU), Memory("cuda", 2), "cuda:2"),
        (((OPENVINO, {"device_id": "2"}),), HOST, "cpu"),
    ],
)
def test_the_device_is_the_first_provider_s(providers, memory, device):
    options = RuntimeOptions(providers=providers)
    assert (options.memory, options.device) == (memory, device)
    assert RuntimeOptions(providers=providers, device="mine").device == "mine"


@pytest.mark.parametrize(
    "provider", [3, "", (CUDA,), (CUDA, 3), (CUDA, "device_id"), (3, {}), (CUDA, {}, {}), None]
)
def test_what_is_no_provider_is_refused_by_its_position(provider):
    with pytest.raises(ParameterError, match=r"providers\[1\]=.* must be a name, or a name and a mapping"):
        RuntimeOptions(providers=(CPU, provider))


def test_a_device_is_a_number():
    with pytest.raises(
        ParameterError, match=r"providers\[0\]: device_id='first' must be a whole number >= 0"
    ):
        RuntimeOptions(providers=((CUDA, {"device_id": "first"}),))


def test_one_name_is_no_list_of_them():
    with pytest.raises(ParameterError, match=r"providers='CPUExecutionProvider' must name at least one"):
        RuntimeOptions(providers=CPU)


def test_providers_are_told_to_compute_in_float32_unless_somebody_says_how():
    given = provider_settings(RuntimeOptions(n_threads=3, providers=(OPENVINO, CUDA, CPU)))
    config = {"CPU": {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 3}}
    assert json.loads(given[OPENVINO]["load_config"]) == config
    assert given[CUDA] == {"use_tf32": "0"}
    assert given[CPU] == {}
    on_gpu = RuntimeOptions(n_threads=3, providers=((OPENVINO, {"device_type": "GPU.1"}),))
    config = {"GPU": {"INFERENCE_PRECISION_HINT": "f32"}}
    assert json.loads(provider_settings(on_gpu)[OPENVINO]["load_config"]) == config
    own = RuntimeOptions(providers=((OPENVINO, {"load_config": "{}"}), (CUDA, {"use_tf32": 1})))
    assert provider_settings(own) == {OPENVINO: {"load_config": "{}"}, CUDA: {"use_tf32": "1"}}


# --- those that aren't there or can't ------------------------------------------------------------


def test_a_provider_that_this_build_lacks_is_an_error_with_the_wheel_that_has_it(folder, cli):
    message = (
        r"providers\[0\]='OpenVINOExecutionProvider' must be one of .*CPUExecutionProvider.*, which this "
        r"build .*; the package onnxruntime-openvino, in place of onnxruntime, has it"
    )
    with pytest.raises(ParameterError, match=message):
        load_voice(folder, options=RuntimeOptions(providers=(OPENVINO, CPU)))
    with pytest.raises(
        ParameterError, match=r"providers\[1\]='NoSuch' .* which this build of ONNX Runtime has$"
    ):
        load_voice(folder, options=RuntimeOptions(providers=(CPU, "NoSuch")))
    done = cli("inspect", folder, "--execution-provider", f"{OPENVINO},{CPU}")
    assert done.status == 1
    assert "the package onnxruntime-openvino, in place of onnxruntime, has it" in done.err


def test_a_provider_that_is_left_out_in_silence_is_an_error(places, monkeypatch):
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: [CPU])
    with pytest.raises(ModelError, match="ONNX Runtime can't start CUDAExecutionProvider: its libraries or"):
        Session(decoder_model(), RuntimeOptions(providers=(CUDA, CPU)))


def fails_elsewhere(monkeypatch, file):
    load = session_module._load

    def fail(model, settings, providers):
        if CPU not in list(providers)[:1] and str(model).endswith(file):
            raise RuntimeError("no kernel")
        return load(model, settings, providers)

    monkeypatch.setattr(session_module, "_load", fail)


@pytest.mark.parametrize("file", ["encoder.onnx", f"decoder.{STANDARD}.onnx"])
def test_a_graph_that_a_provider_can_not_run_is_named(folder, places, monkeypatch, file):
    fails_elsewhere(monkeypatch, file)
    message = rf"{file}: OpenVINOExecutionProvider can't load it: no kernel"
    with pytest.raises(VoiceError, match=message):
        load_voice(folder, options=RuntimeOptions(providers=(OPENVINO,)))


@pytest.mark.parametrize("file", ["encoder.onnx", f"decoder.{STANDARD}.onnx"])
def test_the_processor_takes_over_where_it_was_named_behind(folder, places, monkeypatch, file):
    fails_elsewhere(monkeypatch, file)
    options = RuntimeOptions(n_threads=1, providers=(OPENVINO, CPU), backend="onnxruntime")
    reason = rf"OpenVINOExecutionProvider can't run it: .*{file}.*no kernel"
    with pytest.warns(BackendWarning, match=f"tiny: {reason}; the processor does"):
        voice = load_voice(folder, options=options)
    plain = load_voice(folder, options=options.instead)
    assert voice.options == plain.options == RuntimeOptions(n_threads=1, backend="onnxruntime")
    assert voice.target == plain.target
    assert f"can't run it: {voice.path}" not in voice.backend.reason
    assert voice.backend.reason.endswith(f"no kernel; {plain.backend.reason}")
    with pytest.warns(BackendWarning):
        info = inspect_voice(folder, options=options)
    assert info.backend == voice.backend


# --- what they are given -------------------------------------------------------------------------


def spoken(voice, chunk_frames):
    return np.concatenate([chunk.samples for chunk in voice.decode(FRAMES, chunk_frames=chunk_frames)])


def test_another_provider_gets_standard_operators_and_says_the_same(folder, places, capsys):
    options = RuntimeOptions(n_threads=1, providers=(OPENVINO,))
    voice = load_voice(folder, options=options)
    assert "compiling" in capsys.readouterr().err
    assert voice.strategies == ("full", "overlap", "stateful")
    processor = load_voice(folder, n_threads=1, backend="onnxruntime")
    assert voice.target != processor.target
    for chunk_frames in (1, 5, 40):
        np.testing.assert_allclose(spoken(voice, chunk_frames), spoken(processor, 40), atol=1e-5)
    info = inspect_voice(folder, options=options)
    assert info.target == STANDARD
    assert OPENVINO in info.backend.reason
    # Compiled once, and beside what the processor runs.
    assert "compiling" not in capsys.readouterr().err
    files = VoiceFiles(folder)
    compiled = find_compiled(files, options)
    assert list(compiled.files.manifest.targets) == [STANDARD]
    assert find_compiled(files, RuntimeOptions()).files.path == folder
    model = compiled.files.model(compiled.info.decoder)
    assert {node.domain for node in model.graph.node} == {""}
    assert CalibrationKey.of(voice) != CalibrationKey.of(processor)


@pytest.mark.parametrize(("off", "told"), [(5e-5, False), (2e-3, True), (np.nan, True)])
def test_a_provider_that_streams_other_samples_is_told_of(folder, places, monkeypatch, off, told):
    plain = race.decode_in_chunks
    monkeypatch.setattr(race, "decode_in_chunks", lambda *args, **kwargs: plain(*args, **kwargs) + off)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        load_voice(folder, options=RuntimeOptions(n_threads=1, providers=(OPENVINO,)))
        load_voice(folder, n_threads=1)  # what was compared when it was compiled isn't looked at again
    message = "tiny: in OpenVINOExecutionProvider streamed samples differ from whole ones by"
    assert [str(each.message).startswith(message) for each in warned] == [True] * told


def test_an_encoder_s_spline_has_no_shapes_that_only_a_run_knows(exported_vits_folder, places):
    files = VoiceFiles(exported_vits_folder)
    assert has_operator(files.model(files.manifest.encoder), "NonZero")
    compiled = find_compiled(files, RuntimeOptions(providers=(OPENVINO,)))
    encoder = compiled.files.model(compiled.info.encoder)
    assert not has_operator(encoder, "NonZero")
    assert {node.domain for node in encoder.graph.node} == {""}


def has_operator(model, op_type):
    return any(node.op_type == op_type for node in model.graph.node)


def test_int8_is_run_whole_elsewhere_and_says_why(tmp_path, places):
    changes = {"decoder.precision": "int8"}
    folder = write_voice(tmp_path / "tiny", encoder_model(), decoder_model(), streaming=True, changes=changes)
    voice = load_voice(folder, options=RuntimeOptions(providers=(OPENVINO,)))
    assert "stateful" not in voice.strategies
    with pytest.raises(ParameterError, match="it is in int8, where sums that are added up in another order"):
        voice.choose_strategy("stateful")


def test_a_decoder_that_looks_at_all_of_time_is_run_whole_elsewhere(tmp_path, places):
    decoder = decoder_model()
    decoder.graph.node[-1].output[0] = "uncentred"
    decoder.graph.node.append(helper.make_node("ReduceMean", ["uncentred"], ["mean"], axes=[2]))
    decoder.graph.node.append(helper.make_node("Sub", ["uncentred", "mean"], ["samples"]))
    onnx.checker.check_model(decoder)
    folder = write_voice(tmp_path / "tiny", encoder_model(), decoder)
    voice = load_voice(folder, options=RuntimeOptions(providers=(OPENVINO,)))
    with pytest.raises(ParameterError, match="nobody has rewritten it"):  # the voice's own reason comes first
        voice.choose_strategy("stateful")


# --- where tensors lie ---------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[20, 1, 1, 1], [10, 3, 4, 1, 5], [5, 5, 5, 5, 3]])
def test_states_stay_on_the_device_and_frames_and_samples_alone_pass_through_the_host(
    sizes, places, monkeypatch
):
    frames = np.random.default_rng(7).standard_normal((1, N_CHANNELS, sum(sizes))).astype(np.float32)
    model = make_streaming(vocoder())
    wanted = push_all(StatefulDecoder(OrtEngine(model)), frames, sizes)
    engine = OrtEngine(model, RuntimeOptions(providers=((CUDA, {"device_id": 1}),)))
    copied: list[tuple[int, ...]] = []
    to_numpy = onnxruntime.OrtValue.numpy
    monkeypatch.setattr(
        onnxruntime.OrtValue, "numpy", lambda value: copied.append(tuple(value.shape())) or to_numpy(value)
    )
    monkeypatch.setattr(onnxruntime.OrtValue, "update_inplace", lambda *_: pytest.fail("a state was copied"))
    for _ in range(3):  # the first shows the shapes, the second gets a place, the third takes it over
        places.clear()
        assert close(push_all(StatefulDecoder(engine), frames, sizes), wanted)
    device, states = ("cuda", 1), engine.streaming.states
    names = {state.output for state in states}
    outputs = {name: place for what, name, place in places if what == "output"}
    assert {place for name, place in outputs.items() if name in names} <= {device}
    assert outputs[next(iter(engine.contract.outputs))] == ("cpu", 0)
    host = {shape[:-1] for what, shape, place in places if what == "given" and place == ("cpu", 0)}
    assert host <= {(1, N_CHANNELS), (1, 1)}
    assert {shape[:-1] for shape in copied} == {(1, 1)}
    assert all(place == device for what, _, place in places if what == "empty")
    # The state before a stream's first push is there as well.
    first = {tuple(tensor.shape()) for tensor in engine.start().tensors.values()}
    assert first == {tuple(state.shape) for state in states}


def test_a_saved_state_is_loaded_onto_the_device(places):
    engine = OrtEngine(make_streaming(vocoder()), RuntimeOptions(providers=(CUDA,)))
    saved = engine.save(engine.start())
    places.clear()
    engine.load(saved)
    assert len(places) == len(saved)
    assert {place for _, _, place in places} == {("cuda", 0)}


# --- what was measured ---------------------------------------------------------------------------


def test_what_is_measured_of_a_provider_stands_in_the_table(folder, monkeypatch):
    monkeypatch.setattr(bench_providers, "N_LOADS", 1)
    found = bench_providers.measure(folder, CPU, n_rounds=1)
    for each in found.values():
        assert each["differences"]["whole_to_processor"] == each["differences"]["durations_that_differ"] == 0
        assert each["differences"]["streamed_to_whole"] < 1e-5
        assert each["nodes"]["decoder"]["pieces"] > 0
    results = {CPU: {"facts": {"n_cpus": 2, "cpu": "a", "python": "3", "versions": {}}, "threads": found}}
    lines = bench_providers.to_markdown(results).splitlines()
    assert "|  | 1 thread | 2 threads |" in lines
    assert "| durations that differ | 0 | 0 |" in lines


def test_the_tables_are_those_of_the_committed_figures():
    results = json.loads(bench_providers.RESULTS.read_text(encoding="utf-8"))
    docs = (bench_providers.RESULTS.parents[2] / "docs/execution_providers.md").read_text(encoding="utf-8")
    first, last = bench_providers.MARKS
    assert docs.partition(first)[2].partition(last)[0].strip() == bench_providers.to_markdown(results).strip()
