"""voice.json: what is read back is what was written, and every mistake is named by its field."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import VoiceError
from balacoon_tk.voice.manifest import (
    FORMAT_VERSION,
    CompiledGraph,
    DecoderInfo,
    FileInfo,
    FrontendInfo,
    Manifest,
    ProsodyDefaults,
    StreamingInfo,
    TargetInfo,
    TextInfo,
)
from tiny_voice import set_field

SHA256 = "0123456789abcdef" * 4


def manifest(*, speakers=(), prosody=None, **fields):
    text = TextInfo(
        language="en",
        frontend=FrontendInfo("espeak", "en-us", {"_": (0,), "ə": (1, 2)}),
        prosody=prosody or ProsodyDefaults(),
        encoder=FileInfo("encoder.onnx", SHA256),
        speakers=speakers,
    )
    target = TargetInfo(
        version=3,
        decoder=CompiledGraph("decoder.fast.onnx", SHA256, ("polyphase",)),
        encoder=CompiledGraph("encoder.fast.onnx", SHA256),
        streaming=StreamingInfo(10774, 1 << 20, 1e-5),
    )
    required = {
        "name": "tiny",
        "license": "CC0-1.0",
        "sample_rate": 22050,
        "hop_length": 256,
        "n_channels": 192,
        "text": text,
        "decoder": DecoderInfo("decoder.onnx", SHA256, 42, 42),
        "weights": FileInfo("weights.bin", SHA256),
        "targets": {"fast": target},
    }
    return Manifest(**required | fields)


def changed(path, value):
    data = json.loads(manifest().to_json())
    set_field(data, path, value)
    return json.dumps(data)


def test_reading_gives_back_what_was_written():
    full = manifest(
        speakers=("ada", "bob"),
        provenance={"source": "voice.onnx", "card": "CC0"},
        verified={"zero noise": 3e-7},
    )
    assert Manifest.from_json(full.to_json()) == full


def test_a_decoder_that_is_not_streamable_says_why():
    decoder = DecoderInfo("decoder.onnx", SHA256, 0, 0, "attention over frames")
    assert Manifest.from_json(manifest(decoder=decoder).to_json()).decoder == decoder


def test_the_longest_utterance_of_a_decoder_tells_it_from_others():
    plain = manifest()
    limited = manifest(decoder=DecoderInfo("decoder.onnx", SHA256, 42, 42, max_frames=500))
    assert Manifest.from_json(limited.to_json()) == limited
    assert limited.fingerprint != plain.fingerprint
    with pytest.raises(VoiceError, match=r"decoder\.max_frames=0"):
        Manifest.from_json(changed("decoder.max_frames", 0))


def test_text_of_any_script_stays_readable_in_the_file():
    assert '"ə"' in manifest().to_json()


@given(
    sample_rate=st.integers(1, 10**6),
    noise_scale=st.floats(0, 10),
    speakers=st.lists(st.text(), unique=True),
    verified=st.dictionaries(
        st.text(), st.floats(0, allow_nan=False, allow_infinity=False) | st.integers(0, 2**53 - 1)
    ),
)
def test_reading_undoes_writing(sample_rate, noise_scale, speakers, verified):
    written = manifest(
        sample_rate=sample_rate,
        prosody=ProsodyDefaults(noise_scale=noise_scale),
        speakers=tuple(speakers),
        verified=verified,
    )
    assert Manifest.from_json(written.to_json()) == written


@pytest.mark.parametrize(
    "path", ["name", "sample_rate", "frontend", "frontend.phoneme_ids", "decoder.sha256"]
)
def test_a_missing_field_is_named(path):
    with pytest.raises(VoiceError, match=rf"^{path} is missing$"):
        Manifest.from_json(changed(path, ...))


@pytest.mark.parametrize(
    "path",
    [
        "frontend.vowel_clusters",
        "default_speaker_id",
        "lone_speaker",
        "targets.fast.streaming",
        "targets.fast.encoder",
        "targets",
        "weights",
        "mel",
        "decoder.not_streamable",
        "decoder.max_frames",
    ],
)
def test_optional_fields_may_be_missing(path):
    Manifest.from_json(changed(path, ...))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("name", 3, "name must be text, not int"),
        ("name", None, "name must be text, not null"),
        ("sample_rate", "22050", "sample_rate must be an integer, not str"),
        ("sample_rate", 22050.0, "sample_rate must be an integer, not float"),
        ("sample_rate", True, "sample_rate must be an integer, not bool"),
        ("sample_rate", 0, "sample_rate=0 must be >= 1"),
        ("hop_length", 10**400, "hop_length=1000"),
        ("sample_rate", 10**6 + 1, "sample_rate=1000001 must be >= 1 and <= 1000000"),
        ("hop_length", 2**16 + 1, "hop_length=65537 must be >= 1 and <= 65536"),
        ("n_channels", 2**16 + 1, "n_channels=65537 must be >= 1 and <= 65536"),
        ("codebook_size", 2**24 + 1, "codebook_size=16777217 must be >= 1"),
        ("decoder.lookahead", 2**31 - 1, "decoder.lookahead=2147483647 must be >= 0 and <= 1048576"),
        ("decoder.left_context", 2**20 + 1, "decoder.left_context=1048577 must be >= 0"),
        ("prosody.noise_w", 11, "prosody.noise_w=11 must be >= 0 and <= 10"),
        ("prosody.length_scale", 1e-300, "prosody.length_scale=1e-300 must be >= 0.01 and <= 100"),
        ("name", "", "name='' must be 1 to 200 printable characters"),
        ("name", "a\x1b]0;b", "must be 1 to 200 printable characters"),
        ("name", "a" * 10_000, "name='a{99}… must be 1 to 200"),
        ("language", "../../etc", "language='../../etc' must be letters, digits"),
        ("frontend.language", "", "frontend.language='' must be letters, digits"),
        ("encoder.file", "a\ud800", "voice.json: encoder.file holds half of a surrogate pair"),
        ("frontend.phoneme_ids", {"\ud800": [1]}, "a name in frontend.phoneme_ids holds half of a surrogate"),
        ("encoder.file", "a\nb", "must be a plain file name"),
        ("provenance", eval("[" * 40 + "]" * 40), "voice.json is more than 32 levels deep"),
        ("verified", {"a": float("nan")}, r"verified\['a'\]=nan must be finite"),
        ("decoder.left_context", -1, "decoder.left_context=-1 must be >= 0"),
        ("targets", [], "targets must be an object of objects, not list"),
        ("targets.fast", 3, "targets.fast must be an object, not int"),
        ("targets.fast.version", 0, "targets.fast.version=0 must be >= 1"),
        ("targets.fast.decoder", ..., "targets.fast.decoder is missing"),
        ("targets.fast.decoder.file", "../a", "targets.fast.decoder.file='../a' must be a plain file"),
        ("targets.fast.streaming", [], "streaming must be an object, not list"),
        ("targets.fast.streaming.lag_samples", None, "streaming.lag_samples must be an integer, not null"),
        ("targets.fast.streaming.max_abs_diff", float("nan"), "streaming.max_abs_diff=nan must be >= 0"),
        ("weights.file", "a/b", "weights.file='a/b' must be a plain file name"),
        ("decoder.not_streamable", 1, "decoder.not_streamable must be text, not int"),
        ("encoder", "encoder.onnx", "encoder must be an object, not str"),
        ("encoder.file", "", "encoder.file='' must be a plain file name"),
        ("encoder.file", "../encoder.onnx", r"encoder.file='\.\./encoder.onnx' must be a plain file name"),
        ("encoder.file", "/etc/passwd", "encoder.file='/etc/passwd' must be a plain file name"),
        ("encoder.file", "a\\b", "must be a plain file name"),
        ("encoder.file", "C:b", "must be a plain file name"),
        ("encoder.file", "..", r"encoder.file='\.\.' must be a plain file name"),
        ("encoder.sha256", "abc", "encoder.sha256='abc' must be 64 hexadecimal digits"),
        ("encoder.sha256", "g" * 64, "must be 64 hexadecimal digits"),
        ("frontend.phoneme_type", "ipa", "frontend.phoneme_type='ipa' must be one of espeak, text"),
        ("frontend.vowel_clusters", [[""]], r"frontend.vowel_clusters\[0\]=\[''\] must be a list of texts"),
        ("default_speaker_id", 7, "default_speaker_id=7 must be >= 0 and <= "),
        ("lone_speaker", 3, "lone_speaker must be text, not int"),
        ("frontend.phoneme_ids", {}, "frontend.phoneme_ids must be an object that is not empty"),
        (
            "frontend.phoneme_ids",
            {"a": []},
            r"frontend.phoneme_ids\['a'\]=\[\] must be a list of one or more",
        ),
        ("frontend.phoneme_ids", {"a": [1, -1]}, r"phoneme_ids\['a'\]=\[1, -1\] must be"),
        ("frontend.phoneme_ids", {"a": [True]}, r"phoneme_ids\['a'\]=\[True\] must be"),
        ("frontend.phoneme_ids", {"a": [2**31]}, r"phoneme_ids\['a'\]=\[2147483648\] must be"),
        ("frontend.phoneme_ids", {"a": 1}, r"phoneme_ids\['a'\]=1 must be"),
        ("prosody.noise_w", "0.8", "prosody.noise_w must be a number, not str"),
        ("prosody.noise_scale", float("inf"), "prosody.noise_scale=inf must be >= 0 and finite"),
        ("prosody.noise_scale", 10**400, "prosody.noise_scale must be a number"),
        ("prosody.length_scale", 0, "prosody.length_scale=0.0 must be > 0"),
        ("speakers", "ada", "speakers must be a list of texts, not str"),
        ("speakers", [1], "speakers must be a list of texts"),
        ("speakers", ["ada", "bob", "ada"], r"speakers\[2\]='ada' must not be there twice"),
        ("provenance", {"a": 1}, "provenance must be an object of texts"),
        ("verified", {"a": "1"}, "verified must be an object of numbers"),
        ("format_version", 99, "format_version=99: this version reads 2; export the voice again"),
        ("format_version", 0, "format_version=0 must be >= 1"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(path, value, message):
    with pytest.raises(VoiceError, match=message):
        Manifest.from_json(changed(path, value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "voice.json is not JSON"),
        ("{", "voice.json is not JSON"),
        ("[" * 100_000, "voice.json is not JSON"),
        ('{"a": ' + "9" * 10_000 + "}", "voice.json is not JSON"),
        ("[]", "voice.json must be an object, not list"),
        ("null", "voice.json must be an object, not null"),
        ('{"a": 1, "a": 2}', "voice.json: 'a' must not be there twice in one object"),
        ("{}", "format_version is missing"),
    ],
)
def test_a_text_that_is_no_manifest_is_refused(text, message):
    with pytest.raises(VoiceError, match=message):
        Manifest.from_json(text)


@given(
    st.text() | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps)
)
def test_no_text_gives_anything_but_a_voice_error(text):
    with pytest.raises(VoiceError):
        Manifest.from_json(text)


def test_a_voice_of_format_1_is_named_with_the_command_that_renews_it():
    data = json.loads(manifest(provenance={"source_file": "joe.onnx"}).to_json()) | {"format_version": 1}
    with pytest.raises(VoiceError, match=r"balacoon-tk export joe\.onnx -o FOLDER --overwrite"):
        Manifest.from_json(json.dumps(data))


def test_a_vocoder_is_a_voice_whose_encoder_is_null():
    vocoder = manifest(text=None)
    data = json.loads(vocoder.to_json())
    assert data["encoder"] is None and "frontend" not in data
    assert Manifest.from_json(vocoder.to_json()) == vocoder
    with pytest.raises(VoiceError, match="tiny is a vocoder: it has no frontend and speaks no text"):
        _ = vocoder.prosody
    with pytest.raises(VoiceError, match=r"^encoder is missing$"):  # not taken for a vocoder
        Manifest.from_json(json.dumps({key: value for key, value in data.items() if key != "encoder"}))


@pytest.mark.parametrize(
    ("name", "stem"),
    [("joe", "joe"), ("../../x", "__.._x"), ("..", "_"), ("a b/c\\d", "a_b_c_d"), ("é" * 200, "é" * 64)],
)
def test_no_name_leads_out_of_a_folder_in_the_cache(name, stem):
    assert manifest(name=name).stem == stem


def test_the_version_stands_in_the_file():
    assert json.loads(manifest().to_json())["format_version"] == FORMAT_VERSION
