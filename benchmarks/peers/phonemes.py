"""espeak-ng for engines that want piper-phonemize, which has no wheels for newer Pythons.

piper-tts carries the same espeak-ng and calls it in the process as well, in about a millisecond.
"""

from __future__ import annotations

import sys
from functools import cache
from types import ModuleType

from piper import espeakbridge
from piper.phonemize_espeak import ESPEAK_DATA_DIR, EspeakPhonemizer


@cache
def _phonemizer() -> EspeakPhonemizer:
    return EspeakPhonemizer(ESPEAK_DATA_DIR)


def espeak_sentences(text: str, voice: str) -> list[list[str]]:
    """Return the phonemes of each sentence, with its marks."""
    sentences: list[list[str]] = _phonemizer().phonemize(voice, text)
    return sentences


def offer_piper_phonemize() -> None:
    """Stand in for the package; streaming-vits puts the marks in itself, so it gets none."""

    def phonemize_espeak(text: str, voice: str) -> list[list[str]]:
        espeakbridge.set_voice(voice)
        return [list(phonemes) for phonemes, _, _ in espeakbridge.get_phonemes(text)]

    _phonemizer()
    module = ModuleType("piper_phonemize")
    vars(module)["phonemize_espeak"] = phonemize_espeak
    sys.modules[module.__name__] = module
