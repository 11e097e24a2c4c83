"""Letters as phonemes, for voices that were trained on text itself."""

from __future__ import annotations

from collections.abc import Iterator

from balacoon_tk.frontend.assembly import assemble_sentences
from balacoon_tk.frontend.protocol import Sentence


class CharacterFrontend:
    """Gives the characters of a text, in lower case and decomposed (NFD), as its phonemes.

    Examples
    --------
    >>> [sentence.phonemes for sentence in CharacterFrontend().phonemize("Oui. Ça va?")]
    [('o', 'u', 'i', '.'), ('c', '̧', 'a', ' ', 'v', 'a', '?')]
    """

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, str.lower, prepare=str.strip)
