"""gruut's pronunciations of a language, read from its database once."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Collection
from contextlib import closing
from pathlib import Path

_NON_WORD = re.compile(r"\W")


class Lexicon:
    """gruut's pronunciations, all in memory.

    gruut itself asks the database word by word; that has no index, so each question reads all of
    it, and those for marks and numbers are asked again every time. Its connection would also be
    tied to the thread that opened it.
    """

    def __init__(self, path: Path) -> None:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as database:
            # The last row of a word stays: that of no role before any other, then the first one listed.
            self._plain: dict[str, str] = dict(
                database.execute(
                    "SELECT word, phonemes FROM word_phonemes ORDER BY role = '', pron_order DESC"
                )
            )
            roles = database.execute(
                "SELECT word, role, phonemes FROM word_phonemes WHERE role != '' ORDER BY pron_order DESC"
            )
            self._by_role: dict[str, dict[str, str]] = {}
            for word, role, phonemes in roles:
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
        for spelling in (word, word.lower()):
            if spelling in self._plain:
                return spelling
        bare = _NON_WORD.sub("", word)
        return next((spelling for spelling in (bare, bare.lower()) if spelling in self._plain), word)
