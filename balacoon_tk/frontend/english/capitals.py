"""English in capitals: which words of a headline are words, and which are read letter by letter."""

from __future__ import annotations

import re
from collections.abc import Container

from balacoon_tk.frontend.reading.source_text import SourceText

_CAPITALS = re.compile(r"(?<![\w'&.])[A-Z]+(?:'[A-Z]+)?(?![\w&]|\.\w)")
_LOWER_CASE = re.compile(r"[a-z]")
_VOWEL = re.compile("[AEIOUY]")
_LONG = 4  # letters: a word of so many is an initialism only if no lexicon has it

# Read letter by letter in capitals, though they are words as well.
_INITIALISMS = frozenset(
    ("AI", "CD", "DJ", "ER", "HR", "ID", "LA", "MD", "OK", "PA", "PC", "PM", "PR", "TV", "UK", "UN", "USA")
)
# These are either, as what stands before them tells: `THE US`, `5 AM`.
_BOTH = frozenset(["IT", "US", "WHO", "AIDS", "AM"])
_BEFORE_INITIALISM = re.compile(r"(?:\bTHE|\d) ?$")
# espeak-ng reads words in capitals as words, but for these of its dictionary.
_SPELLED_BY_ESPEAK = frozenset(["IT", "US", "HAS"])


def lower_capitals(text: SourceText, lexicon: Container[str] | None) -> SourceText:
    """Write the words of a sentence that is all in capitals in lower case, and leave initialisms.

    Parameters
    ----------
    text : SourceText
        A sentence.
    lexicon : container of str or None
        The words that a backend knows which spells all others; None for espeak-ng, which spells few.
    """
    words = _CAPITALS.findall(text.text)
    if not any(len(word) > 1 for word in words):
        return text
    all_capitals = not _LOWER_CASE.search(text.text)
    is_headline = all_capitals and len(words) > 1

    def write(match: re.Match[str]) -> str:
        word = match[0]
        if is_headline and word in _BOTH:
            is_word = not _BEFORE_INITIALISM.search(match.string[: match.start()])
        elif lexicon is None:
            is_word = is_headline and word in _SPELLED_BY_ESPEAK
        elif len(word) >= _LONG:
            is_word = word.lower() in lexicon or (is_headline and _VOWEL.search(word) is not None)
        else:
            is_word = all_capitals and word.lower() in lexicon and word not in _INITIALISMS | _BOTH
        # One letter is an article, a pronoun or an initial, and each is read right as it is.
        return word.lower() if is_word and len(word) > 1 else word

    return text.sub(_CAPITALS, write)
