"""What Piper has for single languages: vowels of Arabic and Hebrew, Japanese accents, Thai tones."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import re
import subprocess
import sys
import types
from functools import partial

import pytest

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend import EspeakFrontend, Frontend, UnknownWordWarning, create_frontend
from balacoon_tk.frontend.backends import piper_text as piper_text_module
from balacoon_tk.frontend.backends.piper_text import PiperFrontend, add_arabic_vowels
from balacoon_tk.frontend.reading.source_text import SourceText
from frontend_sentences import in_threads

pytest.importorskip("piper.espeakbridge")

SPOKEN = {
    "hebrew": ("שלום, מה שלומך?", ["ʃˈalom mˈa ʃelomˈeχ"]),
    "japanese": ("橋です。箸ですか？", ["ha↑ɕi↓desɯ.", "ha↓ɕidesɯka?"]),
}


def said_by(frontend: Frontend, text: str) -> list[str]:
    return ["".join(sentence.phonemes) for sentence in frontend.phonemize(text)]


def spoken(phoneme_type: str, text: str) -> list[str]:
    return said_by(create_frontend(phoneme_type=phoneme_type), text)


@pytest.mark.parametrize("phoneme_type", SPOKEN)
def test_a_text_is_said_sentence_by_sentence(phoneme_type: str) -> None:
    if phoneme_type == "japanese":
        pytest.importorskip("pyopenjtalk")
    text, expected = SPOKEN[phoneme_type]
    assert spoken(phoneme_type, text) == expected


def test_arabic_gets_its_vowels_before_espeak_reads_it() -> None:
    text = "ذهب الولد إلى المدرسة"
    vowelled = add_arabic_vowels(SourceText(f" {text}", 5))
    assert vowelled.text == " ذَهَبَ الْوَلَدُ إِلَى الْمَدْرَسَة"
    place = vowelled.text.index("لَى")
    assert vowelled.span(place, place + 3) == (6 + text.index("لى"), 6 + text.index("لى") + 2)
    (with_vowels,) = EspeakFrontend("ar").phonemize(text)
    (bare,) = EspeakFrontend("fa").phonemize(text)
    assert "ðˈahabˌa alwˈaladˌu" in "".join(with_vowels.phonemes)
    assert with_vowels.phonemes != bare.phonemes
    for other in ("", "abc", "\u064b", " \u064bا\u064b_42 "):
        assert re.sub("[\u064b-\u0652]", "", add_arabic_vowels(SourceText(other)).text) == re.sub(
            "[\u064b-\u0652]", "", other
        )


@pytest.mark.parametrize(
    ("phoneme_type", "text"), [("hebrew", "שלום abc 42"), ("japanese", "はい привет 안녕")]
)
def test_words_that_the_rules_cannot_read_are_named(phoneme_type: str, text: str) -> None:
    _, *others = text.split()
    with pytest.warns(UnknownWordWarning, match=f"can't read these words.*: {', '.join(map(repr, others))}$"):
        (said,) = spoken(phoneme_type, text)
    assert said.strip(".") in ("ʃˈalom", "ha↓i")


def test_raw_phonemes_stand_beside_what_a_language_has_of_its_own() -> None:
    assert spoken("hebrew", "שלום [[abc]].") == ["ʃˈelom abc."]


@pytest.mark.parametrize("name", ["ar", *SPOKEN])
def test_a_text_in_pieces_is_said_as_the_whole(name: str) -> None:
    if name == "japanese":
        pytest.importorskip("pyopenjtalk")
    frontend = EspeakFrontend("ar") if name == "ar" else PiperFrontend(name)
    text = {"ar": "كيف حالك؟ ذهب الولد إلى المدرسة."}.get(name) or SPOKEN[name][0]
    whole = list(frontend.phonemize(text))
    assert whole
    for size in (1, 2, 5):
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        assert list(frontend.phonemize(pieces)) == whole


@pytest.mark.parametrize(
    ("phoneme_type", "package", "extra"),
    [("hebrew", "piper.hebrew", "espeak"), ("japanese", "pyopenjtalk", "ja"), ("thai", "tltk.nlp", "th")],
)
def test_what_is_not_installed_is_named_by_its_extra(
    monkeypatch: pytest.MonkeyPatch, phoneme_type: str, package: str, extra: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    load = piper_text_module._LOADERS[phoneme_type][1]
    load.cache_clear()  # type: ignore[attr-defined]
    with pytest.raises(MissingExtraError, match=rf"phoneme_type='{phoneme_type}' needs .*\[{extra}\]"):
        create_frontend(phoneme_type=phoneme_type)


def test_arabic_without_piper_is_named_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "piper.tashkeel", None)
    piper_text_module._tashkeel.cache_clear()
    with pytest.raises(MissingExtraError, match=r"Arabic by espeak-ng needs .*\[espeak\]"):
        EspeakFrontend("ar")


def test_thai_is_what_the_rules_make_of_tltk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rules themselves, with another program in the place of TLTK's dictionary."""
    nlp, numbers = types.ModuleType("tltk.nlp"), types.ModuleType("unicode_rbnf")
    nlp.th2ipa = lambda run: "kʰaːw2 dᴐːk1 <s/>"  # type: ignore[attr-defined]
    numbers.RbnfEngine = types.SimpleNamespace(for_language=lambda language: None)  # type: ignore[attr-defined]
    for name, module in (("tltk", types.ModuleType("tltk")), ("tltk.nlp", nlp), ("unicode_rbnf", numbers)):
        monkeypatch.setitem(sys.modules, name, module)
    piper_text_module._thai.cache_clear()
    try:
        assert spoken("thai", "ข่าวดอก?") == ["kʰaːw2 dɔːk1?"]
    finally:
        piper_text_module._thai.cache_clear()


def check_said(frontend: Frontend, text: str, expected: list[str], checked: list[bool]) -> None:
    checked.append(said_by(frontend, text) == expected)


def test_many_threads_hear_the_same() -> None:
    pytest.importorskip("pyopenjtalk")
    for phoneme_type, (text, expected) in SPOKEN.items():
        frontend = PiperFrontend(phoneme_type)
        check = partial(check_said, frontend, text, expected, checked := [])
        in_threads([check] * 8)
        assert checked == [True] * 8


@pytest.mark.skipif(sys.platform == "win32", reason="this system has no fork")
def test_a_child_that_was_forked_goes_on() -> None:
    """In a process of its own: forking beside the threads of others is a deprecated thing to do."""
    program = """
import os
from balacoon_tk.frontend import create_frontend
frontends = [create_frontend(language="ar"), create_frontend(phoneme_type="hebrew")]
texts = ["ذهب الولد إلى المدرسة", "שלום"]
before = [list(frontend.phonemize(text)) for frontend, text in zip(frontends, texts)]
child = os.fork()
if not child:
    after = [list(frontend.phonemize(text)) for frontend, text in zip(frontends, texts)]
    os._exit(0 if before == after and all(before) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


# --- every language that espeak-ng has --------------------------------------------------------

# A word or two in each script.
IN_SCRIPT = {
    "Latn": "mama nina",
    "Cyrl": "мама нина",
    "Arab": "سلام",
    "Deva": "नमस्ते",
    "Beng": "নমস্কার",
    "Gujr": "નમસ્તે",
    "Guru": "ਸਤ ਸ੍ਰੀ",
    "Knda": "ನಮಸ್ಕಾರ",
    "Mlym": "നമസ്കാരം",
    "Taml": "வணக்கம்",
    "Telu": "నమస్తే",
    "Orya": "ନମସ୍କାର",
    "Sinh": "ආයුබෝවන්",
    "Thai": "สวัสดี",
    "Mymr": "မင်္ဂလာပါ",
    "Geor": "გამარჯობა",
    "Armn": "բարեւ",
    "Grek": "καλημέρα",
    "Hebr": "שלום",
    "Ethi": "ሰላም",
    "Cher": "ᎣᏏᏲ",
    "Jpan": "こんにちは",
    "Kore": "안녕",
    "Hans": "你好",
    "Hant": "你好",
    "Shaw": "𐑣𐑧𐑤𐑴",
}
# piper-tts 1.8 has their rules, and left out the dictionaries.
WITHOUT_DICTIONARY = {"fo", "kaa", "ps", "xex"}


def test_every_language_of_espeak_says_something_in_its_own_script() -> None:
    global_data = pytest.importorskip("babel.core").get_global("likely_subtags")
    from piper.phonemize_espeak import ESPEAK_DATA_DIR

    files = sorted(path for path in (ESPEAK_DATA_DIR / "lang").rglob("*") if path.is_file())
    assert len(files) > 100
    silent, scripts = set(), set()
    for path in files:
        # The first line about it has its BCP 47 tag, with the script where that isn't the usual one.
        tag = next(
            line.split()[1] for line in path.read_text("utf-8").splitlines() if line[:9] == "language "
        )
        subtags = tag.split("-")
        script = next((each.title() for each in subtags[1:] if each.title() in IN_SCRIPT), None)
        script = script or global_data.get(subtags[0], "und_Latn").split("_")[1]
        try:
            frontend = EspeakFrontend(path.name)
        except ParameterError:
            silent.add(path.name)
            continue
        (sentence,) = frontend.phonemize(IN_SCRIPT[script])
        assert any(phoneme.isalpha() for phoneme in sentence.phonemes), path.name
        scripts.add(script)
    assert silent == WITHOUT_DICTIONARY
    assert len(scripts) > 20


def test_kanji_that_espeak_cannot_read_are_named() -> None:
    frontend = EspeakFrontend("ja")
    with pytest.warns(UnknownWordWarning, match="espeak-ng can't read these characters.*: '日', '本'"):
        list(frontend.phonemize("日本は"))
    list(frontend.phonemize("日 にほん"))  # once is enough


def test_a_language_without_its_dictionary_is_refused() -> None:
    with pytest.raises(
        ParameterError, match="voice='fo' must be a voice of which piper-tts has the dictionary"
    ):
        EspeakFrontend("fo")
