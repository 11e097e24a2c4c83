"""Plain English read as gruut would, by gruut's own lexicon and tagger, without the tree that it builds.

gruut gives each word of a sentence to some twenty steps (replacements, quotes, breaks, abbreviations,
dates, ...), up to five times over. A sentence of letters, apostrophes, hyphens and single marks is
changed by few of them, and those are done here, word by word, in gruut's order:

1. a token that stands in the lexicon as it is spelled is a word, whatever it looks like;
2. quotes and brackets at its ends go; then the mark at its end is a break, and quotes before that go;
3. a word that the lexicon hasn't got is parted at its hyphens;
4. where a word's phonemes depend on its part of speech, the whole sentence is tagged.

Anything else is left to gruut: `PlainReader.words` says so by None. That both ways lead to the same
phonemes is tested in ``tests/test_frontend_gruut_plain.py``, on sentences of all kinds. Without this way
the first sound of a sentence comes 3 to 5 % later.
"""

from __future__ import annotations

import base64
import functools
import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from balacoon_tk.frontend.english.joins import is_said_weakly

_Features = dict[bytes, float]

_NEIGHBOURS = ((b"-1", -1), (b"-2", -2), (b"+1", 1), (b"+2", 2))  # in gruut's order

_N_TOKENS = 8192  # that were read before: a few megabytes
_N_TAGGED_WORDS = 4096  # whose features are kept: a kilobyte each

_NON_WORD = re.compile(r"\W")
_TOKEN = re.compile(
    r"""
    ["'(]*+
    (?P<word> [A-Za-z]++ (?> (?:['-][A-Za-z]++)* ) )
    (?P<quotes> ["')]*+ )
    (?P<mark> [,;:.!?]?+ )
    ["')]*+
    """,
    re.VERBOSE,
)
_LONE_HYPHEN = "-"  # no word to gruut, and no break either
_ENDS_SENTENCE = frozenset(".!?")


class Lexicon:
    """gruut's pronunciations, all in memory."""

    # gruut itself asks the database word by word; that has no index, so each question reads all of it, and
    # those for marks and numbers are asked again every time. Its connection would also be tied to the thread
    # that opened it.
    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            # The last row of a word stays: that of no role before any other, then the first one listed.
            rows = database.execute(
                "SELECT word, role, phonemes FROM word_phonemes ORDER BY role = '', pron_order DESC"
            ).fetchall()
            self._plain: dict[str, str] = {word: phonemes for word, _, phonemes in rows}
            self._by_role: dict[str, dict[str, str]] = {}
            # 33 of 124 000 English words: `read`, `am`, `when` and the like.
            for word, role, phonemes in rows:
                if role:
                    self._by_role.setdefault(word, {})[role] = phonemes

    def __contains__(self, word: object) -> bool:
        return word in self._plain

    def __call__(self, word: str, role: str | None = None, do_transforms: bool = True) -> list[str] | None:
        """Look a word up as gruut does: as it stands, in lower case, without marks."""
        spelling = self._spelling(word) if do_transforms else word
        phonemes = self._plain.get(spelling)
        if phonemes is None:
            return None
        return (self._by_role.get(spelling, {}).get(role, phonemes) if role else phonemes).split()

    def roles(self, word: str) -> Collection[str]:
        """Give the roles that a word has phonemes of its own for; few words have any."""
        return self._by_role.get(self._spelling(word), ())

    def _spelling(self, word: str) -> str:
        """Find how the lexicon spells a word; the word itself where it has none."""
        bare = _NON_WORD.sub("", word)
        spellings = (word, word.lower(), bare, bare.lower())
        return next((spelling for spelling in spellings if spelling in self._plain), word)


class Tagger:
    """gruut's tagger for words of letters, apostrophes and hyphens; the caller holds the lock."""

    # gruut makes the features of a word five times, for itself and for its neighbours, as values that
    # pycrfsuite then writes out as strings. Here they are made once, as the bytes that reach the model, and
    # pycrfsuite puts the neighbour's place before them. They come in gruut's order, so that the model's sums
    # are the same to the last bit. Features that are zero are left out: that a word is a punctuation mark, or
    # a number.

    def __init__(self, gruut_tagger: Any) -> None:
        gruut_tagger([])  # loads the model, which the first sentence would wait for
        self._tag = gruut_tagger.tagger.crf_tagger.tag
        self._features = functools.lru_cache(_N_TAGGED_WORDS)(_features)

    def __call__(self, words: Sequence[str]) -> list[str]:
        """Give each word's tag."""
        tags: list[str] = self._tag(self.items(words))
        return tags

    # Neighbours' features are nested: pycrfsuite itself makes `-1:word[:2]:th` of them.
    def items(self, words: Sequence[str]) -> list[dict[bytes, float | _Features]]:
        """Give each word's features, by the names that the model has for them."""
        features = [self._features(word) for word in words]
        last = len(words) - 1
        items = []
        for index, own in enumerate(features):
            item: dict[bytes, float | _Features] = {**own}
            if index == 0:
                item[b"BOS"] = 1.0
            if index == last:
                item[b"EOS"] = 1.0
            for name, neighbour in _NEIGHBOURS:
                if 0 <= index + neighbour <= last:
                    item[name] = features[index + neighbour]
            items.append(item)
        return items


def _features(word: str) -> _Features:
    return {
        b"bias": 1.0,
        b"word:" + base64.b64encode(word.encode()): 1.0,
        b"len(word)": float(len(word)),
        f"word[:2]:{word[:2]}".encode(): 1.0,
        f"word[:3]:{word[:3]}".encode(): 1.0,
        f"word[-2:]:{word[-2:]}".encode(): 1.0,
        f"word[-3:]:{word[-3:]}".encode(): 1.0,
    }


class SpokenWord(NamedTuple):
    """What is said of one word, or a break between words."""

    text: str
    phonemes: str
    is_break: bool = False
    roles: Collection[str] = ()
    """Parts of speech in which the word has phonemes other than these."""


class PlainReader:
    """gruut's English, by its own `settings`, for sentences that are plain; the caller holds the lock."""

    def __init__(self, lexicon: Lexicon, settings: Any) -> None:
        self._lexicon = lexicon
        self._is_initialism = settings.is_initialism
        self._guess = settings.guess_phonemes
        self._tag = Tagger(settings.get_parts_of_speech)
        self._guess("a")  # loads the model, which the first unknown word would wait for
        # One expression of all; names of groups can't occur twice, and only whether it matches counts.
        patterns = [re.sub(r"\(\?P<\w+>", "(?:", pattern.pattern) for pattern in settings.abbreviations]
        self._is_abbreviation = re.compile("|".join(f"(?:{pattern})" for pattern in patterns)).match
        self._read = functools.lru_cache(_N_TOKENS)(self._read_token)

    def words(self, text: str) -> Sequence[SpokenWord] | None:
        """Read a text in plain punctuation, or give None if gruut might do with it what is not done here."""
        words: list[SpokenWord] = []
        for token in text.split():
            # One token that is not plain, and gruut reads the sentence: its steps look across tokens.
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
        # Tagging is the slowest step here, so it is left out where it would change nothing that is said.
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
        # None is remembered as well: what is not plain today won't be tomorrow.
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
