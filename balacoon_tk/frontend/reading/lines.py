"""Joins lines that an editor broke, and ends sentences where the writer did.

A line break ends a sentence, unless the text looks wrapped there: the next line begins in lower case, or the
line is longer than `WRAPPED_LINE` and has no mark at its end. An empty line ends a paragraph. Bullets are
left out, and always begin a sentence.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import re
from collections.abc import Generator, Iterator

from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.transducers import Control, Item

WRAPPED_LINE = 60
"""A line of so many characters was probably broken by an editor, not by its writer."""

# A bounded number of them, so that a line is known for one without its end.
_BULLETS = re.compile(r" ?(?:(?:[-–—*•·‣▪◦>]|#{1,6}) ){0,8}")
_MAY_BE_BULLET = re.compile(r"[-–—*•·‣▪◦>]?|#{1,6}")
_WORD = re.compile(r"\w")


class Lines:
    """Gives what stands between the line breaks that count, of a cleaned text."""

    def __init__(self) -> None:
        self._begin()

    @property
    def is_in_line(self) -> bool:
        """Whether what comes next goes on with a line that has begun."""
        return not self._at_start

    def feed(self, text: SourceText) -> Iterator[Item]:
        """Take more of the text."""
        # Lines that are joined come as one: what follows would take each of them to the ones before.
        parts: list[SourceText] = []
        for item in self._items(text):
            if isinstance(item, SourceText):
                parts.append(item)
                continue
            yield SourceText.join(parts)
            yield item
            parts = []
        yield SourceText.join(parts)

    def _items(self, rest: SourceText) -> Iterator[Item]:
        while rest.text:
            if not self._at_start:
                rest = yield from self._to_break(rest)
            elif rest.text.startswith("\n") and not self._head.text:
                rest = yield from self._another_break(rest)
            else:
                rest = yield from self._start(self._head + rest, finish=False)

    def finish(self) -> Iterator[Item]:
        """Give the rest."""
        line = yield from self._start(self._head, finish=True)
        if line.text:
            yield line
        self._begin()

    def _begin(self) -> None:
        self._at_start = True
        self._head = SourceText("")  # of a line, while it may be a bullet
        self._break: SourceText | None = None  # the one before this line, if it may count for nothing
        self._n_characters, self._last = 0, ""  # of this line or, at its start, of the one before

    def _to_break(self, text: SourceText) -> Generator[Item, None, SourceText]:
        stop = text.text.find("\n")
        line = text if stop < 0 else text[:stop]
        if line.text:
            self._n_characters += len(line)
            self._last = line.text[-1]
            yield line
        if stop < 0:
            return SourceText("")
        self._at_start, self._break = True, text[stop : stop + 1]
        return text[stop + 1 :]

    def _another_break(self, text: SourceText) -> Generator[Item, None, SourceText]:
        # Of several only the first two say something; those before the first line nothing at all.
        if self._break is not None:
            self._break = None
            yield Control(ends_paragraph=True)
        return text[1:]

    def _start(self, head: SourceText, *, finish: bool) -> Generator[Item, None, SourceText]:
        bullets = _BULLETS.match(head.text)
        line = head[bullets.end() if bullets else 0 :]
        if not finish and _MAY_BE_BULLET.fullmatch(line.text):
            self._head = head
            return SourceText("")
        has_bullet = len(head.text.lstrip(" ")) > len(line)
        if self._break is not None:
            unfinished = self._n_characters >= WRAPPED_LINE and _WORD.match(self._last)
            joins = not has_bullet and (line.text[:1].islower() or unfinished)
            yield self._break.replace([(0, 1, " ")]) if joins else Control()
        self._head, self._break, self._at_start = SourceText(""), None, False
        self._n_characters, self._last = 0, ""
        return line
