"""Loading a voice: whole folders and files load, and everything else says what is wrong with it."""

import hashlib
import json
import shutil
import threading
import zipfile

import numpy as np
import pytest

from balacoon_tk.decoder import OverlapDecoder
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.voice import load_voice, read_manifest
from tiny_voice import (
    HOP_LENGTH,
    LEFT_CONTEXT,
    LOOKAHEAD,
    N_CHANNELS,
    SPEAKERS,
    SYMBOLS,
    build_tiny_voice,
    decoder_model,
    encoder_model,
    pack_addon,
    set_field,
    write_voice,
)


def frames_of(n_frames, seed=3):
    """Return an upsampler of random encodings, one frame each."""
    encodings = np.random.default_rng(seed).normal(size=(n_frames, N_CHANNELS)).astype(np.float32)
    return Upsampler(encodings, np.ones(n_frames, np.int64))


def decode(voice, n_frames, strategy, chunk_frames=(7,)):
    return np.concatenate([[], *voice.render(frames_of(n_frames), None, strategy, chunk_frames)])


def test_a_folder_and_its_addon_are_the_same_voice(tmp_path, tiny_voice, tiny_voice_folder):
    packed = load_voice(pack_addon(tiny_voice_folder, tmp_path / "tiny.addon"))
    assert packed.manifest == tiny_voice.manifest
    assert np.array_equal(decode(packed, 50, "full"), decode(tiny_voice, 50, "full"))


def test_an_addon_is_read_in_place(tmp_path, tiny_voice_folder):
    addon = pack_addon(tiny_voice_folder, tmp_path / "tiny.addon")
    load_voice(addon)
    assert list(tmp_path.iterdir()) == [addon]


def test_a_path_may_be_text(tiny_voice_folder):
    assert load_voice(str(tiny_voice_folder)).path == tiny_voice_folder


# --- what is not a voice -------------------------------------------------------------------------


def test_a_path_that_is_not_there(tmp_path):
    with pytest.raises(VoiceError, match=r"nowhere: no such voice folder or \.addon file"):
        load_voice(tmp_path / "nowhere")


def test_a_folder_without_a_manifest(tmp_path):
    with pytest.raises(VoiceError, match=r"not a voice folder: there is no voice\.json in it"):
        load_voice(tmp_path)


def test_a_trained_graph_asks_to_be_exported(tmp_path):
    (tmp_path / "joe.onnx").write_bytes(encoder_model().SerializeToString())
    with pytest.raises(VoiceError, match=r"export it first: balacoon-tk export joe\.onnx -o DIR"):
        load_voice(tmp_path / "joe.onnx")


@pytest.mark.parametrize("data", [b"", b"text", b"PK\x03\x04 and then nothing of a zip"])
def test_a_file_of_another_kind(tmp_path, data):
    (tmp_path / "voice.addon").write_bytes(data)
    with pytest.raises(VoiceError, match=r"voice\.addon: neither a voice folder nor an undamaged \.addon"):
        load_voice(tmp_path / "voice.addon")


def test_a_zip_without_a_manifest(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.addon", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(VoiceError, match=r"a\.addon: voice\.json is missing"):
        load_voice(tmp_path / "a.addon")


def test_an_addon_that_was_cut(tmp_path, tiny_voice_folder):
    addon = pack_addon(tiny_voice_folder, tmp_path / "tiny.addon")
    addon.write_bytes(addon.read_bytes()[:-40])
    with pytest.raises(VoiceError, match="nor an undamaged"):
        load_voice(addon)


def test_an_addon_with_a_flipped_bit(tmp_path, tiny_voice_folder):
    addon = pack_addon(tiny_voice_folder, tmp_path / "tiny.addon")
    data = bytearray(addon.read_bytes())
    data[len(data) // 4] ^= 1
    addon.write_bytes(data)
    with pytest.raises(VoiceError, match=r"(decoder|encoder)\.onnx is damaged"):
        load_voice(addon)


def test_the_manifest_is_read_without_the_graphs(tmp_path, tiny_voice_folder, tiny_voice):
    folder = shutil.copytree(tiny_voice_folder, tmp_path / "voice")
    (folder / "decoder.onnx").unlink()
    assert read_manifest(folder) == tiny_voice.manifest
    with pytest.raises(VoiceError, match="nowhere: no such voice folder"):
        read_manifest(tmp_path / "nowhere")


def test_of_two_damaged_graphs_the_encoder_is_named(tmp_path, tiny_voice_folder):
    folder = shutil.copytree(tiny_voice_folder, tmp_path / "voice")
    for name in ("decoder.onnx", "encoder.onnx"):
        (folder / name).write_bytes(b"")
    for _ in range(3):
        with pytest.raises(VoiceError, match=r"encoder\.onnx is damaged"):
            load_voice(folder)
    assert not [thread for thread in threading.enumerate() if thread.name == "load-decoder"]


# --- what is damaged -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["voice.json", "encoder.onnx", "decoder.onnx"])
def test_a_file_that_is_missing_is_named(tmp_path, tiny_voice_folder, name):
    folder = shutil.copytree(tiny_voice_folder, tmp_path / "voice")
    (folder / name).unlink()
    with pytest.raises(VoiceError, match=name.replace(".", r"\.")):
        load_voice(folder)


@pytest.mark.parametrize("name", ["encoder.onnx", "decoder.onnx"])
def test_a_file_that_is_cut_or_altered_is_named(tmp_path, tiny_voice_folder, name):
    folder = shutil.copytree(tiny_voice_folder, tmp_path / "voice")
    data = (folder / name).read_bytes()
    for damaged in (data[:-1], data[:100], b"", bytes([data[0] ^ 1]) + data[1:]):
        (folder / name).write_bytes(damaged)
        with pytest.raises(VoiceError, match=rf"{name} is damaged or another file: its sha256"):
            load_voice(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is not JSON"), (b'{"name": "t', "is not JSON"), (b"\xff\xfe", "is not UTF-8"), (b"[]", "object")],
)
def test_a_manifest_that_cannot_be_read(tmp_path, tiny_voice_folder, data, message):
    folder = shutil.copytree(tiny_voice_folder, tmp_path / "voice")
    (folder / "voice.json").write_bytes(data)
    with pytest.raises(VoiceError, match=rf"voice: voice\.json .*{message}"):
        load_voice(folder)


def test_a_graph_that_is_a_folder_is_named(tmp_path, tiny_voice_folder):
    folder = shutil.copytree(tiny_voice_folder, tmp_path / "voice")
    (folder / "encoder.onnx").unlink()
    (folder / "encoder.onnx").mkdir()
    with pytest.raises(VoiceError, match=r"encoder\.onnx can't be read"):
        load_voice(folder)


# --- what doesn't fit ----------------------------------------------------------------------------

STREAMING = {"lag_samples": 12, "n_state_bytes": 1, "max_abs_diff": 0.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_channels": 9}, r"encoder\.onnx: encodings of 8 channels must have n_channels=9"),
        ({"hop_length": 5}, r"decoder\.onnx: 3 frames give 12 samples, and hop_length=5 must give 15"),
        (
            {"targets.*.streaming": STREAMING},
            r"decoder\.onnx: the graph is not stateful, and streaming says",
        ),
        (
            {"speakers": ["ada"]},
            r"encoder\.onnx: the graph has no input speaker_id, and speakers has 1 names",
        ),
        ({"frontend.phoneme_ids": {"a": [99]}}, r"encoder\.onnx: .*run failed"),
        ({"sample_rate": -1}, "sample_rate=-1 must be >= 1"),
        ({"targets.*.encoder.file": "decoder.onnx"}, r"decoder\.onnx is damaged or another file"),
        (
            {"encoder.file": "../encoder.onnx"},
            r"encoder\.file='\.\./encoder\.onnx' must be a plain file name",
        ),
        ({"format_version": 1}, "format_version=1: this version reads 2; export the voice again"),
    ],
)
def test_a_manifest_that_does_not_fit_its_graphs(tmp_path, changes, message):
    folder = write_voice(tmp_path / "voice", encoder_model(), decoder_model(), changes=changes)
    with pytest.raises(VoiceError, match=message):
        load_voice(folder)


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (encoder_model(), decoder_model(n_channels=9), r"decoder\.onnx: frames of 9 channels must have n_ch"),
        (encoder_model(), encoder_model(), r"decoder\.onnx: input 'frames' is missing"),
        (decoder_model(), decoder_model(), r"encoder\.onnx: input 'phoneme_ids' is missing"),
        (encoder_model(), decoder_model(3), "input 'speaker_embedding' must be an output of the encoder"),
        (encoder_model(3), decoder_model(3), "the graph has an input speaker_id, and speakers has 0 names"),
        (
            encoder_model(duration_factor=-1),
            decoder_model(),
            r"encoder\.onnx: durations\[0\]=-\d+ must be",
        ),
    ],
)
def test_graphs_that_do_not_fit_each_other(tmp_path, encoder, decoder, message):
    with pytest.raises(VoiceError, match=message):
        load_voice(write_voice(tmp_path / "voice", encoder, decoder))


def test_more_names_than_the_graph_has_speakers(tmp_path):
    folder = write_voice(tmp_path / "voice", encoder_model(2), decoder_model(2), speakers=SPEAKERS)
    with pytest.raises(VoiceError, match=r"encoder\.onnx: .*run failed"):
        load_voice(folder)


def test_a_file_that_is_no_graph_behind_a_right_checksum(tmp_path):
    folder = write_voice(tmp_path / "voice", encoder_model(), decoder_model())
    data = json.loads((folder / "voice.json").read_text())
    empty = {"file": "voice.addon", "sha256": hashlib.sha256(b"").hexdigest(), "passes": []}
    set_field(data, "targets.*.encoder", empty)
    (folder / "voice.addon").write_bytes(b"")
    (folder / "voice.json").write_text(json.dumps(data))
    with pytest.raises(VoiceError, match=r"voice\.addon: .*can't load it"):
        load_voice(folder)


# --- speakers and strategies ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("speaker", "number"),
    [(None, 0), ("ada", 0), ("bob", 1), ("7", 2), (1, 1), (np.int64(2), 2), ("0", 0), ("1", 1)],
)
def test_a_speaker_is_found_by_name_first_and_by_id(tiny_speakers_voice, speaker, number):
    assert tiny_speakers_voice.speaker_id(speaker) == number


@pytest.mark.parametrize("speaker", ["eve", "", "3", "-1", 3, -1, 1.0, True, b"ada", "١٢"])
def test_an_unknown_speaker_is_refused_with_the_known_ones(tiny_speakers_voice, speaker):
    with pytest.raises(ParameterError, match=r"speaker=.* must be one of ada, bob, 7, or an id below 3"):
        tiny_speakers_voice.speaker_id(speaker)


def test_a_long_list_of_speakers_is_cut_in_the_message(tmp_path):
    names = [f"speaker {i}" for i in range(30)]
    voice = load_voice(build_tiny_voice(tmp_path / "voice", names))
    with pytest.raises(ParameterError, match=r"one of speaker 0, .*speaker 9 and 20 more, or an id below 30"):
        voice.speaker_id("eve")
    assert voice.speaker_id("speaker 29") == 29


def test_a_lone_speaker_has_the_name_of_the_voice(tiny_voice):
    assert tiny_voice.speakers == ("tiny",)
    assert tiny_voice.speaker_id("tiny") is tiny_voice.speaker_id(0) is tiny_voice.speaker_id(None) is None
    with pytest.raises(ParameterError, match="speaker='ada' must be one of tiny, or an id below 1"):
        tiny_voice.speaker_id("ada")


def test_a_strategy_that_the_decoder_cannot_do_gives_the_reason(tiny_voice):
    assert tiny_voice.strategies == ("full", "overlap")
    with pytest.raises(
        ParameterError, match=r"'stateful'.*can't be streamed exactly: nobody has rewritten it"
    ):
        tiny_voice.choose_strategy("stateful")
    with pytest.raises(ParameterError, match="strategy='fast' must be one of full, overlap"):
        tiny_voice.choose_strategy("fast")
    with pytest.warns(UserWarning, match=r"tiny is streamed with strategy='overlap': .*nobody has rewritten"):
        assert tiny_voice.choose_strategy(None) == "overlap"


# --- decoding ------------------------------------------------------------------------------------

N_FRAMES = [1, 2, 3, 6, 7, 8, 13, 14, 64, 101]


@pytest.mark.parametrize("chunk_frames", [(1,), (2, 3), (7,), (64,), (1000,)])
@pytest.mark.parametrize("n_frames", N_FRAMES)
def test_overlap_equals_full(tiny_voice, n_frames, chunk_frames):
    whole = decode(tiny_voice, n_frames, "full")
    assert whole.shape == (n_frames * HOP_LENGTH,)
    parts = decode(tiny_voice, n_frames, "overlap", chunk_frames)
    np.testing.assert_allclose(parts, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("left_context", "lookahead"), [(LEFT_CONTEXT - 1, LOOKAHEAD), (LEFT_CONTEXT, LOOKAHEAD - 1)]
)
def test_one_frame_less_of_context_shows(tiny_voice, left_context, lookahead):
    upsampler = frames_of(64)
    decoder = OverlapDecoder(
        tiny_voice.decoder, left_context=left_context, lookahead=lookahead, hop_length=HOP_LENGTH
    )
    parts = [decoder.push(upsampler.window(i, i + 8)[None], last=i == 56) for i in range(0, 64, 8)]
    difference = np.abs(np.concatenate(parts, axis=-1).ravel() - decode(tiny_voice, 64, "full"))
    assert difference.max() > 1e-4


def test_no_frames_give_no_chunk(tiny_voice):
    for strategy in tiny_voice.strategies:
        assert list(tiny_voice.render(frames_of(0), None, strategy, (16,))) == []


def test_samples_that_are_not_finite_stop_the_stream(tmp_path):
    encoder = encoder_model()
    folder = write_voice(tmp_path / "voice", encoder, decoder_model(gain=float("inf"), bias=0.0))
    voice = load_voice(folder)
    with pytest.raises(ModelError, match="the decoder made NaN or infinity of the frames to 50"):
        decode(voice, 50, "full", (1000,))


def test_every_symbol_of_the_map_can_be_encoded(tiny_voice):
    ids = np.arange(len(SYMBOLS))
    assert len(tiny_voice.encoder.encode(ids).durations) == len(SYMBOLS)
