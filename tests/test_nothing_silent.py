"""What can't be said is named, once, whichever frontend it is left out by."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import pickle
import warnings

import pytest

from balacoon_tk import TTS
from balacoon_tk.frontend import (
    EspeakFrontend,
    Frontend,
    GruutFrontend,
    NothingToSayWarning,
    UnknownWordWarning,
    create_frontend,
)
from balacoon_tk.frontend.unspoken import UnspokenWords

# The tiny voice streams by overlap and says so.
pytestmark = pytest.mark.filterwarnings("ignore:tiny is streamed")


def named(frontend: Frontend, text: str) -> list[str]:
    """Return the warnings of a text, of which each is to come once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            list(frontend.phonemize(text))
    return [str(warning.message) for warning in caught]


@pytest.mark.parametrize(
    ("kind", "text", "names"),
    [
        ("characters", "I am 42, or €2!", "'4', '2', '€'"),
        ("characters", "42", "'4', '2'"),
        ("exact characters", "Am I?", "'A', 'I'"),
    ],
)
def test_letters_that_a_voice_has_no_symbol_for_are_named(kind: str, text: str, names: str) -> None:
    frontend = create_frontend(phoneme_type=kind, symbols="abcdefghijklmnopqrstuvwxyz ,")
    before = "the voice has no symbols for these characters, so they are left out: "
    assert named(frontend, text) == [before + names]


def test_marks_that_a_voice_has_no_symbol_for_are_no_loss() -> None:
    frontend = create_frontend(phoneme_type="characters", symbols="abcdefghijklmnopqrstuvwxyz ")
    assert named(frontend, "So, “this” is (all): fine!") == []


def test_words_in_a_script_that_espeak_passes_over_are_named() -> None:
    pytest.importorskip("piper.espeakbridge")
    frontend = EspeakFrontend()
    before = "espeak-ng can't pronounce these words, so they are left out: "
    assert named(frontend, "Hello ᏣᎳᎩ, and ꦧꦱ too.") == [f"{before}'ᏣᎳᎩ', 'ꦧꦱ'"]
    assert named(EspeakFrontend("de"), "Um ٣ Uhr, مرحبا") == [f"{before}'٣'"]
    assert named(frontend, "naïve привет 你好 नमस्ते") == []
    assert named(pickle.loads(pickle.dumps(frontend)), "ᏣᎳᎩ") == [f"{before}'ᏣᎳᎩ'"]


def test_a_script_is_asked_for_once() -> None:
    asked = []

    def say(text: str) -> str:
        asked.append(text)
        return "" if text >= "\u1000" else text.replace(" ≈", "")

    unspoken = UnspokenWords(say)
    assert unspoken.find("plain é текст") == []
    assert asked == []
    assert unspoken.find("ขอ, ខរ and ខ") == ["ខរ", "ខ"]
    assert unspoken.find("ខរ, ขอ") == ["ខរ"]
    assert len(asked) == 2
    assert unspoken.find("5 ≈ 5 € ≈ “so”") == ["≈", "≈"]
    assert len(asked) == 6


# The sign is no word to gruut, and what it drops of a word with one is heard all the same.
@pytest.mark.parametrize("text", ["It costs €20, ¥300 or 20 €.", "5–10 km, 3rd-party, 1914–1918, 50¢, § 5"])
def test_gruut_leaves_no_number_out(text: str) -> None:
    pytest.importorskip("gruut")
    frontend = GruutFrontend()
    n_digits = sum(text.count(digit) for digit in "123456789")
    said = "".join("".join(sentence.phonemes) for sentence in frontend.phonemize(text))
    assert len(said) > 3 * n_digits
    assert named(frontend, text) == []


def test_words_and_signs_that_gruut_cannot_pronounce_are_named() -> None:
    pytest.importorskip("gruut")
    before = "gruut can't pronounce these words, so they are left out: "
    assert named(GruutFrontend(), "Hello ∴ and ∪, ≤ ∞ π € ™ • “x”") == [f"{before}'∴', '∪'"]
    with pytest.warns(UnknownWordWarning, match="left out: 'мир'"):
        list(GruutFrontend().phonemize("Hello мир"))


@pytest.mark.parametrize("text", ["", "...", "😀", ["", " "]])
def test_a_text_without_anything_to_say_is_told(text: str | list[str], tiny_voice) -> None:
    tts = TTS(tiny_voice)
    with pytest.warns(NothingToSayWarning, match="nothing to say in the text, so there is no audio"):
        assert list(tts.stream(text, strategy="overlap")) == []


@pytest.mark.filterwarnings("default")
def test_the_command_line_says_so_too(cli, tiny_voice_folder, tmp_path) -> None:
    result = cli("synthesize", "😀", "-v", tiny_voice_folder, "-o", tmp_path / "x.wav")
    assert "warning: there is nothing to say in the text, so there is no audio" in result.err
