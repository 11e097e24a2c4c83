"""One sentence of an evaluation: speak it by every strategy, measure it, and judge each audio once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from balacoon_tk._typing import FloatArray, PCM16Array
from balacoon_tk.errors import ModelError
from balacoon_tk.metrics import runs
from balacoon_tk.metrics.latency import rtf
from balacoon_tk.metrics.registry import Metric, all_metrics
from balacoon_tk.metrics.registry import measure as measure_all
from balacoon_tk.metrics.trace import REFERENCE, StreamTrace, median_trace
from balacoon_tk.metrics.utterance import Utterance

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS


@dataclass(frozen=True, slots=True)
class EvaluationPlan:
    """What to do with each sentence, checked; fields as in `evaluate`."""

    metrics: tuple[str, ...]
    seed: int
    speaker: str | int | None
    chunk_frames: tuple[int, ...] | None
    n_rounds: int
    judge_all: bool


def speak(tts: TTS, sentence: str, strategy: str, plan: EvaluationPlan) -> tuple[StreamTrace, FloatArray]:
    """Speak a sentence by one strategy, and note when its chunks came."""
    # What a full decode gives comes at the end: it has no lag to speak of.
    chosen = tts.voice.choose_strategy(strategy)
    lag = None if chosen == REFERENCE else tts.voice.open_decoder(chosen).lag_samples
    return runs.speak(
        tts,
        sentence,
        strategy=strategy,
        seed=plan.seed,
        speaker=plan.speaker,
        chunk_frames=plan.chunk_frames,
        lag_samples=lag,
    )


def measure(
    tts: TTS, sentence: str, index: int, strategies: Sequence[str], plan: EvaluationPlan
) -> dict[str, Any]:
    """Return the measured fields of a sentence by each strategy; they speak in the order given."""
    traces: dict[str, list[StreamTrace]] = {strategy: [] for strategy in strategies}
    samples: dict[str, FloatArray] = {}
    # Round by round and not strategy by strategy: whatever else the machine does is then done to all of them.
    for _ in range(plan.n_rounds):
        for strategy in strategies:
            trace, samples[strategy] = speak(tts, sentence, strategy, plan)
            traces[strategy].append(trace)
    reference = samples[REFERENCE]
    if reference.size == 0:
        raise runs.nothing_to_say(f"sentences[{index}]", sentence)
    # Samples are compared one by one: a single one more would shift all that follow.
    for strategy, spoken in samples.items():
        if spoken.size != reference.size:
            raise ModelError(
                f"sentences[{index}]: {strategy!r} gave {spoken.size} samples, {REFERENCE!r} {reference.size}"
            )
    medians = {strategy: median_trace(found) for strategy, found in traces.items()}
    reference_s = statistics.median(trace.total_s for trace in traces[REFERENCE])
    chosen = [metric for metric in all_metrics() if metric.group in plan.metrics]
    rate = medians[REFERENCE].sample_rate
    whole = Utterance(sentence, reference, rate, None, medians[REFERENCE], reference_s)
    results: dict[str, Any] = {}
    judged: list[tuple[str, PCM16Array, dict[str, Any]]] = []
    # The whole utterance is judged first: it is the one whose verdict others take over.
    for strategy in sorted(strategies, key=lambda name: name != REFERENCE):
        trace, utterance = medians[strategy], whole
        own = [each for each in chosen if not each.judged]
        if strategy == REFERENCE:
            own = [each for each in own if not each.is_relative]
        else:
            utterance = Utterance(sentence, samples[strategy], rate, whole, trace, reference_s)
        values = measure_all(own, utterance)
        if "latency" in plan.metrics:
            # For whoever looks one sentence up; over sentences the RTF is a ratio of sums.
            values |= {"rtf": rtf(trace), "ready_s": [*trace.ready_s], "n_samples": [*trace.n_samples]}
        values |= _verdict(strategy, utterance, [each for each in chosen if each.judged], plan, judged)
        results[strategy] = values
    return results


def _verdict(
    strategy: str,
    utterance: Utterance,
    metrics: Sequence[Metric],
    plan: EvaluationPlan,
    judged: list[tuple[str, PCM16Array, dict[str, Any]]],
) -> dict[str, Any]:
    """Return what a listener gets of it, taken over where the same audio has been judged."""
    if not metrics:
        return {}
    if not plan.judge_all:
        for other, known, verdict in judged:
            # As int32: two int16 may be further from each other than one of them can say.
            if np.max(np.abs(utterance.pcm.astype(np.int32) - known)) <= 1:
                return verdict | {"verdict_of": other}
    verdict = measure_all(metrics, utterance)
    if "wer" in plan.metrics:
        verdict["transcript"] = utterance.transcript
    judged.append((strategy, utterance.pcm, verdict))
    return verdict
