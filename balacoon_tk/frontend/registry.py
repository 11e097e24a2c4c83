"""Chooses the frontend that a voice needs, by name or by what is installed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import MappingProxyType

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend.assembly import Frontend
from balacoon_tk.frontend.backends.characters import CharacterFrontend, KnownCharacterFrontend

Maker = Callable[[str, Collection[str]], Frontend]
"""Makes a frontend from the name of an espeak-ng voice, or from the symbols that a voice has ids for."""


def _auto(language: str, symbols: Collection[str]) -> Frontend:
    """Take espeak-ng where it is installed, since voices learnt from it, and gruut otherwise."""
    try:
        return _espeak(language, symbols)
    except MissingExtraError as missing:
        try:
            return _gruut(language, symbols)
        except ParameterError as error:
            # espeak-ng may well have the language: what to install helps more than what gruut lacks.
            raise MissingExtraError(f"speaking language={language!r}", extra=missing.extra) from error


# Each backend is imported when it is asked for: gruut takes most of a second, and espeak-ng may not be there.
def _espeak(language: str, _: Collection[str]) -> Frontend:
    from balacoon_tk.frontend.backends.espeak import EspeakFrontend

    return EspeakFrontend(language)


def _gruut(language: str, _: Collection[str]) -> Frontend:
    from balacoon_tk.frontend.backends.gruut import GruutFrontend

    # espeak-ng's names may end in a variant, as in `en-gb-x-rp` and `en-us+f3`.
    return GruutFrontend(language.split("+")[0].split("-x-")[0])


def _piper(phoneme_type: str, _: str, __: Collection[str]) -> Frontend:
    from balacoon_tk.frontend.backends.piper_text import PiperFrontend

    return PiperFrontend(phoneme_type)


_OF_LETTERS: dict[str, Maker] = {
    "text": lambda _, symbols: CharacterFrontend(symbols),
    "characters": lambda _, symbols: KnownCharacterFrontend(symbols),
    "exact characters": lambda _, symbols: KnownCharacterFrontend(symbols, lower_case=False),
    "uroman": lambda _, symbols: KnownCharacterFrontend(symbols, romanize=True),
}
BACKENDS: Mapping[str, Mapping[str, Maker]] = MappingProxyType(
    {
        "espeak": MappingProxyType({"auto": _auto, "espeak": _espeak, "gruut": _gruut}),
        # One backend each, under both names, so that a caller's "auto" or "text" fits any voice of letters.
        **{kind: MappingProxyType({"auto": make, "text": make}) for kind, make in _OF_LETTERS.items()},
        **{
            kind: MappingProxyType({"auto": partial(_piper, kind), kind: partial(_piper, kind)})
            for kind in ("hebrew", "japanese", "thai")
        },
    }
)
"""For each phoneme type the backends that give it."""


def create_frontend(
    backend: str = "auto",
    *,
    language: str = "en-us",
    phoneme_type: str = "espeak",
    symbols: Collection[str] = (),
) -> Frontend:
    """Make the frontend that gives a voice's phonemes.

    Parameters
    ----------
    backend : str
        ``espeak``, ``gruut`` or ``text``; ``auto`` takes espeak-ng if it is installed, else gruut if
        that has the language, or ``text`` if the voice's phonemes are characters.
    language : str
        Name of the espeak-ng voice whose phonemes the voice learnt, such as ``en-us``.
    phoneme_type : str
        What the voice's phonemes are; see `FrontendInfo.phoneme_type`.
    symbols : collection of str
        What the voice has ids for; needed where others are dropped.

    Raises
    ------
    MissingExtraError
        If the package behind the backend is not installed; its message names the extra.
    ParameterError
        If there is no such backend or phoneme type, if the backend doesn't give phonemes of this
        type, or doesn't have the language.
    """
    if phoneme_type not in BACKENDS:
        raise ParameterError(f"phoneme_type={phoneme_type!r} must be one of {', '.join(BACKENDS)}")
    backends = BACKENDS[phoneme_type]
    if backend not in backends:
        raise ParameterError(
            f"backend={backend!r} must be one of {', '.join(backends)} for phoneme_type={phoneme_type!r}"
        )
    return backends[backend](language, symbols)
