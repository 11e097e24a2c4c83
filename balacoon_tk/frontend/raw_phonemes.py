"""Raw phonemes inside a text: ``Hello [[wˈɜːld]] again.``.

The brackets and what is in them travel through cleaning and splitting as one character, `RAW_MARK`,
which behaves like a word; the phonemes come back, in order, when the sentence is put together.
"""

from __future__ import annotations

import re

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.cleaning import clean_text

RAW_MARK = "\u3164"
"""Stands for one pair of brackets: a letter to regular expressions, so a word to every rule, but an
invisible one (HANGUL FILLER), of which cleaning lets none through from the text itself."""

_RAW = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
_EXCERPT = 20


def mark_raw_phonemes(text: str) -> tuple[str, list[str]]:
    """Clean a text and put `RAW_MARK` where raw phonemes stood.

    Returns
    -------
    tuple of str and list of str
        The text, and for each mark in it the phonemes, their white space single spaces.

    Raises
    ------
    ParameterError
        If a ``[[`` is not closed before the next one, or before the end.
    """
    if not isinstance(text, str):
        raise ParameterError(f"text={text!r} must be a str")
    if "[[" not in text:
        return clean_text(text), []
    parts, raws, end = [], [], 0
    for match in _RAW.finditer(text):
        nested = match[1].rfind("[[")
        if nested >= 0:
            raise _never_closed(text, match.start())
        parts += [clean_text(text[end : match.start()]), RAW_MARK]
        raws.append(re.sub(r"\s+", " ", match[1]))
        end = match.end()
    rest = text.find("[[", end)
    if rest >= 0:
        raise _never_closed(text, rest)
    parts.append(clean_text(text[end:]))
    return "".join(parts), raws


def restore_raw_phonemes(text: str, raws: list[str]) -> str:
    """Put the brackets back for a person to read."""
    parts = text.split(RAW_MARK)
    return parts[0] + "".join(f"[[{raw}]]{part}" for raw, part in zip(raws, parts[1:], strict=True))


def _never_closed(text: str, start: int) -> ParameterError:
    excerpt = text[start : start + _EXCERPT]
    line = text.count("\n", 0, start) + 1
    return ParameterError(
        f"text[{start}:]={excerpt!r} (line {line}) opens raw phonemes with '[[' and must close them with ']]'"
    )
