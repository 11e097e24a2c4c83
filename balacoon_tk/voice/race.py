"""Two engines of one decoder or encoder, run in turn: whether they say the same, and which is faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from timeit import timeit

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.renderer import decode_in_chunks
from balacoon_tk.runtime.engine import Engine, Feeds
from balacoon_tk.stages.encoder import Encoder, Encoding
from balacoon_tk.voice.manifest import Manifest, Precision

# Largest difference of a sample that is put down to other kernels of the same sums, rounded otherwise.
_MAX_ABS_DIFF: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2.0**-7}
_MAX_STREAMED_DIFF = 1e-4  # of kernels that add up in another order for other sizes
_LEAST_SNR_DB = 10.0
"""In int8, where the engines round other tensors. Both were held to what rounding costs when they were
compiled; what a wrong kernel gives is noise alone."""
_N_DRAWS = 3
_WHOLE_FRAMES, _CHUNK_FRAMES = 64, 16
_N_CHUNKS, _N_ROUNDS = 3, 9
_N_PHONEMES = (15, 61)
_ENCODERS_BUDGET_S = 0.4
_BUDGET_S = 0.7  # one round is run in any case


@dataclass(frozen=True, slots=True)
class Race:
    """What came of running two engines in turn."""

    ratio: float
    """The first one's time over the other's: the geometric mean of whole utterances and small chunks."""
    difference: str | None
    """How far apart their samples are, if that is more than rounding explains."""


def race(first: Engine, other: Engine, manifest: Manifest, timeless: Feeds) -> Race:
    """Run two engines of a voice's decoder on random frames in turn, for about a second at most.

    `timeless` are the decoder's inputs without time.
    """
    draw = _Frames(manifest, timeless)
    start = time.perf_counter()
    difference = _find_difference(first, other, draw, manifest.decoder.precision)
    if difference is not None:
        return Race(math.inf, difference)
    feeds = draw(_WHOLE_FRAMES, seed=0)
    pushes = [_push(engine, draw) for engine in (first, other)]
    # The first push is made here, and whole utterances were run above: all is warm then.
    for push in pushes:
        next(push)
    wholes, chunks = _Times(), _Times()
    for _ in range(_N_ROUNDS):
        begun = time.perf_counter()
        wholes.add(lambda: first.whole(feeds), lambda: other.whole(feeds))
        for _ in range(_N_CHUNKS):
            chunks.add(lambda: next(pushes[0]), lambda: next(pushes[1]))
        now = time.perf_counter()
        # One round more would take as long as this one.
        if now - start + (now - begun) > _BUDGET_S:
            break
    return Race(math.sqrt(wholes.ratio * chunks.ratio), None)


def race_encoders(first: Encoder, other: Encoder, manifest: Manifest) -> Race:
    """Run two engines of a voice's encoder on random phonemes in turn, for about half a second at most."""
    known, rng = np.array(manifest.frontend.known_ids, np.int64), np.random.default_rng(0)
    speaker_id = 0 if manifest.speakers else None
    texts = [rng.choice(known, n) for n in _N_PHONEMES for _ in range(_N_DRAWS)]

    def encode(encoder: Encoder, seed: int) -> Encoding:
        return encoder.encode(texts[seed], noise_w=1.0, speaker_id=speaker_id, seed=seed)

    start = time.perf_counter()
    differences = [_encoder_difference(encode(first, k), encode(other, k)) for k in range(len(texts))]
    # A duration on the edge of two numbers may fall to either side, but hardly in several draws.
    differs = [each for each in differences if each is not None]
    if len(differs) > len(texts) // 2:
        return Race(math.inf, differs[0])
    times = [_Times() for _ in texts]
    for _ in range(_N_ROUNDS):
        begun = time.perf_counter()
        for k, each in enumerate(times):
            each.add(partial(encode, first, k), partial(encode, other, k))
        now = time.perf_counter()
        if now - start + (now - begun) > _ENCODERS_BUDGET_S:
            break
    return Race(math.prod(each.ratio for each in times) ** (1 / len(times)), None)


def _encoder_difference(ours: Encoding, theirs: Encoding) -> str | None:
    if not np.array_equal(ours.durations, theirs.durations):
        return "their durations differ"
    for a, b in ((ours.encodings, theirs.encodings), (ours.log_scales, theirs.log_scales)):
        if a is not None and b is not None:
            worst = float(np.abs(a - b).max(initial=0.0))
            if not worst <= _MAX_STREAMED_DIFF * max(1.0, float(np.abs(b).max(initial=0.0))):
                return f"their encodings differ by {worst:.3g}"
    return None


def streaming_difference(engine: Engine, manifest: Manifest, timeless: Feeds) -> str | None:
    """Return how far streamed samples are from whole ones, if that is more than rounding explains."""
    feeds = _Frames(manifest, timeless)(_WHOLE_FRAMES, seed=0)
    whole = engine.whole(feeds)["samples"].reshape(-1)
    streamed = decode_in_chunks(engine, feeds, chunk_frames=_CHUNK_FRAMES)
    worst = float(np.abs(streamed - whole).max(initial=0.0))
    limit = _MAX_STREAMED_DIFF * max(1.0, float(np.abs(whole).max(initial=0.0)))
    return None if worst <= limit else f"streamed samples differ from whole ones by {worst:.3g}"


class _Times:
    """Seconds of two engines, each run right after the other."""

    def __init__(self) -> None:
        self._seconds: tuple[list[float], list[float]] = ([], [])

    def add(self, first: Callable[[], object], other: Callable[[], object]) -> None:
        """Run both once."""
        for run, seconds in zip((first, other), self._seconds, strict=True):
            seconds.append(timeit(run, number=1))

    @property
    def ratio(self) -> float:
        """The first one's time over the other's, by the fastest run of each."""
        # Nobody chose the moment: whatever else the machine does only slows runs down, threads most of all.
        ours, theirs = map(min, self._seconds)
        return ours / max(theirs, 1e-9)


class _Frames:
    """Random frames such as the decoder takes them."""

    def __init__(self, manifest: Manifest, timeless: Feeds) -> None:
        self._manifest, self._timeless = manifest, timeless

    def __call__(self, n_frames: int, *, seed: int) -> dict[str, AnyArray]:
        rng, shape = np.random.default_rng(seed), (1, self._manifest.n_channels, n_frames)
        size = self._manifest.codebook_size
        frames = rng.standard_normal(shape) if size is None else rng.integers(0, size, shape)
        return {**self._timeless, "frames": frames.astype(self._manifest.frame_dtype)}


def _find_difference(first: Engine, other: Engine, draw: _Frames, precision: Precision) -> str | None:
    if precision == "int8":
        best = max(_snr_db(*_both(first, other, draw(_WHOLE_FRAMES, seed=k))) for k in range(_N_DRAWS))
        return None if best >= _LEAST_SNR_DB else f"their samples have an SNR of {best:.1f} dB"
    ours, theirs = _both(first, other, draw(_WHOLE_FRAMES, seed=0))
    if ours.shape != theirs.shape:
        return f"their samples have the shapes {ours.shape} and {theirs.shape}"
    worst = float(np.abs(ours - theirs).max(initial=0.0))
    limit = _MAX_ABS_DIFF[precision] * max(1.0, float(np.abs(theirs).max(initial=0.0)))
    # Not `worst > limit`, which is false of NaN.
    return None if worst <= limit else f"their samples differ by {worst:.3g}"


def _both(first: Engine, other: Engine, feeds: Feeds) -> tuple[AnyArray, AnyArray]:
    return first.whole(feeds)["samples"], other.whole(feeds)["samples"]


def _snr_db(ours: AnyArray, theirs: AnyArray) -> float:
    if ours.shape != theirs.shape:
        return -math.inf
    noise = float(np.square(ours.astype(np.float64) - theirs).sum())
    signal = float(np.square(theirs, dtype=np.float64).sum())
    return math.inf if noise == 0.0 else 10 * math.log10(max(signal, 1e-30) / noise)


def _push(engine: Engine, draw: _Frames) -> Iterator[None]:
    """Run a small push of a stream that never ends; a short utterance where there are no streams."""
    streaming = engine.contract.streaming
    if streaming is None:
        feeds = draw(_CHUNK_FRAMES, seed=1)
        while True:
            engine.whole(feeds)
            yield
    feeds = draw(max(_CHUNK_FRAMES, streaming.min_push_frames), seed=1)
    _, state = engine.step(
        engine.start(), draw(max(_CHUNK_FRAMES, streaming.min_first_frames), seed=2), last=False
    )
    while True:
        _, state = engine.step(state, feeds, last=False)
        yield
