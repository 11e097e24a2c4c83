"""Latency of streamed speech, from a record of when each chunk was ready and how long it plays.

Every function here takes a `StreamTrace`; nothing here runs a model. The player that the formulas assume
starts ``prebuffer_s`` seconds after the first chunk is ready and then plays without a pause, unless the next
chunk is late; a negative wait is a `ParameterError`::

    ready_s   r0    r1         r2              chunk k is late by  r[k] - (r0 + audio before k)
              |-----|----------|------->  s
    played    [ c0 ][ c1 ]     [ c2 ]          the gap before c2 is the underrun
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.registry import metric
from balacoon_tk.metrics.trace import StreamTrace

_latency = partial(metric, group="latency")


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
    # To the right: the sample on a border is the first one of the later chunk.
    return trace.ready_s[int(np.searchsorted(ends, trace.first_audible, side="right"))]


@_latency("ttfa_ms", label="TTFA", unit="ms", better="lower", digits=1)
def _ttfa_ms(trace: StreamTrace) -> float:
    return 1e3 * ttfa_s(trace)


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


@_latency("rtf", label="RTF", better="lower", digits=4, ratio=("total_s", "audio_s"))
def _work_and_audio(trace: StreamTrace) -> tuple[float, float]:
    # Sums over sentences: the mean of RTFs would count a word as much as a paragraph.
    return trace.total_s, audio_s(trace)


@_latency("work_ratio", label="work ratio", better="lower", ratio=("total_s", "reference_total_s"))
def _work_and_reference(trace: StreamTrace, reference_total_s: float) -> tuple[float, float]:
    # The reference is the median of its rounds, so that one slow run of it makes nothing look fast.
    return trace.total_s, reference_total_s


def xrt(trace: StreamTrace) -> float:
    """Return how many times faster than real time: ``audio_s / total_s``, the inverse of `rtf`."""
    return audio_s(trace) / trace.total_s if trace.total_s > 0 else float("inf")


def playback(
    trace: StreamTrace, *, prebuffer_s: float = 0.0
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when each chunk starts and stops sounding, two float64 (n_chunks,) in seconds from the call.

    A chunk starts when the one before it has been played and it is itself ready::

        start[0] = ready[0] + prebuffer_s
        start[k] = max(stop[k - 1], ready[k])
        stop[k]  = start[k] + n_samples[k] / sample_rate
    """
    _check_prebuffer(prebuffer_s)
    start_s, stop_s = np.empty((2, len(trace.ready_s)))
    # When the player is free for the next chunk; it starts once, and never skips what came late.
    free_s = trace.ready_s[0] + prebuffer_s if trace.ready_s else 0.0
    for k, (ready_s, n) in enumerate(zip(trace.ready_s, trace.n_samples, strict=True)):
        start_s[k] = max(free_s, ready_s)
        free_s = stop_s[k] = start_s[k] + n / trace.sample_rate
    return start_s, stop_s


def readiness_s(trace: StreamTrace, *, prebuffer_s: float = 0.0) -> NDArray[np.float64]:
    """Return how long before its turn each chunk was ready, float64 (n_chunks,) in seconds.

    A player that never waits plays chunk k at ``ready[0] + prebuffer_s + audio before k``; the readiness
    is that time less ``ready[k]``, negative for a chunk that came too late. The lowest one, with its sign
    turned, is `underrun_s` if it is positive.
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

    References
    ----------
    The worst-case underrun of vLLM-Omni's benchmark, `vllm-project/vllm-omni` pull request 3618.
    """
    # The rounding of adding a prebuffer to every chunk is spared: it is taken off the worst one.
    _check_prebuffer(prebuffer_s)
    return max(0.0, float(-readiness_s(trace).min(initial=0.0)) - prebuffer_s)


@_latency("underrun_ms", label="underrun", unit="ms", better="lower", digits=1)
def underrun_ms(trace: StreamTrace, *, prebuffer_s: float = 0.0) -> float:
    """Return `underrun_s` in milliseconds."""
    return 1e3 * underrun_s(trace, prebuffer_s=prebuffer_s)


@_latency("continuity", label="continuity", better="higher")
def continuity(traces: Sequence[StreamTrace], *, prebuffer_s: float = 0.0) -> float:
    """Return the share of utterances, 0 to 1, whose playback never waits; a trace for each utterance.

    C50, C100 and C200 are the values at ``prebuffer_s`` 0.05, 0.1 and 0.2. No traces are a
    `ParameterError`: no share can be given of nothing.
    """
    if not traces:
        raise ParameterError("traces must hold at least one trace")
    # Exactly 0 where nothing was late, since that is what max() gives: no tolerance is needed.
    smooth = [underrun_s(trace, prebuffer_s=prebuffer_s) == 0.0 for trace in traces]
    return sum(smooth) / len(smooth)


@_latency("c50", label="C50", better="higher")
def c50(traces: Sequence[StreamTrace]) -> float:
    """Return `continuity` with a prebuffer of 50 ms."""
    return continuity(traces, prebuffer_s=0.05)


@_latency("c100", label="C100", better="higher")
def c100(traces: Sequence[StreamTrace]) -> float:
    """Return `continuity` with a prebuffer of 100 ms."""
    return continuity(traces, prebuffer_s=0.1)


@_latency("c200", label="C200", better="higher")
def c200(traces: Sequence[StreamTrace]) -> float:
    """Return `continuity` with a prebuffer of 200 ms."""
    return continuity(traces, prebuffer_s=0.2)


def work_ratio(trace: StreamTrace, reference: StreamTrace) -> float:
    """Return the compute of a streamed utterance over that of the same utterance in full.

    ``total_s / reference.total_s``; 1 is no redundant work, 2 is everything done twice. Infinite if the
    reference took no time. Two of different length are a `ParameterError`: they are not one utterance.
    """
    n_samples, n_reference = sum(trace.n_samples), sum(reference.n_samples)
    # Two readings of a text differ in length; that their times do as well says nothing of work.
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


@_latency("lag_ms", label="lag", unit="ms", better="lower", digits=1)
def _lag_ms(trace: StreamTrace) -> float:
    return 1e3 * lag_s(trace)


@_latency("n_chunks", label="chunks", digits=1)
def _n_chunks(trace: StreamTrace) -> int:
    return len(trace.n_samples)


def _check_prebuffer(prebuffer_s: float) -> None:
    if not prebuffer_s >= 0.0:
        raise ParameterError(f"prebuffer_s={prebuffer_s} must be >= 0")
