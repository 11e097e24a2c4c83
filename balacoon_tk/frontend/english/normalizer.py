"""Writes an English sentence as it is said, where a backend would read it otherwise.

One normalizer for both backends: what espeak-ng already reads as a person would stays as it is, so that its
phonemes, which voices were trained on, stay the same; gruut gets more written out.
"""

from __future__ import annotations

import re
from collections.abc import Container

from balacoon_tk.frontend.english.capitals import lower_capitals
from balacoon_tk.frontend.english.dates import DATE_RULES, DAY_FIRST, MONTH_FIRST, YEAR_RULES
from balacoon_tk.frontend.english.money import MONEY_RULES
from balacoon_tk.frontend.english.quantities import QUANTITY_RULES
from balacoon_tk.frontend.english.roman import ROMAN_RULES
from balacoon_tk.frontend.english.rules import any_of, apply_rules
from balacoon_tk.frontend.english.words import (
    ABBREVIATED,
    DIGIT_RULES,
    ESPEAK_RULES,
    GRUUT_LETTERS,
    GRUUT_RULES,
    UNDOTTED,
    WORD_RULES,
)
from balacoon_tk.frontend.reading.source_text import SourceText

# What no rule changes: ASCII letters, spaces and marks; a full stop at the end only, and no capitals that may
# be a number or an initialism. Looking at it once is faster than looking for each rule's work.
_PLAIN = re.compile(r"(?>(?:[a-z ,!?\"'()]++|[;:-](?![;:-])|[A-UWYZ](?![A-Z])|[VX](?=[a-z]))*)\.?+")
# Of letters alone, but a number as in `World War I`, or an abbreviation.
_MAY_BE_CHANGED = re.compile(rf"[A-Z][a-z]+ I\b|{UNDOTTED.pattern}")
_ENDS_ABBREVIATED = re.compile(rf"(?<![\w.])(?:{any_of(ABBREVIATED)})$", re.IGNORECASE)
_LONGEST_ABBREVIATION = max(map(len, ABBREVIATED))
_DIGIT = re.compile(r"\d|[⅐-⅞½¼¾²³¹⁰-⁹]")  # or what quantities are written with


class EnglishNormalizer:
    """Writes out numbers, signs, abbreviations and capitals of sentences in plain punctuation.

    Parameters
    ----------
    language : str
        Its name in espeak-ng: ``en-us`` writes the month of ``5/6/2024`` first, others the day.
    lexicon : container of str or None
        gruut's, where gruut reads what is written; a word in capitals that it has is no initialism.

    Examples
    --------
    >>> normalize = EnglishNormalizer()
    >>> normalize(SourceText("Henry VIII paid $3.50 on 5/6/2024.")).text
    'Henry the eighth paid 3 dollars 50 cents on May 6th, twenty 24.'
    """

    def __init__(self, language: str = "en-us", lexicon: Container[str] | None = None) -> None:
        self._lexicon = lexicon
        self._dates = [MONTH_FIRST if language.startswith("en-us") else DAY_FIRST, *DATE_RULES]

    def __call__(self, text: SourceText) -> SourceText:
        """Write a sentence as it is said."""
        return text if _is_plain(text.text) else self._apply_rules(text)

    def _apply_rules(self, text: SourceText) -> SourceText:
        for_gruut = self._lexicon is not None
        if not text.text.isascii():
            text = apply_rules(text, (*DIGIT_RULES, *GRUUT_LETTERS) if for_gruut else DIGIT_RULES)
        text = lower_capitals(text, self._lexicon)
        # Money and dates before quantities, whose signs they share, and years last, when all others are gone.
        text = apply_rules(text, (*WORD_RULES, *ROMAN_RULES))
        if _DIGIT.search(text.text):
            text = apply_rules(text, (*MONEY_RULES, *self._dates, *QUANTITY_RULES, *YEAR_RULES))
        return apply_rules(text, GRUUT_RULES if for_gruut else ESPEAK_RULES)


def _is_plain(text: str) -> bool:
    tail = max(0, len(text) - _LONGEST_ABBREVIATION)
    is_changed = _ENDS_ABBREVIATED.search(text, tail) or _MAY_BE_CHANGED.search(text)
    return _PLAIN.fullmatch(text) is not None and not is_changed
