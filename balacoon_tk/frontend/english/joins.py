"""Makes gruut's English sound as espeak-ng says it in running speech.

gruut's lexicon holds espeak-ng's words as they were said alone, or before some other word that
happened to follow, by an older espeak-ng. Piper voices learnt today's words in sentences, where each
changes with what follows it. The rules below were found by comparing the output of both on whole
sentences; what they gain is measured in ``tests/test_frontend_gruut.py``.
"""

# ruff: noqa: RUF001 - the look-alikes of ASCII are meant
from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile

_N_REMEMBERED = 8192  # words that were said before, of each rule: a megabyte or two

_VOWELS = "aeiouæɐɑɔəɚɛɜɪʊʌᵻ"
_STRESS = "ˈˌ"
_STARTS_WITH_VOWEL = re.compile(rf"[{_STRESS}]?[{_VOWELS}]")

# Inside a word: (pattern, replacement), in this order.
_SPELLINGS = [
    # `more` is said with the vowel of `law` before r.
    (re.compile("oːɹ"), "ɔːɹ"),
    # A glide parts a high front vowel from the vowel after it; not in `museum`, nor after the
    # first half of a diphthong (`quiet`).
    (re.compile(rf"(?<![aeɔ])(iː|(?<![{_STRESS}])i|ɪ)(?=[{_STRESS}]?[{_VOWELS}])"), r"\1ʲ"),
    # The suffix -ity.
    (re.compile(rf"(?<![aeɔ{_STRESS}])ɪɾi"), "ᵻɾi"),
    # Final r is heard only before a vowel: see `_LINKS`.
    (re.compile("ɚɹ$"), "ɚ"),
]

# The end of a word before one that begins with a vowel, without a pause between.
_LINKS = [
    (re.compile("ðə$"), "ðɪʲ"),
    (re.compile("^tə$"), "tʊ"),
    (re.compile("(ɚ|ɜː)$"), r"\1ɹ"),
    (re.compile("(?<![aeɔ])(iː?)$"), r"\1ʲ"),
]
# The end of a word anywhere else: t is a flap only between vowels.
_NO_LINKS = [(re.compile("ɾ$"), "t")]

# No link leads to these: espeak-ng takes a breath before them.
_APART = frozenset({"ænd", "ɔːɹ", "ɪf"})

# Words that are weaker in a sentence than alone, and those that are so after others only.
_WEAK = {"I": "aɪ", "am": "ɐm", "had": "hæd"}
_WEAK_INSIDE = _WEAK | {"when": "wɛn"}

# Pairs that are said as one word.
_PAIRS = {
    "I am": "aɪɐm", "at a": "æɾə", "at once": "ɐtwˈʌns",
    "could have": "kˌʊdɐv", "did not": "dɪdnˌɑːt", "do not": "duːnˌɑːt", "does not": "dʌznˌɑːt",
    "for a": "fɚɹə", "for an": "fɚɹən", "for the": "fɚðə", "from the": "fɹʌmðə",
    "had been": "hɐdbɪn", "had to": "hædtə", "has been": "hɐzbɪn", "has not": "həznɑːt",
    "have been": "hɐvbɪn", "have not": "hɐvnˌɑːt",
    "in the": "ɪnðə", "in which": "ɪnwˌɪtʃ", "may have": "mˌeɪhɐv", "might have": "mˌaɪthɐv",
    "must have": "mˈʌstɐv", "no one": "nˈoʊwˈʌn", "not a": "nˌɑːɾə", "not have": "nˌɑːɾɐv",
    "of a": "əvə", "of an": "əvən", "of the": "ʌvðə", "of which": "ʌvwˈɪtʃ", "on the": "ɔnðə",
    "out of": "ˌaʊɾəv", "should have": "ʃˌʊdəv", "than a": "ðˌænə", "than an": "ðˌænən",
    "that a": "ðˌæɾə", "that it": "ðˌɐɾɪt", "that the": "ðætðə", "there are": "ðɛɹˌɑːɹ",
    "there was": "ðɛɹwˌʌz", "there were": "ðɛɹwˌɜː", "this one": "ðˈɪswˌʌn", "to be": "təbi",
    "was a": "wʌzɐ", "was the": "wʌzðə", "with the": "wɪððə", "would have": "wʊdhɐv",
}  # fmt: skip


def join_english(words: Sequence[tuple[str, str]]) -> str:
    """Join the words between two pauses, each with its phonemes in gruut's lexicon, as espeak-ng says them.

    Examples
    --------
    >>> join_english([("more", "mˈoːɹ"), ("of", "ʌv"), ("the", "ðə"), ("other", "ˈʌðɚɹ"), ("one", "wˈʌn")])
    'mˈɔːɹ ʌvðɪʲ ˈʌðɚ wˈʌn'
    """
    spoken = list(_say(words))
    linked = (
        _STARTS_WITH_VOWEL.match(following) is not None and following not in _APART
        for following in [*spoken[1:], ""]
    )
    return " ".join(map(_end, spoken, linked))


def is_said_weakly(text: str, *, inside: bool) -> bool:
    """Say whether `join_english` gives a word phonemes of its own, whatever those in the lexicon are.

    `inside` is whether another word precedes it, without a pause between.
    """
    return _key(text) in (_WEAK_INSIDE if inside else _WEAK)


def _say(words: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Say initialisms and pairs as one word, and the rest word by word."""
    index = 0
    keys = [_key(text) for text, _ in words]
    while index < len(words):
        # gruut gives an initialism as words of one letter each.
        named = takewhile(lambda word: len(word[0]) == 1 and word[0].isupper(), islice(words, index, None))
        letters = ["ˈeɪ" if letter == "A" else phonemes for letter, phonemes in named]
        pair = _PAIRS.get(" ".join(keys[index : index + 2]))
        if len(letters) > 1:
            # The last letter has the stress.
            yield _respell("", "".join(letters[:-1]).replace("ˈ", "ˌ") + letters[-1])
            index += len(letters)
        elif pair:
            yield pair
            index += 2
        elif keys[index] == "a" and index == len(words) - 1:
            # Before a pause it is a letter, and no article.
            yield "ˈeɪ"
            index += 1
        else:
            weak = _WEAK_INSIDE if index else _WEAK
            yield weak.get(keys[index]) or _respell(*words[index])
            index += 1


def _key(text: str) -> str:
    return text if text == "I" else text.lower()


@functools.lru_cache(_N_REMEMBERED)
def _end(word: str, linked: bool) -> str:
    for pattern, replacement in _LINKS if linked else _NO_LINKS:
        word = pattern.sub(replacement, word)
    return word


@functools.lru_cache(_N_REMEMBERED)
def _respell(text: str, phonemes: str) -> str:
    for pattern, replacement in _SPELLINGS:
        phonemes = pattern.sub(replacement, phonemes)
    # Lexicon entries that were said before a k: the spelling tells whether the nasal is its own.
    if text and phonemes.endswith("ŋ") and "ng" not in text.lower():
        phonemes = phonemes[:-1] + "n"
    return phonemes
