"""Finds what a backend passes over without a sound, words in a script of its own and signs, to be named."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_WORD = re.compile(r"\w+|[^\w\s]")
# Every language reads the letters before Hebrew's, or spells them. Marks sound with a letter only.
_OF_A_SCRIPT = re.compile(r"[^\W\d_\u0000-\u058f][^\W\d]*|[^\W\u0000-\u058f]+")
_BLOCK_BITS = 7  # scripts begin at multiples of 128, or share such a block with one that is as old


class UnspokenWords:
    """Finds the words and signs of a text of which a backend says nothing.

    Parameters
    ----------
    say : callable
        Gives the phonemes of a text. It is asked once for each sign, and once for each block of letters: of
        the first word there, since letters alone may be silent in a language that has them.
    """

    def __init__(self, say: Callable[[str], str]) -> None:
        self._say = say
        self._known: dict[object, bool] = {}

    def find(self, text: str) -> list[str]:
        """Give the words and signs, in their order."""
        if text.isascii():
            return []
        return [word for word in _WORD.findall(text) if not word.isascii() and self._is_silent(word)]

    def _is_silent(self, word: str) -> bool:
        if unicodedata.category(word[0])[0] == "S":
            if word not in self._known:
                self._known[word] = self._say(f"1 {word} 1") == self._say("1 1")
            return self._known[word]
        for part in _OF_A_SCRIPT.findall(word):
            block = ord(part[0]) >> _BLOCK_BITS, part[0].isalpha()  # its digits may be silent alone
            if block not in self._known:
                self._known[block] = self._say(part) == ""
            if self._known[block]:
                return True
        return False
