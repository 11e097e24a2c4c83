"""Reads plain English as gruut would, without the tree that gruut builds of every text.

gruut gives each word of a sentence to some twenty steps (replacements, quotes, breaks, abbreviations,
dates, ...), up to five times over. A sentence of letters, apostrophes, hyphens and single marks is
changed by few of them, and those are done here, word by word, in gruut's order:

1. a token that stands in the lexicon as it is spelled is a word, whatever it looks like;
2. quotes and brackets at its ends go; then the mark at its end is a break, and quotes before that go;
3. a word that the lexicon hasn't got is parted at its hyphens;
4. where a word's phonemes depend on its part of speech, the whole sentence is tagged.

Anything else is left to gruut: `PlainReader.words` says so by None. That both ways lead to the same
phonemes is tested in ``tests/test_frontend_gruut_plain.py``, on sentences of all kinds.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

from balacoon_tk.frontend.english_joins import is_said_weakly
from balacoon_tk.frontend.gruut_lexicon import Lexicon
from balacoon_tk.frontend.gruut_tags import Tagger

_N_REMEMBERED = 8192
"""Tokens that were read before: a few megabytes."""

_TOKEN = re.compile(
    r"""
    ["'(]*+
    (?P<word> [A-Za-z]++ (?:['-][A-Za-z]++)*+ )
    (?P<quotes> ["')]*+ )
    (?P<mark> [,;:.!?]?+ )
    ["')]*+
    """,
    re.VERBOSE,
)
_LONE_HYPHEN = "-"  # no word to gruut, and no break either
_ENDS_SENTENCE = frozenset(".!?")


class SpokenWord(NamedTuple):
    """What is said of one word, or a break between words."""

    text: str
    phonemes: str
    is_break: bool = False
    roles: Collection[str] = ()
    """Parts of speech in which the word has phonemes other than these."""


class PlainReader:
    """gruut's English for sentences that are plain; the caller holds the lock.

    Parameters
    ----------
    lexicon : Lexicon
    settings : gruut.TextProcessorSettings
        gruut's own, for English.
    """

    def __init__(self, lexicon: Lexicon, settings: Any) -> None:
        self._lexicon = lexicon
        self._is_initialism = settings.is_initialism
        self._guess = settings.guess_phonemes
        self._tag = Tagger(settings.get_parts_of_speech)
        self._guess("a")  # loads the model, which the first unknown word would wait for
        # One expression of all; names of groups can't occur twice, and only whether it matches counts.
        patterns = [re.sub(r"\(\?P<\w+>", "(?:", pattern.pattern) for pattern in settings.abbreviations]
        self._is_abbreviation = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)).match
        self._read = functools.lru_cache(_N_REMEMBERED)(self._read_token)

    def words(self, text: str) -> Sequence[SpokenWord] | None:
        """Read a text, or give None if gruut might do with it what is not done here.

        Parameters
        ----------
        text : str
            A sentence or a part of one, in plain punctuation.
        """
        words: list[SpokenWord] = []
        for token in text.split():
            read = self._read(token)
            if read is None:
                return None
            words += read
        for start, end in self._untagged(words):
            spoken = [index for index in range(start, end) if not words[index].is_break]
            tags = self._tag([words[index].text for index in spoken])
            for index, tag in zip(spoken, tags, strict=True):
                if words[index].roles:
                    words[index] = self._spoken(words[index].text, f"gruut:{tag}")
        return words

    def _untagged(self, words: list[SpokenWord]) -> Iterator[tuple[int, int]]:
        """Give from where to where gruut would tag, if that decides how a word there is said."""
        start, decides = 0, False
        for index, word in enumerate(words):
            if word.roles:
                before = words[index - 1] if index else None
                inside = before is not None and not before.is_break and before.phonemes != ""
                decides = decides or not is_said_weakly(word.text, inside=inside)
            elif word.is_break and word.text in _ENDS_SENTENCE:
                if decides:
                    yield start, index
                start, decides = index, False
        if decides:
            yield start, len(words)

    def _read_token(self, token: str) -> tuple[SpokenWord, ...] | None:
        if token in self._lexicon:
            return (self._spoken(token),)
        if token == _LONE_HYPHEN:
            return ()
        match = _TOKEN.fullmatch(token)
        if match is None:
            return None
        word, quotes, mark = match["word"], match["quotes"], match["mark"]
        parts = [word] if word in self._lexicon else word.split("-")
        # What gruut looks at on its way; a word in the lexicon is done, even with quotes.
        seen = {word + quotes, word + quotes + mark, word, *parts}
        if any(self._is_initialism(text) or self._is_abbreviation(text) for text in seen):
            return None
        if quotes and (word + quotes in self._lexicon or parts[-1] + quotes in self._lexicon):
            return None
        spoken = map(self._spoken, parts)
        return (*spoken, SpokenWord(mark, "", is_break=True)) if mark else tuple(spoken)

    def _spoken(self, word: str, role: str = "") -> SpokenWord:
        phonemes = self._lexicon(word, role) or self._guess(word)
        return SpokenWord(word, "".join(phonemes), roles=self._lexicon.roles(word))
