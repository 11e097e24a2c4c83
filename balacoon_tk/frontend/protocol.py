"""What every frontend gives: sentences, one by one, each with its phonemes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of a text: the unit that the encoder sees as a whole."""

    text: str
    """As it was read: cleaned, with raw phonemes still in their brackets."""
    phonemes: tuple[str, ...]
    """One codepoint each, decomposed (NFD) unless the voice's symbols are composed; stress, length, spaces
    and punctuation count as phonemes."""
    last: bool = field(default=False, compare=False)
    """Whether the frontend knows that nothing follows, so that nobody has to look for another sentence."""


class Frontend(Protocol):
    """Turns text into sentences of phonemes; safe to call from many threads at once."""

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Split a text and give its sentences one at a time, each phonemized when it is asked for.

        A text of ten minutes so starts as soon as one of five seconds. Text with nothing to say
        (empty, or only spaces, punctuation and emoji) gives no sentence.

        Raises
        ------
        ParameterError
            At the call, if a ``[[`` of raw phonemes is never closed.
        """
        ...
