"""One small set of punctuation for all backends: what a voice trained on espeak-ng knows."""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re

from balacoon_tk.frontend.cleaning import is_plain

CLAUSE_MARKS = ".,!?;:"
"""Marks that stand among the phonemes, as pauses and tunes of the voice."""

WIDE_FINAL_MARKS = "。।॥۔։።។။！‼？؟⁇⁈⁉፧"
"""Marks that end a sentence, whatever follows: no script uses them for an abbreviation."""

_WIDE_INNER_MARKS = "，、،፣；؛："
_PLAIN = str.maketrans(
    WIDE_FINAL_MARKS + _WIDE_INNER_MARKS + "“”„‟«»「」『』‘’‛ʼ（）",
    "........" + "!!" + "??????" + ",,,,;;:" + '""""""""""' + "''''" + "()",
)
_AFTER_WIDE = re.compile(rf"(?<=[{WIDE_FINAL_MARKS}{_WIDE_INNER_MARKS}])(?=\w)")

_RULES = [
    # Dashes between clauses; not the hyphen of a compound nor the dash of a range. espeak-ng reads a
    # spaced dash as a semicolon, so that is what voices have heard.
    (re.compile(r"\s*[—―]\s*|\s+(?:--+|–)\s+"), "; "),
    # An ellipsis at the end is a full stop, elsewhere a pause.
    (re.compile(r"\s*(?:\.{2,}|…)[\s.…]*(?=\W*$)"), "."),
    (re.compile(r"\s*(?:\.{2,}|…)[\s.…]*"), ", "),
    (re.compile(r"[!?]*\?[!?]+|!+\?"), "?"),
    (re.compile(r"!{2,}"), "!"),
    # Where two marks meet, the weak one goes: `Yes,...` and `wait, — no`. A dot before a digit is no mark.
    (re.compile(r"[,;:]\s*(?=[,!?;:]|\.(?!\d))"), ""),
    (re.compile(r"^(?:[\s,!?;:]|\.(?!\d))+"), ""),
    (re.compile(r"\s+"), " "),
]


def plain_punctuation(sentence: str) -> str:
    """Write the punctuation of a sentence in ASCII: wide marks, quotes, dashes and ellipses.

    Examples
    --------
    >>> plain_punctuation("“Well… I — that is, we — said：no！？”")
    '"Well, I; that is, we; said: no?"'
    """
    return sentence if is_plain(sentence) else _apply_rules(sentence)


def _apply_rules(sentence: str) -> str:
    sentence = _AFTER_WIDE.sub(" ", sentence).translate(_PLAIN)
    for pattern, replacement in _RULES:
        sentence = pattern.sub(replacement, sentence)
    return sentence.strip()
