"""Chooses the frontend that a voice needs, by name or by what is installed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from balacoon_tk.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from balacoon_tk.frontend.protocol import Frontend

__all__ = ["BACKENDS", "create_frontend"]


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


def _text(_: str) -> Frontend:
    from balacoon_tk.frontend.characters import CharacterFrontend

    return CharacterFrontend()


BACKENDS: Mapping[str, Mapping[str, Callable[[str], Frontend]]] = MappingProxyType(
    {
        "espeak": MappingProxyType({"auto": _auto, "espeak": _espeak, "gruut": _gruut}),
        "text": MappingProxyType({"auto": _text, "text": _text}),
    }
)
"""For each phoneme type the backends that give it: what makes one from the name of an espeak-ng voice."""


def create_frontend(
    backend: str = "auto", *, language: str = "en-us", phoneme_type: str = "espeak"
) -> Frontend:
    """Make the frontend that gives a voice's phonemes.

    Parameters
    ----------
    backend : str
        ``espeak``, ``gruut`` or ``text``; ``auto`` takes espeak-ng if it is installed, else gruut if
        that has the language, or ``text`` if that is the voice's phoneme type.
    language : str
        Name of the espeak-ng voice whose phonemes the voice learnt, such as ``en-us``.
    phoneme_type : str
        What the voice's phonemes are: ``espeak`` or ``text``.

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
    return backends[backend](language)
