"""Finds words in scripts that a backend passes over without a sound, so that they can be named."""

from __future__ import annotations

import re
from collections.abc import Callable

_WORD = re.compile(r"\w+")
# Every language reads the letters before Hebrew's, or spells them. Marks sound with a letter only.
_OF_A_SCRIPT = re.compile(r"[^\W\d_\u0000-\u058f]\w*")
_BLOCK_BITS = 7  # scripts begin at multiples of 128, or share such a block with one that is as old


class UnspokenWords:
    """Finds the words of a text that are in a script of which a backend says nothing.

    Parameters
    ----------
    is_said : callable
        Says of a word whether the backend has anything to say of it. It is asked once for each block of
        letters, of the first word there, since letters alone may be silent in a language that has them.
    """

    def __init__(self, is_said: Callable[[str], bool]) -> None:
        self._is_said = is_said
        self._known: dict[int, bool] = {}

    def find(self, text: str) -> list[str]:
        """Give the words, in their order."""
        if text.isascii():
            return []
        return [word for word in _WORD.findall(text) if not word.isascii() and self._is_silent(word)]

    def _is_silent(self, word: str) -> bool:
        for part in _OF_A_SCRIPT.findall(word):
            block = ord(part[0]) >> _BLOCK_BITS
            if block not in self._known:
                self._known[block] = self._is_said(part)
            if not self._known[block]:
                return True
        return False
