"""What streaming does to the sound: streamed samples beside whole ones, and clicks at the seams of chunks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from balacoon_tk import TTS
from balacoon_tk.metrics import max_abs_diff
from balacoon_tk.metrics.sweeps import sweep_overlap
from speed.clicks import count_clicks
from speed.measure import show_progress
from speed.texts import TEXTS
from speed.workers import Spoken, open_engines

CONTROLS: Final = {"chunks without context": 0, "chunks with 8 frames of context": 8}
"""Ways of streaming that are known to click, so that a table without clicks says something."""
_CONTROL_CHUNK_FRAMES = 32
_ALL_FRAMES = 10**6
_TEXT = "minute"
_CONTROL_TEXT = "440"
_N_THREADS = 2


def measure(*, names: Sequence[str], text: str = _TEXT, control_text: str = _CONTROL_TEXT) -> dict[str, Any]:
    """Stream a text by each engine and compare what can be compared.

    Returns
    -------
    dict
        ``engines`` and ``controls``: figures by name, as `figures` gives them.
    """
    engines = {}
    for k, name in enumerate(names):
        # One at a time: nothing is timed here, so nothing has to take turns.
        with open_engines([name], _N_THREADS) as opened:
            engines[name] = figures(opened[name].samples(TEXTS[text]))
        show_progress("fidelity", (k + 1) / len(names))
    return {"engines": engines, "controls": controls(TEXTS[control_text])}


def controls(text: str, *, tts: TTS | None = None) -> dict[str, dict[str, float | int | None]]:
    """Return the figures of the default voice, streamed in ways that are known to click."""
    speaker = tts or TTS(frontend="espeak", n_threads=_N_THREADS)
    # The last one gets all that its receptive field asks for, so it says what the whole utterance does.
    contexts = [*CONTROLS.values(), _ALL_FRAMES]
    *points, whole = sweep_overlap(speaker, text, context_frames=contexts, chunk_frames=_CONTROL_CHUNK_FRAMES)
    rate = speaker.get_sampling_rate()
    return {
        name: figures(Spoken(rate, tuple(np.split(point.samples, point.borders)), whole.samples))
        for name, point in zip(CONTROLS, points, strict=True)
    }


def figures(spoken: Spoken) -> dict[str, float | int | None]:
    """Return ``max_abs_diff`` (None without a whole utterance), ``n_seams``, ``n_clicks`` and ``audio_s``."""
    samples = np.concatenate(spoken.chunks)
    borders = np.cumsum([chunk.size for chunk in spoken.chunks])[:-1].tolist()
    return {
        "max_abs_diff": None if spoken.whole is None else max_abs_diff(samples, spoken.whole),
        "n_seams": len(borders),
        "n_clicks": count_clicks(samples, borders, sample_rate=spoken.sample_rate, whole=spoken.whole),
        "audio_s": samples.size / spoken.sample_rate,
    }
