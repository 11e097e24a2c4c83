"""The characters that a voice has symbols for, as the tokenizers of MMS-TTS keep them and drop all others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import assemble_sentences
from balacoon_tk.frontend.phoneme_map import BOS, EOS, IN_TEXT, PAD
from balacoon_tk.frontend.protocol import Sentence

_COMMA_BELOW, _CEDILLA = "ț", "ţ"  # U+021B and U+0163: Romanian is often written with the latter


class KnownCharacterFrontend:
    """Gives those characters of a text that a voice has symbols for, composed (NFC).

    Parameters
    ----------
    symbols : collection of str
        What the voice has ids for.
    lower_case : bool
        Whether a character without a symbol of its own is put in lower case.
    romanize : bool
        Whether text that is not ASCII is put into Latin letters by uroman.

    Raises
    ------
    ParameterError
        If there are no symbols.
    MissingExtraError
        If `romanize` is asked for and uroman isn't installed.

    Examples
    --------
    >>> [sentence.phonemes for sentence in KnownCharacterFrontend("aàç o").phonemize("Ça (oh) là!")]
    [('ç', 'a', ' ', 'o', ' ', 'à')]
    """

    def __init__(self, symbols: Collection[str], *, lower_case: bool = True, romanize: bool = False) -> None:
        self._symbols = frozenset(symbols) - {BOS, EOS, PAD}
        if not self._symbols:
            raise ParameterError("symbols must hold at least one character that a voice has an id for")
        self._in_text = str.maketrans({c: wide for c, wide in IN_TEXT.items() if wide in self._symbols})
        self._lower_case = lower_case
        self._romanize = _romanizer() if romanize else None

    def phonemize(self, text: str) -> Iterator[Sentence]:
        """Give the sentences of a text lazily; see `Frontend.phonemize`."""
        return assemble_sentences(text, self._to_phonemes, prepare=str.strip, form="NFC")

    def _to_phonemes(self, text: str) -> str:
        if self._lower_case:
            text = "".join(c if c in self._symbols else c.lower() for c in text)
        if _COMMA_BELOW not in self._symbols:
            text = text.replace(_COMMA_BELOW, _CEDILLA)
        if self._romanize is not None and not text.isascii():
            text = self._romanize(text)
        return "".join(c for c in text.translate(self._in_text) if c in self._symbols)


@functools.cache
def _romanizer() -> Callable[[str], str]:
    """Load uroman's tables, once."""
    try:
        from uroman import Uroman
    except ImportError as error:
        raise MissingExtraError("a voice that was trained on romanized text", extra="uroman") from error
    romanize: Callable[[str], str] = Uroman().romanize_string
    return romanize
