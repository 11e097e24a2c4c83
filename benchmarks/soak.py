"""Let listeners come and go for as long as you like, and see whether anything wears out.

    python benchmarks/soak.py                                # 30 minutes of 16 streams in 2 processes
    python benchmarks/soak.py --minutes 2 --streams 4        # see that it works

Each listener plays one text after another at the speed of its sound, with a speaker, a speed and a seed of
its own, and leaves one in four in the middle: by closing the stream, by dropping it, or from another thread.
One listener in four is a task of an asyncio loop, whose lateness is measured as well. What was heard is
compared with the whole run of the same text, sample by sample. At the end `--at-once` listeners come in the
same moment, to a TTS at which `AT_ONCE_WAITING` may wait.

The figures of memory begin when each process has spoken everything once: what a first run allocates stays.
Gaps say something only where nothing else wants the processors; equality and growth say it anywhere.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import multiprocessing
import os
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from balacoon_tk import TTS, AudioChunk
from balacoon_tk._files import write_whole
from balacoon_tk.errors import BusyError
from balacoon_tk.metrics import StreamTrace, TraceRecorder, plain_sentences, ttfa_s, underrun_s
from speed.machine import facts
from speed.results import compact_json

AHEAD_S = 1.0
"""Seconds of audio that a listener keeps."""
N_UTTERANCES = 16
"""Of each process: texts, speakers, speeds and seeds, of which listeners take one after another."""
AT_ONCE_WAITING = 16
PREBUFFER_S = 0.1
"""With so much the figures of C100 are taken."""
MAX_ABS_DIFF = 1e-3
"""Between a stream and the whole run: rounding, which differs where matrices have other shapes."""
BEAT_S, LATE_STEP_S = 0.005, 1e-5
MALLOC_ARENAS = "2"
"""As docs/serving.md advises, unless the environment says another number."""
RESULTS = Path(__file__).parent / "results" / "soak.json"


@dataclass(frozen=True)
class Utterance:
    """What is said, and what a whole run makes of it."""

    text: str
    speaker: int
    speed: float
    seed: int
    whole: np.ndarray


@dataclass
class Heard:
    """What the listeners of one process have heard."""

    n_whole: int = 0
    n_left: int = 0
    n_wrong: int = 0
    max_abs_diff: float = 0.0
    underrun_s: list[float] = field(default_factory=list)
    ttfa_s: list[float] = field(default_factory=list)
    late: Counter[int] = field(default_factory=Counter)
    """How often the loop was late by so many `LATE_STEP_S`; a list would grow by 11 MB in half an hour."""
    errors: list[str] = field(default_factory=list)

    def compare(self, utterance: Utterance, chunks: Sequence[AudioChunk], *, whole: bool) -> None:
        """Compare what was heard with what it should be; the beginning of it, if it was left."""
        found = np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)])
        expected = utterance.whole if whole else utterance.whole[: len(found)]
        diff = (
            float(np.abs(found - expected).max(initial=0.0)) if len(found) == len(expected) else float("inf")
        )
        self.max_abs_diff = max(self.max_abs_diff, diff)
        self.n_wrong += diff > MAX_ABS_DIFF
        self.n_whole += whole
        self.n_left += not whole

    def time(self, trace: StreamTrace) -> None:
        """Note the gaps of a stream and its wait for the first sound."""
        self.underrun_s.append(underrun_s(trace))
        if trace.first_audible is not None:
            self.ttfa_s.append(ttfa_s(trace))


class Listener:
    """Plays one utterance after another until it is told to stop."""

    def __init__(
        self, tts: TTS, utterances: Sequence[Utterance], heard: Heard, seed: int, end_s: float
    ) -> None:
        self.tts, self.utterances, self.heard, self.end_s = tts, utterances, heard, end_s
        self.random = random.Random(seed)

    def choose(self) -> tuple[Utterance, float, dict[str, Any]]:
        """Return what to play, after how much of it to leave, in seconds, and the arguments of `stream`."""
        utterance = self.random.choice(self.utterances)
        leaves_s = self.random.uniform(0.0, 4.0) if self.random.random() < 0.25 else float("inf")
        arguments = {"speaker": utterance.speaker, "speed": utterance.speed, "seed": utterance.seed}
        return utterance, leaves_s, arguments

    def run(self) -> None:
        """Play in a thread."""
        try:
            while time.monotonic() < self.end_s:
                time.sleep(self.random.expovariate(4.0))
                self.play(*self.choose())
        except Exception as error:
            self.heard.errors.append(repr(error))

    def play(self, utterance: Utterance, leaves_s: float, arguments: dict[str, Any]) -> None:
        """Play one utterance at the speed of its sound."""
        recorder, chunks, clock = TraceRecorder(sample_rate=self.tts.get_sampling_rate()), [], Playback()
        stream = self.tts.stream(utterance.text, **arguments)
        left = False
        for chunk in stream:
            recorder.add(chunk.samples)
            chunks.append(chunk)
            if left := clock.add(chunk) > leaves_s:
                break
            time.sleep(clock.wait_s())
        self.heard.time(recorder.finish())
        if left and (how := self.random.randrange(3)):
            # The others are dropped with the variable.
            closing = threading.Thread(target=stream.close) if how == 1 else None
            if closing is None:
                stream.close()
            else:
                closing.start()
                closing.join()
        self.heard.compare(utterance, chunks, whole=not left)

    async def arun(self) -> None:
        """Play in a task."""
        try:
            while time.monotonic() < self.end_s:
                await asyncio.sleep(self.random.expovariate(4.0))
                utterance, leaves_s, arguments = self.choose()
                task = asyncio.ensure_future(self.aplay(utterance, arguments))
                _, pending = await asyncio.wait([task], timeout=min(leaves_s, 3600.0))
                if pending:
                    task.cancel()
                    await asyncio.wait([task])
        except Exception as error:
            self.heard.errors.append(repr(error))

    async def aplay(self, utterance: Utterance, arguments: dict[str, Any]) -> None:
        """Play one utterance at the speed of its sound, unless it is cancelled."""
        recorder, chunks, clock = TraceRecorder(sample_rate=self.tts.get_sampling_rate()), [], Playback()
        whole = False
        try:
            async for chunk in self.tts.astream(utterance.text, **arguments):
                recorder.add(chunk.samples)
                chunks.append(chunk)
                clock.add(chunk)
                await asyncio.sleep(clock.wait_s())
            whole = True
        finally:
            self.heard.time(recorder.finish())
            self.heard.compare(utterance, chunks, whole=whole)


class Playback:
    """When what was handed over has sounded."""

    def __init__(self) -> None:
        self.from_s, self.ready_s = 0.0, 0.0

    def add(self, chunk: AudioChunk) -> float:
        """Take a chunk, and return the seconds of audio so far."""
        self.from_s = self.from_s or time.perf_counter()
        self.ready_s += chunk.duration_s
        return self.ready_s

    def wait_s(self) -> float:
        """Return how long to wait before the next chunk is asked for."""
        return max(0.0, self.from_s + self.ready_s - AHEAD_S - time.perf_counter())


async def beat(late: Counter[int], end_s: float) -> None:
    """Note how late the loop comes back to a task that sleeps."""
    while time.monotonic() < end_s:
        begun_s = time.perf_counter()
        await asyncio.sleep(BEAT_S)
        late[round((time.perf_counter() - begun_s - BEAT_S) / LATE_STEP_S)] += 1


def resources() -> dict[str, float]:
    """Return what this process holds now; what the system doesn't say is NaN."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        rss_mb = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
        n_descriptors, n_tasks = (len(list(Path(f"/proc/self/{name}").iterdir())) for name in ("fd", "task"))
    except OSError:
        rss_mb = n_descriptors = n_tasks = float("nan")
    return {"rss_mb": rss_mb, "descriptors": n_descriptors, "system_threads": n_tasks,
            "python_threads": threading.active_count()}  # fmt: skip


def make_utterances(tts: TTS, seed: int) -> list[Utterance]:
    """Speak some random texts whole."""
    choice, sentences, made = random.Random(seed), plain_sentences(), []
    for _ in range(N_UTTERANCES):
        text = " ".join(choice.sample(sentences, choice.randint(1, 3)))
        speaker, speed = choice.randrange(len(tts.get_speakers())), round(choice.uniform(0.7, 1.5), 2)
        chunks = tts.stream(
            text, strategy="full", speaker=speaker, speed=speed, seed=(own := choice.getrandbits(64))
        )
        samples = np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in chunks)])
        made.append(Utterance(text, speaker, speed, own, samples))
    return made


def soak(tts: TTS, n_streams: int, seconds: float, seed: int) -> dict[str, Any]:
    """Let so many listeners play in this process, and return what they heard and what they left."""
    utterances, heard = make_utterances(tts, seed), Heard()
    print(f"process {os.getpid()}: listeners come", file=sys.stderr, flush=True)
    for utterance in utterances[:4]:
        list(tts.stream(utterance.text, seed=1))
    end_s = time.monotonic() + seconds
    listeners = [Listener(tts, utterances, heard, seed + 1 + k, end_s) for k in range(n_streams)]
    n_tasks = n_streams // 4

    async def play_in_tasks() -> None:
        tasks = [listener.arun() for listener in listeners[:n_tasks]]
        await asyncio.gather(beat(heard.late, end_s), *tasks)

    # Measured once all have played for a while: each thread brings memory of its own, once.
    threads = [threading.Thread(target=listener.run) for listener in listeners[n_tasks:]]
    threads.append(threading.Thread(target=lambda: asyncio.run(play_in_tasks())))
    for thread in threads:
        thread.start()
    samples = []
    while time.monotonic() < end_s:
        time.sleep(min(5.0, max(0.1, seconds / 20)))
        samples.append(resources())
    for thread in threads:
        thread.join()
    wait_until_s = time.monotonic() + 10.0
    while tts.count_streams() != (0, 0) and time.monotonic() < wait_until_s:
        time.sleep(0.01)
    time.sleep(0.1)
    # Only now: a collection holds up the loop whose lateness is measured.
    gc.collect()
    settled = samples[len(samples) // 5]
    return {"heard": vars(heard), "settled": settled, "last": samples[-1], "after": resources(),
            "streams_left": list(tts.count_streams())}  # fmt: skip


def soak_process(arguments: tuple[TTS, int, float, int]) -> dict[str, Any]:
    """Do it in a process that was handed a pickled TTS."""
    return soak(*arguments)


def come_at_once(tts: TTS, n_listeners: int, seed: int) -> dict[str, Any]:
    """Let listeners come in the same moment, and return who played, and how, and who was told."""
    crowd = TTS(tts.voice, frontend=tts.frontend, max_waiting=AT_ONCE_WAITING)
    utterances, heard, told = make_utterances(crowd, seed), Heard(), []
    begin = threading.Barrier(n_listeners)
    lock = threading.Lock()

    def listen(index: int) -> None:
        listener = Listener(crowd, utterances, heard, seed + index, 0.0)
        utterance, _, arguments = listener.choose()
        begin.wait()
        try:
            listener.play(utterance, float("inf"), arguments)
        except BusyError as error:
            with lock:
                told.append([error.n_playing, error.n_waiting])

    threads = [threading.Thread(target=listen, args=(index,)) for index in range(n_listeners)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {
        "n_listeners": n_listeners,
        "max_waiting": AT_ONCE_WAITING,
        "n_told": len(told),
        **summary([vars(heard)]),
    }


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Put together what was heard in several processes."""
    gaps = [gap for each in found for gap in each["underrun_s"]]
    first = [wait for each in found for wait in each["ttfa_s"]]
    late = sorted(sum((each["late"] for each in found), Counter[int]()).items())
    return {
        "utterances": sum(each["n_whole"] for each in found),
        "left": sum(each["n_left"] for each in found),
        "wrong": sum(each["n_wrong"] for each in found),
        "max_abs_diff": max(each["max_abs_diff"] for each in found),
        "with_a_gap": sum(gap > 0 for gap in gaps),
        "with_a_gap_at_c100": sum(gap > PREBUFFER_S for gap in gaps),
        "worst_gap_s": max(gaps, default=0.0),
        "ttfa_median_s": median(first) if first else None,
        "ttfa_worst_s": max(first, default=None),
        "loop_late_median_s": quantile(late, 0.5),
        "loop_late_p99_s": quantile(late, 0.99),
        "loop_late_worst_s": quantile(late, 1.0),
        "errors": sorted({error for each in found for error in each["errors"]}),
    }


def quantile(late: Sequence[tuple[int, int]], share: float) -> float | None:
    """Return what so large a share was no later than, in seconds; of counts in the order of lateness."""
    n_left = share * sum(count for _, count in late)
    for steps, count in late:
        n_left -= count
        if n_left <= 0:
            return steps * LATE_STEP_S
    return None


def main() -> int:
    """Soak, and write what was found; status 1 if a stream was wrong, failed or stayed behind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--streams", type=int, default=16, help="in all processes together")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--at-once", type=int, default=64, help="0 leaves it out")
    parser.add_argument("--voice", help="folder or .addon file; the default voice if none")
    parser.add_argument("--frontend", default="auto")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    # Read by the C library when a process begins, which the ones that listen do below.
    arenas = os.environ.setdefault("MALLOC_ARENA_MAX", MALLOC_ARENAS)
    tts = TTS(args.voice, frontend=args.frontend, n_threads=args.threads)
    shares = [len(range(k, args.streams, args.processes)) for k in range(args.processes)]
    # Not forked: each is to begin with what a program of its own would have.
    with ProcessPoolExecutor(args.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [(tts, n, 60.0 * args.minutes, args.seed + 1000 * k) for k, n in enumerate(shares)]
        processes = list(pool.map(soak_process, jobs))
    heard = [process.pop("heard") for process in processes]
    report = {
        "facts": facts(),
        "arguments": {
            # Where the report lies says nothing of what was measured.
            key: value
            for key, value in vars(args).items()
            if key != "out"
        },
        "malloc_arenas": arenas,
        "heard": summary(heard),
        "rss_growth": max(each["last"]["rss_mb"] / each["settled"]["rss_mb"] - 1.0 for each in processes),
        "processes": processes,
        "at_once": come_at_once(tts, args.at_once, args.seed) if args.at_once else None,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    text = compact_json(report)
    # Whole or not at all: written beside it, and renamed.
    write_whole(args.out, text)
    print(text)
    found, crowd = report["heard"], report["at_once"] or {"wrong": 0, "errors": []}
    stayed = any(each["streams_left"] != [0, 0] for each in processes)
    return int(bool(found["wrong"] or found["errors"] or crowd["wrong"] or crowd["errors"] or stayed))


if __name__ == "__main__":
    raise SystemExit(main())
