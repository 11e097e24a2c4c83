"""Latency of streamed speech, from a record of when each chunk was ready and how long it plays.

Every function here takes a `StreamTrace`, which any strategy and any other engine can fill with a
`TraceRecorder`; nothing here runs a model. The player that the formulas assume starts ``prebuffer_s``
after the first chunk is ready and then plays without a pause, unless the next chunk is late::

    ready_s   r0    r1         r2              chunk k is late by  r[k] - (r0 + audio before k)
              |-----|----------|------->  s
    played    [ c0 ][ c1 ]     [ c2 ]          the gap before c2 is the underrun
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import ParameterError, StreamStateError

REFERENCE = "full"
"""The strategy that every other is compared with: the whole utterance in one call."""

AUDIBLE_DBFS = -60.0
"""Samples quieter than this count as silence, in dB relative to full scale (0.001 of it)."""


@dataclass(frozen=True, slots=True)
class StreamTrace:
    """When a stream handed over what; all times in seconds from the call with text.

    Raises
    ------
    ParameterError
        If the fields contradict one another.
    """

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
        times = (0.0, *self.ready_s, self.total_s)
        if any(not a <= b for a, b in pairwise(times)):
            raise ParameterError(f"0, ready_s={self.ready_s}, total_s={self.total_s} must not decrease")
        if self.first_audible is not None and not 0 <= self.first_audible < sum(self.n_samples):
            raise ParameterError(f"first_audible={self.first_audible} must be in [0, {sum(self.n_samples)})")
        if self.lag_samples is not None and self.lag_samples < 0:
            raise ParameterError(f"lag_samples={self.lag_samples} must be >= 0")


class TraceRecorder:
    """Fill a trace while a stream runs; the clock starts when the recorder is made.

    Only the clock is read while the stream runs: the search for the first audible sample waits for
    `finish`, so that recording costs the stream nothing.

    Parameters
    ----------
    sample_rate : int
        Hz
    audible_dbfs : float
        Level of the first sample that counts as audible, in dB relative to full scale.
    lag_samples : int, optional
        How far the decoder's output trails its input, where that is known.
    clock : callable
        Gives the time in seconds.
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
        self._call = clock()

    def add(self, samples: AnyArray) -> None:
        """Note that a chunk was handed over now; an empty one gave nothing and isn't noted.

        Parameters
        ----------
        samples : ndarray of shape (n_samples,), float in [-1, 1] or int16
        """
        if self._finished:
            raise StreamStateError("add() after finish(): a recorder serves one stream")
        if samples.size:
            self._ready.append(self._clock() - self._call)
            self._chunks.append(samples)

    def finish(self) -> StreamTrace:
        """Note that the stream ended now, and return its trace."""
        total_s = self._clock() - self._call
        if self._finished:
            raise StreamStateError("finish() was called before: a recorder serves one stream")
        self._finished = True
        first_audible, start = None, 0
        for samples in self._chunks:
            full_scale = 32768.0 if samples.dtype == np.int16 else 1.0
            # int16's lowest value has no positive twin, so both signs are compared instead of abs().
            level = self._threshold * full_scale
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
    """Run a stream to its end; return its trace and all of its samples.

    Parameters
    ----------
    recorder : TraceRecorder
        Made before the stream was, so that its clock counts the call as well.
    chunks : iterable of AudioChunk

    Returns
    -------
    trace : StreamTrace
    samples : ndarray of shape (n_samples,), float32
    """
    parts = [np.zeros(0, np.float32)]
    for chunk in chunks:
        recorder.add(chunk.samples)
        parts.append(chunk.samples)
    return recorder.finish(), np.concatenate(parts)


def audio_s(trace: StreamTrace) -> float:
    """Return how long the audio plays, in seconds: ``sum(n_samples) / sample_rate``."""
    return sum(trace.n_samples) / trace.sample_rate


def ttfa_s(trace: StreamTrace) -> float:
    """Return the time to first audio, in seconds: when the first audible sample was handed over.

    This is the ready time of the chunk that holds it. Leading silence is not skipped for free: a chunk
    of silence that comes early doesn't count. NaN if nothing was audible.
    """
    if trace.first_audible is None:
        return float("nan")
    ends = np.cumsum(trace.n_samples)
    return trace.ready_s[int(np.searchsorted(ends, trace.first_audible, side="right"))]


def first_audible_s(trace: StreamTrace) -> float:
    """Return where the first audible sample lies in the audio, in seconds; NaN if nothing is audible.

    This is the silence that the voice begins with, which no strategy can change: `ttfa_s` says when
    the sample was handed over, and a player sounds it ``first_audible_s`` after it began.
    """
    return float("nan") if trace.first_audible is None else trace.first_audible / trace.sample_rate


def rtf(trace: StreamTrace) -> float:
    """Return the real-time factor: ``total_s / audio_s``; infinite if there was no audio.

    Below 1 is faster than real time.
    """
    length_s = audio_s(trace)
    return trace.total_s / length_s if length_s > 0 else float("inf")


def xrt(trace: StreamTrace) -> float:
    """Return how many times faster than real time: ``audio_s / total_s``, the inverse of `rtf`."""
    return audio_s(trace) / trace.total_s if trace.total_s > 0 else float("inf")


def playback(
    trace: StreamTrace, *, prebuffer_s: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when each chunk starts and stops sounding.

    A chunk starts when the one before it has been played and it is itself ready::

        start[0] = ready[0] + prebuffer_s
        start[k] = max(stop[k - 1], ready[k])
        stop[k]  = start[k] + n_samples[k] / sample_rate

    Parameters
    ----------
    trace : StreamTrace
        The record of one stream.
    prebuffer_s : float
        Seconds that the player waits after the first chunk is ready.

    Returns
    -------
    start_s, stop_s : ndarray of shape (n_chunks,), float64
        Seconds from the call.
    """
    _check_prebuffer(prebuffer_s)
    start_s = np.empty(len(trace.ready_s))
    stop_s = np.empty(len(trace.ready_s))
    free_s = trace.ready_s[0] + prebuffer_s if trace.ready_s else 0.0
    for k, (ready_s, n) in enumerate(zip(trace.ready_s, trace.n_samples, strict=True)):
        start_s[k] = max(free_s, ready_s)
        free_s = stop_s[k] = start_s[k] + n / trace.sample_rate
    return start_s, stop_s


def readiness_s(trace: StreamTrace, *, prebuffer_s: float = 0.0) -> NDArray[np.float64]:
    """Return how long before its turn each chunk was ready, in seconds; negative if it came too late.

    A player that never waits plays chunk k at ``ready[0] + prebuffer_s + audio before k``; the readiness
    is that time less ``ready[k]``. The lowest one, with its sign turned, is `underrun_s` if it is positive.

    Parameters
    ----------
    trace : StreamTrace
        The record of one stream.
    prebuffer_s : float
        Seconds that the player waits after the first chunk is ready.

    Returns
    -------
    ndarray of shape (n_chunks,), float64
    """
    _check_prebuffer(prebuffer_s)
    if not trace.ready_s:
        return np.empty(0)
    ready_s = np.asarray(trace.ready_s)
    before_s = (np.cumsum(trace.n_samples) - trace.n_samples) / trace.sample_rate
    early_s: NDArray[np.float64] = ready_s[0] + before_s - ready_s + prebuffer_s
    return early_s


def underrun_s(trace: StreamTrace, *, prebuffer_s: float = 0.0) -> float:
    """Return how long playback waits for late chunks, in seconds.

    ``max(0, max over k of (ready[k] - ready[0] - audio before k) - prebuffer_s)``. Since a player that
    had to wait stays behind by what it waited, the worst lateness of a chunk is the sum of all waits
    as well. It is also the shortest prebuffer with which playback never waits.

    Parameters
    ----------
    trace : StreamTrace
        The record of one stream.
    prebuffer_s : float
        Seconds that the player waits after the first chunk is ready.

    References
    ----------
    The worst-case underrun of vLLM-Omni's benchmark, `vllm-project/vllm-omni` pull request 3618.
    """
    _check_prebuffer(prebuffer_s)
    late_s = -readiness_s(trace)
    return max(0.0, float(late_s.max(initial=0.0)) - prebuffer_s)


def underrun_ms(trace: StreamTrace, *, prebuffer_s: float = 0.0) -> float:
    """Return `underrun_s` in milliseconds."""
    return 1e3 * underrun_s(trace, prebuffer_s=prebuffer_s)


def continuity(traces: Sequence[StreamTrace], *, prebuffer_s: float = 0.0) -> float:
    """Return the share of utterances, 0 to 1, whose playback never waits.

    C50, C100 and C200 are the values at ``prebuffer_s`` 0.05, 0.1 and 0.2.

    Parameters
    ----------
    traces : sequence of StreamTrace
        One for each utterance.
    prebuffer_s : float
        Seconds that the player waits after the first chunk is ready.

    Raises
    ------
    ParameterError
        If there are no traces: no share can be given of nothing.
    """
    if not traces:
        raise ParameterError("traces must hold at least one trace")
    smooth = [underrun_s(trace, prebuffer_s=prebuffer_s) == 0.0 for trace in traces]
    return sum(smooth) / len(smooth)


def c50(traces: Sequence[StreamTrace]) -> float:
    """Return `continuity` with a prebuffer of 50 ms."""
    return continuity(traces, prebuffer_s=0.05)


def c100(traces: Sequence[StreamTrace]) -> float:
    """Return `continuity` with a prebuffer of 100 ms."""
    return continuity(traces, prebuffer_s=0.1)


def c200(traces: Sequence[StreamTrace]) -> float:
    """Return `continuity` with a prebuffer of 200 ms."""
    return continuity(traces, prebuffer_s=0.2)


def work_ratio(trace: StreamTrace, reference: StreamTrace) -> float:
    """Return the compute of a streamed utterance over that of the same utterance in full.

    ``total_s / reference.total_s``; 1 is no redundant work, 2 is everything done twice. Infinite if the
    reference took no time.

    Raises
    ------
    ParameterError
        If the two don't have the same length: they are not the same utterance.
    """
    n_samples, n_reference = sum(trace.n_samples), sum(reference.n_samples)
    if n_samples != n_reference or trace.sample_rate != reference.sample_rate:
        raise ParameterError(
            f"a trace of {n_samples} samples at {trace.sample_rate} Hz and a reference of {n_reference} "
            f"at {reference.sample_rate} Hz must be of one utterance"
        )
    return trace.total_s / reference.total_s if reference.total_s > 0 else float("inf")


def lag_s(trace: StreamTrace) -> float:
    """Return how far the decoder's output trails its input, in seconds: ``lag_samples / sample_rate``.

    It is the part of TTFA that no faster machine takes away. NaN where the engine doesn't say.
    """
    return float("nan") if trace.lag_samples is None else trace.lag_samples / trace.sample_rate


def _check_prebuffer(prebuffer_s: float) -> None:
    if not prebuffer_s >= 0.0:
        raise ParameterError(f"prebuffer_s={prebuffer_s} must be >= 0")
