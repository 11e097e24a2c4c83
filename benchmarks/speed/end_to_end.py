"""From text to sound, beside other engines: rounds in turn, a process for each engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from balacoon_tk.metrics import audio_s
from speed.measure import Rounds, show_progress
from speed.texts import TEXTS
from speed.workers import Utterance, open_engines, speak_in_turn


def measure(
    rounds: Rounds, *, names: Sequence[str], threads: Sequence[int], texts: Sequence[str] = tuple(TEXTS)
) -> dict[str, Any]:
    """Speak each text by each engine, on so many threads.

    Returns
    -------
    dict
        By the number of threads, engine and text: figures, a list of rounds each, and the chunks of
        the round of median length.
    """
    found: dict[str, Any] = {"texts": {key: TEXTS[key] for key in texts}, "threads": {}}
    n_steps, n_done = len(threads) * len(texts), 0
    # Long texts have less of a spread, and take most of the time.
    n_rounds_of = {
        "60": rounds.n_tiny,
        "200": rounds.n_short,
        "440": rounds.n_long,
        "minute": rounds.n_minute,
    }
    for n_threads in threads:
        with open_engines(list(names), n_threads) as engines:
            results: dict[str, Any] = {
                name: {"settings": engine.settings, "texts": {}} for name, engine in engines.items()
            }
            for key in texts:
                n_rounds = n_rounds_of[key]
                for name, spoken in speak_in_turn(engines, TEXTS[key], n_rounds=n_rounds).items():
                    results[name]["texts"][key] = summary(spoken)
                n_done += 1
                show_progress("end_to_end", n_done / n_steps)
        found["threads"][str(n_threads)] = results
    return found


def summary(spoken: Sequence[Utterance]) -> dict[str, Any]:
    """Return the figures of all rounds, and the chunks of the one of median length."""
    # A round that happened: its chunks are drawn, and no mean of several streams is one.
    middle = sorted(spoken, key=lambda utterance: utterance.trace.total_s)[len(spoken) // 2]
    figures = [utterance.figures() for utterance in spoken]
    return {
        "audio_s": audio_s(middle.trace),
        **{name: [row[name] for row in figures] for name in figures[0]},
        "chunks": asdict(middle.trace),
    }
