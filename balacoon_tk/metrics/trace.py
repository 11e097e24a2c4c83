"""What a stream handed over and when: a record that any strategy and any other engine can fill."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError, StreamStateError

REFERENCE: Final = "full"
"""The strategy that every other is compared with: the whole utterance in one call."""

AUDIBLE_DBFS = -60.0
"""Samples quieter than this count as silence, in dB relative to full scale (0.001 of it)."""


@dataclass(frozen=True, slots=True)
class StreamTrace:
    """When a stream handed over what, in seconds from the call; a `ParameterError` if it can't have been."""

    sample_rate: int
    """Hz"""
    ready_s: tuple[float, ...]
    """When each chunk was handed over."""
    n_samples: tuple[int, ...]
    """Samples in each chunk, at least one."""
    total_s: float
    """When the stream ended; later than the last chunk if there was work to do after it."""
    first_audible: int | None
    """Index of the first sample above the threshold; None if there is none."""
    lag_samples: int | None = None
    """How far the decoder's output trails its input; None where the engine doesn't say."""

    def __post_init__(self) -> None:
        """Refuse what can't have happened, so that no figure is made from it."""
        if self.sample_rate < 1:
            raise ParameterError(f"sample_rate={self.sample_rate} must be >= 1")
        if len(self.ready_s) != len(self.n_samples):
            raise ParameterError(
                f"len(ready_s)={len(self.ready_s)} must equal len(n_samples)={len(self.n_samples)}"
            )
        if any(n < 1 for n in self.n_samples):
            raise ParameterError(f"n_samples={self.n_samples} must be >= 1")
        # Asked this way round, NaN, which is in no order with anything, is refused as well.
        times = (0.0, *self.ready_s, self.total_s)
        if any(not a <= b for a, b in pairwise(times)):
            raise ParameterError(f"0, ready_s={self.ready_s}, total_s={self.total_s} must not decrease")
        if self.first_audible is not None and not 0 <= self.first_audible < sum(self.n_samples):
            raise ParameterError(f"first_audible={self.first_audible} must be in [0, {sum(self.n_samples)})")
        if self.lag_samples is not None and self.lag_samples < 0:
            raise ParameterError(f"lag_samples={self.lag_samples} must be >= 0")


def median_trace(traces: Sequence[StreamTrace]) -> StreamTrace:
    """Return the round of median length, the upper one of an even number."""
    # A stream that happened, and no average of several: its chunks belong to its total.
    return sorted(traces, key=lambda trace: trace.total_s)[len(traces) // 2]


class TraceRecorder:
    """Fill a trace while a stream runs; the clock starts when the recorder is made.

    Only the clock is read while the stream runs: the search for the first audible sample waits for
    `finish`, so that recording costs the stream nothing. The rate is in Hz, the level of the first sample
    that counts as audible in dB relative to full scale, and the clock gives seconds; the lag is how far the
    decoder's output trails its input, where that is known.
    """

    def __init__(
        self,
        *,
        sample_rate: int,
        audible_dbfs: float = AUDIBLE_DBFS,
        lag_samples: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._sample_rate = sample_rate
        self._lag_samples = lag_samples
        self._threshold = 10.0 ** (audible_dbfs / 20.0)
        self._ready: list[float] = []
        self._chunks: list[AnyArray] = []
        self._finished = False
        self._clock = clock
        # The last thing that is done here: what comes before is not the stream's.
        self._call = clock()

    def add(self, samples: AnyArray) -> None:
        """Note that a chunk (n_samples,), float in [-1, 1] or int16, came now; an empty one isn't noted."""
        if self._finished:
            raise StreamStateError("add() after finish(): a recorder serves one stream")
        if samples.size:
            self._ready.append(self._clock() - self._call)
            # Not copied: that would be counted as the stream's own work.
            self._chunks.append(samples)

    def finish(self) -> StreamTrace:
        """Note that the stream ended now, and return its trace."""
        total_s = self._clock() - self._call
        if self._finished:
            raise StreamStateError("finish() was called before: a recorder serves one stream")
        self._finished = True
        first_audible, start = None, 0
        for samples in self._chunks:
            # int16's lowest value has no positive twin, so both signs are compared instead of abs().
            level = self._threshold * (32768.0 if samples.dtype == np.int16 else 1.0)
            audible = np.flatnonzero((samples >= level) | (samples <= -level))
            if audible.size:
                first_audible = start + int(audible[0])
                break
            start += samples.size
        return StreamTrace(
            sample_rate=self._sample_rate,
            ready_s=tuple(self._ready),
            n_samples=tuple(int(samples.size) for samples in self._chunks),
            total_s=total_s,
            first_audible=first_audible,
            lag_samples=self._lag_samples,
        )


def record_stream(recorder: TraceRecorder, chunks: Iterable[AudioChunk]) -> tuple[StreamTrace, FloatArray]:
    """Run a stream to its end; return its trace and all of its samples, float32 (n_samples,).

    The recorder is made before the stream is, so that its clock counts the call as well.
    """
    # A stream of nothing has a trace and no samples, and is no special case.
    parts = [np.zeros(0, np.float32)]
    for chunk in chunks:
        recorder.add(chunk.samples)
        parts.append(chunk.samples)
    return recorder.finish(), np.concatenate(parts)
