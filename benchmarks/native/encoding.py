"""The default voice's encoder in both engines, for sentences of several lengths."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.voice.voice import load_voice
from native.decoding import BACKENDS
from speed.measure import in_turn, show_progress

N_PHONEMES = (31, 121, 301)
"""Ids of a sentence: two words, seven and twenty; between two phonemes there is a blank."""
_REPEATS = 5


def measure(folder: Path, *, n_rounds: int, threads: Sequence[int]) -> dict[str, Any]:
    """Time a voice's encoder in both engines.

    Returns
    -------
    dict
        By the number of threads ``seconds`` of one run by ``engine, number of ids``, a value a round: the
        mean of some runs.
    """
    found: dict[str, Any] = {"n_phonemes": list(N_PHONEMES), "threads": {}}
    for k, n_threads in enumerate(threads):
        runs = {}
        for backend in BACKENDS:
            voice = load_voice(folder, options=RuntimeOptions(n_threads=n_threads, backend=backend))
            known = np.array(voice.manifest.frontend.known_ids, np.int64)
            for n in N_PHONEMES:
                ids = np.random.default_rng(n).choice(known, n)
                runs[f"{backend}, {n}"] = partial(_encode, voice.encoder, ids)
        seconds = in_turn(runs, n_rounds=n_rounds)
        each = {name: [value / _REPEATS for value in values] for name, values in seconds.items()}
        found["threads"][str(n_threads)] = {"seconds": each}
        show_progress("encoding", (k + 1) / len(threads))
    return found


def _encode(encoder: Any, phoneme_ids: Any) -> None:
    for seed in range(_REPEATS):
        encoder.encode(phoneme_ids, noise_w=0.8, seed=seed)
