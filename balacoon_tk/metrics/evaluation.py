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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeAlias, Union

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import _measuring
from balacoon_tk.metrics._journal import Journal
from balacoon_tk.metrics._measuring import EvaluationPlan
from balacoon_tk.metrics.bootstrap import PairedBootstrap
from balacoon_tk.metrics.registry import all_metrics, import_eval, metric_groups
from balacoon_tk.metrics.report import Report
from balacoon_tk.metrics.runs import rotated
from balacoon_tk.metrics.sentences import check_sentences, plain_sentences
from balacoon_tk.metrics.trace import REFERENCE
from balacoon_tk.runtime.options import Backend

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS
    from balacoon_tk.voice.voice import Voice

VoiceLike: TypeAlias = Union[str, "os.PathLike[str]", "Voice", "TTS", None]


def evaluate(
    voices: VoiceLike | Sequence[VoiceLike] | Mapping[str, VoiceLike] = None,
    sentences: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
    *,
    metrics: Sequence[str] = ("latency", "signal"),
    folder: str | os.PathLike[str] | None = None,
    seed: int = 0,
    speaker: str | int | None = None,
    chunk_frames: int | Sequence[int] | None = None,
    n_rounds: int = 1,
    judge_all: bool = False,
    frontend: str = "auto",
    n_threads: int | None = None,
    backend: Backend | None = None,
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
        Of `METRIC_GROUPS`, or the group of a `metric` of one's own.
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
    backend : {"auto", "native", "onnxruntime"}, optional
        The same: what runs encoder and decoder.
    confidence : float
        Of the intervals, in (0, 1).
    n_resamples : int
        Draws of the bootstrap.
    progress : callable, optional
        Called with the number of sentences done, over all voices, and the number of all.

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
    plan = EvaluationPlan(
        metrics=_checked_metrics(metrics),
        seed=choose_seed(seed),
        speaker=speaker,
        chunk_frames=choose_chunk_frames(chunk_frames),
        n_rounds=n_rounds,
        judge_all=judge_all,
    )
    named = _open_voices(voices, frontend, n_threads, backend)
    wanted = _checked_strategies(strategies, named)
    graphs: dict[str, str] = {}
    for name, tts in named.items():
        tts.voice.speaker_id(speaker)
        # And not the path: a voice that was moved goes on, one that was exported anew doesn't.
        graphs[name] = tts.voice.manifest.fingerprint
    # All that results depend on: a journal of other settings isn't gone on with.
    settings = {"voices": graphs, "sentences": list(texts), "strategies": wanted, **asdict(plan)}
    # Only to refuse a wrong number of draws or share of them while nothing is lost by it.
    PairedBootstrap(1, n_resamples=n_resamples, confidence=confidence)
    records: list[dict[str, Any]] = []
    with Journal(folder, settings) as journal:
        for name, tts in named.items():
            # What runs first pays for memory that later runs find in place; no sentence should.
            cold = list(wanted)
            for index, text in enumerate(texts):
                results = journal.get(name, index)
                if results is None:
                    while cold:
                        _measuring.speak(tts, text, cold.pop(0), plan)
                    results = _measuring.measure(tts, text, index, rotated(wanted, index), plan)
                    journal.add(name, index, results)
                # In the order of the report again, whoever began.
                records += [
                    {"voice": name, "strategy": each, "sentence": index, "text": text, **results[each]}
                    for each in wanted
                ]
                if progress is not None:
                    progress(len(records) // len(wanted), len(named) * len(texts))
        report = Report.from_records(
            records, settings=settings, confidence=confidence, n_resamples=n_resamples
        )
        if folder is not None:
            report.save(folder)
    return report


def _checked_metrics(metrics: Sequence[str]) -> tuple[str, ...]:
    names = (metrics,) if isinstance(metrics, str) else tuple(metrics)
    groups = metric_groups()
    if not names:
        raise ParameterError(f"metrics must hold at least one of {', '.join(groups)}")
    if wrong := [name for name in names if name not in groups]:
        raise ParameterError(f"metrics: {wrong[0]!r} must be one of {', '.join(groups)}")
    # What isn't installed is named now, and not after an hour.
    for metric in all_metrics():
        for module in metric.packages if metric.group in names else ():
            import_eval(module, what=f"the metric {metric.group}")
    # In one order, so that a journal goes on whichever way they were asked for.
    return tuple(sorted(set(names)))


def _checked_strategies(strategies: Sequence[str] | None, voices: Mapping[str, TTS]) -> list[str]:
    """Return the strategies, the reference first, or say why a voice can't do one."""
    if strategies is None:
        # Those that all can do: a report with holes compares nothing.
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
    voices: VoiceLike | Sequence[VoiceLike] | Mapping[str, VoiceLike],
    frontend: str,
    n_threads: int | None,
    backend: Backend | None,
) -> dict[str, TTS]:
    from balacoon_tk.tts import TTS
    from balacoon_tk.voice.voice import Voice

    def opened(voice: VoiceLike) -> TTS:
        if isinstance(voice, TTS):
            return voice
        # A loaded voice has its threads and its engine already, and to ask for others is an error.
        if isinstance(voice, Voice):
            return TTS(voice, frontend=frontend)
        return TTS(voice, frontend=frontend, n_threads=n_threads, backend=backend)

    named: dict[str, TTS] = {}
    if isinstance(voices, Mapping):
        named = {name: opened(voice) for name, voice in voices.items()}
    else:
        if voices is None or isinstance(voices, (str, os.PathLike, Voice, TTS)):
            voices = (voices,)
        several = [opened(voice) for voice in voices]
        names = [tts.voice.manifest.name for tts in several]
        for tts, name in zip(several, names, strict=True):
            # The name alone where that says which: it is what stands above every column.
            label = name if names.count(name) == 1 else f"{name} ({tts.voice.path.name})"
            if label in named:
                raise ParameterError(f"voices: two are called {label!r}; give a mapping from name to voice")
            named[label] = tts
    if not named:
        raise ParameterError("voices must hold at least one voice")
    return named
