"""What a rule for a written text is, and how rules are applied."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeAlias

from balacoon_tk.frontend.reading.source_text import SourceText

Rule: TypeAlias = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]
"""What is looked for, and what is written in its place."""

NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
"""An expression for a number as it is written in English."""


def apply_rules(text: SourceText, rules: Iterable[Rule]) -> SourceText:
    """Apply rules to a text, one after the other."""
    for pattern, replacement in rules:
        text = text.sub(pattern, replacement)
    return text


def any_of(words: Iterable[str]) -> str:
    """Return an expression for any of the words, the longest first."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


def counted(number: str, singular: str, plural: str) -> str:
    """Put a number before what it counts."""
    return f"{number} {singular if number == '1' else plural}"


def is_attribute(match: re.Match[str]) -> bool:
    """Say whether a quantity describes a noun, as in `a 60 W bulb`, and stands in the singular."""
    before, after = match.string[: match.start()], match.string[match.end() :]
    return _ARTICLE.search(before) is not None and _NOUN.match(after) is not None


_ARTICLE = re.compile(r"\b[Aa]n? $")
_NOUN = re.compile(r" [a-z]")
