"""One setting moved over a range, everything else held: what the pictures of a sweep are drawn from.

Each function speaks with a `TTS` and gives plain records, a point of a curve each. Where times are
taken, all points run in turn, round by round, so that a machine that slows down meanwhile does the
same to all of them; every point runs once before, uncounted, to warm up.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder.chunking import overlap_windows
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.latency import audio_s, continuity, rtf, ttfa_s, underrun_s
from balacoon_tk.metrics.runs import first_sentence, in_turn, nothing_to_say, speak
from balacoon_tk.metrics.trace import REFERENCE, StreamTrace
from balacoon_tk.stages.sentence import own_settings, prepare_sentence
from balacoon_tk.stages.upsampler import Upsampler

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS


@dataclass(frozen=True, slots=True, eq=False)
class OverlapPoint:
    """Overlap streaming with one size of context."""

    context_frames: int
    """Frames before and after each chunk, but never more than the receptive field asks for."""
    max_abs_diff: float
    """Largest difference to a sample of the whole, full scale being 1."""
    work_ratio: float
    """Frames that were decoded over the frames that there are."""
    samples: FloatArray
    """float32 (n_samples,)"""
    borders: tuple[int, ...]
    """First sample of each chunk but the first."""


@dataclass(frozen=True, slots=True)
class ChunkPoint:
    """One strategy at one chunk size; times are medians over texts and rounds."""

    strategy: str
    chunk_frames: int
    chunk_s: float
    """Audio in a chunk, in seconds."""
    ttfa_s: float
    rtf: float
    continuity: float
    """Share of the utterances whose playback never waits."""
    prebuffer_s: float
    """The longest wait that any utterance's playback met: with it as a prebuffer, none waits."""


@dataclass(frozen=True, slots=True)
class LengthPoint:
    """One strategy on one text; times are medians over the rounds."""

    strategy: str
    audio_s: float
    ttfa_s: float
    total_s: float


def sentence_frames(tts: TTS, text: str, *, seed: int = 0, speaker: str | int | None = None) -> Upsampler:
    """Return the frames of a text's first sentence, as `TTS.stream` decodes them.

    A text with nothing to say and a voice of several speakers are a `ParameterError`.
    """
    settings = own_settings(tts.voice, seed=seed, speaker=speaker)
    prepared = prepare_sentence(tts.voice, first_sentence(tts, text), settings, index=0)
    if prepared.speaker_embedding is not None:
        name = tts.voice.manifest.name
        raise ParameterError(f"{name} has several speakers: its frames aren't all that its decoder reads")
    return prepared.upsampler


def sweep_overlap(
    tts: TTS, text: str, *, context_frames: Sequence[int], chunk_frames: int = 32, seed: int = 0
) -> tuple[OverlapPoint, ...]:
    """Decode a text's first sentence by overlap with contexts of several sizes, a point for each.

    The voice has one speaker. A context is the frames before and after each chunk of `chunk_frames`, >= 0;
    more than the decoder's receptive field asks for on a side is cut down to that. ``work_ratio`` is
    ``sum(window.n_frames) / n_frames``: it counts, and measures no time. A `ParameterError` if there is
    nothing to say or a number is out of range.
    """
    frames = sentence_frames(tts, text, seed=seed)
    renderer = tts.voice.renderer
    whole = np.concatenate(list(renderer.render(frames, REFERENCE, (frames.n_frames,))))
    points = []
    for context in context_frames:
        # More than the receptive field asks for would give the same samples for more work.
        left, right = min(context, renderer.left_context), min(context, renderer.lookahead)
        narrowed = replace(renderer, left_context=left, lookahead=right)
        chunks = list(narrowed.render(frames, "overlap", (chunk_frames,)))
        samples = np.concatenate(chunks)
        # Counted and not timed: how much is decoded twice is a number of the plan, on any machine.
        windows = overlap_windows(frames.n_frames, chunk_frames, left_context=left, lookahead=right)
        points.append(
            OverlapPoint(
                context_frames=context,
                max_abs_diff=float(np.max(np.abs(samples - whole))),
                work_ratio=sum(window.n_frames for window in windows) / frames.n_frames,
                samples=samples,
                borders=tuple(np.cumsum([chunk.size for chunk in chunks])[:-1].tolist()),
            )
        )
    return tuple(points)


def sweep_chunks(
    tts: TTS,
    texts: Sequence[str],
    *,
    chunk_frames: Sequence[int],
    strategies: Sequence[str] = ("overlap", "stateful"),
    n_rounds: int = 3,
    seed: int = 0,
) -> tuple[ChunkPoint, ...]:
    """Stream texts in chunks of several sizes: for each strategy, a point for each size in frames.

    Each text is an utterance, whose chunks all have one size; each is timed `n_rounds` times. A
    `ParameterError` if there is no text, or nothing to say in one, or `n_rounds` is less than 1.
    """
    keys = [(strategy, size) for strategy in strategies for size in chunk_frames]
    runs = [partial(_trace, tts, text, strategy, size, seed) for strategy, size in keys for text in texts]
    by_run = in_turn(runs, n_rounds=n_rounds)
    # A point is made of all texts: their runs lie side by side.
    traces = [list(chain(*by_run[k : k + len(texts)])) for k in range(0, len(runs), len(texts) or 1)]
    frame_s = tts.voice.manifest.hop_length / tts.get_sampling_rate()
    return tuple(
        ChunkPoint(
            strategy=strategy,
            chunk_frames=size,
            chunk_s=size * frame_s,
            ttfa_s=statistics.median(map(ttfa_s, found)),
            rtf=statistics.median(map(rtf, found)),
            continuity=continuity(found),
            # Of the worst, since a prebuffer is set before anybody knows which text comes.
            prebuffer_s=max(map(underrun_s, found)),
        )
        for (strategy, size), found in zip(keys, traces, strict=True)
    )


def sweep_lengths(
    tts: TTS,
    texts: Sequence[str],
    *,
    strategies: Sequence[str] | None = None,
    chunk_frames: int | Sequence[int] | None = None,
    n_rounds: int = 3,
    seed: int = 0,
) -> tuple[LengthPoint, ...]:
    """Time texts of several lengths: for each strategy, a point for each text, the shortest audio first.

    The parameters are those of `sweep_chunks`.
    """
    # The order is kept for the legend of whoever draws this.
    chosen = tts.strategies if strategies is None else strategies
    keys = [(strategy, text) for strategy in chosen for text in texts]
    runs = [partial(_trace, tts, text, strategy, chunk_frames, seed) for strategy, text in keys]
    traces = in_turn(runs, n_rounds=n_rounds)
    points = [
        LengthPoint(
            strategy=strategy,
            audio_s=audio_s(found[0]),
            ttfa_s=statistics.median(map(ttfa_s, found)),
            total_s=statistics.median(trace.total_s for trace in found),
        )
        for (strategy, _), found in zip(keys, traces, strict=True)
    ]
    return tuple(sorted(points, key=lambda point: (chosen.index(point.strategy), point.audio_s)))


def _trace(
    tts: TTS, text: str, strategy: str, chunk_frames: int | Sequence[int] | None, seed: int
) -> StreamTrace:
    trace, _ = speak(tts, text, strategy=strategy, seed=seed, chunk_frames=chunk_frames)
    if not trace.n_samples:
        raise nothing_to_say("text", text)
    return trace
