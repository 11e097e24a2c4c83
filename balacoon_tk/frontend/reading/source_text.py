"""A text that is rewritten on its way to a voice, and knows where each of its characters came from.

Captions and cursors follow the caller's own text, of which cleaning, markup and numbers leave little as it
was. So each step rewrites by the methods here, and whoever asks at the end is told which part of the caller's
text a word stands for. A text that nothing has changed, as most are, carries no more than its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import chain
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
"""Where something begins and ends in the caller's text, in characters."""


class SourceText:
    r"""A piece of text with the place of each character in the text that it came from; it never changes.

    Parameters
    ----------
    text : str
        As the caller wrote it.
    start : int
        Where its first character stands in the caller's text.

    Examples
    --------
    >>> text = SourceText("I paid $5.").sub(re.compile(r"\$(\d)"), r"\1 dollars")
    >>> text.text, text.span(7, 9)  # "5 dollars" stands for "$5"
    ('I paid 5 dollars.', (7, 9))
    """

    __slots__ = ("_spans", "_start", "text")

    def __init__(self, text: str, start: int = 0) -> None:
        self.text = text
        self._start = start
        # Of each character, where it isn't simply the one at its place.
        self._spans: tuple[Span, ...] | None = None

    @classmethod
    def _of(cls, text: str, spans: tuple[Span, ...]) -> SourceText:
        new = cls(text)
        new._spans = spans
        return new

    @classmethod
    def join(cls, parts: Iterable[SourceText]) -> SourceText:
        """Join parts as ``+`` does, in a time that grows with their length alone."""
        parts = [part for part in parts if part.text]
        if len(parts) <= 1:
            return parts[0] if parts else cls("")
        text, start = "".join(part.text for part in parts), parts[0]._start
        for part in parts:
            if part._spans is not None or part._start != start:
                return cls._of(text, tuple(chain.from_iterable(each._each() for each in parts)))
            start += len(part.text)
        return cls(text, parts[0]._start)

    def __len__(self) -> int:
        return len(self.text)

    def __repr__(self) -> str:
        return f"SourceText({self.text!r}, {self.span(0, len(self.text))})"

    def __getitem__(self, place: slice) -> SourceText:
        """Return a part of it; steps other than 1 make no text."""
        start, stop, step = place.indices(len(self.text))
        if step != 1:
            raise ValueError(f"step={step} must be 1")
        if self._spans is None:
            return SourceText(self.text[start:stop], self._start + start)
        return self._of(self.text[start:stop], self._spans[start:stop])

    def __add__(self, other: SourceText) -> SourceText:
        """Join what follows; what lies between the two in the caller's text is left out."""
        if not other.text:
            return self
        if not self.text:
            return other
        if self._spans is None and other._spans is None and other._start == self._start + len(self.text):
            return SourceText(self.text + other.text, self._start)
        return self._of(self.text + other.text, self._each() + other._each())

    def span(self, start: int, stop: int) -> Span:
        """Return which part of the caller's text the characters [start, stop) stand for.

        Of no characters at all, it is the place before the one at `start`, or the end.
        """
        if self._spans is None:
            return self._start + start, self._start + stop
        if start >= stop:
            if start < len(self._spans):
                return (place := self._spans[start][0]), place
            end = self._spans[-1][1] if self._spans else self._start
            return end, end
        # A composed letter or a word put first may come from further on than what follows it.
        spans = self._spans[start:stop]
        return min(first for first, _ in spans), max(last for _, last in spans)

    def strip(self) -> SourceText:
        """Leave out the white space around it."""
        text = self.text
        first = len(text) - len(text.lstrip())
        return self[first : max(first, len(text.rstrip()))]

    def sub(self, pattern: re.Pattern[str], replacement: str | Callable[[re.Match[str]], str]) -> SourceText:
        """Replace as `re.Pattern.sub` does; what is put in stands for all of what it replaces."""
        found = [
            (*match.span(), replacement(match) if callable(replacement) else match.expand(replacement))
            for match in pattern.finditer(self.text)
        ]
        return self.replace(edit for edit in found if self.text[edit[0] : edit[1]] != edit[2])

    def replace(self, edits: Iterable[tuple[int, int, str]]) -> SourceText:
        """Put a text in the place of [start, stop), for each (start, stop, text) in order; none overlap."""
        given = list(edits)
        if not given:
            return self
        texts: list[str] = []
        end = 0
        for start, stop, text in given:
            texts += (self.text[end:start], text)
            end = stop
        new = "".join([*texts, self.text[end:]])
        # Of one kind of space or mark for another the places stay, and so does a text that is its own.
        if all(stop - start == len(text) == 1 for start, stop, text in given):
            return SourceText(new, self._start) if self._spans is None else self._of(new, self._spans)
        spans: list[Span] = []
        each = self._each()
        end = 0
        for start, stop, text in given:
            spans += each[end:start]
            spans += [self.span(start, stop)] * len(text)
            end = stop
        return self._of(new, (*spans, *each[end:]))

    def _each(self) -> tuple[Span, ...]:
        if self._spans is None:
            first = self._start
            return tuple((place, place + 1) for place in range(first, first + len(self.text)))
        return self._spans
