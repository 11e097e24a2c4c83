"""From a text to sentences of phonemes: what all backends share around the one call that differs.

The text is read sentence by sentence; in each the punctuation is made plain, the backend is called, and raw
phonemes, as in ``Hello [[wˈɜːld]] again.``, come back to their places. A bracket that is never closed is
refused; everything else can be said or has nothing to say.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import ClassVar, Literal, Protocol

from balacoon_tk.frontend.reading.cleaning import CLAUSE_MARKS, has_speech, plain_punctuation
from balacoon_tk.frontend.reading.raw_phonemes import RAW_MARK, restore_raw_phonemes
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Pieces, Reading, SourceSentence, read
from balacoon_tk.frontend.reading.source_text import SourceText
from balacoon_tk.frontend.reading.splitting import MAX_SENTENCE_PHONEMES, even_parts
from balacoon_tk.frontend.reading.transducers import GOES_ON, Control
from balacoon_tk.frontend.words import SentenceWords

# What may stand between raw phonemes and the next word; no backend makes sense of text that begins so.
_AFTER_RAW = re.compile(r"[\s\"')\]},;:.!?]*")


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a text: the unit that the encoder sees as a whole."""

    text: str
    """As it was read: cleaned, with raw phonemes still in their brackets."""
    phonemes: tuple[str, ...]
    """One codepoint each, decomposed (NFD) unless the voice's symbols are composed; stress, length, spaces
    and punctuation count as phonemes."""
    last: bool = field(default=False, compare=False)
    """Whether the frontend knows that nothing follows, so that nobody has to look for another sentence."""
    source: SourceText = field(default=SourceText(""), compare=False)
    """As the backend got it, with `RAW_MARK` for raw phonemes, and where each of its characters stood in the
    caller's text; empty where the frontend doesn't say."""
    controls: tuple[Control, ...] = field(default=(), compare=False)
    """What stands between the sentence before, or the beginning of the text, and this one."""
    words: SentenceWords | None = field(default=None, compare=False, repr=False)
    """Finds its words; None where the frontend can't."""

    @property
    def begins_paragraph(self) -> bool:
        """Whether an empty line stands before it."""
        return any(control.ends_paragraph for control in self.controls)


class Frontend(Protocol):
    """Turns text into sentences of phonemes; safe to call from many threads at once.

    One that also takes pieces and a `Reading` says so by an attribute ``takes_pieces = True``; for another, a
    text must be a str that is read as the frontend likes.
    """

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Split a text and give its sentences one at a time, each phonemized when it is asked for.

        A text of ten minutes so starts as soon as one of five seconds. Text with nothing to say
        (empty, or only spaces, punctuation and emoji) gives no sentence. Pieces may be cut anywhere: the
        sentences are those of the whole.

        Raises
        ------
        ParameterError
            At the call, if the text is neither a str nor an iterable of pieces, if a ``[[`` of raw phonemes
            is never closed, or a str is longer than `MAX_TEXT`. What is wrong with a piece is said when its
            turn comes.
        """


class PiecesFrontend(Frontend, Protocol):
    """A frontend that takes text in pieces as well."""

    takes_pieces: ClassVar[bool]

    def phonemize(self, text: str | Pieces, reading: Reading = ...) -> Iterator[Sentence]:
        """Give the sentences of a text, or of its pieces as they come; see `Frontend.phonemize`."""


def assemble_sentences(
    text: str | Pieces,
    to_phonemes: Callable[[str], str],
    reading: Reading = DEFAULT_READING,
    *,
    prepare: Callable[[SourceText], SourceText] = plain_punctuation,
    form: Literal["NFC", "NFD"] = "NFD",
) -> Iterator[Sentence]:
    """Give the sentences of a text, calling the backend for each when it is asked for.

    `to_phonemes` gets a sentence, or a part of one beside raw phonemes, once `prepare` was done to the whole
    sentence. It gives words with spaces between, and the marks of `CLAUSE_MARKS` where the text has them.
    """

    def speak(prepared: str, raws: Sequence[str]) -> str:
        return unicodedata.normalize(form, _join(prepared, raws, to_phonemes))

    # At the call and not in the iteration, so that a bracket never closed is refused before the first sound.
    return _assemble(read(text, reading), prepare, speak)


def _assemble(
    sentences: Iterator[SourceSentence],
    prepare: Callable[[SourceText], SourceText],
    speak: Callable[[str, Sequence[str]], str],
) -> Iterator[Sentence]:
    held: tuple[Control, ...] = ()  # what stands before a sentence in which nothing is said
    for sentence in sentences:
        sentence = replace(sentence, controls=(*held, *sentence.controls)) if held else sentence
        prepared = prepare(sentence.text)
        spoken = speak(prepared.text, sentence.raws)
        # Halved rather than cut in the phonemes, where no mark says what belongs together.
        if len(spoken) > MAX_SENTENCE_PHONEMES:  # numbers and the like: a character says many phonemes
            halves = list(_halves(sentence))
            # One that is no shorter is left alone: a letter that a backend has a long name for.
            if sum(len(half.text) for half in halves) < len(sentence.text) or len(halves) > 1:
                yield from _assemble(iter(halves), prepare, speak)
                held = ()
                continue
        # A backend may find nothing to say in what looked like speech: a word of another script, say.
        if any(phoneme not in CLAUSE_MARKS and phoneme != " " for phoneme in spoken):
            text = restore_raw_phonemes(sentence.text.text, sentence.raws)
            words = SentenceWords(prepared, sentence.raws, sentence.written, speak)
            yield Sentence(text, tuple(spoken), sentence.last, prepared, sentence.controls, words)
            held = ()
        else:
            held = sentence.controls
    if any(control.break_s for control in held):
        yield Sentence("", (), controls=held)


def _halves(sentence: SourceSentence) -> Iterator[SourceSentence]:
    text = sentence.text
    parts = [text[start:stop] for start, stop in even_parts(text.text, -(-len(text) // 2))]
    raws = iter(sentence.raws)
    for part in parts:
        yield SourceSentence(
            part,
            list(islice(raws, part.text.count(RAW_MARK))),
            sentence.controls if part is parts[0] else (GOES_ON,),
            sentence.written,
            last=sentence.last and part is parts[-1],
        )


def join_clauses(clauses: Iterable[tuple[str, str]]) -> str:
    """Put a sentence together of clauses that say something: phonemes, and the mark that ended them."""
    spoken = ""
    for phonemes, mark in clauses:
        if phonemes:
            # Backends end a sentence at the dot of `Mr.`; the splitter knows better.
            before = f"{spoken.removesuffix('.')} " if spoken else ""
            spoken = before + phonemes + mark
    return spoken


def _join(sentence: str, raws: Sequence[str], to_phonemes: Callable[[str], str]) -> str:
    """Phonemize what stands around the raw phonemes and join all with single spaces."""
    if not raws:
        return to_phonemes(sentence).strip()
    parts = sentence.split(RAW_MARK)
    spoken = _speak(parts[0], to_phonemes, last=False)
    for raw, part in zip(raws, parts[1:], strict=True):
        between = _AFTER_RAW.match(part)
        lead = between[0] if between else ""
        marks = "".join(character for character in lead if character in CLAUSE_MARKS)
        gap = " " if marks or " " in lead else ""
        spoken += raw + marks + gap + _speak(part[len(lead) :], to_phonemes, last=part is parts[-1])
    return re.sub(" {2,}", " ", spoken).strip()


def _speak(part: str, to_phonemes: Callable[[str], str], *, last: bool) -> str:
    if not has_speech(part):
        return " " if part[-1:].isspace() else ""
    spoken = to_phonemes(part.strip()).strip()
    if last:
        return spoken
    # The sentence goes on, so a full stop here was an abbreviation's.
    spoken = spoken.removesuffix(".")
    return f"{spoken} " if part[-1:].isspace() or spoken.endswith(tuple(CLAUSE_MARKS)) else spoken
