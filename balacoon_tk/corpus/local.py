"""Workers as processes of this machine: one thread each, a batch at a time, replaced if they end."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from balacoon_tk.corpus.errors import CorpusError
from balacoon_tk.corpus.journal import MAX_ATTEMPTS
from balacoon_tk.corpus.plan import Batch, CorpusPlan
from balacoon_tk.corpus.speaker import Spoken

# Libraries that have threads of their own learn their number when they are loaded.
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def speak_locally(
    plan: CorpusPlan, folder: Path, run: str, batches: Sequence[Batch], n_workers: int
) -> Generator[Spoken, None, None]:
    """Speak batches in processes, and give what was spoken as it comes.

    A process that ends is replaced, and its batch goes on; `BatchJournal` sees to it that what ended it
    isn't tried for ever. A `CorpusError` says that they end before they do anything, or what no other one
    could do either.
    """
    waiting, heard = list(reversed(batches)), _Inbox()
    first = json.dumps([json.dumps(plan.to_dict()), str(folder.absolute()), run])
    workers: list[_Worker] = []
    deaths: Counter[int | None] = Counter()
    try:
        while len(workers) < min(n_workers, len(batches)):
            workers.append(_Worker(first, heard))
        while workers:
            worker, message = heard.get()
            if worker not in workers:
                continue  # its end was asked for
            if message is None:
                workers.remove(worker)
                _check_death(worker.batch, worker.end(), deaths)
                waiting += [worker.batch] if worker.batch else []
                workers += [_Worker(first, heard)] if waiting else []
            elif "fatal" in message:
                raise CorpusError(message["fatal"])
            elif "spoken" in message:
                audio_s, failed, warnings = message["spoken"]
                yield Spoken(audio_s, failed, tuple(warnings))
            elif waiting:
                worker.give(waiting.pop())
            else:
                workers.remove(worker)
                worker.end()
    finally:
        for worker in workers:
            worker.end()


_Message = dict[str, Any] | None
"""What a worker has said; None once it has ended."""


class _Worker:
    """A process, and what it is at."""

    def __init__(self, first: str, heard: _Inbox) -> None:
        self.batch: Batch | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "balacoon_tk.corpus.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | _ONE_THREAD,
        )
        self._send(first)
        self._listening = threading.Thread(target=self._listen, args=(heard,), daemon=True)
        self._listening.start()

    def give(self, batch: Batch) -> None:
        """Let it speak a batch."""
        self.batch = batch
        self._send(batch.to_json())

    def end(self) -> int:
        """End it, whatever it is at; return its status, negative by a signal."""
        assert self._process.stdin is not None
        self._process.kill()
        status = self._process.wait()
        self._listening.join()
        with suppress(OSError):  # what it has not read
            self._process.stdin.close()
        return status

    def _send(self, line: str) -> None:
        assert self._process.stdin is not None
        # Of one that has ended meanwhile, the end is heard.
        with suppress(OSError):
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()

    def _listen(self, heard: _Inbox) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                # Of one that was killed, the last line may be cut.
                if line.endswith(b"\n"):
                    heard.put((self, json.loads(line)))
        heard.put((self, None))


_Inbox = queue.SimpleQueue[tuple[_Worker, _Message]]


def _check_death(batch: Batch | None, status: int, deaths: Counter[int | None]) -> None:
    """Raise where a process ended that another one would end like."""
    number = None if batch is None else batch.number
    deaths[number] += 1
    # More often than its utterances can have been tried: something else ends them.
    if deaths[number] > MAX_ATTEMPTS * (1 if batch is None else len(batch.sentences)):
        when = "before they are ready" if batch is None else "at one batch"
        raise CorpusError(f"workers end {when}, again and again, the last one with status {status}")
