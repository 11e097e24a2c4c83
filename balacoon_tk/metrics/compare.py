"""The same utterance by each strategy, in turn: what streaming costs and what it changes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.metrics import (
    REFERENCE,
    StreamTrace,
    TraceRecorder,
    audio_s,
    record_stream,
    rtf,
    ttfa_s,
    underrun_s,
    xrt,
)

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS


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
        return sorted(self.traces, key=lambda trace: trace.total_s)[len(self.traces) // 2]


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
        return {
            "voice": self.voice,
            "text": self.text,
            "audio_s": self.audio_s,
            "strategies": {
                name: {
                    "ttfa_s": None if math.isnan(result.ttfa_s) else result.ttfa_s,
                    "total_s": result.total_s,
                    "rtf": result.rtf,
                    "work_ratio": result.work_ratio,
                    "max_abs_diff": result.max_abs_diff,
                    "n_chunks": result.n_chunks,
                }
                for name, result in self.strategies.items()
            },
        }

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
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        lines = [
            "  ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(pairs))
            for pairs in (list(zip(row, widths, strict=True)) for row in (header, *rows))
        ]
        return "\n".join(line.rstrip() for line in lines)


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

    Every strategy runs once to warm up, which isn't counted. Then each round runs all of them, the
    first one moving to the end from round to round, so that a machine that slows down or speeds up
    meanwhile does the same to all.

    Parameters
    ----------
    tts : TTS
        Speaks.
    text : str
        What to say.
    strategies : sequence of str, optional
        Which to compare; all that the voice can do if None. The reference is always among them.
    n_rounds : int
        How often each one is timed.
    seed : int
        Seed of every run.
    speaker : str or int, optional
        For a voice with several speakers.
    chunk_frames : int or sequence of int, optional
        Frames in a chunk; those of `TTS.stream` if None.
    progress : callable, optional
        Called with the number of runs done and the number of all runs.

    Returns
    -------
    Comparison

    Raises
    ------
    ParameterError
        If `n_rounds` is less than 1 or there is nothing to say in the text.
    ModelError
        If a strategy gives another number of samples than the reference.
    """
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    wanted = tts.strategies if strategies is None else strategies
    names = [REFERENCE, *dict.fromkeys(name for name in wanted if name != REFERENCE)]

    def run(strategy: str) -> tuple[StreamTrace, FloatArray]:
        recorder = TraceRecorder(sample_rate=tts.get_sampling_rate())
        return record_stream(
            recorder,
            tts.stream(text, strategy=strategy, seed=seed, speaker=speaker, chunk_frames=chunk_frames),
        )

    n_runs, n_done = len(names) * (1 + n_rounds), 0
    samples: dict[str, FloatArray] = {}
    traces: dict[str, list[StreamTrace]] = {name: [] for name in names}
    for i_round in range(1 + n_rounds):
        first = i_round % len(names)
        for name in names[first:] + names[:first]:
            trace, samples[name] = run(name)
            if samples[name].size == 0:
                raise ParameterError(f"text={text[:60]!r} must hold something that can be spoken")
            if i_round > 0:
                traces[name].append(trace)
            n_done += 1
            if progress is not None:
                progress(n_done, n_runs)
    reference_s = statistics.median(trace.total_s for trace in traces[REFERENCE])
    return Comparison(
        voice=tts.voice.manifest.name,
        text=text,
        sample_rate=tts.get_sampling_rate(),
        audio_s=audio_s(traces[REFERENCE][0]),
        strategies={
            name: _result(name, traces[name], samples[name], samples[REFERENCE], reference_s)
            for name in names
        },
    )


def _result(
    name: str,
    traces: Sequence[StreamTrace],
    samples: FloatArray,
    reference: FloatArray,
    reference_s: float,
) -> StrategyResult:
    if samples.size != reference.size:
        raise ModelError(f"strategy {name!r} gave {samples.size} samples, {REFERENCE!r} {reference.size}")
    total_s = statistics.median(trace.total_s for trace in traces)
    return StrategyResult(
        ttfa_s=statistics.median(ttfa_s(trace) for trace in traces),
        total_s=total_s,
        rtf=statistics.median(rtf(trace) for trace in traces),
        work_ratio=total_s / reference_s,
        max_abs_diff=float(np.max(np.abs(samples - reference))),
        n_chunks=len(traces[0].n_samples),
        traces=tuple(traces),
        samples=samples,
    )
