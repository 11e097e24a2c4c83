"""How many streams play at once: threads over one `TTS`, each asking for audio at the pace it is played.

A player here starts with the first chunk and asks for another when less than `AHEAD_S` of what it has
is left to play, as players with a bounded buffer do: what runs ahead without end takes the processor
from whoever starts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from balacoon_tk import TTS
from balacoon_tk.metrics import StreamTrace, TraceRecorder, ttfa_s, underrun_s
from balacoon_tk.runtime.machine import n_processors
from speed.measure import Rounds, show_progress
from speed.texts import STREAM_TEXT

AHEAD_S = 1.0
"""Seconds of audio that a player keeps."""
COUNTS = (1, 4, 8, 12, 16, 20)
SPREAD_S = 2.0
"""Listeners come at random within so many seconds."""


def measure(
    rounds: Rounds,
    *,
    counts: Sequence[int] = COUNTS,
    tts: TTS | None = None,
    text: str = STREAM_TEXT,
    spread_s: float = SPREAD_S,
) -> dict[str, Any]:
    """Play so many streams at once, started within seconds of each other, and in the same moment.

    Returns
    -------
    dict
        By the way they start, a list of points: the number of streams, and of each stream over all
        rounds the seconds of underrun and of TTFA; the share of the processors that was busy.
    """
    speaker = tts or TTS(frontend="espeak", n_threads=1)
    play_together(speaker, text, starts_s=[0.0])  # which warms up
    found: dict[str, Any] = {"ahead_s": AHEAD_S, "spread_s": spread_s, "spread": [], "at once": []}
    for k, count in enumerate(counts):
        for how in ("spread", "at once"):
            # The same starts in every version, so that two can be compared.
            rng = np.random.default_rng(count)
            point: dict[str, Any] = {"n_streams": count, "underrun_s": [], "ttfa_s": [], "busy": []}
            for _ in range(rounds.n_stream):
                starts_s = rng.uniform(0.0, spread_s if how == "spread" else 0.0, count).tolist()
                traces, busy = play_together(speaker, text, starts_s=starts_s)
                point["underrun_s"] += [underrun_s(trace) for trace in traces]
                point["ttfa_s"] += [ttfa_s(trace) for trace in traces]
                point["busy"].append(busy)
            found[how].append(point)
        show_progress("streams", (k + 1) / len(counts))
    return found


def play_together(tts: TTS, text: str, *, starts_s: Sequence[float]) -> tuple[list[StreamTrace], float]:
    """Play one stream for each start, in seconds from now.

    Returns
    -------
    traces : list of StreamTrace
        Each counted from its own start.
    busy : float
        Share of the processors' time that was used, from the first start to the last end.
    """
    traces: list[StreamTrace | None] = [None] * len(starts_s)
    origin_s = time.perf_counter() + 0.05  # all threads are there by then

    def play(index: int) -> None:
        time.sleep(max(0.0, origin_s + starts_s[index] - time.perf_counter()))
        recorder = TraceRecorder(sample_rate=tts.get_sampling_rate())
        plays_from_s, ready_s = 0.0, 0.0
        for chunk in tts.stream(text, seed=index):
            recorder.add(chunk.samples)
            plays_from_s = plays_from_s or time.perf_counter()
            ready_s += len(chunk.samples) / chunk.sample_rate
            # As players do: a stream that runs ahead without end takes the cores from whoever starts.
            time.sleep(max(0.0, plays_from_s + ready_s - AHEAD_S - time.perf_counter()))
        traces[index] = recorder.finish()

    threads = [threading.Thread(target=play, args=(index,)) for index in range(len(starts_s))]
    start_s, start_cpu_s = time.perf_counter(), time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - start_s
    busy = (time.process_time() - start_cpu_s) / (seconds * n_processors())
    # A stream that failed has no trace; counted as one without a gap it would make the figures better.
    done = [trace for trace in traces if trace is not None]
    if len(done) < len(starts_s):
        raise RuntimeError(f"{len(starts_s) - len(done)} of {len(starts_s)} streams failed")
    return done, busy
