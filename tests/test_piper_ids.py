"""Ids are those of piper-tts: in many languages, and for every field of a Piper JSON that changes them."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import json
from pathlib import Path

import pytest

from balacoon_tk.frontend import PhonemeMap, create_frontend

pytest.importorskip("piper.espeakbridge")
pytest.importorskip("babel")

from piper.phoneme_ids import DEFAULT_PHONEME_ID_MAP

from balacoon_tk.export.sources.piper_json import read_piper_json
from piper_ids import ABBREVIATION, DIFFERENT, Comparison, config_of, piper_ids, piper_voice
from piper_sentences import HEBREW, JAPANESE, LOCALES, sentences

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::balacoon_tk.frontend.{name}")
    for name in ("UnknownPhonemeWarning", "UnknownWordWarning")
]

# The same letters have other ids in each.
SHUFFLED = dict(zip(DEFAULT_PHONEME_ID_MAP, reversed(DEFAULT_PHONEME_ID_MAP.values()), strict=True))
TEXTS = {
    "espeak": ["How now, brown cow?", "Boys enjoy the noise: no doubt about it.", "I say so."],
    "text": ["Je suis là, et vous?", "Où est-elle", "ÉTÉ!"],
    "hebrew": HEBREW[:2],
    "japanese": JAPANESE[:2],
}


@pytest.mark.parametrize("voice", LOCALES)
def test_sentences_have_the_ids_of_piper(voice: str) -> None:
    comparison = Comparison(voice)
    assert [text for text in sentences(voice, 8) if comparison.judge(text) == DIFFERENT] == []


@pytest.mark.parametrize(
    ("voice", "phoneme_type", "texts"), [("ja", "japanese", JAPANESE), ("he", "hebrew", HEBREW)]
)
def test_what_piper_has_of_its_own_has_the_ids_of_piper(
    voice: str, phoneme_type: str, texts: list[str]
) -> None:
    if phoneme_type == "japanese":
        pytest.importorskip("pyopenjtalk")
    comparison = Comparison(voice, phoneme_type)
    assert [text for text in texts if comparison.judge(text) == DIFFERENT] == []


def test_a_difference_is_seen() -> None:
    comparison = Comparison("en-us")
    assert comparison.judge("Dr. Smith is in.") == ABBREVIATION
    comparison.phoneme_map = PhonemeMap(SHUFFLED)
    assert comparison.judge("Yes.") == DIFFERENT


VARIANTS = {
    "plain": {},
    "another map": {"phoneme_id_map": SHUFFLED},
    "several ids": {"phoneme_id_map": DEFAULT_PHONEME_ID_MAP | {"ˈ": [120, 7], "_": [0, 0]}},
    "an unknown symbol": {
        "phoneme_id_map": {k: v for k, v in DEFAULT_PHONEME_ID_MAP.items() if k not in "aʊɪ"}
    },
    "clusters": {"vowel_clusters": [["a", "ʊ"], ["ɔ", "ɪ"], ["o", "ʊ"], ["e", "ɪ"], ["a", "ɪ"], ["n", "ɪ"]]},
    "clusters as texts": {"vowel_clusters": ["aʊ", "aʊt", "oʊ"]},
    "speakers": {"num_speakers": 3, "speaker_id_map": {"ann": 0, "bea": 2}, "default_speaker_id": 2},
    "no speaker": {"num_speakers": 0},
    "a lone speaker": {"num_speakers": 1, "speaker_id_map": {"joe": 0}},
    "letters": {"phoneme_type": "text"},
    "letters with capitals": {
        "phoneme_type": "text",
        "phoneme_id_map": DEFAULT_PHONEME_ID_MAP
        | {"E": [200], "J": [201], "T": [203], "O": [204], "\u0301": [205]},
    },
    "Hebrew": {"phoneme_type": "hebrew"},
    "Japanese": {"phoneme_type": "japanese"},
    "another language": {"espeak": {"voice": "de"}},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=list(VARIANTS))
def test_every_field_that_changes_ids_is_honoured(tmp_path: Path, changes: dict[str, object]) -> None:
    if changes.get("phoneme_type") == "japanese":
        pytest.importorskip("pyopenjtalk")
    config = config_of("en-us") | changes
    path = tmp_path / "voice.onnx.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    path.with_name("voice.onnx").write_bytes(b"")  # of which the checksum is taken
    facts, piper = read_piper_json(path, voice=tmp_path / "voice.onnx"), piper_voice(config)
    front = facts.frontend
    frontend = create_frontend(
        language=front.language, phoneme_type=front.phoneme_type, symbols=front.phoneme_ids
    )
    for text in TEXTS[front.phoneme_type]:
        ours = [PhonemeMap.of(front).encode(each.phonemes).phoneme_ids for each in frontend.phonemize(text)]
        # Piper has no small letter for a capital that it has no symbol for.
        given = text if "E" in front.phoneme_ids or front.phoneme_type != "text" else text.lower()
        assert [ids.tolist() for ids in ours] == piper_ids(piper, given)
    assert (len(facts.speakers) or 1) == max(1, piper.config.num_speakers)
    assert facts.default_speaker_id == piper.config.default_speaker_id
