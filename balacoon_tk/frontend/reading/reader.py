"""Reads a text, whole or in pieces, as sentences that know where they stood in it.

A sentence is given as soon as nothing that may follow can change it: when the next word begins, at an empty
line, at `FLUSH` and at the end. What rewrites a caller's text, as markup does, is a transducer before the
cleaner.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

from balacoon_tk.errors import BalacoonError, ParameterError
from balacoon_tk.frontend.markup.marked_text import MarkedText, Markup, check_marked
from balacoon_tk.frontend.naming import without_warnings
from balacoon_tk.frontend.reading.cleaning import Cleaner
from balacoon_tk.frontend.reading.lines import Lines
from balacoon_tk.frontend.reading.raw_phonemes import RawPhonemes, check_closed
from balacoon_tk.frontend.reading.source_text import SourceText, Span
from balacoon_tk.frontend.reading.splitting import Sentences
from balacoon_tk.frontend.reading.transducers import Control, Flush, Item, Transducer, run

Pieces: TypeAlias = Iterable[str | Flush]
"""A text as it comes: pieces that may be cut anywhere, and `FLUSH` between them."""

MAX_TEXT = 10_000_000
"""Most characters of a text that is given whole: about a week of speech.

However long it is, memory is needed for a few copies of the text, and beside them for one sentence. Pieces
may go on for ever.
"""
# Characters that are read at once, so that the first sentence of a long text comes as soon as a short one's.
_BLOCK = 2048
# Characters before this piece that are kept as they were written: more than a sentence has with its markup.
_REMEMBERED = 65_536


@dataclass(frozen=True, slots=True)
class SourceSentence:
    """One sentence as it is read, before anything is done to it as a sentence."""

    text: SourceText
    """Cleaned, with `RAW_MARK` where raw phonemes stand."""
    raws: list[str]
    """Those phonemes."""
    controls: tuple[Control, ...]
    """What stands between the sentence before, or the beginning, and this one."""
    written: SourceText | None = None
    """What the caller wrote where it stands, and maybe around it; None where that isn't known any more."""
    last: bool = False
    """Whether it is known that no sentence follows."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How a text is read."""

    clause: bool = False
    """Whether the first clause of a text, and of what follows a `FLUSH`, is a sentence of its own."""
    markup: Markup | None = None
    """What stands in the text beside what is said; None leaves it to the text."""


DEFAULT_READING = Reading()
"""As a text is read where nobody says how."""


class Reader:
    """Gives the sentences of a text that is fed to it in pieces; for one text at a time."""

    def __init__(self, reading: Reading = DEFAULT_READING) -> None:
        self._reading = reading
        self._marked_text, self._raw_phonemes = MarkedText(reading.markup), RawPhonemes()
        self._cleaner, self._lines = Cleaner(), Lines()
        self._sentences_step = Sentences(clause=reading.clause)
        self._steps: tuple[Transducer, ...] = (
            *(self._marked_text, self._raw_phonemes),
            *(self._cleaner, self._lines, self._sentences_step),
        )
        self._written: deque[SourceText] = deque()
        self._n_characters = 0
        self._controls: list[Control] = []

    def feed(self, piece: str) -> Iterator[SourceSentence]:
        """Take more of the text, and give the sentences that it completes."""
        self._written.append(SourceText(piece, self._n_characters))
        while len(self._written) > 1 and self._n_characters - self._written[1].span(0, 0)[0] > _REMEMBERED:
            self._written.popleft()
        for start in range(0, len(piece), _BLOCK):
            block = SourceText(piece[start : start + _BLOCK], self._n_characters)
            self._n_characters += len(block)
            yield from self._sentences(run(self._steps, (block,), finish=False))
        # Words of one letter are frequent at the beginning of a sentence, and of ideographs all are.
        if (letter := self._cleaner.next_letter) and self._lines.is_in_line:
            yield from self._sentences(self._sentences_step.look_at(letter))

    def flush(self) -> Iterator[SourceSentence]:
        """Give what has come so far; what is fed next begins a new sentence."""
        yield from self._sentences(run(self._steps[1:], self._marked_text.flush(), finish=True))
        self._sentences_step.ends_clause = self._reading.clause

    def finish(self) -> Iterator[SourceSentence]:
        """Give the rest: the text ends here."""
        yield from self._sentences(run(self._steps, (), finish=True))
        # A sentence of nothing, so that a break at the end is heard.
        if any(control.break_s for control in self._controls):
            yield SourceSentence(SourceText(""), [], tuple(self._controls))

    def give_up(self) -> Iterator[SourceSentence]:
        """Give what can still be said after an error: the rest, but for what a step refuses."""
        for first in range(len(self._steps)):
            try:
                yield from self._sentences(run(self._steps[first:], (), finish=True))
            except BalacoonError:
                continue
            return

    def _sentences(self, items: Iterator[Item]) -> Iterator[SourceSentence]:
        for item in items:
            if isinstance(item, Control):
                self._controls.append(item)
                continue
            controls, self._controls = tuple(self._controls), []
            written = self._written_at(item.span(0, len(item)))
            yield SourceSentence(item, self._raw_phonemes.take(item.text), controls, written)

    def _written_at(self, span: Span) -> SourceText | None:
        """Return what the caller wrote there, and forget what was before."""
        pieces, (start, stop) = self._written, span
        while pieces and pieces[0].span(0, len(pieces[0]))[1] <= start:
            pieces.popleft()
        parts = []
        for piece in pieces:
            first, _ = piece.span(0, 0)
            if first >= stop:
                break
            parts.append(piece[max(0, start - first) : min(len(piece), stop - first)])
        return SourceText.join(parts) if parts and parts[0].span(0, 0)[0] == start else None


def read(text: str | Pieces, reading: Reading = DEFAULT_READING) -> Iterator[SourceSentence]:
    """Give the sentences of a text one at a time.

    Of pieces, the next one is asked for when all sentences before it have been taken. What is wrong with a
    whole text is said at the call. In pieces, what came before is said first, whether the fault is in the
    text, in a piece that is none, or an error of the iterable's own.

    Raises
    ------
    ParameterError
        If the text isn't a str nor pieces of it, if it is too long, if a piece isn't a str nor `FLUSH`, or if
        a bracket of raw phonemes is never closed.
    """
    if isinstance(text, str):
        if len(text) > MAX_TEXT:
            raise ParameterError(f"text of {len(text)} characters must have at most MAX_TEXT={MAX_TEXT}")
        check_marked(text, reading.markup)
        _check_brackets(text, reading)
        return _mark_last(_read((text,), reading))
    check_pieces(text)
    return _read(text, reading)


def _check_brackets(text: str, reading: Reading) -> None:
    r"""Refuse a whole text in which raw phonemes are never closed.

    Markup goes first. A bracket may be a part of it, as in ``\[[^1]``, and of ``[_[`` it leaves two.
    """
    try:
        check_closed(text)
    except ParameterError:
        if _refusal_behind_markup(text, reading) is not None:
            raise
        return
    refusal = _refusal_behind_markup(text, reading) if text.count("[") > 1 else None
    if refusal is not None:
        raise refusal


def _refusal_behind_markup(text: str, reading: Reading) -> ParameterError | None:
    steps = (MarkedText(reading.markup), RawPhonemes())
    try:
        with without_warnings():
            for _ in run(steps, (SourceText(text),), finish=True):
                pass
    except ParameterError as error:
        return error
    return None


def check_pieces(text: object) -> None:
    """Refuse what can't be pieces of a text."""
    # Bytes are iterable as well, and their pieces would be numbers.
    if isinstance(text, (bytes, bytearray, memoryview)) or not isinstance(text, Iterable):
        raise ParameterError(f"text={text!r} must be a str, or an iterable of str and FLUSH")


def _read(pieces: Iterable[object], reading: Reading) -> Iterator[SourceSentence]:
    reader = Reader(reading)
    try:
        for index, piece in enumerate(pieces):
            if isinstance(piece, str):
                yield from reader.feed(piece)
            elif isinstance(piece, Flush):
                yield from reader.flush()
            else:
                kind = type(piece).__name__
                raise ParameterError(f"text[{index}] is of type {kind} and must be a str, or FLUSH")
        yield from _mark_last(reader.finish())
    except Exception:
        yield from reader.give_up()
        raise
    finally:
        # Not left to the garbage: it may hold a connection.
        if isinstance(pieces, Generator):
            pieces.close()


def _mark_last(sentences: Iterator[SourceSentence]) -> Iterator[SourceSentence]:
    # One sentence is looked at ahead, and not phonemized: to split is cheap.
    sentence = next(sentences, None)
    while sentence is not None:
        following = next(sentences, None)
        yield sentence if following else replace(sentence, last=True)
        sentence = following
