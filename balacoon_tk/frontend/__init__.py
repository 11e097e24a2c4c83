"""Text to sentences to phoneme ids.

A frontend splits a text into sentences and gives the phonemes of each when it is asked for; a
`PhonemeMap` turns these into the ids that a voice was trained on. The backends differ in one call
only: cleaning, splitting, punctuation and raw phonemes in ``[[ ]]`` are the same for all.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.frontend.assembly import MAX_TEXT, Frontend, Sentence
    from balacoon_tk.frontend.characters import CharacterFrontend
    from balacoon_tk.frontend.espeak import EspeakFrontend
    from balacoon_tk.frontend.gruut import GruutFrontend, UnknownWordWarning
    from balacoon_tk.frontend.phoneme_map import EncodedSentence, PhonemeMap, UnknownPhonemeWarning
    from balacoon_tk.frontend.registry import BACKENDS, create_frontend
    from balacoon_tk.frontend.splitting import MAX_SENTENCE_PHONEMES

__all__ = [
    "BACKENDS",
    "MAX_SENTENCE_PHONEMES",
    "MAX_TEXT",
    "CharacterFrontend",
    "EncodedSentence",
    "EspeakFrontend",
    "Frontend",
    "GruutFrontend",
    "PhonemeMap",
    "Sentence",
    "UnknownPhonemeWarning",
    "UnknownWordWarning",
    "create_frontend",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "assembly": ("MAX_TEXT", "Frontend", "Sentence"),
        "characters": ("CharacterFrontend",),
        "espeak": ("EspeakFrontend",),
        "gruut": ("GruutFrontend", "UnknownWordWarning"),
        "phoneme_map": ("EncodedSentence", "PhonemeMap", "UnknownPhonemeWarning"),
        "registry": ("BACKENDS", "create_frontend"),
        "splitting": ("MAX_SENTENCE_PHONEMES",),
    },
)
