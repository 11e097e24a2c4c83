"""Vocoders become voices without a frontend, and say recordings again, whole and streamed."""

import io
import json
from dataclasses import asdict, replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk import TTS
from balacoon_tk.audio import read_wav, write_wav
from balacoon_tk.cli import main
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.export import export_voice
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice import load_vocoder, load_voice
from balacoon_tk.voice.inspection import inspect_voice
from balacoon_tk.voice.manifest import Manifest
from tiny_voice import HOP_LENGTH, LEFT_CONTEXT, LOOKAHEAD, N_CHANNELS, decoder_model, pack_addon, set_field

MEL = MelInfo(n_fft=16, win_length=16, hop_length=HOP_LENGTH, n_mels=N_CHANNELS, f_min=0.0, f_max=500.0)
SAMPLE_RATE = 1000
RECORDING = np.random.default_rng(1).uniform(-0.5, 0.5, 601).astype(np.float32)


def write_vocoder(folder, model=None, *, config=None):
    """Write a vocoder as it comes: one ONNX file, and its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.onnx"
    onnx.save(decoder_model() if model is None else model, path)
    said = {"sample_rate": SAMPLE_RATE, "mel": asdict(MEL)} if config is None else config
    path.with_name("tiny.onnx.json").write_text(json.dumps(said))
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_vocoder(tmp_path_factory.mktemp("trained"))


@pytest.fixture(scope="module")
def folder(trained, tmp_path_factory):
    return export_voice(trained, tmp_path_factory.mktemp("vocoders") / "tiny", license="CC0-1.0")


@pytest.fixture(scope="module")
def vocoder(folder):
    return load_vocoder(folder, n_threads=1)


def join(chunks):
    return np.concatenate([chunk.samples for chunk in chunks])


# --- what is exported ------------------------------------------------------------------------------


def test_the_manifest_says_what_the_vocoder_is(vocoder, trained):
    manifest = vocoder.manifest
    assert (manifest.name, manifest.license, manifest.sample_rate) == ("tiny", "CC0-1.0", SAMPLE_RATE)
    assert (manifest.hop_length, manifest.n_channels, manifest.mel) == (HOP_LENGTH, N_CHANNELS, MEL)
    assert (manifest.decoder.left_context, manifest.decoder.lookahead) == (LEFT_CONTEXT, LOOKAHEAD)
    assert manifest.provenance["source_file"] == "tiny.onnx"
    assert manifest.verified["samples"] <= 1e-6
    assert Manifest.from_json(manifest.to_json()) == manifest


def test_the_stages_of_the_export_stand_in_the_manifest(vocoder, trained):
    source, cut, voice = vocoder.manifest.stages
    assert [source.name, cut.name, voice.name] == ["source", "plain", "voice"]
    assert source.n_bytes == trained.stat().st_size
    assert (source.max_abs_diff, source.rtf > 0, cut.rtf > 0, voice.rtf > 0) == (0.0, True, True, True)
    assert max(cut.max_abs_diff, voice.max_abs_diff) <= 1e-5


def test_an_addon_is_the_same_vocoder(folder, vocoder, tmp_path):
    packed = load_vocoder(pack_addon(folder, tmp_path / "tiny.addon"), n_threads=1)
    assert packed.manifest == vocoder.manifest


def squeezed(rank):
    """Give samples of a lower rank, as vocoders do."""
    model = decoder_model()
    model.graph.node[-1].output[0] = "wave_of_rank_3"
    model.graph.initializer.append(numpy_helper.from_array(np.array([-1] if rank == 1 else [1, -1]), "shape"))
    model.graph.node.append(helper.make_node("Reshape", ["wave_of_rank_3", "shape"], ["audio"]))
    del model.graph.output[:]
    shape = ["n"] if rank == 1 else [1, "n"]
    model.graph.output.append(helper.make_tensor_value_info("audio", TensorProto.FLOAT, shape))
    return model


def time_first():
    """Take frames with time before channels, and any batch."""
    model = decoder_model()
    shape = ["batch", "time", N_CHANNELS]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("mels", TensorProto.FLOAT, shape))
    model.graph.node.insert(0, helper.make_node("Transpose", ["mels"], ["frames"], perm=[0, 2, 1]))
    return model


def all_dynamic():
    model = decoder_model()
    shape = ["batch", "channels", "time"]
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("frames", TensorProto.FLOAT, shape))
    return model


@pytest.mark.parametrize(
    "model",
    [squeezed(1), squeezed(2), time_first(), all_dynamic()],
    ids=["rank 1", "rank 2", "time first", "dynamic"],
)
def test_graphs_of_other_layouts_become_the_same_vocoder(model, vocoder, tmp_path):
    other = load_vocoder(export_voice(write_vocoder(tmp_path, model), tmp_path / "out"), n_threads=1)
    again = join(other.resynthesize(RECORDING, sample_rate=SAMPLE_RATE))
    np.testing.assert_array_equal(again, join(vocoder.resynthesize(RECORDING, sample_rate=SAMPLE_RATE)))


def test_the_configuration_of_hifi_gan_is_read(tmp_path):
    config = {"sampling_rate": SAMPLE_RATE, "num_mels": N_CHANNELS, "n_fft": 16, "hop_size": HOP_LENGTH}
    config |= {"win_size": 16, "fmin": 0, "fmax": None, "upsample_rates": [2, 2]}
    exported = export_voice(write_vocoder(tmp_path, config=config), tmp_path / "out")
    assert load_vocoder(exported, n_threads=1).manifest.mel == MEL


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("mel.n_mels", 7, r"none of its axes is n_mels=7"),
        ("mel.hop_length", 5, r"mel\.hop_length=5 must be 4"),
        ("mel.n_fft", ..., r"tiny\.onnx\.json: mel\.n_fft is missing"),
        ("mel.win_length", 17, r"mel\.win_length=17 must be <= n_fft=16"),
        ("mel.f_max", 0.5, r"mel\.f_max=0\.5 must be > f_min=1"),
        ("mel.scale", "bark", r"mel\.scale='bark' must be one of slaney, htk"),
        ("mel.unit_area", 1, r"mel\.unit_area must be true or false, not int"),
        ("sample_rate", 0, r"sample_rate=0 must be >= 1"),
        ("mel", [], r"mel must be an object"),
    ],
)
def test_a_json_that_does_not_fit_is_named(tmp_path, path, value, message):
    said = {"sample_rate": SAMPLE_RATE, "mel": asdict(replace(MEL, f_min=1.0))}
    set_field(said, path, value)
    with pytest.raises(ModelError, match=message):
        export_voice(write_vocoder(tmp_path / "in", config=said), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_vocoder_without_its_json_says_what_belongs_into_it(tmp_path):
    path = write_vocoder(tmp_path)
    path.with_name("tiny.onnx.json").unlink()
    with pytest.raises(VoiceError, match=r'tiny\.onnx\.json: no such file; .*"n_mels": 80'):
        export_voice(path, tmp_path / "out")


def test_a_graph_with_other_inputs_is_refused(tmp_path):
    with pytest.raises(ModelError, match="has one input, and this graph has frames, speaker_embedding"):
        export_voice(write_vocoder(tmp_path, decoder_model(2)), tmp_path / "out")


def test_an_unsupported_opset_is_refused(tmp_path):
    model = decoder_model()
    model.opset_import[0].version = 9
    with pytest.raises(ModelError, match="opset 9: 10 or newer is needed"):
        export_voice(write_vocoder(tmp_path, model), tmp_path / "old")
    model.opset_import[0].version = 999
    with pytest.raises(ModelError, match=r"opset 999: .* is the newest that is known here"):
        export_voice(write_vocoder(tmp_path, model), tmp_path / "new")


def test_speakers_of_a_vocoder_are_refused(trained, tmp_path):
    with pytest.raises(ParameterError, match=r"speakers=\['ann'\] must be None: tiny is a vocoder"):
        export_voice(trained, tmp_path / "out", speakers=["ann"])


def test_a_decoder_that_differs_from_the_source_is_refused(trained, tmp_path, monkeypatch):
    from balacoon_tk.export import pipeline
    from balacoon_tk.export.sources import OnnxVocoder, find_source

    class Spoiled(OnnxVocoder):
        def read(self, path, *, config, progress, trust):
            read = super().read(path, config=config, progress=progress, trust=trust)
            return replace(read, decoder=decoder_model(bias=0.11))

    assert isinstance(find_source(trained), OnnxVocoder)
    monkeypatch.setattr(pipeline, "find_source", lambda path: Spoiled())
    with pytest.raises(ModelError, match=r"a sample differs by .*, which must be <= 0\.0001"):
        export_voice(trained, tmp_path / "out")


# --- copy synthesis ----------------------------------------------------------------------------------


def test_resynthesis_is_the_source_s_graph_over_the_recording_s_mel(trained, vocoder):
    mel = vocoder.mel_spectrogram(RECORDING, sample_rate=SAMPLE_RATE)
    expected = Session(trained).run({"frames": mel[None]})["samples"].reshape(-1)
    chunks = list(vocoder.resynthesize(RECORDING, sample_rate=SAMPLE_RATE, strategy="full"))
    assert [chunk.start_sample for chunk in chunks] == [0]
    assert len(expected) == len(RECORDING) // HOP_LENGTH * HOP_LENGTH
    np.testing.assert_allclose(chunks[0].samples, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("strategy", ["overlap", "stateful"])
@pytest.mark.parametrize("chunk_frames", [1, 7, (5, 2), 149, 150, 151])
def test_streamed_resynthesis_is_the_whole(vocoder, strategy, chunk_frames):
    whole = join(vocoder.resynthesize(RECORDING, sample_rate=SAMPLE_RATE, strategy="full"))
    chunks = list(
        vocoder.resynthesize(RECORDING, sample_rate=SAMPLE_RATE, strategy=strategy, chunk_frames=chunk_frames)
    )
    np.testing.assert_allclose(join(chunks), whole, rtol=0, atol=1e-6)
    starts = np.cumsum([0, *(len(chunk.samples) for chunk in chunks)])
    assert [chunk.start_sample for chunk in chunks] == starts[:-1].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sample_rate": 16000}, "sample_rate=16000 must be 1000 Hz, that of tiny: convert"),
        ({"strategy": "fast"}, "strategy='fast' must be one of full, overlap, stateful"),
        ({"chunk_frames": 0}, "chunk_frames=0 must be"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(vocoder, arguments, message):
    with pytest.raises(ParameterError, match=message):
        vocoder.resynthesize(RECORDING, **({"sample_rate": SAMPLE_RATE} | arguments))


def test_frames_of_another_shape_are_refused(vocoder):
    with pytest.raises(ParameterError, match=r"frames of shape \(8, 3\), float64 must be \(8, n_frames\)"):
        vocoder.decode(np.zeros((8, 3)))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_frames_that_are_not_finite_are_refused_at_the_call(vocoder, value):
    frames = np.zeros((8, 3), np.float32)
    frames[2, 1] = value
    with pytest.raises(ParameterError, match="frames hold NaN or infinity"):
        vocoder.decode(frames)


def test_without_a_mel_frames_can_be_decoded_and_recordings_not(trained, tmp_path):
    config = tmp_path / "plain.json"
    config.write_text(json.dumps({"sample_rate": SAMPLE_RATE}))
    vocoder = load_vocoder(export_voice(trained, tmp_path / "out", config=config), n_threads=1)
    assert join(vocoder.decode(np.zeros((8, 3), np.float32))).shape == (3 * HOP_LENGTH,)
    with pytest.raises(ParameterError, match="tiny: its manifest has no mel"):
        vocoder.resynthesize(RECORDING, sample_rate=SAMPLE_RATE)


# --- what it is not ----------------------------------------------------------------------------------


def test_a_vocoder_is_no_voice_and_a_voice_no_vocoder(folder, tiny_voice_folder):
    with pytest.raises(VoiceError, match=r"tiny is a vocoder: it has no frontend .*resynthesize"):
        TTS(folder)
    with pytest.raises(VoiceError, match=r"tiny is a vocoder: it has no encoder"):
        _ = load_voice(folder).encoder
    with pytest.raises(VoiceError, match="a voice that speaks text, and no vocoder"):
        load_vocoder(tiny_voice_folder)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("encoder", ..., "encoder is missing"),
        ("mel.hop_length", 3, r"mel\.hop_length=3 must be 4"),
        ("hop_length", 5, r"mel\.hop_length=4 must be 5"),
        ("n_channels", 9, r"mel\.n_mels=8 must be 9"),
        ("targets.*.streaming", None, "the graph is stateful, and streaming says otherwise"),
        ("stages", [{}], r"stages\[0\]\.name is missing"),
        ("stages", {}, "stages must be a list of objects, not dict"),
    ],
)
def test_a_damaged_manifest_is_named(folder, tmp_path, path, value, message):
    data = json.loads((folder / "voice.json").read_text())
    set_field(data, path, value)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "voice.json").write_text(json.dumps(data))
    with pytest.raises(VoiceError, match=message):
        load_vocoder(tmp_path)


# --- from the command line ---------------------------------------------------------------------------


@pytest.fixture
def wav(tmp_path):
    write_wav(tmp_path / "in.wav", RECORDING, SAMPLE_RATE)
    return tmp_path / "in.wav"


@pytest.mark.parametrize("strategy", [(), ("--strategy", "full"), ("--strategy", "overlap")])
def test_a_recording_is_said_again(vocoder, folder, wav, tmp_path, strategy):
    assert (
        main(["resynthesize", str(wav), "-v", str(folder), "-o", str(tmp_path / "out.wav"), *strategy]) == 0
    )
    samples, sample_rate = read_wav(tmp_path / "out.wav")
    expected = join(vocoder.resynthesize(read_wav(wav)[0], sample_rate=SAMPLE_RATE))
    assert sample_rate == SAMPLE_RATE
    np.testing.assert_allclose(samples, expected, rtol=0, atol=1 / 32767)


def test_json_says_what_it_cost_and_how_near_it_came(folder, wav, tmp_path, monkeypatch, capsys):
    stdin = io.TextIOWrapper(io.BytesIO(wav.read_bytes()))
    monkeypatch.setattr("sys.stdin", stdin)
    arguments = ["-v", str(folder), "-o", str(tmp_path / "out.wav"), "--chunk-frames", "20", "--json"]
    assert main(["resynthesize", "-", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["strategy"], report["n_samples"]) == ("stateful", 600)
    assert report["n_chunks"] == 8
    assert report["mel_difference"] > 0


@pytest.mark.parametrize("output", [(), ("-o", "-")])
def test_json_needs_a_file_for_the_audio(folder, wav, output, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["resynthesize", str(wav), "-v", str(folder), "--json", *output])
    assert stop.value.code == 2
    assert "give a file" in capsys.readouterr().err


def test_export_prints_the_stages_and_inspect_the_mel(trained, tmp_path, capsys):
    assert main(["export", str(trained), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    for part in ("size", "RTF", "largest difference", "source", "plain", "voice "):
        assert part in printed
    assert main(["inspect", str(tmp_path / "out")]) == 0
    assert "8 bands from 0 to 500 Hz (slaney), ln" in capsys.readouterr().out
    assert inspect_voice(tmp_path / "out").encoder is None
