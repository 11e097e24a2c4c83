"""Encoders in the native engine: attention and splines by hand, and programs of what exporters write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.errors import BalacoonError, ModelError, VoiceError
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.checks import MOST_BINS
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.kernels import KERNELS_VARIABLE
from balacoon_tk.runtime.native.opening import open_session
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Edge, Port, Program, Stage
from balacoon_tk.runtime.native.session import NativeSession
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages import encoder as encoder_stage
from balacoon_tk.stages.encoder import Encoder, Encoding
from balacoon_tk.targets.encoders import ENCODER_TIME_AXES
from balacoon_tk.targets.native import verified
from balacoon_tk.targets.native.encoder import compile_encoder
from balacoon_tk.targets.native.errors import NotNativeError
from balacoon_tk.targets.native.verified import compile_voice_encoder
from balacoon_tk.voice import backends
from balacoon_tk.voice.backends import BACKEND_VARIABLE, BackendWarning
from balacoon_tk.voice.race import Race, race_encoders
from balacoon_tk.voice.voice import load_voice
from native_laws import ONE_THREAD, assert_same_bits
from native_oracle import interpret
from native_programs import TWO_THREADS, assert_lawful, feeds_of, random, store
from tiny_encoders import LENGTHS, VARIANTS, WHOLE, encoder_of
from tiny_encoders import feeds_of as encoder_feeds
from tiny_vits import TinyVits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


# --- attention by hand


def attention(n_heads: int, n_in: int, n_out: int, n_distances: int = 0, **options: object) -> Program:
    """Queries, keys and values behind each other in the channels of one input."""
    n_queries, n_values = n_heads * n_in, n_heads * n_out
    near = {}
    if n_distances:
        near = {
            "near_keys": random(n_heads, n_distances, n_in),
            "near_values": random(n_heads, n_distances, n_out),
        }
    fields = {
        "n_groups": n_heads,
        "n_in": n_in,
        "others": ((0, n_queries), (0, 2 * n_queries)),
        "chain": (store(1),),
        **{name: name for name in near},
    }
    stage = Stage("attend", "attention", 0, n_values, **{**fields, **options})
    edges = Edge("0", 2 * n_queries + n_values), Edge("1", n_values)
    inputs = (Port("frames", 0, (1, edges[0].n_channels)),)
    return Program(edges, (stage,), inputs, (Port("out", 1, (1, n_values)),), near)


def convolved(n_channels: int, n_taps: int, dilation: int = 1, left_context: int | None = None) -> Program:
    """A convolution behind an attention that sees all steps, or those of a window."""
    context = {} if left_context is None else {"left_context": left_context, "right_context": 0}
    attended = attention(1, 4, n_channels, **context)
    reach = (n_taps - 1) * dilation
    stage = Stage("convolve", "conv", 1, n_channels, (store(2),), n_taps=n_taps, dilation=dilation,
                  pad_left=reach // 2, pad_right=reach - reach // 2, weights="w", bias="b")  # fmt: skip
    return replace(
        attended,
        edges=(*attended.edges, Edge("2", n_channels)),
        stages=(*attended.stages, stage),
        outputs=(Port("out", 2, (1, n_channels)),),
        arrays={"w": random(n_channels, n_channels, n_taps) / 4, "b": random(n_channels)},
    )


def assert_whole(program: Program, lengths: tuple[int, ...], *, tolerance: float = 1e-4) -> None:
    """The oracle's numbers, as far as scores of some tens leave them, and the same bits on two threads."""
    once, twice = NativeSession(program, ONE_THREAD), NativeSession(program, TWO_THREADS)
    for n_steps in lengths:
        feeds = feeds_of(program, n_steps)
        wanted, got = interpret(program, feeds), once.run(feeds)
        for name, array in got.items():
            assert array.shape == wanted[name].shape
            np.testing.assert_allclose(array, wanted[name], rtol=0, atol=tolerance, err_msg=str(n_steps))
        assert_same_bits(twice.run(feeds), got, n_steps)


@pytest.mark.parametrize("n_distances", [0, 1, 3, 9, 41])
@pytest.mark.parametrize(
    ("n_heads", "n_in", "n_out"), [(1, 1, 1), (2, 3, 5), (3, 16, 33), (2, 96, 96), (1, 40, 70)]
)
def test_an_attention_is_the_oracles(n_heads: int, n_in: int, n_out: int, n_distances: int) -> None:
    assert_whole(attention(n_heads, n_in, n_out, n_distances), (1, 2, 5, 12, 13, 40, 97))


@pytest.mark.parametrize("kernels", _kernels.names())
def test_an_attention_is_the_oracles_with_all_kernels(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    assert_whole(attention(2, 20, 36, 5), (1, 3, 12, 70))


def test_a_chain_works_on_what_an_attention_gives() -> None:
    chain = (Call("load", out=1, edge=0), Call("add", out=2, a=0, b=1), Call("tanh", out=0, a=2), store(1))
    assert_whole(attention(2, 8, 40, 3, chain=chain), (1, 13, 40))


@pytest.mark.parametrize("n_channels", [32, 40, 256])
@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_three_taps_behind_an_attention_are_the_oracles(n_channels: int, dilation: int) -> None:
    program = convolved(n_channels, 3, dilation)
    if _kernels.has_pairs(_kernels.names()[0]):
        assert pack(program, pairs=True)[1].kind == "shared_fours"
    assert_whole(program, (1, 2, 3, 4, 5, 13, 47, 48, 49, 97, 300))


def test_large_scores_are_no_infinity() -> None:
    session = NativeSession(attention(1, 4, 4), ONE_THREAD)
    got = session.run({"frames": 1e4 * random(1, 12, 9)})["out"]
    assert np.isfinite(got).all()


def test_an_attention_can_not_be_streamed() -> None:
    with pytest.raises(ModelError, match="an output depends on all steps of the inputs"):
        NativeEngine(attention(1, 4, 4), ONE_THREAD)


def test_threads_share_a_session() -> None:
    session = NativeSession(attention(2, 16, 16, 3), TWO_THREADS)
    feeds = [{"frames": random(1, 96, n)} for n in (1, 7, 40, 90)]
    wanted = [session.run(each)["out"] for each in feeds]
    wrong: list[int] = []

    def run(k: int) -> None:
        same = (np.array_equal(session.run(feeds[k])["out"], wanted[k]) for _ in range(50))
        wrong.extend(k for each in same if not each)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(len(feeds))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"others": ()}, "must be 2 edges"),
        ({"others": ((0, 8), (0, 17))}, "reads 8 channels from 17 on, of 24"),
        ({"others": ((0, -1), (0, 16))}, "reads 8 channels from -1 on"),
        ({"others": ((0, 8), (2, 16))}, "nothing in front of it writes"),
        ({"n_in": 0}, "n_in=0 must be at least 1"),
        ({"n_in": 13}, "channels from 8 on, of 24"),
        ({"near_keys": None}, "for keys alone, or for values alone"),
        ({"near_values": "near_keys", "n_channels": 4}, "have the shapes"),
        ({"pad_left": 1}, "has a window"),
        ({"kind": "pad"}, "neither an attention nor a spline"),
        ({"kind": "pad", "others": ()}, "is no attention"),
    ],
)
def test_what_an_attention_says_wrong_is_named(change: dict[str, object], reason: str) -> None:
    program = attention(2, 4, 4, 3)
    stage = replace(program.stages[0], **change)
    with pytest.raises(ModelError, match=reason):
        NativeSession(replace(program, stages=(stage,)), ONE_THREAD)


# --- splines by hand


def spline(n_bins: int, bound: float = 5.0, **options: object) -> Program:
    n_channels = 3 * n_bins
    fields = {"n_in": n_bins, "value": bound, "others": ((0, 1),), "chain": (store(1),)} | options
    stage = Stage("spline", "spline", 0, 1, **fields)
    edges = Edge("0", n_channels), Edge("1", 1)
    return Program(edges, (stage,), (Port("frames", 0, (1, n_channels)),), (Port("samples", 1, (1, 1)),), {})


@pytest.mark.parametrize(("n_bins", "bound"), [(2, 5.0), (3, 0.5), (10, 5.0), (MOST_BINS, 1.0)])
def test_a_spline_is_the_oracles_in_any_pushes(n_bins: int, bound: float) -> None:
    assert_lawful(spline(n_bins, bound), tolerance=3e-5)


@pytest.mark.parametrize("kernels", _kernels.names())
def test_a_spline_bends_inside_of_its_bounds_and_nothing_else(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    program = spline(10)
    frames = 2 * random(1, 30, 8)
    frames[0, 0] = [-5.0, 5.0, -5.01, 7.0, np.inf, -np.inf, np.nan, 0.3]
    got = NativeSession(program, ONE_THREAD).run({"frames": frames})["samples"][0, 0]
    np.testing.assert_allclose(got[:2], [-5.0, 5.0], atol=1e-5)
    assert np.array_equal(got[2:7], frames[0, 0, 2:7], equal_nan=True)
    assert got[7] != pytest.approx(0.3, abs=1e-3)
    wanted = interpret(program, {"frames": np.nan_to_num(frames[..., 7:])})["samples"]
    assert got[7] == pytest.approx(wanted.item(), abs=1e-4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"n_in": 1}, "n_in=1 bins must be 2 to 32"),
        ({"n_in": 33}, "n_in=33 bins must be 2 to 32"),
        ({"value": 0.0}, "value=0.0 above 0"),
        ({"n_channels": 2}, "n_channels=2 1"),
        ({"others": ((0, 2),)}, "reads 29 channels from 2 on, of 30"),
        ({"others": ((0, 1), (0, 1))}, "must be 1 edges"),
    ],
)
def test_what_a_spline_says_wrong_is_named(change: dict[str, object], reason: str) -> None:
    program = spline(10)
    with pytest.raises(ModelError, match=reason):
        NativeSession(replace(program, stages=(replace(program.stages[0], **change),)), ONE_THREAD)


# --- encoders


def program_of(variant: TinyVits, folder: Path) -> Program:
    return compile_encoder(encoder_of(variant, folder), time_axes=ENCODER_TIME_AXES)


@pytest.mark.parametrize("options", [ONE_THREAD, TWO_THREADS], ids=["1", "2"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_a_program_says_what_the_graph_says_at_every_length(variant, folder, options) -> None:
    model = encoder_of(variant, folder)
    before = model.SerializeToString()
    theirs, program = Session(model), compile_encoder(model, time_axes=ENCODER_TIME_AXES)
    assert model.SerializeToString() == before
    ours = open_session(program, options)
    assert program.needs_all
    for length in LENGTHS:
        feeds = encoder_feeds(theirs, length)
        wanted, got = theirs.run(feeds), ours.run(feeds)
        kinds = {name: (array.shape, array.dtype) for name, array in wanted.items()}
        assert {name: (array.shape, array.dtype) for name, array in got.items()} == kinds
        np.testing.assert_array_equal(got["durations"], wanted["durations"])
        for name in wanted.keys() - {"durations"}:
            np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5)


def test_a_run_that_takes_over_the_memory_of_another_length_says_the_same(folder) -> None:
    """Edges lend each other memory: what is left in it of another sentence must not be heard."""
    program = program_of(VARIANTS["speakers"], folder)
    theirs, session = Session(encoder_of(VARIANTS["speakers"], folder)), open_session(program, TWO_THREADS)
    for length in (3, 90, 1, 40, 200, 2, 7, 200, 30):
        feeds = encoder_feeds(theirs, length)
        assert_same_bits(session.run(feeds), open_session(program, TWO_THREADS).run(feeds), length)


def test_a_sentence_without_phonemes_is_one_of_no_steps(folder) -> None:
    session = open_session(program_of(WHOLE, folder), ONE_THREAD)
    feeds = encoder_feeds(Session(encoder_of(WHOLE, folder)), 3)
    empty = {
        **feeds,
        "phoneme_ids": np.ones((1, 0), np.int64),
        "duration_noise": np.ones((1, 2, 0), np.float32),
    }
    assert session.run(empty)["durations"].shape == (1, 0)
    assert session.run(feeds)["durations"].shape == (1, 3)


def test_a_program_has_stages_for_what_exporters_spell_out(folder) -> None:
    kinds = [stage.kind for stage in program_of(WHOLE, folder).stages]
    assert kinds.count("attend") == 1
    assert kinds.count("spline") > 1
    assert kinds.count("normalise") == 3


def test_a_program_comes_back_from_its_text_as_it_was(folder) -> None:
    program = program_of(WHOLE, folder)
    again = Program.from_json(program.to_json(), program.arrays)
    assert (again.stages, again.edges, again.inputs, again.outputs) == (
        program.stages, program.edges, program.inputs, program.outputs,
    )  # fmt: skip


def test_a_session_names_what_it_was_not_given(folder) -> None:
    session = open_session(program_of(WHOLE, folder), ONE_THREAD)
    with pytest.raises(ModelError, match="the input 'length_scale' is missing"):
        session.run({"phoneme_ids": np.ones((1, 2), np.int64)})
    with pytest.raises(ModelError, match=r"input 'phoneme_ids' of shape \(2, 2\) must be"):
        session.run({"phoneme_ids": np.ones((2, 2), np.int64)})


def test_ids_beyond_the_table_are_refused(folder) -> None:
    session = open_session(program_of(WHOLE, folder), ONE_THREAD)
    feeds = encoder_feeds(Session(encoder_of(WHOLE, folder)), 3)
    for wrong in (-1, 10_000):
        with pytest.raises(ModelError, match="beyond its table"):
            session.run({**feeds, "phoneme_ids": np.array([[1, wrong, 2]])})


def test_an_unknown_node_is_named(folder) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(encoder_of(TinyVits(), folder))
    node = next(node for node in model.graph.node if node.op_type == "Exp")
    node.op_type = "Atan"
    with pytest.raises(NotNativeError, match="Atan node"):
        compile_encoder(model, time_axes=ENCODER_TIME_AXES)
    assert "Atan node" in compile_voice_encoder(model, phoneme_ids=range(3, 11))


def test_attention_of_another_form_is_refused() -> None:
    """Scores of which something is taken away that isn't known."""
    nodes = [
        helper.make_node("Gather", ["table", "phoneme_ids"], ["x"]),
        helper.make_node("Transpose", ["x"], ["xt"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "xt"], ["scores"]),
        helper.make_node("Abs", ["scores"], ["other"]),
        helper.make_node("Softmax", ["other"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "x"], ["encodings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "attention",
        [helper.make_tensor_value_info("phoneme_ids", TensorProto.INT64, [1, "n"])],
        [helper.make_tensor_value_info("encodings", TensorProto.FLOAT, [1, "n", 8])],
        [numpy_helper.from_array(random(12, 8), "table")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BalacoonError):
        compile_encoder(model, time_axes=ENCODER_TIME_AXES)


def test_a_program_that_says_something_else_is_not_believed(folder, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto, *, time_axes: dict[str, int]) -> Program:
        program = compile_encoder(model, time_axes=time_axes)
        norms = [k for k, stage in enumerate(program.stages) if stage.kind == "normalise"]
        stages = list(program.stages)
        stages[norms[0]] = replace(stages[norms[0]], epsilon=10.0)
        return replace(program, stages=tuple(stages))

    model = encoder_of(WHOLE, folder)
    assert isinstance(compile_voice_encoder(model, phoneme_ids=range(3, 11)), Program)
    monkeypatch.setattr(verified, "compile_encoder", wrong)
    assert "is not believed" in compile_voice_encoder(model, phoneme_ids=range(3, 11))


# --- voices


class Other:
    """Stands in for an encoder."""

    def __init__(self, encoder: Encoder, *, factor: float = 1.0, longer: int = 0) -> None:
        self.encoder, self.factor, self.longer = encoder, factor, longer

    def encode(self, *arguments, **options) -> Encoding:
        made = self.encoder.encode(*arguments, **options)
        return replace(made, encodings=self.factor * made.encodings, durations=made.durations + self.longer)


def test_encoders_that_differ_run_no_race(exported_vits_folder) -> None:
    voice = load_voice(exported_vits_folder, n_threads=1)
    encoder = voice.encoder
    found = race_encoders(encoder, encoder, voice.manifest)
    assert found.difference is None
    assert 0 < found.ratio < np.inf
    others = (Other(encoder, factor=1.1), "encodings differ by"), (Other(encoder, longer=1), "durations")
    for other, reason in others:
        found = race_encoders(other, encoder, voice.manifest)
        assert found.ratio == np.inf
        assert reason in found.difference


@pytest.mark.parametrize(("ratio", "name"), [(0.5, "native"), (2.0, "onnxruntime")])
def test_the_faster_encoder_is_measured_once_and_then_loaded_alone(
    exported_vits_folder, tmp_path, monkeypatch: pytest.MonkeyPatch, ratio: float, name: str
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    races = []

    def measured(*encoders: object) -> Race:
        races.append(encoders)
        return Race(ratio, None)

    monkeypatch.setattr(backends, "race_encoders", measured)
    first, again = (load_voice(exported_vits_folder, n_threads=1) for _ in range(2))
    assert len(races) == 1
    assert first.encoder_backend == again.encoder_backend
    assert first.encoder_backend.name == name
    assert f"{ratio:.2f} of" in first.encoder_backend.reason
    assert (again.encoder.kernels is None) == (name == "onnxruntime")
    assert ("native" in again.target.encoder.file) == (name == "native")


def test_encoders_that_do_not_agree_are_said_to(
    exported_vits_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(backends, "race_encoders", lambda *encoders: Race(np.inf, "their durations differ"))
    with pytest.warns(BackendWarning, match="their durations differ; ONNX Runtime runs it"):
        voice = load_voice(exported_vits_folder, n_threads=1)
    assert voice.encoder_backend.name == "onnxruntime"


def test_onnx_runtime_takes_over_an_encoder_that_can_not_be_opened(
    exported_vits_folder, tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise ModelError("no kernels")

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.delenv(BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(encoder_stage, "open_session", broken)
    with pytest.warns(BackendWarning, match="no kernels"):
        voice = load_voice(exported_vits_folder, n_threads=1)
    assert voice.encoder_backend.name == "onnxruntime"
    with pytest.raises(VoiceError, match=r"encoder\.native\.json: no kernels"):
        load_voice(exported_vits_folder, n_threads=1, backend="native")


def test_a_voice_without_a_program_for_its_encoder_says_why(exported_vits_folder, tmp_path) -> None:
    folder = shutil.copytree(exported_vits_folder, tmp_path / "voice")
    data = json.loads((folder / "voice.json").read_text(encoding="utf-8"))
    data["targets"]["native"]["encoder"] = None
    data["encoder_not_native"] = "LSTM node 'x': unknown"
    (folder / "voice.json").write_text(json.dumps(data), encoding="utf-8")
    for backend in ("auto", "native"):
        voice = load_voice(folder, n_threads=1, backend=backend)
        assert str(voice.encoder_backend) == "onnxruntime: LSTM node 'x': unknown"


def test_a_voice_of_the_native_engine_runs_without_onnx_runtime(exported_vits_folder) -> None:
    code = (
        "import sys; from balacoon_tk import TTS; from balacoon_tk.frontend import EspeakFrontend; "
        f"tts = TTS({str(exported_vits_folder)!r}, backend='native', n_threads=1); "
        "print(tts.voice.encoder_backend); list(tts.stream('Yes.')); assert 'onnxruntime' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "native: it was asked for" in done.stdout
