"""Stream from many threads at once in a Python without the GIL, where every stream must be the whole run.

Where onnx has no wheel for such a Python the voice is one that another Python has compiled: here nothing is
read but what a voice needs to run.

  python3.13t -P tests/platforms/without_gil.py VOICE
"""

from __future__ import annotations

import argparse
import sys
import threading
import warnings
from pathlib import Path
from typing import Literal

import numpy as np

Engine = Literal["native", "onnxruntime"]

ENGINES: tuple[Engine, ...] = ("native", "onnxruntime")
N_THREADS = 16
CHUNKS = (3, 5, 8, 16)


def main() -> int:
    """Return 1 if the GIL came back, or a stream differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("voice", type=Path, help="voice folder, with a program for the native engine")
    parser.add_argument("--streams", type=int, default=128, help="of each engine (default: %(default)s)")
    given = parser.parse_args()
    warnings.simplefilter("error", RuntimeWarning)  # what Python says when a module brings the GIL back
    is_wrong = False
    for backend in ENGINES:
        n_differ = count_different(given.voice, backend, given.streams)
        is_free = not getattr(sys, "_is_gil_enabled", lambda: True)()
        print(
            f"{backend}: {given.streams} streams, {n_differ} differ; the GIL is {'off' if is_free else 'on'}"
        )
        is_wrong |= bool(n_differ) or not is_free
    return int(is_wrong)


def count_different(folder: Path, backend: Engine, n_streams: int) -> int:
    """Return how many streams of random frames aren't as the whole run, of threads that begin together."""
    from balacoon_tk import load_voice  # here, where a warning is an error

    voice = load_voice(folder, n_threads=2, backend=backend)
    rng = np.random.default_rng(0)
    n_frames = [40 + 7 * k for k in range(8)]
    frames = [rng.standard_normal((voice.manifest.n_channels, n)).astype(np.float32) for n in n_frames]

    def spoken(index: int, chunk_frames: int) -> bytes:
        chunks = voice.decode(frames[index], chunk_frames=chunk_frames)
        return b"".join(chunk.samples.tobytes() for chunk in chunks)

    whole = [spoken(index, n) for index, n in enumerate(n_frames)]
    differ, begin = [], threading.Barrier(N_THREADS)

    def stream(first: int) -> None:
        begin.wait()
        for number in range(first, n_streams, N_THREADS):
            index, chunk = number % len(frames), CHUNKS[number // len(frames) % len(CHUNKS)]
            if spoken(index, chunk) != whole[index]:
                differ.append(number)

    threads = [threading.Thread(target=stream, args=(first,)) for first in range(N_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(differ)


if __name__ == "__main__":
    sys.exit(main())
