"""The words of a sentence: what the caller wrote, and the phonemes in which it is said.

A word stands between white space in the sentence as the backend got it, without the marks, quotes and
brackets around it. What comes from overlapping parts of the caller's text is one word, however many are said:
``$500``, of which *five hundred dollars* was made. In scripts that write no spaces each ideograph is a word,
and what stands between ideographs, marks and spaces is another.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

from balacoon_tk.frontend.alignment import word_ranges
from balacoon_tk.frontend.cleaning import CLAUSE_MARKS, has_speech
from balacoon_tk.frontend.naming import without_warnings
from balacoon_tk.frontend.raw_phonemes import RAW_MARK
from balacoon_tk.frontend.source_text import SourceText, Span

_TOKEN = re.compile(r"\S+")
_IDEOGRAPHS = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_UNIT = re.compile(rf"[{_IDEOGRAPHS}]|[^{_IDEOGRAPHS}]+")
_AROUND = CLAUSE_MARKS + "\"'`…—―–¿¡·。，、；：？！।॥۔؟،؛"
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
        tokens = list(_tokens(self._prepared))
        # What can't be said was named when the sentence was.
        with without_warnings():
            alone = self._said_alone(tokens)
        words: list[Word] = []
        for token, (start, stop) in zip(tokens, word_ranges(alone, phonemes), strict=True):
            if not (has_speech(token.text) or start < stop):
                continue
            span = token.span(0, len(token))
            if words and _overlap(words[-1].text_span, span):
                before = words.pop()
                span = min(before.text_span[0], span[0]), max(before.text_span[1], span[1])
                start = before.start
            words.append(Word(self._at(span) or token.text, span, start, stop))
        return tuple(words)

    def _said_alone(self, tokens: Iterable[SourceText]) -> list[str]:
        raws = iter(self._raws)
        return [
            self._say(token.text, [*islice(raws, token.text.count(RAW_MARK))] if self._raws else [])
            for token in tokens
        ]

    def _at(self, span: Span) -> str:
        """Return what the caller wrote, or nothing where that isn't known."""
        if self._written is None:
            return ""
        begin, _ = self._written.span(0, 0)
        return self._written.text[span[0] - begin : span[1] - begin]


def _overlap(before: Span, span: Span) -> bool:
    # A part of no length, where something was put in, belongs to what it touches.
    return span[0] < before[1] or (span[0] == span[1] == before[1])


def _tokens(prepared: SourceText) -> Iterator[SourceText]:
    """Give what may be words, without the marks around them."""
    text = prepared.text
    for token in _TOKEN.finditer(text):
        for unit in _UNIT.finditer(text, *token.span()):
            first, last = unit.span()
            while first < last and _is_around(text[first]):
                first += 1
            while last > first and _is_around(text[last - 1]):
                last -= 1
            if first < last:
                yield prepared[first:last]


def _is_around(character: str) -> bool:
    if character.isalnum():
        return False
    return character in _AROUND or unicodedata.category(character) in _BRACKETS_AND_QUOTES
