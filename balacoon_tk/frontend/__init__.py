"""Text to sentences to phoneme ids.

A frontend splits a text into sentences and gives the phonemes of each when it is asked for; a
`PhonemeMap` turns these into the ids that a voice was trained on. The backends differ in one call
only: cleaning, splitting, punctuation and raw phonemes in ``[[ ]]`` are the same for all.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import find_name as _find_name

if TYPE_CHECKING:
    from balacoon_tk.frontend.characters import CharacterFrontend
    from balacoon_tk.frontend.espeak import EspeakFrontend
    from balacoon_tk.frontend.gruut import GruutFrontend
    from balacoon_tk.frontend.phoneme_map import EncodedSentence, PhonemeMap, UnknownPhonemeWarning
    from balacoon_tk.frontend.protocol import Frontend, Sentence
    from balacoon_tk.frontend.registry import BACKENDS, create_frontend
    from balacoon_tk.frontend.splitting import MAX_SENTENCE_PHONEMES

__all__ = [
    "BACKENDS",
    "MAX_SENTENCE_PHONEMES",
    "CharacterFrontend",
    "EncodedSentence",
    "EspeakFrontend",
    "Frontend",
    "GruutFrontend",
    "PhonemeMap",
    "Sentence",
    "UnknownPhonemeWarning",
    "create_frontend",
]

_HOMES = {
    "BACKENDS": "registry",
    "MAX_SENTENCE_PHONEMES": "splitting",
    "CharacterFrontend": "characters",
    "EncodedSentence": "phoneme_map",
    "EspeakFrontend": "espeak",
    "Frontend": "protocol",
    "GruutFrontend": "gruut",
    "PhonemeMap": "phoneme_map",
    "Sentence": "protocol",
    "UnknownPhonemeWarning": "phoneme_map",
    "create_frontend": "registry",
}


def __getattr__(name: str) -> object:
    return _find_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
