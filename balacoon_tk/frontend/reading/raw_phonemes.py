"""Raw phonemes, as in ``Hello [[wˈɜːld]] again.``: one mark stands for them on their way past the rules."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Generator, Iterator
from typing import NoReturn

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.reading.source_text import SourceText

RAW_MARK = "\u3164"
"""Stands for one pair of brackets with what is in them: a letter to regular expressions, so a word to every
rule, but an invisible one (HANGUL FILLER), of which the text's own are left out."""
MAX_RAW_PHONEMES = 10_000
"""Most characters between two brackets, so that it is known in time of a bracket that nobody closes it."""

_BRACKETS = re.compile(r"\]\]|\[\[")
_FILLER = re.compile(RAW_MARK)
_SPACES = re.compile(r"\s+")
# An opening before the next closing was meant to be closed earlier.
_NEVER_CLOSED = re.compile(rf"\[\[(?!(?:(?!\[\[|\]\]).){{0,{MAX_RAW_PHONEMES}}}\]\])", re.DOTALL)
_EXCERPT = 20


def check_closed(text: str) -> None:
    """Refuse a whole text in which an opening bracket is never closed."""
    if "[[" in text and (never_closed := _NEVER_CLOSED.search(text)):
        start = never_closed.start()
        line = text.count("\n", 0, start) + 1
        raise _refusal(start, f"{text[start : start + _EXCERPT]!r} (line {line})")


def _refusal(start: int, where: str) -> ParameterError:
    return ParameterError(
        f"text[{start}:]={where} opens raw phonemes with '[[' and must close them with ']]' within "
        f"MAX_RAW_PHONEMES={MAX_RAW_PHONEMES} characters"
    )


def restore_raw_phonemes(text: str, raws: list[str]) -> str:
    """Put the brackets back for a person to read."""
    own = iter(raws)
    return _FILLER.sub(lambda _: f"[[{next(own)}]]", text)


class RawPhonemes:
    """Puts `RAW_MARK` where raw phonemes stand; what stood there is in `raws`, in order, until it is taken.

    Raises
    ------
    ParameterError
        When it is known that a bracket isn't closed: at the next opening, after `MAX_RAW_PHONEMES`
        characters, or at the end; and of all that follows.
    """

    def __init__(self) -> None:
        self.raws: deque[str] = deque()
        self._held = SourceText("")  # a lone bracket that may be one of two
        self._inside: list[SourceText] | None = None
        self._n_inside = 0
        self._refusal: ParameterError | None = None

    def feed(self, text: SourceText) -> Iterator[SourceText]:
        """Take more of the text."""
        if self._refusal is not None:
            raise self._refusal
        rest, self._held = self._held + text, SourceText("")
        while rest.text:
            if self._inside is None:
                rest = yield from self._outside(rest)
            else:
                rest = yield from self._closing(rest, self._inside)

    def finish(self) -> Iterator[SourceText]:
        """Let a lone bracket stand, and refuse an open one."""
        if self._refusal is not None:
            raise self._refusal
        rest, self._held = self._held, SourceText("")
        if self._inside is not None:
            self._inside.append(rest)
            self._refuse()
        if rest.text:
            yield rest

    def take(self, sentence: str) -> list[str]:
        """Return what the marks in a sentence stand for; sentences come in the order of the text."""
        return [self.raws.popleft() for _ in range(sentence.count(RAW_MARK))]

    def _outside(self, text: SourceText) -> Generator[SourceText, None, SourceText]:
        opening = text.text.find("[[")
        ends = len(text) - text.text.endswith("[") if opening < 0 else opening
        before = text[:ends].sub(_FILLER, "")
        if before.text:
            yield before
        if opening < 0:
            self._held = text[ends:]
            return SourceText("")
        self._inside, self._n_inside = [text[opening : opening + 2]], 0
        return text[opening + 2 :]

    def _closing(self, text: SourceText, inside: list[SourceText]) -> Generator[SourceText, None, SourceText]:
        found = _BRACKETS.search(text.text)
        ends = found.start() if found else len(text) - text.text.endswith(("[", "]"))
        inside.append(text[:ends])
        self._n_inside += ends
        if self._n_inside > MAX_RAW_PHONEMES or (found and found[0] == "[["):
            inside.append(text[ends : ends + 2])
            self._refuse()
        if not found:
            self._held = text[ends:]
            return SourceText("")
        raw = SourceText.join(inside)
        self._inside = None
        self.raws.append(_SPACES.sub(" ", raw.text[2:]))
        whole = raw + text[ends : ends + 2]
        yield whole.replace([(0, len(whole), RAW_MARK)])
        return text[ends + 2 :]

    def _refuse(self) -> NoReturn:
        opened = SourceText.join(self._inside or ())
        start, _ = opened.span(0, 1)
        self._refusal = _refusal(start, repr(opened.text[:_EXCERPT]))
        raise self._refusal
