"""Finds words in scripts that a backend passes over without a sound, so that they can be named."""

from __future__ import annotations

import re
from collections.abc import Callable

_WORD = re.compile(r"\w+")
_FIRST_SCRIPT = "\u0590"  # every language reads the letters before, or spells them
_BLOCK_BITS = 7  # scripts begin at multiples of 128, or share such a block with one that is as old


class UnspokenWords:
    """Finds the words of a text that are in a script of which a backend says nothing.

    Parameters
    ----------
    is_said : callable
        Says of one letter whether the backend has anything to say of it. It is asked once for each block of
        letters, since it takes as long as a word does.
    """

    def __init__(self, is_said: Callable[[str], bool]) -> None:
        self._is_said = is_said
        self._known: dict[int, bool] = {}

    def find(self, text: str) -> list[str]:
        """Give the words, in their order."""
        if text.isascii() or not any(self._is_silent(letter) for letter in set(text)):
            return []
        return [word for word in _WORD.findall(text) if any(map(self._is_silent, word))]

    def _is_silent(self, character: str) -> bool:
        # Marks sound with a letter only.
        if character < _FIRST_SCRIPT or not character.isalpha():
            return False
        block = ord(character) >> _BLOCK_BITS
        if block not in self._known:
            self._known[block] = self._is_said(character)
        return not self._known[block]
