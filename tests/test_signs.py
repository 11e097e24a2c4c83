"""Signs beside numbers in languages other than English: said, and in their place."""
# ruff: noqa: RUF001 - the look-alikes of ASCII are meant

import pytest

from balacoon_tk.frontend import EspeakFrontend
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.signs import _SILENT, SignWriter


@pytest.mark.parametrize(
    ("language", "text", "written"),
    [
        ("de", "Das kostet $1.234,50 oder £ 5, €20.", "Das kostet 1.234,50 $ oder 5 £, 20 €."),
        ("de", "-5 und 5-10, well-5, $5 Millionen, R$5, 5 €", "-5 und 5-10, well-5, $5 Millionen, R$5, 5 €"),
        ("es-419", "(-5) o −3,5 grados a las -2", "(menos 5) o menos 3,5 grados a las menos 2"),
        ("fr", "De 5-10 à -3 °C", "De 5-10 à moins 3 °C"),
        ("ru", "€5, 5€, $5 и -3", "5 евро, 5 евро, 5 $ и минус 3"),
        ("cmn", "$5, -3°", "5 美元, 负 3 度"),
        ("ja", "¥500と€5", "500 ¥と€5"),
    ],
)
def test_signs_are_written_as_a_language_says_them(language: str, text: str, written: str) -> None:
    assert SignWriter(language)(SourceText(text)).text == written


@pytest.mark.filterwarnings("ignore::balacoon_tk.frontend.UnknownWordWarning")
@pytest.mark.parametrize("language", _SILENT)
def test_espeak_passes_over_each_sign_that_has_a_word_and_says_the_word(language: str) -> None:
    pytest.importorskip("piper.espeakbridge")
    speak = EspeakFrontend(language)._speak
    number = speak("5")
    for sign, word in _SILENT[language].items():
        assert speak("-5" if sign == "-" else f"5 {sign}") == number, sign
        assert speak(f"{word} 5") != number
        assert SignWriter(language)(SourceText("-5" if sign == "-" else f"5{sign}")).text != "5"
