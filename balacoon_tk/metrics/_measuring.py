"""One sentence of an evaluation: speak it by every strategy, measure it, and judge each audio once."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from balacoon_tk._typing import FloatArray, PCM16Array
from balacoon_tk.audio import to_pcm16
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.metrics import perception, speech
from balacoon_tk.metrics import signal as signals
from balacoon_tk.metrics.latency import (
    REFERENCE,
    StreamTrace,
    TraceRecorder,
    audio_s,
    lag_s,
    record_stream,
    rtf,
    ttfa_s,
    underrun_s,
)

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

_PREBUFFERS_S = {"continuity": 0.0, "c50": 0.05, "c100": 0.1, "c200": 0.2}
_MS = 1e3


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do with each sentence, checked; fields as in `evaluate`."""

    metrics: frozenset[str]
    seed: int
    speaker: str | int | None
    chunk_frames: tuple[int, ...] | None
    n_rounds: int
    judge_all: bool


def speak(tts: TTS, sentence: str, strategy: str, plan: Plan) -> tuple[StreamTrace, FloatArray]:
    """Speak a sentence by one strategy, and note when its chunks came."""
    # What a full decode gives comes at the end: it has no lag to speak of.
    chosen = tts.voice.choose_strategy(strategy)
    lag = None if chosen == REFERENCE else tts.voice.open_decoder(chosen).lag_samples
    recorder = TraceRecorder(sample_rate=tts.get_sampling_rate(), lag_samples=lag)
    chunks = tts.stream(
        sentence, strategy=strategy, seed=plan.seed, speaker=plan.speaker, chunk_frames=plan.chunk_frames
    )
    return record_stream(recorder, chunks)


def measure(tts: TTS, sentence: str, index: int, strategies: Sequence[str], plan: Plan) -> dict[str, Any]:
    """Return what is measured of a sentence by each strategy, field by field.

    Parameters
    ----------
    tts : TTS
    sentence : str
    index : int
        Its number, for errors.
    strategies : sequence of str
        In the order in which they speak; the reference is among them.
    plan : Plan

    Raises
    ------
    ParameterError
        If there is nothing to say in the sentence.
    ModelError
        If a strategy gives another number of samples than the reference.
    """
    traces: dict[str, list[StreamTrace]] = {strategy: [] for strategy in strategies}
    samples: dict[str, FloatArray] = {}
    for _ in range(plan.n_rounds):
        for strategy in strategies:
            trace, samples[strategy] = speak(tts, sentence, strategy, plan)
            traces[strategy].append(trace)
    reference = samples[REFERENCE]
    if reference.size == 0:
        raise ParameterError(f"sentences[{index}]={sentence[:60]!r} must hold something that can be spoken")
    for strategy, spoken in samples.items():
        if spoken.size != reference.size:
            raise ModelError(
                f"sentences[{index}]: {strategy!r} gave {spoken.size} samples, {REFERENCE!r} {reference.size}"
            )
    medians = {
        strategy: sorted(found, key=lambda trace: trace.total_s)[len(found) // 2]
        for strategy, found in traces.items()
    }
    reference_s = statistics.median(trace.total_s for trace in traces[REFERENCE])
    results: dict[str, Any] = {}
    judged: list[tuple[str, PCM16Array, dict[str, Any]]] = []
    # The whole utterance is judged first: it is the one whose verdict others take over.
    for strategy in sorted(strategies, key=lambda name: name != REFERENCE):
        trace = medians[strategy]
        values = _latency_values(trace, reference_s) if "latency" in plan.metrics else {}
        if strategy != REFERENCE:
            values |= _reference_values(samples[strategy], reference, trace, plan.metrics)
        values |= _verdict(strategy, to_pcm16(samples[strategy]), sentence, trace.sample_rate, plan, judged)
        # What couldn't be measured is None: NaN is equal to nothing, not even to itself.
        results[strategy] = {name: None if value != value else value for name, value in values.items()}
    return results


def _latency_values(trace: StreamTrace, reference_s: float) -> dict[str, Any]:
    underrun = underrun_s(trace)
    return {
        "ttfa_ms": _MS * ttfa_s(trace),
        "total_s": trace.total_s,
        "audio_s": audio_s(trace),
        "rtf": rtf(trace),
        "reference_total_s": reference_s,
        "underrun_ms": _MS * underrun,
        # A share of utterances is the mean of these over sentences.
        **{name: int(underrun <= prebuffer_s) for name, prebuffer_s in _PREBUFFERS_S.items()},
        "lag_ms": _MS * lag_s(trace),
        "n_chunks": len(trace.n_samples),
        "ready_s": list(trace.ready_s),
        "n_samples": list(trace.n_samples),
    }


def _reference_values(
    samples: FloatArray, reference: FloatArray, trace: StreamTrace, metrics: frozenset[str]
) -> dict[str, Any]:
    """Return what is measured against the samples of the whole utterance."""
    values: dict[str, Any] = {}
    rate = trace.sample_rate
    if "signal" in metrics:
        borders = np.cumsum(trace.n_samples)[:-1].tolist()
        # Speech that bends at a border by itself is no click: the whole bends there as well.
        clicks = [signals.boundary_click_db(x, borders, sample_rate=rate) for x in (samples, reference)]
        values |= {
            "max_abs_diff": signals.max_abs_diff(samples, reference),
            "snr_db": signals.snr_db(samples, reference),
            "segmental_snr_db": signals.segmental_snr_db(samples, reference, sample_rate=rate),
            "log_spectral_distance_db": signals.log_spectral_distance_db(samples, reference),
            "click_db": clicks[0] - clicks[1],
        }
    if "mcd" in metrics:
        values["mel_cepstral_distortion_db"] = speech.mel_cepstral_distortion_db(
            samples, reference, sample_rate=rate
        )
    if "pitch" in metrics:
        errors = speech.pitch_errors(samples, reference, sample_rate=rate)
        values |= {
            "f0_rmse_hz": errors.rmse_hz,
            "f0_rmse_cents": errors.rmse_cents,
            "voicing_error": errors.voicing_error,
        }
    if "pesq" in metrics:
        values["pesq"] = _or_nan(speech.pesq, samples, reference, rate)
    if "stoi" in metrics:
        values["stoi"] = _or_nan(speech.stoi, samples, reference, rate)
    return values


def _or_nan(
    metric: Callable[..., float], samples: FloatArray, reference: FloatArray, sample_rate: int
) -> float:
    """Return a figure, or NaN for a sentence too short for it: one word doesn't end an evaluation."""
    try:
        return metric(samples, reference, sample_rate=sample_rate)
    except ParameterError:
        return float("nan")


def _verdict(
    strategy: str,
    pcm: PCM16Array,
    sentence: str,
    sample_rate: int,
    plan: Plan,
    judged: list[tuple[str, PCM16Array, dict[str, Any]]],
) -> dict[str, Any]:
    """Return what a listener gets of it, taken over where the same audio has been judged."""
    if not plan.metrics & {"wer", "dnsmos", "plcmos"}:
        return {}
    if not plan.judge_all:
        for other, known, verdict in judged:
            if np.max(np.abs(pcm.astype(np.int32) - known)) <= 1:
                return verdict | {"verdict_of": other}
    verdict = _judge(pcm, sentence, sample_rate, plan.metrics)
    judged.append((strategy, pcm, verdict))
    return verdict


def _judge(pcm: PCM16Array, sentence: str, sample_rate: int, metrics: frozenset[str]) -> dict[str, Any]:
    """Return what a listener gets of an audio: of silence no word and no opinion."""
    values: dict[str, Any] = {}
    try:
        if "dnsmos" in metrics:
            opinion = perception.dnsmos(pcm, sample_rate=sample_rate)
            values |= {
                "dnsmos": opinion.overall,
                "dnsmos_signal": opinion.signal,
                "dnsmos_background": opinion.background,
                "dnsmos_p808": opinion.p808,
            }
        if "plcmos" in metrics:
            values["plcmos"] = perception.plcmos(pcm, sample_rate=sample_rate)
        transcript = perception.transcribe(pcm, sample_rate=sample_rate) if "wer" in metrics else ""
    except ParameterError:
        transcript = ""
    if "wer" in metrics:
        words, characters = perception.wer(sentence, transcript), perception.cer(sentence, transcript)
        values |= {
            "transcript": transcript,
            "n_word_errors": words.n_errors,
            "n_words": words.n_reference,
            "n_char_errors": characters.n_errors,
            "n_chars": characters.n_reference,
        }
    return values
