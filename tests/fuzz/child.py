"""Runs one target in a process of its own, with limits: what kills it is counted by whoever started it.

Before each input its bytes are written to a file, with what was counted so far, so that a process that is
gone has said what it died of.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import struct
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path

HEADER = struct.Struct("<QQQI")
"""Inputs begun, refused by typed errors, ended by untyped ones, and the length of the input that follows."""

MEMORY_BYTES = 3 * 2**30
MAX_BYTES = 480


class Counted:
    """A target that counts how its inputs end, and writes down what is untyped once for each place."""

    def __init__(self, run: Callable[[bytes], None], folder: Path, input_s: float) -> None:
        from balacoon_tk.errors import BalacoonError

        self._run, self._typed_error, self._input_s = run, BalacoonError, input_s
        self._state = os.open(folder / "state", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._journal = folder / "untyped.jsonl"
        self._begun = self._typed = self._untyped = 0
        self._places: dict[str, int] = {}

    def __call__(self, data: bytes) -> None:
        """Run one input."""
        self._begun += 1
        self._write(data)
        # Of processor time: a process that is stopped meanwhile takes none.
        signal.setitimer(signal.ITIMER_PROF, self._input_s)
        try:
            self._run(data)
        except self._typed_error:
            self._typed += 1
        except Exception as error:
            self._untyped += 1
            self._note(error, data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def close(self) -> None:
        """Write what was counted."""
        self._write(b"")

    def _write(self, data: bytes) -> None:
        counts = HEADER.pack(self._begun, self._typed, self._untyped, len(data))
        os.pwrite(self._state, counts + data, 0)

    def _note(self, error: Exception, data: bytes) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "balacoon_tk" in frame.filename or "export" in frame.filename]
        frame = (own or frames)[-1]
        where = "/".join(Path(frame.filename).parts[-2:])
        place = f"{type(error).__name__} in {where}:{frame.lineno} {frame.name}"
        self._places[place] = self._places.get(place, 0) + 1
        if self._places[place] == 1:
            message = ascii(str(error))[:200]
            with self._journal.open("a", encoding="ascii") as journal:
                journal.write(
                    json.dumps({"place": place, "error": message, "input": data[:500].hex()}) + "\n"
                )


def main(
    module: str, name: str, folder: Path, engine: str, seed: int, start: int, runs: int, input_s: float
) -> None:
    """Run so many inputs, chosen by a seed: guided by coverage with atheris, or at random from a start.

    Where a child died before, the inputs to begin with are left out, of which one may have killed it.
    """
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    work = folder / "work"
    work.mkdir()
    if engine == "atheris":
        import atheris

        with atheris.instrument_imports(include=["balacoon_tk"]):
            run, seeds = import_module(module).prepare(work, name)
        counted = Counted(run, folder, input_s)
        corpus = folder / "corpus"
        corpus.mkdir()
        for index, data in enumerate(() if start else seeds):
            (corpus / f"{index:04}").write_bytes(data)
        # What kills is left to kill, and time and memory are limited here, by input and not by the clock.
        quiet = [f"-handle_{kind}=0" for kind in ("abrt", "bus", "fpe", "ill", "segv", "xfsz")]
        limits = [f"-runs={runs}", f"-max_len={MAX_BYTES}", "-timeout=100000", "-rss_limit_mb=0"]
        options = [f"-seed={seed + start}", "-verbosity=0", f"-artifact_prefix={folder}/"]
        atheris.Setup([sys.argv[0], *quiet, *limits, *options, str(corpus)], counted)
        atheris.Fuzz()
    else:
        run, seeds = import_module(module).prepare(work, name)
        counted = Counted(run, folder, input_s)
        for data in islice(_at_random(list(seeds), seed), start, start + runs):
            counted(data)
        counted.close()


def _at_random(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """Give the seeds first, then mixtures of them and of random bytes without end."""
    rng = random.Random(seed)
    yield from seeds
    while True:
        data = bytearray(rng.choice(seeds)[:MAX_BYTES] or b"\0")
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data) + 1)
            data[at : at + rng.choice((0, 1, 4))] = rng.randbytes(rng.choice((0, 1, 2, 4)))
        yield bytes(data[:MAX_BYTES])


if __name__ == "__main__":
    module, name, folder, engine, *numbers, input_s = sys.argv[1:]
    seed, start, runs = map(int, numbers)
    main(module, name, Path(folder), engine, seed, start, runs, float(input_s))
