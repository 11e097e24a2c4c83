"""One text by each strategy, in turn: what streaming costs and changes, and what each stage takes alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from timeit import timeit
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ModelError
from balacoon_tk.metrics.latency import audio_s, rtf, ttfa_s, underrun_s, xrt
from balacoon_tk.metrics.runs import first_sentence, in_turn, nothing_to_say, speak
from balacoon_tk.metrics.trace import REFERENCE, StreamTrace, median_trace
from balacoon_tk.stages.sentence import own_settings, prepare_sentence

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

# What is spoken where no text is given: one sentence of about five seconds.
BENCHMARK_TEXT = "We walked along the river until it was dark, and the boats were all tied up for the night."


@dataclass(frozen=True, slots=True)
class StrategyResult:
    """What one strategy did with the utterance; times and ratios are medians over the rounds."""

    ttfa_s: float
    """From the call with text to the first audible sample handed over; NaN if nothing was audible."""
    total_s: float
    """From the call with text to the end of the stream."""
    rtf: float
    work_ratio: float
    """``total_s`` over that of the reference, which ran in turn with it."""
    max_abs_diff: float
    """Largest difference to a sample of the reference, full scale being 1."""
    n_chunks: int
    traces: tuple[StreamTrace, ...]
    """One for each round."""
    samples: FloatArray
    """float32 (n_samples,)"""

    @property
    def median_trace(self) -> StreamTrace:
        """The round of median length (the upper one of an even number)."""
        return median_trace(self.traces)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Results by strategy, in the order in which they ran."""

    voice: str
    text: str
    sample_rate: int
    """Hz"""
    audio_s: float
    strategies: Mapping[str, StrategyResult]

    def to_dict(self) -> dict[str, object]:
        """Return what ``balacoon-tk compare --json`` prints; a TTFA that isn't a number becomes None."""
        # JSON has no NaN, and other programs read this.
        fields = ("ttfa_s", "total_s", "rtf", "work_ratio", "max_abs_diff", "n_chunks")
        strategies = {
            name: {field: getattr(result, field) for field in fields}
            | {"ttfa_s": None if math.isnan(result.ttfa_s) else result.ttfa_s}
            for name, result in self.strategies.items()
        }
        return {"voice": self.voice, "text": self.text, "audio_s": self.audio_s, "strategies": strategies}

    def table(self) -> str:
        """Return the results as lines of text, a strategy each."""
        header = ("strategy", "TTFA", "total", "RTF", "xRT", "work", "waits", "chunks", "max diff")
        rows = [
            (
                name,
                "silent" if math.isnan(result.ttfa_s) else f"{result.ttfa_s * 1e3:.1f} ms",
                f"{result.total_s * 1e3:.0f} ms",
                f"{result.rtf:.4f}",
                f"{xrt(result.median_trace):.1f}x",
                f"{result.work_ratio:.2f}x",
                f"{underrun_s(result.median_trace) * 1e3:.0f} ms",
                str(result.n_chunks),
                f"{result.max_abs_diff:.1e}",
            )
            for name, result in self.strategies.items()
        ]
        first, *widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        return "\n".join(
            "  ".join([name.ljust(first), *map(str.rjust, cells, widths)]) for name, *cells in (header, *rows)
        )


def compare(
    tts: TTS,
    text: str,
    *,
    strategies: Sequence[str] | None = None,
    n_rounds: int = 5,
    seed: int = 0,
    speaker: str | int | None = None,
    chunk_frames: int | Sequence[int] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Speak a text by each strategy in turn, several times, with the same seed.

    Every strategy runs once to warm up, which isn't counted.

    Parameters
    ----------
    strategies : sequence of str, optional
        Which to compare; all that the voice can do if None. The reference is always among them.
    n_rounds : int
        How often each one is timed.
    seed, speaker
        Those of every run.
    chunk_frames : int or sequence of int, optional
        Frames in a chunk; those of `TTS.stream` if None.
    progress : callable, optional
        Called with the number of runs done and the number of all runs.

    Raises
    ------
    ParameterError
        If `n_rounds` is less than 1 or there is nothing to say in the text.
    ModelError
        If a strategy gives another number of samples than the reference.
    """
    wanted = tts.strategies if strategies is None else strategies
    # The reference first: what the others are compared with has to be there whatever was asked for.
    names = [REFERENCE, *dict.fromkeys(name for name in wanted if name != REFERENCE)]
    # Equal seeds give equal samples in every round, so those of the last one stand for all.
    samples: dict[str, FloatArray] = {}

    def run(strategy: str) -> StreamTrace:
        trace, samples[strategy] = speak(
            tts, text, strategy=strategy, seed=seed, speaker=speaker, chunk_frames=chunk_frames
        )
        # Of no sound neither a ratio nor a difference is a number.
        if samples[strategy].size == 0:
            raise nothing_to_say("text", text)
        return trace

    runs = [partial(run, name) for name in names]
    traces = dict(zip(names, in_turn(runs, n_rounds=n_rounds, progress=progress), strict=True))
    reference, reference_s = (
        samples[REFERENCE],
        statistics.median(trace.total_s for trace in traces[REFERENCE]),
    )

    def result(name: str) -> StrategyResult:
        own, found = samples[name], traces[name]
        if own.size != reference.size:
            raise ModelError(f"strategy {name!r} gave {own.size} samples, {REFERENCE!r} {reference.size}")
        total_s = statistics.median(trace.total_s for trace in found)
        return StrategyResult(
            ttfa_s=statistics.median(map(ttfa_s, found)),
            total_s=total_s,
            rtf=statistics.median(map(rtf, found)),
            work_ratio=total_s / reference_s,
            # Not in dB: one step of 16-bit PCM, below which it is nothing, is a number to hold it against.
            max_abs_diff=float(np.max(np.abs(own - reference))),
            n_chunks=len(found[0].n_samples),
            traces=tuple(found),
            samples=own,
        )

    return Comparison(
        voice=tts.voice.manifest.name,
        text=text,
        sample_rate=tts.get_sampling_rate(),
        audio_s=audio_s(traces[REFERENCE][0]),
        strategies={name: result(name) for name in names},
    )


@dataclass(frozen=True, slots=True)
class VoiceSpeed:
    """What `benchmark_voice` found; times are medians over the rounds."""

    n_phonemes: int
    """Ids that the encoder got for the first sentence."""
    n_rounds: int
    stages_s: dict[str, float]
    """Seconds of frontend, encoder (with its checks, and setting the frames up) and upsampler for the first
    sentence."""
    comparison: Comparison
    """All of the text, by each strategy."""

    def to_dict(self) -> dict[str, object]:
        """Return what ``balacoon-tk bench --json`` prints."""
        own = {"n_phonemes": self.n_phonemes, "n_rounds": self.n_rounds, "stages_s": self.stages_s}
        return own | self.comparison.to_dict()

    def table(self) -> str:
        """Return the figures as lines of text: a stage each, then a strategy each."""
        stages = [f"{name:<12}{1e3 * seconds:>10.2f} ms" for name, seconds in self.stages_s.items()]
        return "\n".join([*stages, "", self.comparison.table()])


def benchmark_voice(
    tts: TTS,
    text: str = BENCHMARK_TEXT,
    *,
    n_rounds: int = 5,
    seed: int = 0,
    speaker: str | int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> VoiceSpeed:
    """Measure how fast a voice speaks a text; everything runs once before, uncounted, and then in turn.

    Parameters and errors are those of `compare`; `progress` counts none of the stages' own runs.
    """
    settings = own_settings(tts.voice, seed=seed, speaker=speaker)
    # The first sentence alone is what the first sound waits for: later ones are made while it is heard.
    sentence = first_sentence(tts, text)
    encode = partial(prepare_sentence, tts.voice, sentence, settings, index=0)
    upsampler = encode().upsampler
    stages: dict[str, Callable[[], object]] = {
        "frontend": lambda: next(tts.frontend.phonemize(text)),
        "encoder": encode,
        # Noise is drawn anew in each window: a repeated call has all of the work to do.
        "upsampler": lambda: upsampler.window(0, upsampler.n_frames),
    }
    found = in_turn([partial(timeit, run, number=1) for run in stages.values()], n_rounds=n_rounds)
    return VoiceSpeed(
        n_phonemes=len(sentence.phoneme_ids),
        n_rounds=n_rounds,
        stages_s=dict(zip(stages, map(statistics.median, found), strict=True)),
        comparison=compare(tts, text, n_rounds=n_rounds, seed=seed, speaker=speaker, progress=progress),
    )
