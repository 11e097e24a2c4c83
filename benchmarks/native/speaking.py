"""From text to sound with either engine, beside others; memory, and how long a voice takes to be loaded."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from balacoon_tk.voice.voice import load_voice
from native.decoding import BACKENDS
from peers import TWO_SPEAKERS
from speed import memory
from speed.end_to_end import summary
from speed.measure import in_turn, show_progress
from speed.texts import TEXTS
from speed.workers import open_engines, speak_in_turn

OURS = ("balacoon_tk, native", "balacoon_tk, onnxruntime")
PEERS = ("streaming-vits", "piper-tts")
_TEXT = "60"
_N_THREADS = 2


def measure(folder: Path, *, n_rounds: int, n_loads: int) -> dict[str, Any]:
    """Speak a short sentence by each engine in turn, and measure memory and loading.

    Returns
    -------
    dict
        ``engines``: figures by name, a value a round; ``peak_mb`` by name; ``load_s`` by backend.
    """
    found_of = {}
    for k, names in enumerate(([*OURS, *PEERS], TWO_SPEAKERS)):
        with open_engines(list(names), _N_THREADS) as engines:
            for name, spoken in speak_in_turn(engines, TEXTS[_TEXT], n_rounds=n_rounds).items():
                found_of[name] = {"settings": engines[name].settings, **summary(spoken)}
        show_progress("speaking", 0.4 * (k + 1))
    peaks = memory.measure(names=OURS, threads=(_N_THREADS,))[str(_N_THREADS)]
    loads = {
        backend: partial(load_voice, folder, n_threads=_N_THREADS, backend=backend) for backend in BACKENDS
    }
    found = {
        "engines": found_of,
        "peak_mb": peaks,
        "load_s": in_turn(loads, n_rounds=n_loads),
    }
    show_progress("speaking", 1.0)
    return found
