"""Which phonemes of a sentence are which word's: a monotone alignment by the cheapest edits.

A backend gives clauses and no words, and in running speech it joins them (``of the`` is ``ʌvðə``), weakens
them (``a`` is ``ɐ``) and links them (``more of`` is ``mˈɔːɹ ʌv``). But it can be asked for each word alone.
What it says of them, one after the other with a space between, is edited into what it said of the sentence,
as cheaply as can be (Wagner and Fischer, "The string-to-string correction problem", JACM 1974)::

    words alone   ʌ v _ ð ə _ f ˈ u ː d
    sentence      ʌ v   ð ə _ f ˈ u ː d
                  0 0   1 1   2 2 2 2 2      the word that each is of

A phoneme that is exchanged costs by its kind, so that vowels meet vowels and a space meets nothing else.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.frontend.reading.cleaning import CLAUSE_MARKS

_VOWELS = frozenset("aeiouyæɐɑɒɔəɘɚɛɜɝɞɤɪɨɵʉʊʌɯᵻøœɶʏ")
_STRESS = frozenset("ˈˌ")
_WORD_END = " "

# Kinds of phonemes, as places in the tables below.
_SPACE, _MARK, _STRESSED, _MODIFIER, _VOWEL, _CONSONANT = range(6)
_NEVER = 1000
# What it costs to leave out what the words alone have, and to put in what the sentence has beside them.
# Spaces go easily, since words are joined.
_LEFT_OUT = np.array([5, 1, 3, 4, 20, 20], np.int32)
_PUT_IN = np.array([12, 1, 3, 4, 20, 20], np.int32)
_EXCHANGED = np.full((6, 6), _NEVER, np.int32)
_EXCHANGED[_STRESSED, _STRESSED] = 2
_EXCHANGED[_MODIFIER, _MODIFIER] = 6
_EXCHANGED[_VOWEL, _VOWEL] = 10
_EXCHANGED[_CONSONANT, _CONSONANT] = 16
_EXCHANGED[_VOWEL, _CONSONANT] = _EXCHANGED[_CONSONANT, _VOWEL] = 36
# Consonants that are each other's form in another place: flaps, linking and syllabic ones.
_ALIKE = 6
_FORMS = {
    character: form
    for form, characters in enumerate(
        ("tdɾʔ", "nŋɲm", "ɹrʁ", "szʃʒ", "fv", "kɡg", "bpβ", "θð", "iɪjʲ", "uʊw", "ɐəʌɜɚ", "lɫɭ")
    )
    for character in characters
}


def word_ranges(words: Sequence[str], phonemes: Sequence[str]) -> list[tuple[int, int]]:
    """Find the phonemes of each word in those of a sentence.

    Parameters
    ----------
    words : sequence of str
        What the backend says of each word alone, in their order; spaces within are breaks like any other.
    phonemes : sequence of str
        Those of the sentence; a symbol may have several characters.

    Returns
    -------
    list of (int, int)
        Of each word the phonemes [start, stop), without spaces and marks at their ends. They follow one
        another. Of a word that isn't said both are the place where it would be.

    Examples
    --------
    >>> word_ranges(["ʌv", "ðə", "fˈuːd"], "ʌvðə fˈuːd.")
    [(0, 2), (2, 4), (5, 10)]
    """
    if not words:
        return []
    symbols = [(character, place) for place, symbol in enumerate(phonemes) for character in symbol]
    wanted = [
        (character, index)
        for index, word in enumerate(words)
        for character in (*word.strip(), _WORD_END)
        if character not in CLAUSE_MARKS
    ]
    firsts: list[int | None] = [None] * len(words)
    stops = [0] * len(words)
    owners = _owners("".join(c for c, _ in wanted), "".join(c for c, _ in symbols), [i for _, i in wanted])
    for owner, (character, place) in zip(owners, symbols, strict=True):
        if _kind(character) not in (_SPACE, _MARK):
            if firsts[owner] is None:
                # Half of a symbol is the word's before it, which has it already.
                firsts[owner] = max(place, max(stops, default=0))
            stops[owner] = place + 1
    ranges, end = [], 0
    for first, stop in zip(firsts, stops, strict=True):
        start = end if first is None else first
        end = max(start, stop)
        ranges.append((start, end))
    return ranges


def _owners(wanted: str, said: str, words: Sequence[int]) -> list[int]:
    """Return the word of each character that is said, of the characters wanted, each of a word."""
    costs, exchanged = _costs(wanted, said)
    owners = [0] * len(said)
    i, j = len(wanted), len(said)
    while j:
        here = costs[i, j]
        meets = i > 0 and here == costs[i - 1, j - 1] + exchanged[i - 1, j - 1]
        left_out = i > 0 and here == costs[i - 1, j] + _LEFT_OUT[_kind(wanted[i - 1])]
        if meets and (wanted[i - 1] == said[j - 1] or not left_out):
            i, j = i - 1, j - 1
            owners[j] = words[i]
        elif left_out:
            i -= 1
        else:
            # Put in: behind the end of a word it begins the next one. Where two words meet it comes before
            # that end, by the order of these questions: a linking consonant is the first one's.
            begins = i == 0 or wanted[i - 1] == _WORD_END
            owners[j - 1] = words[i] if begins and i < len(wanted) else words[i - 1]
            j -= 1
    # A stress stands before its vowel, and never ends a word.
    for j in reversed(range(len(said) - 1)):
        if said[j] in _STRESS:
            owners[j] = owners[j + 1]
    return owners


def _costs(wanted: str, said: str) -> tuple[AnyArray, AnyArray]:
    """Return the least cost of editing each beginning of the one into each of the other; and of exchanges."""
    kinds, own = np.array([*map(_kind, wanted)]), np.array([*map(_kind, said)], np.intp)
    exchanged = _EXCHANGED[kinds][:, own]
    # A character without other forms is its own only one.
    forms, own_forms = (np.array([_FORMS.get(c, ord(c)) for c in text], np.int32) for text in (wanted, said))
    exchanged[forms[:, None] == own_forms] = _ALIKE
    codes, own_codes = (np.array([*map(ord, text)], np.int32) for text in (wanted, said))
    exchanged[codes[:, None] == own_codes] = 0
    put_in = np.concatenate([[0], np.cumsum(_PUT_IN[own])])
    costs = np.empty((len(wanted) + 1, len(said) + 1), np.int64)
    costs[0] = put_in
    for i, left_out in enumerate(_LEFT_OUT[kinds]):
        best = costs[i] + left_out
        np.minimum(best[1:], costs[i, :-1] + exchanged[i], out=best[1:])
        # One after the other put in: a running minimum, once what that costs by itself is taken off.
        costs[i + 1] = np.minimum.accumulate(best - put_in) + put_in
    return costs, exchanged


def _kind(character: str) -> int:
    if character == _WORD_END:
        return _SPACE
    if character in CLAUSE_MARKS:
        return _MARK
    if character in _STRESS:
        return _STRESSED
    if character in _VOWELS:
        return _VOWEL
    # Length, nasality, aspiration and tone: what changes the phoneme before it.
    return _MODIFIER if unicodedata.category(character) in ("Lm", "Mn", "Sk", "Nd") else _CONSONANT
