"""Chooses the frontend that a voice needs, by name or by what is installed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from balacoon_tk.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from balacoon_tk.frontend.protocol import Frontend


def _auto(language: str) -> Frontend:
    """Take espeak-ng where it is installed, since voices learnt from it, and gruut otherwise."""
    try:
        return _espeak(language)
    except MissingExtraError as missing:
        try:
            return _gruut(language)
        except ParameterError as error:
            raise MissingExtraError(f"speaking language={language!r}", extra=missing.extra) from error


def _espeak(language: str) -> Frontend:
    from balacoon_tk.frontend.espeak import EspeakFrontend

    return EspeakFrontend(language)


def _gruut(language: str) -> Frontend:
    from balacoon_tk.frontend.gruut import GruutFrontend

    # espeak-ng's names may end in a variant, as in `en-gb-x-rp` and `en-us+f3`.
    return GruutFrontend(language.split("+")[0].split("-x-")[0])


def _text(_: str, __: Collection[str]) -> Frontend:
    from balacoon_tk.frontend.characters import CharacterFrontend

    return CharacterFrontend()


def _known(symbols: Collection[str], *, lower_case: bool = True, romanize: bool = False) -> Frontend:
    from balacoon_tk.frontend.known_characters import KnownCharacterFrontend

    return KnownCharacterFrontend(symbols, lower_case=lower_case, romanize=romanize)


Maker = Callable[[str, Collection[str]], "Frontend"]
"""Makes a frontend from the name of an espeak-ng voice, or from the symbols that a voice has ids for."""


def _both(make: Maker) -> Mapping[str, Maker]:
    """Return the backends of a phoneme type that there is one way to get."""
    return MappingProxyType({"auto": make, "text": make})


BACKENDS: Mapping[str, Mapping[str, Maker]] = MappingProxyType(
    {
        "espeak": MappingProxyType(
            {
                "auto": lambda language, _: _auto(language),
                "espeak": lambda language, _: _espeak(language),
                "gruut": lambda language, _: _gruut(language),
            }
        ),
        "text": _both(_text),
        "characters": _both(lambda _, symbols: _known(symbols)),
        "exact characters": _both(lambda _, symbols: _known(symbols, lower_case=False)),
        "uroman": _both(lambda _, symbols: _known(symbols, romanize=True)),
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
