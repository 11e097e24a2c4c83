"""From a text to sentences of phonemes: what all backends share around the one call that differs.

Raw phonemes, as in ``Hello [[wˈɜːld]] again.``, are taken out, the rest is cleaned and split; then, sentence
by sentence, the punctuation is made plain, the backend is called, and the raw phonemes come back in their
order. A bracket that is never closed is refused; everything else can be said or has nothing to say.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from balacoon_tk.errors import ParameterError
from balacoon_tk.frontend.cleaning import CLAUSE_MARKS, clean_text, has_speech, plain_punctuation
from balacoon_tk.frontend.splitting import MAX_SENTENCE_PHONEMES, shorten, split_sentences

# Stands for one pair of brackets with what is in them, while the text is cleaned and split: a letter to
# regular expressions, so a word to every rule, but an invisible one (HANGUL FILLER), of which cleaning lets
# none through from the text itself.
RAW_MARK = "\u3164"
_RAW = re.compile(r"\[\[(.*?)\]\]", re.DOTALL)
# An opening before the next closing was meant to be closed earlier.
_NEVER_CLOSED = re.compile(r"\[\[(?!(?:(?!\[\[).)*?\]\])", re.DOTALL)
_EXCERPT = 20
MAX_TEXT = 10_000_000
"""Most characters of one text: about a week of speech.

However long it is, memory is needed for a few copies of the text, and beside them for one sentence.
"""
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


class Frontend(Protocol):
    """Turns text into sentences of phonemes; safe to call from many threads at once."""

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Split a text and give its sentences one at a time, each phonemized when it is asked for.

        A text of ten minutes so starts as soon as one of five seconds. Text with nothing to say
        (empty, or only spaces, punctuation and emoji) gives no sentence.

        Raises
        ------
        ParameterError
            At the call, if a ``[[`` of raw phonemes is never closed, or the text is longer than `MAX_TEXT`.
        """


def assemble_sentences(
    text: str,
    to_phonemes: Callable[[str], str],
    *,
    prepare: Callable[[str], str] = plain_punctuation,
    form: Literal["NFC", "NFD"] = "NFD",
) -> Iterator[Sentence]:
    """Give the sentences of a text, calling the backend for each when it is asked for.

    `to_phonemes` gets a sentence, or a part of one beside raw phonemes, once `prepare` was done to the whole
    sentence. It gives words with spaces between, and the marks of `CLAUSE_MARKS` where the text has them.
    """
    # At the call and not in the iteration, so that a bracket never closed is refused before the first sound.
    marked, raws = mark_raw_phonemes(text)

    def speak(sentence: str, raws: list[str]) -> str:
        return unicodedata.normalize(form, _join(prepare(sentence), raws, to_phonemes))

    return _assemble(split_sentences(marked), raws, speak, last=True)


def _assemble(
    sentences: Iterable[str], raws: list[str], speak: Callable[[str, list[str]], str], *, last: bool
) -> Iterator[Sentence]:
    n_used = 0
    # One sentence is looked at ahead, and not phonemized: to split is cheap. None is empty but the end.
    for sentence, following in itertools.pairwise(itertools.chain(sentences, [""])):
        n_raws = sentence.count(RAW_MARK)
        own, n_used = raws[n_used : n_used + n_raws], n_used + n_raws
        spoken, ends = speak(sentence, own), last and not following
        # Halved rather than cut in the phonemes, where no mark says what belongs together.
        if len(spoken) > MAX_SENTENCE_PHONEMES:  # numbers and the like: a character says many phonemes
            halves = list(shorten(sentence, -(-len(sentence) // 2)))
            if halves != [sentence]:  # one may be left alone, of signs that a backend has long names for
                yield from _assemble(halves, own, speak, last=ends)
                continue
        # A backend may find nothing to say in what looked like speech: a word of another script, say.
        if any(phoneme not in CLAUSE_MARKS and phoneme != " " for phoneme in spoken):
            yield Sentence(restore_raw_phonemes(sentence, own), tuple(spoken), last=ends)


def join_clauses(clauses: Iterable[tuple[str, str]]) -> str:
    """Put a sentence together of clauses that say something: phonemes, and the mark that ended them."""
    spoken = ""
    for phonemes, mark in clauses:
        if phonemes:
            # Backends end a sentence at the dot of `Mr.`; the splitter knows better.
            before = f"{spoken.removesuffix('.')} " if spoken else ""
            spoken = before + phonemes + mark
    return spoken


def _join(sentence: str, raws: list[str], to_phonemes: Callable[[str], str]) -> str:
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


def mark_raw_phonemes(text: str) -> tuple[str, list[str]]:
    """Clean a text and put `RAW_MARK` where raw phonemes stood, which come beside it in order."""
    if not isinstance(text, str):
        raise ParameterError(f"text={text!r} must be a str")
    if len(text) > MAX_TEXT:
        raise ParameterError(f"text of {len(text)} characters must have at most MAX_TEXT={MAX_TEXT}")
    if never_closed := _NEVER_CLOSED.search(text):
        start = never_closed.start()
        excerpt, line = text[start : start + _EXCERPT], text.count("\n", 0, start) + 1
        where = f"text[{start}:]={excerpt!r} (line {line})"
        raise ParameterError(f"{where} opens raw phonemes with '[[' and must close them with ']]'")
    # Cleaned piece by piece: what is in the brackets is left as it is, whatever its characters mean.
    pieces = _RAW.split(text)
    return RAW_MARK.join(map(clean_text, pieces[::2])), [re.sub(r"\s+", " ", raw) for raw in pieces[1::2]]


def restore_raw_phonemes(text: str, raws: list[str]) -> str:
    """Put the brackets back for a person to read."""
    own = iter(raws)
    return re.sub(RAW_MARK, lambda _: f"[[{next(own)}]]", text)
