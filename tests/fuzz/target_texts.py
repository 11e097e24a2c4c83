"""Texts: every frontend gives phonemes of one codepoint each, or an error of its own, and stays alive."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from texts import random_texts, text_of

# What brought a frontend down once, and texts of a megabyte; bytes of the kind that is read as UTF-8.
_KNOWN = [
    "a." * 97,
    "a.b." * 49,
    "x.y." * 61,
    "1," * 50,
    "..." * 100 + "a",
    "Ph.D." * 110,
    "1E-5" * 140,
    "[[",
    "",
]
_LONG = 1_000_000


def prepare(_: Path, name: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what reads one text, and the texts to begin with."""
    from balacoon_tk.frontend import MAX_SENTENCE_PHONEMES, create_frontend

    symbols = "abcdefghijklmnopqrstuvwxyz'- àéñß"
    make = {
        "espeak": lambda: create_frontend("espeak"),
        "gruut": lambda: create_frontend("gruut"),
        "text": lambda: create_frontend(phoneme_type="text"),
        "characters": lambda: create_frontend(phoneme_type="characters", symbols=symbols),
    }
    frontend, most = make[name](), {"espeak": 100, "gruut": 3}.get(name)

    def run(data: bytes) -> None:
        text = text_of(data)
        # So much is enough to see that a long text is cut: a backend takes seconds for a megabyte.
        for sentence in itertools.islice(frontend.phonemize(text), most):
            assert sentence.phonemes
            assert all(len(phoneme) == 1 for phoneme in sentence.phonemes)
            # What stands in brackets is a caller's own.
            assert len(sentence.phonemes) <= MAX_SENTENCE_PHONEMES or "[[" in sentence.text

    seeds = [b"\x10" + text.encode() for text in _KNOWN]
    long = [unit * (_LONG // len(unit)) for unit in ("a", "a ", "a. ", "я.", "1,", "\u0301")]
    seeds += [b"\x10" + text.encode() for text in long]
    return run, [*seeds, *itertools.islice(random_texts(0), 100)]
