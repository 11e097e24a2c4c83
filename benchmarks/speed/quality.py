"""How each engine's speech is judged: words that are heard wrong, and opinions of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.audio import to_pcm16
from balacoon_tk.metrics import dnsmos, plain_sentences, transcribe, wer
from speed.measure import show_progress
from speed.opinions import distillmos, visqol
from speed.workers import open_engines

FLOAT: Final = "balacoon_tk"
INT8: Final = "balacoon_tk, int8"
"""Two voices that are compared with each other, sentence by sentence."""
_EACH: Final = 5
_N_THREADS = 2

Record = dict[str, list[float]]


def sentences() -> tuple[str, ...]:
    """Return what is spoken: each fifth of the plain sentences, of all their lengths."""
    return plain_sentences()[_EACH - 1 :: _EACH]


def measure(
    *,
    names: Sequence[str],
    texts: Sequence[str],
    known: dict[str, Record],
    keep: Callable[[str, Record], None],
) -> dict[str, Any]:
    """Let each engine speak the sentences, and judge them.

    Parameters
    ----------
    names, texts : sequence of str
        Engines and sentences.
    known : dict of str to dict
        What has been judged before, by engine: it isn't again.
    keep : callable
        Is given the name and the record of each engine that is done.

    Returns
    -------
    dict
        ``sentences``, and ``engines``: by name ``n_word_errors``, ``n_words``, ``dnsmos`` and ``distillmos``,
        a value a sentence, and for the int8 voice ``visqol`` beside the other.
    """
    engines: dict[str, Record] = {}
    for k, name in enumerate(names):
        if name not in known:
            spoken, rate = _speak(name, texts)
            engines[name] = judge(texts, spoken, rate)
            if name == INT8:
                # The same durations and the same noise: sample by sample, one is the other rounded.
                pairs = zip(spoken, _speak(FLOAT, texts)[0], strict=True)
                engines[name]["visqol"] = [visqol(x, y, sample_rate=rate) for x, y in pairs]
            keep(name, engines[name])
        else:
            engines[name] = known[name]
        show_progress("quality", (k + 1) / len(names))
    return {"sentences": list(texts), "engines": engines}


def judge(texts: Sequence[str], spoken: Sequence[FloatArray], sample_rate: int) -> Record:
    """Return what is heard of each utterance, and what is thought of it; the judges get 16-bit PCM."""
    record: Record = {name: [] for name in ("n_word_errors", "n_words", "dnsmos", "distillmos")}
    for text, samples in zip(texts, spoken, strict=True):
        heard = to_pcm16(samples)
        errors = wer(text, transcribe(heard, sample_rate=sample_rate))
        record["n_word_errors"].append(errors.n_errors)
        record["n_words"].append(errors.n_reference)
        record["dnsmos"].append(dnsmos(heard, sample_rate=sample_rate).overall)
        record["distillmos"].append(distillmos(heard, sample_rate=sample_rate))
    return record


def _speak(name: str, texts: Sequence[str]) -> tuple[list[FloatArray], int]:
    with open_engines([name], _N_THREADS) as engines:
        spoken = [engines[name].samples(text) for text in texts]
    return [np.concatenate(each.chunks) for each in spoken], spoken[0].sample_rate
