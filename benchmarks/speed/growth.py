"""How the first sound and the whole grow with the text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from balacoon_tk import TTS
from speed.measure import Rounds, show_progress
from speed.texts import count_phonemes, sentences_of, text_of
from speed.workers import open_engines, speak_in_turn

LENGTHS = (10, 30, 60, 125, 250, 500, 1000, 2000)
"""Phonemes of a text."""

_N_THREADS = 2
_NAMES = ("balacoon_tk", "streaming-vits", "piper-tts")


def measure(
    rounds: Rounds, *, lengths: Sequence[int] = LENGTHS, names: Sequence[str] = _NAMES
) -> dict[str, Any]:
    """Speak texts of growing length, each once as one sentence and once as many short ones.

    Returns
    -------
    dict
        By the shape of the text and the engine a list of points: phonemes, and TTFA and total in
        seconds, a value a round.
    """
    tts = TTS(frontend="espeak", n_threads=_N_THREADS)
    shapes = {"one sentence": text_of, "short sentences": sentences_of}
    found: dict[str, Any] = {
        "n_threads": _N_THREADS,
        "curves": {shape: {name: [] for name in names} for shape in shapes},
    }
    with open_engines(list(names), _N_THREADS) as engines:
        for k, n_phonemes in enumerate(lengths):
            for shape, make in shapes.items():
                text = make(n_phonemes, tts.frontend, tts.phoneme_map)
                n_spoken = count_phonemes(text, tts.frontend, tts.phoneme_map)
                if n_spoken > 1.2 * n_phonemes:
                    continue  # no sentence is as short as that
                for name, spoken in speak_in_turn(engines, text, n_rounds=rounds.n_minute).items():
                    figures = [utterance.figures() for utterance in spoken]
                    point = {field: [row[field] for row in figures] for field in ("ttfa_s", "total_s")}
                    found["curves"][shape][name].append({"n_phonemes": n_spoken, **point})
            show_progress("growth", (k + 1) / len(lengths))
    return found
