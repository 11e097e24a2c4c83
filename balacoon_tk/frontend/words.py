"""The words of a sentence: what the caller wrote, and the phonemes in which it is said.

A word stands between white space, without the marks, quotes and brackets around it; ``U.S.`` keeps its dot.
It is one however many words are said of it, as of ``$500`` and ``50%``: the words of the sentence as the
backend got it are joined where the caller's text has nothing between them. In scripts that write no spaces
each ideograph is a word, and what stands between ideographs, marks and spaces is another.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from balacoon_tk.frontend.alignment import word_ranges
from balacoon_tk.frontend.naming import without_warnings
from balacoon_tk.frontend.reading.cleaning import CLAUSE_MARKS, has_speech
from balacoon_tk.frontend.reading.raw_phonemes import RAW_MARK
from balacoon_tk.frontend.reading.source_text import SourceText, Span

_TOKEN = re.compile(r"\S+")
_IDEOGRAPHS = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_IDEOGRAPHS}]|[^{_IDEOGRAPHS}]+")
_AROUND = CLAUSE_MARKS + "\"'`…—―–¿¡·。，、；：？！।॥۔؟،؛"
_DOTTED = re.compile(r"[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")
_BRACKETS_AND_QUOTES = ("Ps", "Pe", "Pi", "Pf")


class Word(NamedTuple):
    """One word of a sentence."""

    text: str
    """As the caller wrote it: what stands at `text_span`."""
    text_span: Span
    """Where it begins and ends in the caller's text, in characters."""
    start: int
    """The first of its phonemes among those of the sentence."""
    stop: int
    """The one after its last; `start` itself where nothing of it is said."""


class SentenceWords:
    """Finds the words of a sentence, when somebody asks for them.

    Parameters
    ----------
    prepared : SourceText
        The sentence as the backend got it.
    raws : sequence of str
        Raw phonemes, for which it has a `RAW_MARK` each.
    written : SourceText or None
        What the caller wrote there, unchanged, and maybe more around it; None where that isn't known.
    say : callable
        Gives the phonemes of a word and of the raw phonemes in it, as the backend says it alone.
    """

    __slots__ = ("_prepared", "_raws", "_say", "_written")

    def __init__(
        self,
        prepared: SourceText,
        raws: Sequence[str],
        written: SourceText | None,
        say: Callable[[str, Sequence[str]], str],
    ) -> None:
        self._prepared = prepared
        self._raws = raws
        self._written = written
        self._say = say

    def find(self, phonemes: Sequence[str]) -> tuple[Word, ...]:
        """Return the words in order; `phonemes` are the sentence's, of which each word gets its own."""
        units = list(_units(self._prepared))
        # What can't be said was named when the sentence was.
        with without_warnings():
            alone = self._said_alone(unit for unit, _ in units)
        words: list[Word] = []
        for (unit, begins), (start, stop) in zip(units, word_ranges(alone, phonemes), strict=True):
            if not (has_speech(unit.text) or start < stop):
                continue
            span = unit.span(0, len(unit))
            before = words[-1] if words else None
            if before is not None and span[0] < before.text_span[1] + begins:
                words.pop()
                span = min(before.text_span[0], span[0]), max(before.text_span[1], span[1])
                start = before.start
            words.append(Word(self._at(span) or unit.text, span, start, stop))
        return tuple(words)

    def _said_alone(self, units: Iterable[SourceText]) -> list[str]:
        raws = iter(self._raws)
        return [self._say(unit.text, [*islice(raws, unit.text.count(RAW_MARK))]) for unit in units]

    def _at(self, span: Span) -> str:
        """Return what the caller wrote, or nothing where that isn't known."""
        if self._written is None:
            return ""
        begin, _ = self._written.span(0, 0)
        return self._written.text[span[0] - begin : span[1] - begin]


def _units(prepared: SourceText) -> Iterator[tuple[SourceText, bool]]:
    """Give what may be words, without the marks around them, and whether white space stands before."""
    text = prepared.text
    for token in _TOKEN.finditer(text):
        begins = True
        for unit in _UNIT.finditer(text, *token.span()):
            first, last = unit.span()
            while first < last and _is_around(text[first]):
                first += 1
            while last > first and _is_around(text[last - 1]):
                last -= 1
            if first < last:
                last += text.startswith(".", last) and _DOTTED.fullmatch(text, first, last) is not None
                yield prepared[first:last], begins
                begins = False


def _is_around(character: str) -> bool:
    if character.isalnum():
        return False
    return character in _AROUND or unicodedata.category(character) in _BRACKETS_AND_QUOTES
