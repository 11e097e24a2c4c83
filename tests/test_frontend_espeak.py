"""espeak-ng, through piper-tts: an optional extra, so a user without it can run the suite."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend import MAX_SENTENCE_PHONEMES, EspeakFrontend, Sentence
from balacoon_tk.frontend.backends import espeak as espeak_module
from balacoon_tk.frontend.backends.espeak import MAX_DOTS, MAX_WORDS, cut_for_espeak
from balacoon_tk.frontend.backends.piper_text import add_arabic_vowels
from balacoon_tk.frontend.reading.source_text import SourceText
from frontend_sentences import HELD_OUT, SENTENCES, in_threads

espeakbridge = pytest.importorskip("piper.espeakbridge")


def spoken(text: str, voice: str = "en-us") -> list[str]:
    return ["".join(sentence.phonemes) for sentence in EspeakFrontend(voice).phonemize(text)]


def test_plain_sentences_have_the_phonemes_that_piper_gives() -> None:
    from piper.phonemize_espeak import EspeakPhonemizer

    piper, frontend = EspeakPhonemizer(), EspeakFrontend("en-us")
    for text in [*SENTENCES, *HELD_OUT, "no mark at the end", "what: now; yes, then"]:
        (expected,) = piper.phonemize("en-us", text)
        assert list(frontend.phonemize(text)) == [Sentence(text, tuple(expected))]


def vowelled(text: str) -> str:
    return add_arabic_vowels(SourceText(text)).text


def test_other_languages_have_the_phonemes_that_piper_gives() -> None:
    from piper.phonemize_espeak import EspeakPhonemizer

    piper = EspeakPhonemizer()
    for voice, text in {
        "de": "Ich möchte gern einen Kaffee, bitte.",
        "fr": "Où est la gare?",
        "ru": "Привет, как дела?",
        "ar": "كيف حالك؟",
        "es": "¿Dónde está el niño?",
    }.items():
        (expected,) = piper.phonemize(voice, vowelled(text) if voice == "ar" else text)
        (sentence,) = EspeakFrontend(voice).phonemize(text)
        assert sentence.phonemes == tuple(expected)


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Hello [[wˈɜːld]] again.", ["həlˈoʊ wˈɜːld ɐɡˈɛn."]),
        ("[[həlˈoʊ]], world!", ["həlˈoʊ, wˈɜːld!"]),
        ("Mr. [[smɪθ]] came. [[ˈoʊ]]?", ["mˈɪstɚ smɪθ kˈeɪm.", "ˈoʊ?"]),
        ("Hello, [[a]] (yes)", ["həlˈoʊ, a jˈɛs"]),
        ("un[[ə]]able", ["ˈʌnəˈeɪbəl"]),
        ("[[ a  b ]]", ["a b"]),
        ("[[ã]]", ["a\u0303"]),
        ("[[]] [[.]] !", []),
    ],
)
def test_raw_phonemes_join_the_sentence(text: str, phonemes: list[str]) -> None:
    assert spoken(text) == phonemes


def test_a_sentence_keeps_its_text_with_raw_phonemes() -> None:
    sentences = EspeakFrontend().phonemize("One. Two [[tˈuː]]! [[θ\n θ]]")
    assert [sentence.text for sentence in sentences] == ["One.", "Two [[tˈuː]]!", "[[θ θ]]"]


@pytest.mark.parametrize(
    ("text", "phonemes"),
    [
        ("Mr. Smith of the U.S. Army", ["mˈɪstɚ smˈɪθ ʌvðə jˌuːˈɛs ˈɑːɹmi"]),
        ("“Stop!” he said.", ["stˈɑːp! hiː sˈɛd."]),
        ("Well... no…", ["wˈɛl, nˈoʊ."]),
        ("Yes — no", ["jˈɛs; nˈoʊ"]),
        ("Is it true?!", ["ɪz ɪt tɹˈuː?"]),
        ("Hello 😀 world\x00!", ["həlˈoʊ wˈɜːld!"]),
        ("naïve ＷＯＲＤ", ["naɪˈiːv wˈɜːd"]),
    ],
)
def test_punctuation_and_abbreviations(text: str, phonemes: list[str]) -> None:
    assert spoken(text) == phonemes


@pytest.mark.parametrize(
    "text", ["", "   ", "\n\n", "...", "!", "?! — ()", "😀🎉", "\x00\x07", "\u200b", "$%&"]
)
def test_text_with_nothing_to_say_gives_no_sentence(text: str) -> None:
    assert spoken(text) == []


@pytest.mark.parametrize(
    "text", ["你好，世界。再见！", "مرحبا بالعالم", "привет, мир", "नमस्ते", "한국어", "ไทย"]
)
def test_other_scripts_are_spoken_by_an_english_voice(text: str) -> None:
    assert all(len(phonemes) > 3 for phonemes in spoken(text))
    assert len(spoken(text)) == text.count("。") + text.count("！") or len(spoken(text)) == 1


@pytest.mark.parametrize(
    ("voice", "unit", "symbol"), [("th", "สวัสดี", "w"), ("ja", "こんにちは", "k"), ("en-us", "zq", "z")]
)
def test_no_speech_is_lost_in_words_without_spaces(voice: str, unit: str, symbol: str) -> None:
    assert sum(phonemes.count(symbol) for phonemes in spoken(unit * 60, voice)) == 60


CRASHING = ["a." * 97, "a.b." * 49, "x.y." * 61, "я.ж." * 60, "x" + "Ph.D." * 110, "a .b " * 60, "1E-5" * 140]


@pytest.mark.parametrize("voice", ["en-us", "grc"])
def test_texts_that_crash_espeak_are_spoken(voice: str) -> None:
    for text in CRASHING:
        assert spoken(text, voice)


def test_espeak_itself_crashes_above_the_limits() -> None:
    code = (
        "from piper import espeakbridge as b, phonemize_espeak as p; "
        "b.initialize(str(p.ESPEAK_DATA_DIR)); b.set_voice('en-us'); b.get_phonemes('a.' * 290)"
    )
    status = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode
    if status == 0:
        pytest.skip("this espeak-ng doesn't, by luck or since it was repaired")


def test_every_dotted_letter_is_said() -> None:
    # The one that begins a part may be read as the article.
    (phonemes,) = spoken("a." * 97)
    assert phonemes.count("eɪ") + phonemes.count("ɐ") == 97


@pytest.mark.parametrize(
    "text", [*CRASHING, "aB" * 300, "a1" * 300, "яa" * 300, "你" * 600, "a-" * 300, "x. " * 200]
)
def test_what_goes_to_espeak_stays_below_its_limits(text: str) -> None:
    parts = list(cut_for_espeak(text))
    assert [c for part in parts for c in part if c.isalnum()] == [c for c in text if c.isalnum()]
    for part in parts:
        assert len(espeak_module._DOT.findall(part)) <= MAX_DOTS
        assert len(part) <= MAX_WORDS or espeak_module._most_words(part) <= MAX_WORDS


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        " ".join(SENTENCES[:9]).replace(".", ""),
        "Dr. J. R. R. Smith, Ph.D., of the U.S.A. lives at www.example.com, e.g. in No. 5 of St. James.",
        "A.B.C.D.E.F.G.H.I.J.K.L.M.N.O.P.Q.R.S.",
        "1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5 1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5 1.5 2.5 3.5",
        "Größere Übungen für ältere Möbelträger " * 12,
        "слово за словом говорит кто-то, и никто не слушает " * 10,
    ],
)
def test_what_people_write_goes_to_espeak_whole(text: str) -> None:
    assert list(cut_for_espeak(text[:600])) == [text[:600]]


def test_text_that_is_longer_spoken_than_written_is_cut_again() -> None:
    sentences = list(EspeakFrontend().phonemize("77 " * 190))
    assert sum("".join(s.phonemes).count("sˈɛvənti") for s in sentences) == 190
    assert 1 < len(sentences) < 20
    assert max(len(s.phonemes) for s in sentences) <= MAX_SENTENCE_PHONEMES


def test_a_long_text_starts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = EspeakFrontend()
    calls: list[str] = []
    speak = frontend._to_phonemes
    monkeypatch.setattr(frontend, "_to_phonemes", lambda text: calls.append(text) or speak(text))
    ten_minutes = " ".join([*SENTENCES, *HELD_OUT] * 2)
    sentences = frontend.phonemize(ten_minutes)
    assert not calls
    assert next(sentences).text == SENTENCES[0]
    assert len(calls) == 1
    assert len(list(sentences)) == 2 * len([*SENTENCES, *HELD_OUT]) - 1


def test_brackets_are_checked_before_the_first_sentence() -> None:
    with pytest.raises(ParameterError, match=r"text\[10:\]='\[\[b' \(line 2\)"):
        EspeakFrontend().phonemize("One. Two.\n[[b")


@pytest.mark.parametrize("voice", ["", "xx", "English", "a\0b", None])
def test_an_unknown_voice_is_refused_and_leaves_the_others_alone(voice: str) -> None:
    before = EspeakFrontend("de")
    with pytest.raises(ParameterError, match="must be a voice that espeak-ng has"):
        EspeakFrontend(voice)
    assert "".join(next(before.phonemize("ja")).phonemes) == "jˈɑː"


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    espeak_module._bridge.cache_clear()
    monkeypatch.setitem(sys.modules, "piper", None)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[espeak\]") as caught:
        EspeakFrontend()
    assert caught.value.extra == "espeak"
    monkeypatch.undo()
    assert spoken("yes") == ["jˈɛs"]


def test_a_package_that_was_built_for_another_system_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(spec: object) -> None:
        raise ImportError("wrong ELF class")

    espeak_module._bridge.cache_clear()
    monkeypatch.delitem(sys.modules, "piper.espeakbridge")
    monkeypatch.setattr(espeak_module.importlib.util, "module_from_spec", broken)
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[espeak\]"):
        EspeakFrontend()
    monkeypatch.undo()
    assert spoken("yes") == ["jˈɛs"]


def test_frontends_keep_their_voices_when_they_take_turns() -> None:
    english, german = EspeakFrontend("en-us"), EspeakFrontend("de")
    for frontend, phonemes in [(english, "jˈɛs"), (german, "jˈeːs"), (english, "jˈɛs")]:
        assert "".join(next(frontend.phonemize("yes")).phonemes) == phonemes


@pytest.mark.parametrize("shows_its_voice", [True, False])
def test_a_voice_is_set_where_another_was_used_and_only_there(
    monkeypatch: pytest.MonkeyPatch, shows_its_voice: bool
) -> None:
    if not shows_its_voice:
        monkeypatch.setattr(espeak_module, "_voice_getter", lambda: None)
    elif espeak_module._voice_getter() is None:
        pytest.skip("this system's espeak-ng doesn't say which voice it has")
    frontend = EspeakFrontend("de")
    expected = list(frontend.phonemize("Guten Tag."))
    names: list[str] = []
    set_voice = espeakbridge.set_voice
    monkeypatch.setattr(espeakbridge, "set_voice", lambda name: names.append(name) or set_voice(name))
    for stranger in (None, "fr", None, "en-us"):  # as a program does that uses piper-tts itself
        if stranger is not None:
            set_voice(stranger)
        assert list(frontend.phonemize("Guten Tag.")) == expected
    assert len(names) == (2 if shows_its_voice else 4)


def test_threads_with_several_voices_get_their_own_phonemes() -> None:
    texts = ["Hello there, my friend.", "Number 7 is in the garden.", "What is it?"]
    frontends = [EspeakFrontend(voice) for voice in ("en-us", "de", "fr")]
    expected = {f.voice: [list(f.phonemize(text)) for text in texts] for f in frontends}
    failures: list[str] = []

    def run(frontend: EspeakFrontend) -> None:
        for text, sentences in zip(texts * 20, expected[frontend.voice] * 20, strict=True):
            if list(frontend.phonemize(text)) != sentences:
                failures.append(f"{frontend.voice}: {text}")

    in_threads([lambda frontend=frontend: run(frontend) for frontend in frontends * 3])
    assert not failures


def test_a_sentence_that_is_too_long_in_phonemes_is_halved_until_it_fits() -> None:
    # Of its halves one has no speech and is left out, so that the other has all of it.
    sentences = list(EspeakFrontend().phonemize("_" * 300 + "98765_" * 25))
    assert all(len(sentence.phonemes) <= MAX_SENTENCE_PHONEMES for sentence in sentences)
    assert sum(sentence.text.count("9") for sentence in sentences) == 25


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.UnknownWordWarning")
@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="["), max_size=60))
def test_any_text_gives_phonemes_of_one_codepoint_each(text: str) -> None:
    for sentence in EspeakFrontend().phonemize(text):
        assert sentence.phonemes
        assert all(len(phoneme) == 1 for phoneme in sentence.phonemes)
        assert sentence.phonemes[0] != " " != sentence.phonemes[-1]
        assert len(sentence.phonemes) <= MAX_SENTENCE_PHONEMES


@pytest.mark.parametrize("before", ["A…;..", "b.;.", "1..", "a [[b]]c…;."])
def test_nothing_of_a_text_is_said_in_the_next_one(before: str) -> None:
    frontend = EspeakFrontend("en-us")
    (expected,) = frontend.phonemize("b")
    list(frontend.phonemize(before))
    assert list(frontend.phonemize("b")) == [expected]
