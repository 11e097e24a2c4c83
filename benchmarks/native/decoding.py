"""The default voice's decoder in both engines: whole, in chunks, until the first sound."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.graph.cost import count_multiply_adds
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.options import Backend, RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.voice import load_voice
from speed.machine import peak_run
from speed.measure import in_turn, show_progress

N_FRAMES = 448
"""Of the utterance, about five seconds; all sizes of chunks divide it."""
CHUNK_FRAMES = (64, 16, 8, 4, 1)
ORT_CHUNK_FRAMES = (64, 16, 8)
"""Smaller ones take ONNX Runtime seconds."""
BACKENDS: tuple[Backend, Backend] = ("native", "onnxruntime")
_CHECKED_FRAMES = 160
"""What is streamed one by one to be compared."""


def measure(folder: Path, *, n_rounds: int, threads: Sequence[int]) -> dict[str, Any]:
    """Time a voice's decoder in both engines and compare its samples.

    Returns
    -------
    dict
        ``multiply_adds`` of the trained decoder's whole run; by the number of threads ``peak_operations``,
        ``seconds`` by the run's name, a value a round, and ``differences``.
    """
    files = VoiceFiles(folder)
    plain = files.model(files.manifest.decoder)
    feeds = {"frames": frames_of(files.manifest.n_channels, N_FRAMES)}
    work = sum(node.multiply_adds for node in count_multiply_adds(plain, feeds))
    trained = next(iter(Session(plain).run(feeds).values())).reshape(-1)
    found: dict[str, Any] = {"multiply_adds": work, "n_frames": N_FRAMES, "threads": {}}
    for k, n_threads in enumerate(threads):
        native, ort = (engine_of(folder, n_threads, backend) for backend in BACKENDS)
        peak, n_operations = peak_run(n_threads)
        runs = {
            "peak": peak,
            "native, whole": partial(native.whole, feeds),
            "onnxruntime, whole": partial(ort.whole, feeds),
            "native, first push": partial(first_push, native, feeds["frames"]),
            "onnxruntime, first push": partial(first_push, ort, feeds["frames"]),
            **{f"native, {n}": partial(stream, native, feeds["frames"], n) for n in CHUNK_FRAMES},
            **{f"onnxruntime, {n}": partial(stream, ort, feeds["frames"], n) for n in ORT_CHUNK_FRAMES},
        }
        found["threads"][str(n_threads)] = {
            "kernels": native.kernels,
            "peak_operations": n_operations,
            "seconds": in_turn(runs, n_rounds=n_rounds),
            "differences": differences(native, feeds["frames"], trained),
        }
        show_progress("decoding", (k + 1) / len(threads))
    return found


def engine_of(folder: Path, n_threads: int, backend: Backend) -> Any:
    """Return a voice's decoder in an engine."""
    return load_voice(folder, options=RuntimeOptions(n_threads=n_threads, backend=backend)).decoder


def frames_of(n_channels: int, n_frames: int) -> FloatArray:
    """Return frames, the same for everybody."""
    return np.random.default_rng(0).standard_normal((1, n_channels, n_frames), np.float32)


def first_push(engine: Engine, frames: FloatArray) -> FloatArray:
    """Push the fewest frames that give a first chunk of sound."""
    decoder = StatefulDecoder(engine)
    n_frames = math.ceil(decoder.lag_samples / decoder.hop_length) + DEFAULT_CHUNK_FRAMES[0]
    return decoder.push(np.ascontiguousarray(frames[..., :n_frames]))


def stream(engine: Engine, frames: FloatArray, n_frames: int) -> list[FloatArray]:
    """Stream an utterance in chunks of so many frames."""
    return list(pushed(engine, frames, iter(lambda: n_frames, None)))


def pushed(engine: Engine, frames: FloatArray, sizes: Iterator[int]) -> Iterator[FloatArray]:
    """Give the samples of each push."""
    decoder, start, n_all = StatefulDecoder(engine), 0, frames.shape[-1]
    while start < n_all:
        stop = min(start + next(sizes), n_all)
        yield decoder.push(np.ascontiguousarray(frames[..., start:stop]), last=stop == n_all)
        start = stop


def differences(engine: Engine, frames: FloatArray, trained: FloatArray) -> dict[str, float]:
    """Return the largest difference to the trained decoder, and between streams and their whole run."""
    whole = engine.whole({"frames": frames})["samples"].reshape(-1)
    few = np.ascontiguousarray(frames[..., :_CHECKED_FRAMES])
    wanted = engine.whole({"frames": few})["samples"].reshape(-1)
    rng = np.random.default_rng(0)
    mixed = iter(lambda: int(rng.integers(1, 40)), None)
    schedules = [*(iter(lambda n=n: n, None) for n in CHUNK_FRAMES), mixed]
    streamed = [np.concatenate([each.reshape(-1) for each in pushed(engine, few, s)]) for s in schedules]
    return {
        "to_trained": float(np.abs(whole - trained).max()),
        "streamed_to_whole": max(float(np.abs(each - wanted).max()) for each in streamed),
        "again": float(np.abs(engine.whole({"frames": frames})["samples"].reshape(-1) - whole).max()),
    }
