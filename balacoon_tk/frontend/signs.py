"""Signs beside numbers that espeak-ng passes over or says in the wrong place, in languages but English.

It says a sign where it stands, so ``$500`` is `dollar five hundred` everywhere: the sign goes behind its
amount. Others it has no word for, and ``-5`` became `five`: a word comes in their place, where one form of it
fits all numbers.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from balacoon_tk.frontend.reading.source_text import SourceText

_SILENT: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "ar": {"-": "سالب", "°": "درجة"},
        "bg": {"-": "минус", "€": "евро"},
        "ca": {"-": "menys"},
        "cmn": {"-": "负", "€": "欧元", "$": "美元", "£": "英镑", "°": "度"},
        "da": {"-": "minus"},
        "es": {"-": "menos"},
        "fa": {"-": "منفی", "€": "یورو", "£": "پوند", "°": "درجه"},
        "fr": {"-": "moins"},
        "he": {"-": "מינוס", "€": "אירו"},
        "hi": {"-": "माइनस", "€": "यूरो", "£": "पाउंड", "°": "डिग्री"},
        "hu": {"-": "mínusz", "£": "font"},
        "ja": {"-": "マイナス", "€": "ユーロ", "$": "ドル", "£": "ポンド", "°": "度"},
        "ko": {"-": "마이너스", "€": "유로", "$": "달러", "£": "파운드", "°": "도"},
        "pl": {"-": "minus", "€": "euro"},
        "ru": {"-": "минус", "€": "евро"},
        "sk": {"-": "mínus"},
        "tr": {"-": "eksi", "£": "sterlin"},
        "uk": {"€": "євро"},
    }
)
_NUMBER = r"\d{1,3}(?:[., ]\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,]\d+)?"
# Not before millions, which come between an amount and what it is of.
_BEFORE_AMOUNT = re.compile(rf"(?<![\w$])([$€£¥₹]) ?({_NUMBER})(?![\d.,]*\d)(?! ?[mMbBмМ][^\W\d_])")
_MINUS = re.compile(r"(?<![^\s(])[-−](?=\d)")
_BEHIND = re.compile(r"(?<=\d) ?([$€£°])")


class SignWriter:
    """Writes the signs beside numbers as one language says them.

    Examples
    --------
    >>> SignWriter("es")(SourceText("$1.500 o -5 €")).text
    '1.500 $ o menos 5 €'
    """

    def __init__(self, language: str) -> None:
        self._words = _SILENT.get(language.split("-")[0], {})

    def __call__(self, text: SourceText) -> SourceText:
        """Write the signs of a sentence."""
        text = text.sub(_BEFORE_AMOUNT, r"\2 \1")
        if "-" in self._words:
            text = text.sub(_MINUS, f"{self._words['-']} ")
        return text.sub(_BEHIND, self._behind) if self._words else text

    def _behind(self, match: re.Match[str]) -> str:
        word = self._words.get(match[1])
        return match[0] if word is None else f" {word}"
