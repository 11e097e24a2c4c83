"""Text to sentences to phoneme ids.

A frontend splits a text into sentences and gives the phonemes of each when it is asked for; a
`PhonemeMap` turns these into the ids that a voice was trained on. The backends differ in one call
only: cleaning, splitting, punctuation and raw phonemes in ``[[ ]]`` are the same for all.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.frontend.assembly import Frontend, Sentence
    from balacoon_tk.frontend.characters import CharacterFrontend
    from balacoon_tk.frontend.espeak import EspeakFrontend
    from balacoon_tk.frontend.gruut import GruutFrontend, UnknownWordWarning
    from balacoon_tk.frontend.naming import NothingToSayWarning
    from balacoon_tk.frontend.phoneme_map import EncodedSentence, PhonemeMap, UnknownPhonemeWarning
    from balacoon_tk.frontend.reading import MAX_TEXT, Pieces, Reading
    from balacoon_tk.frontend.registry import BACKENDS, create_frontend
    from balacoon_tk.frontend.source_text import SourceText
    from balacoon_tk.frontend.splitting import MAX_SENTENCE_PHONEMES
    from balacoon_tk.frontend.ssml import SsmlWarning
    from balacoon_tk.frontend.transducers import FLUSH, Control

__all__ = [
    "BACKENDS",
    "FLUSH",
    "MAX_SENTENCE_PHONEMES",
    "MAX_TEXT",
    "CharacterFrontend",
    "Control",
    "EncodedSentence",
    "EspeakFrontend",
    "Frontend",
    "GruutFrontend",
    "NothingToSayWarning",
    "PhonemeMap",
    "Pieces",
    "Reading",
    "Sentence",
    "SourceText",
    "SsmlWarning",
    "UnknownPhonemeWarning",
    "UnknownWordWarning",
    "create_frontend",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "assembly": ("Frontend", "Sentence"),
        "characters": ("CharacterFrontend",),
        "espeak": ("EspeakFrontend",),
        "gruut": ("GruutFrontend", "UnknownWordWarning"),
        "naming": ("NothingToSayWarning",),
        "phoneme_map": ("EncodedSentence", "PhonemeMap", "UnknownPhonemeWarning"),
        "reading": ("MAX_TEXT", "Pieces", "Reading"),
        "registry": ("BACKENDS", "create_frontend"),
        "source_text": ("SourceText",),
        "splitting": ("MAX_SENTENCE_PHONEMES",),
        "ssml": ("SsmlWarning",),
        "transducers": ("FLUSH", "Control"),
    },
)
