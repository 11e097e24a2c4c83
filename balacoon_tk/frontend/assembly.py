"""From a text to sentences of phonemes: what all backends share around the one call that differs.

Raw phonemes are taken out, the rest is cleaned and split; then, sentence by sentence, the punctuation
is made plain, the backend is called, and the raw phonemes come back in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from balacoon_tk.frontend.cleaning import has_speech
from balacoon_tk.frontend.protocol import Sentence
from balacoon_tk.frontend.punctuation import CLAUSE_MARKS, plain_punctuation
from balacoon_tk.frontend.raw_phonemes import RAW_MARK, mark_raw_phonemes, restore_raw_phonemes
from balacoon_tk.frontend.splitting import MAX_SENTENCE_PHONEMES, shorten, split_sentences

# What may stand between raw phonemes and the next word; no backend makes sense of text that begins so.
_AFTER_RAW = re.compile(r"[\s\"')\]},;:.!?]*")


def assemble_sentences(
    text: str,
    to_phonemes: Callable[[str], str],
    *,
    prepare: Callable[[str], str] = plain_punctuation,
    form: Literal["NFC", "NFD"] = "NFD",
) -> Iterator[Sentence]:
    """Give the sentences of a text, calling the backend for each when it is asked for.

    Parameters
    ----------
    text : str
        Any text, with raw phonemes in ``[[ ]]`` or without.
    to_phonemes : callable
        Gives the phonemes of a sentence, or of a part of one beside raw phonemes: words with spaces
        between, and the marks of `CLAUSE_MARKS` where the text has them.
    prepare : callable
        What is done to a whole sentence before its parts go to `to_phonemes`.
    form : {"NFD", "NFC"}
        Whether phonemes are decomposed, or composed as far as they can be.

    Raises
    ------
    ParameterError
        At the call, if a ``[[`` is never closed.
    """
    marked, raws = mark_raw_phonemes(text)
    return _assemble(split_sentences(marked), raws, to_phonemes, prepare, form)


def _assemble(
    sentences: Iterable[str],
    raws: list[str],
    to_phonemes: Callable[[str], str],
    prepare: Callable[[str], str],
    form: Literal["NFC", "NFD"],
    *,
    last: bool = True,
) -> Iterator[Sentence]:
    n_used = 0
    for sentence, ends in _with_end(sentences):
        n_raws = sentence.count(RAW_MARK)
        own, n_used = raws[n_used : n_used + n_raws], n_used + n_raws
        spoken = unicodedata.normalize(form, _join(prepare(sentence), own, to_phonemes))
        if len(spoken) > MAX_SENTENCE_PHONEMES:  # numbers and the like: a character says many phonemes
            halves = list(shorten(sentence, -(-len(sentence) // 2)))
            if len(halves) > 1:
                yield from _assemble(halves, own, to_phonemes, prepare, form, last=last and ends)
                continue
        if any(phoneme not in CLAUSE_MARKS and phoneme != " " for phoneme in spoken):
            yield Sentence(restore_raw_phonemes(sentence, own), tuple(spoken), last=last and ends)


def _with_end(sentences: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Give each sentence and whether it is the last one."""
    coming = iter(sentences)
    sentence = next(coming, None)
    while sentence is not None:
        following = next(coming, None)
        yield sentence, following is None
        sentence = following


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
