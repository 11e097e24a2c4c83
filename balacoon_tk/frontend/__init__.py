"""Text to sentences to phoneme ids.

A frontend splits a text into sentences and gives the phonemes of each when it is asked for; a
`PhonemeMap` turns these into the ids that a voice was trained on. The backends differ in one call
only: cleaning, splitting, punctuation and raw phonemes in ``[[ ]]`` are the same for all.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.frontend.assembly import Frontend, Sentence
    from balacoon_tk.frontend.backends.characters import CharacterFrontend
    from balacoon_tk.frontend.backends.espeak import EspeakFrontend
    from balacoon_tk.frontend.backends.gruut import GruutFrontend, UnknownWordWarning
    from balacoon_tk.frontend.markup.ssml import SsmlWarning
    from balacoon_tk.frontend.naming import NothingToSayWarning
    from balacoon_tk.frontend.phoneme_map import EncodedSentence, PhonemeMap, UnknownPhonemeWarning
    from balacoon_tk.frontend.reading.reader import MAX_TEXT, Pieces, Reading
    from balacoon_tk.frontend.reading.source_text import SourceText
    from balacoon_tk.frontend.reading.splitting import MAX_SENTENCE_PHONEMES
    from balacoon_tk.frontend.reading.transducers import FLUSH, Control
    from balacoon_tk.frontend.registry import BACKENDS, create_frontend

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
        "backends.characters": ("CharacterFrontend",),
        "backends.espeak": ("EspeakFrontend",),
        "backends.gruut": ("GruutFrontend", "UnknownWordWarning"),
        "naming": ("NothingToSayWarning",),
        "phoneme_map": ("EncodedSentence", "PhonemeMap", "UnknownPhonemeWarning"),
        "reading.reader": ("MAX_TEXT", "Pieces", "Reading"),
        "registry": ("BACKENDS", "create_frontend"),
        "reading.source_text": ("SourceText",),
        "reading.splitting": ("MAX_SENTENCE_PHONEMES",),
        "markup.ssml": ("SsmlWarning",),
        "reading.transducers": ("FLUSH", "Control"),
    },
)
