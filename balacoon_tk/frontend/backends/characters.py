"""Letters as phonemes, for voices that were trained on text itself.

Two kinds of voices read letters: those of Piper, of which any letter in lower case is a symbol, decomposed;
and those whose tokenizer, as that of MMS-TTS, keeps what it has a symbol for and drops all else. What is kept
in a text is decided here, so that nothing is said of characters that a voice never met.
"""

from __future__ import annotations

import functools
import unicodedata
from collections.abc import Callable, Collection, Iterator

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import Sentence, assemble_sentences
from balacoon_tk.frontend.naming import LeftOutNames
from balacoon_tk.frontend.phoneme_map import BOS, EOS, IN_TEXT, PAD, UnknownPhonemeWarning
from balacoon_tk.frontend.reading.reader import DEFAULT_READING, Pieces, Reading
from balacoon_tk.frontend.reading.source_text import SourceText

_COMMA_BELOW, _CEDILLA = "ț", "ţ"  # U+021B and U+0163: Romanian is often written with the latter


class CharacterFrontend:
    """Gives the characters of a text, decomposed (NFD), as its phonemes.

    A letter is in lower case unless the voice has a symbol for the other one.

    Examples
    --------
    >>> [sentence.phonemes for sentence in CharacterFrontend().phonemize("Oui. Ça va?")]
    [('o', 'u', 'i', '.'), ('c', '̧', 'a', ' ', 'v', 'a', '?')]
    """

    takes_pieces = True

    def __init__(self, symbols: Collection[str] = ()) -> None:
        # In training it may have been known by case, as phonemes that are written by hand are.
        self._capitals = frozenset(c for c in symbols if c != c.lower())

    def phonemize(self, text: str | Pieces, reading: Reading = DEFAULT_READING) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        # Punctuation stays as it is written: in training it was part of the text, wide marks and all.
        return assemble_sentences(text, self._to_phonemes, reading, prepare=SourceText.strip)

    def _to_phonemes(self, text: str) -> str:
        if not self._capitals:
            return text.lower()
        decomposed = unicodedata.normalize("NFD", text)
        return "".join(c if c in self._capitals else c.lower() for c in decomposed)


class KnownCharacterFrontend:
    """Gives those characters of a text that a voice has symbols for, composed (NFC).

    `lower_case` is for characters without a symbol of their own; `romanize` has uroman put what is not ASCII
    into Latin letters. What has no symbol is left out, and letters, digits and signs are named in an
    `UnknownPhonemeWarning` the first time that this frontend meets them.

    Examples
    --------
    >>> [sentence.phonemes for sentence in KnownCharacterFrontend("aàçl o").phonemize("Ça (o) là!")]
    [('ç', 'a', ' ', 'o', ' ', 'l', 'à')]
    """

    takes_pieces = True

    def __init__(self, symbols: Collection[str], *, lower_case: bool = True, romanize: bool = False) -> None:
        self._symbols = frozenset(symbols) - {BOS, EOS, PAD}
        if not self._symbols:
            raise ParameterError("symbols must hold at least one character that a voice has an id for")
        self._in_text = str.maketrans({c: wide for c, wide in IN_TEXT.items() if wide in self._symbols})
        self._lower_case = lower_case
        self._romanize = _romanizer() if romanize else None
        self._left_out = LeftOutNames(
            "the voice has no symbols for these characters, so they are left out", UnknownPhonemeWarning
        )

    def phonemize(self, text: str | Pieces, reading: Reading = DEFAULT_READING) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, self._to_phonemes, reading, prepare=SourceText.strip, form="NFC")

    def _to_phonemes(self, text: str) -> str:
        # The tokenizer's own order: letters are lowered, then romanized, then kept or dropped.
        if self._lower_case:
            text = "".join(c if c in self._symbols else c.lower() for c in text)
        if _COMMA_BELOW not in self._symbols:
            text = text.replace(_COMMA_BELOW, _CEDILLA)
        if self._romanize is not None and not text.isascii():
            text = self._romanize(text)
        text = text.translate(self._in_text)
        unknown = (c for c in text if c not in self._symbols and unicodedata.category(c)[0] in "LNS")
        self._left_out.warn(unknown, stacklevel=2)
        return "".join(c for c in text if c in self._symbols)


@functools.cache
def _romanizer() -> Callable[[str], str]:
    """Load uroman's tables, once."""
    try:
        from uroman import Uroman
    except ImportError as error:
        raise MissingExtraError("a voice that was trained on romanized text", extra="uroman") from error
    romanize: Callable[[str], str] = Uroman().romanize_string
    return romanize
