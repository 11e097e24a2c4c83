"""A process for each engine, so that memory and processor time are its own; one of them works at a time."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.metrics import StreamTrace, TraceRecorder, rtf, ttfa_s, underrun_s, xrt
from balacoon_tk.metrics.runs import rotated
from peers import Peer, create_peer
from peers.protocol import SpeaksBothWays
from speed.measure import SETTLE_S
from speed.resident import peak_bytes
from speed.texts import WARM_UP

_MEGA = 1e6


@dataclass(frozen=True, slots=True)
class Utterance:
    """One text, spoken once."""

    trace: StreamTrace
    cpu_s: float
    """Processor time of all threads."""

    def figures(self) -> dict[str, float]:
        """Return what is kept of each round."""
        return {
            "ttfa_s": ttfa_s(self.trace),
            "total_s": self.trace.total_s,
            "rtf": rtf(self.trace),
            "xrt": xrt(self.trace),
            "cpu_s": self.cpu_s,
            "underrun_s": underrun_s(self.trace),
            "underrun_at_half_speed_s": underrun_s(_slower(self.trace, 2.0)),
        }


def speak(peer: Peer, text: str) -> Utterance:
    """Speak a text as fast as the engine can, and note when its chunks came."""
    cpu_s = time.process_time()
    recorder = TraceRecorder(sample_rate=peer.sample_rate)
    for samples in peer.speak(text):
        recorder.add(np.asarray(samples))
    return Utterance(recorder.finish(), time.process_time() - cpu_s)


@dataclass(frozen=True, slots=True)
class Spoken:
    """The samples of one text."""

    sample_rate: int
    """Hz"""
    chunks: tuple[FloatArray, ...]
    """As they were handed over."""
    whole: FloatArray | None
    """The same utterance with the same noise, each sentence at once; None of those who never cut one."""


class Engine:
    """An engine in a process of its own.

    Parameters
    ----------
    name : str
        As in `peers.PEERS`.
    n_threads : int
    """

    def __init__(self, name: str, n_threads: int) -> None:
        # Not forked: a child would begin with the memory and the threads of this process.
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, name, n_threads), daemon=True)
        self._process.start()
        # Or a process that died would never be noticed: this end would keep the pipe open.
        theirs.close()
        self.settings: dict[str, Any] = self._receive()

    def speak(self, text: str, *, warm_up: str) -> Utterance:
        """Speak `warm_up` uncounted, then the text."""
        time.sleep(SETTLE_S)
        answer = self._ask("time", warm_up, text)
        return Utterance(StreamTrace(**answer["trace"]), answer["cpu_s"])

    def samples(self, text: str) -> Spoken:
        """Speak a text and return what it says, streamed and, where the engine can, whole."""
        return Spoken(**self._ask("samples", text))

    def peak_rss_mb(self) -> float:
        """Return the most memory that the process has had so far, in MB."""
        return float(self._ask("peak"))

    def close(self) -> None:
        """End the process."""
        self._connection.close()
        self._process.join(timeout=10)
        if self._process.is_alive():
            # It may be stuck in a graph, and then hears nothing.
            self._process.terminate()
            self._process.join()

    def _ask(self, *request: str) -> Any:
        self._connection.send(request)
        return self._receive()

    def _receive(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError as error:
            self._process.join(timeout=10)
            raise RuntimeError(f"the engine ended with status {self._process.exitcode}") from error
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def open_engines(names: list[str], n_threads: int) -> Iterator[dict[str, Engine]]:
    """Open engines one after the other, and end all of them."""
    with ExitStack() as stack:
        engines = {}
        for name in names:
            engines[name] = Engine(name, n_threads)
            stack.callback(engines[name].close)
        yield engines


def speak_in_turn(engines: Mapping[str, Engine], text: str, *, n_rounds: int) -> dict[str, list[Utterance]]:
    """Return what each engine said of a text, round by round, another one beginning each of them."""
    spoken: dict[str, list[Utterance]] = {name: [] for name in engines}
    for k in range(n_rounds):
        for name in rotated(list(engines), k):
            spoken[name].append(engines[name].speak(text, warm_up=WARM_UP))
    return spoken


def _slower(trace: StreamTrace, factor: float) -> StreamTrace:
    """Return the trace of a machine that takes so many times as long for everything."""
    ready_s = tuple(factor * seconds for seconds in trace.ready_s)
    return replace(trace, ready_s=ready_s, total_s=factor * trace.total_s)


def _serve(connection: Connection, name: str, n_threads: int) -> None:
    try:
        peer = create_peer(name, n_threads)
        connection.send(peer.settings)
        while True:
            match connection.recv():
                case ("time", warm_up, text):
                    # In the same process and just before, since another engine may have had the caches since.
                    speak(peer, warm_up)
                    utterance = speak(peer, text)
                    connection.send({"trace": asdict(utterance.trace), "cpu_s": utterance.cpu_s})
                case ("samples", text):
                    connection.send(_samples(peer, text))
                case ("peak",):
                    connection.send(peak_bytes() / _MEGA)
    except EOFError:
        return
    except Exception as error:
        connection.send(RuntimeError(f"{name}: {type(error).__name__}: {error}"))


def _samples(peer: Peer, text: str) -> dict[str, Any]:
    whole = None
    if isinstance(peer, SpeaksBothWays):
        chunks, whole = peer.speak_both_ways(text)
    else:
        chunks = [np.asarray(samples) for samples in peer.speak(text)]
    # An empty chunk has no seam with its neighbours.
    filled = tuple(chunk for chunk in chunks if chunk.size)
    return {"sample_rate": peer.sample_rate, "chunks": filled, "whole": whole}
