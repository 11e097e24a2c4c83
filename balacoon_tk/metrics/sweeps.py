"""One setting moved over a range, everything else held: what the pictures of a sweep are drawn from.

Each function speaks with a `TTS` and gives plain records, a point of a curve each. Where times are
taken, all points run in turn, round by round, so that a machine that slows down meanwhile does the
same to all of them; every point runs once before, uncounted, to warm up.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder import Decoder, open_decoder
from balacoon_tk.decoder.chunking import overlap_windows, push_schedule
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics import (
    REFERENCE,
    StreamTrace,
    TraceRecorder,
    audio_s,
    continuity,
    record_stream,
    rtf,
    ttfa_s,
    underrun_s,
)
from balacoon_tk.stages.random import noise_stream
from balacoon_tk.stages.upsampler import Upsampler

if TYPE_CHECKING:
    from balacoon_tk.tts import TTS

_Key = TypeVar("_Key")


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

    Raises
    ------
    ParameterError
        If there is nothing to say in the text.
    """
    voice, prosody = tts.voice, tts.voice.manifest.prosody
    sentence = next(tts.frontend.phonemize(text), None)
    if sentence is None:
        raise ParameterError(f"text={text[:60]!r} must hold something that can be spoken")
    encoding = voice.encoder.encode(
        tts.phoneme_map.encode(sentence.phonemes).phoneme_ids,
        length_scale=prosody.length_scale,
        noise_w=prosody.noise_w,
        speaker_id=voice.speaker_id(speaker),
        seed=seed,
        stream=noise_stream(0, "durations"),
    )
    if encoding.speaker_embedding is not None and "speaker_embedding" in voice.decoder.contract.inputs:
        raise ParameterError(f"{voice.manifest.name} has several speakers: its frames aren't all its input")
    return Upsampler(
        encoding.encodings,
        encoding.durations,
        log_scales=encoding.log_scales,
        noise_scale=prosody.noise_scale,
        seed=seed,
        stream=noise_stream(0, "frames"),
        gaussian_delta=voice.manifest.gaussian_delta,
    )


def sweep_overlap(
    tts: TTS,
    text: str,
    *,
    context_frames: Sequence[int],
    chunk_frames: int = 32,
    seed: int = 0,
) -> tuple[OverlapPoint, ...]:
    """Decode a text's first sentence by overlap with contexts of several sizes.

    Parameters
    ----------
    tts : TTS
        With a voice of one speaker.
    text : str
        What to say.
    context_frames : sequence of int
        Frames before and after each chunk, >= 0; more than the decoder's receptive field asks for on
        a side is cut down to that.
    chunk_frames : int
        Frames that each window keeps.
    seed : int
        Seed of all of them.

    Returns
    -------
    tuple of OverlapPoint
        One for each size, in the order given.

    Raises
    ------
    ParameterError
        If there is nothing to say, or a number is out of range.

    Notes
    -----
    ``work_ratio = sum(window.n_frames) / n_frames``: it counts, and measures no time.
    """
    frames = sentence_frames(tts, text, seed=seed)
    hop_length, decoder = tts.voice.manifest.hop_length, tts.voice.manifest.decoder
    whole = np.concatenate(
        list(_decode(tts.voice.open_decoder(tts.voice.choose_strategy(REFERENCE)), frames, chunk_frames, 0))
    )
    points = []
    for context in context_frames:
        sides = {
            "left_context": min(context, decoder.left_context),
            "lookahead": min(context, decoder.lookahead),
        }
        stream = open_decoder("overlap", tts.voice.decoder, **sides, hop_length=hop_length)
        chunks = [chunk for chunk in _decode(stream, frames, chunk_frames, sides["lookahead"]) if chunk.size]
        samples = np.concatenate(chunks)
        windows = overlap_windows(frames.n_frames, chunk_frames, **sides)
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
    """Stream texts in chunks of several sizes, by each strategy.

    Parameters
    ----------
    tts : TTS
        Speaks.
    texts : sequence of str
        What to say, an utterance each.
    chunk_frames : sequence of int
        Sizes of a chunk; all chunks of an utterance have the same.
    strategies : sequence of str
        Which to run.
    n_rounds : int
        How often each is timed, >= 1.
    seed : int
        Seed of all of them.

    Returns
    -------
    tuple of ChunkPoint
        For each strategy, one for each size.

    Raises
    ------
    ParameterError
        If there is no text, or `n_rounds` is less than 1.
    """
    keys = [(strategy, size) for strategy in strategies for size in chunk_frames]
    traces = _in_turn(
        keys,
        lambda key: [_trace(tts, text, key[0], key[1], seed) for text in texts],
        n_rounds=n_rounds,
    )
    frame_s = tts.voice.manifest.hop_length / tts.get_sampling_rate()
    return tuple(
        ChunkPoint(
            strategy=strategy,
            chunk_frames=size,
            chunk_s=size * frame_s,
            ttfa_s=statistics.median(ttfa_s(trace) for trace in found),
            rtf=statistics.median(rtf(trace) for trace in found),
            continuity=continuity(found),
            prebuffer_s=max(underrun_s(trace) for trace in found),
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
    """Time texts of several lengths by each strategy; the parameters are those of `sweep_chunks`.

    Returns
    -------
    tuple of LengthPoint
        For each strategy, one for each text, the shortest audio first.
    """
    chosen = tts.strategies if strategies is None else strategies
    keys = [(strategy, text) for strategy in chosen for text in texts]
    traces = _in_turn(keys, lambda key: [_trace(tts, key[1], key[0], chunk_frames, seed)], n_rounds=n_rounds)
    points = [
        LengthPoint(
            strategy=strategy,
            audio_s=audio_s(found[0]),
            ttfa_s=statistics.median(ttfa_s(trace) for trace in found),
            total_s=statistics.median(trace.total_s for trace in found),
        )
        for (strategy, _), found in zip(keys, traces, strict=True)
    ]
    return tuple(sorted(points, key=lambda point: (chosen.index(point.strategy), point.audio_s)))


def _decode(decoder: Decoder, frames: Upsampler, chunk_frames: int, lag_frames: int) -> Iterator[FloatArray]:
    for push in push_schedule(frames.n_frames, chunk_frames, lag_frames=lag_frames):
        samples = decoder.push(frames.window(push.start, push.stop)[np.newaxis], push.last)
        yield cast(FloatArray, samples).reshape(-1)  # a voice's decoder has one output


def _trace(
    tts: TTS, text: str, strategy: str, chunk_frames: int | Sequence[int] | None, seed: int
) -> StreamTrace:
    recorder = TraceRecorder(sample_rate=tts.get_sampling_rate())
    trace, _ = record_stream(
        recorder, tts.stream(text, strategy=strategy, seed=seed, chunk_frames=chunk_frames)
    )
    if not trace.n_samples:
        raise ParameterError(f"text={text[:60]!r} must hold something that can be spoken")
    return trace


def _in_turn(
    keys: Sequence[_Key], run: Callable[[_Key], list[StreamTrace]], *, n_rounds: int
) -> list[list[StreamTrace]]:
    """Run every key once to warm up and then once a round; return the traces of each."""
    if n_rounds < 1:
        raise ParameterError(f"n_rounds={n_rounds} must be >= 1")
    found: list[list[StreamTrace]] = [[] for _ in keys]
    for i_round in range(1 + n_rounds):
        for traces, key in zip(found, keys, strict=True):
            new = run(key)
            if i_round:
                traces += new
    return found
