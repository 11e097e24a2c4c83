"""What the guards cost: of a voice that is loaded, and of a stream.

    python benchmarks/bench_guards.py       # five minutes; writes benchmarks/results/guards.json

The default voice is loaded as it is, as it is the first time, when nothing of it is known, and with no file
hashed and no graph or program looked at, in turn. In a stream everything that only looks is timed where it is
called: against a whole stream its share is too small to be seen as a difference.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from balacoon_tk import TTS
from balacoon_tk._files import write_whole
from balacoon_tk.decoder import renderer
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages import encoder, upsampler
from balacoon_tk.voice import files, known_files, programs
from balacoon_tk.voice.default import default_voice_folder
from balacoon_tk.voice.voice import load_voice
from speed.machine import facts
from speed.measure import in_turn, ratio, show_progress
from speed.results import compact_json
from speed.texts import TEXTS

RESULTS = Path(__file__).parent / "results" / "guards.json"
MOST_OF_LOADING, MOST_OF_A_STREAM = 1.1, 0.01
BACKENDS = ("native", "onnxruntime")
STREAM_GUARDS: tuple[tuple[Any, str], ...] = (
    (renderer, "all_finite"),
    (upsampler, "all_finite"),
    (upsampler, "sum_within"),
    (encoder, "_check_encoding"),
    (encoder.Encoder, "_check"),
    (Session, "check_process"),
)
"""What a stream calls that only looks; what waits for a turn or counts streams is no guard."""
CHUNK_FRAMES = 16


def measure(folder: Path, *, n_rounds: int) -> dict[str, Any]:
    """Time loading and streams in each engine."""
    found: dict[str, Any] = {}
    for k, backend in enumerate(BACKENDS):
        load = partial(load_voice, folder, n_threads=1, backend=backend)
        loads = {"guarded": load, "first": partial(_first, load), "unguarded": partial(_unguarded, load)}
        seconds = in_turn(loads, n_rounds=n_rounds)
        tts = TTS(load())
        shares = [_share_of_a_stream(tts) for _ in range(n_rounds + 1)][1:]
        found[backend] = {"load_s": seconds, "share_of_a_stream": shares}
        show_progress("guards", (k + 1) / len(BACKENDS))
    return found


def _unguarded(load: Callable[[], object]) -> None:
    digest = SimpleNamespace(hexdigest=lambda: "", update=lambda _: None)
    # What the manifest's own bytes are known by isn't looked at: it is 64 digits for the `Voice`.
    unhashed = SimpleNamespace(sha256=lambda *_: digest, file_digest=lambda *_: digest)
    with contextlib.ExitStack() as patches:
        for owner, name, instead in (
            (files, "hashlib", unhashed),
            (known_files.KnownFiles, "digest", lambda *_: digest),
            (known_files.KnownFiles, "op_types", lambda *_: frozenset()),  # nor is that kept
            (files.VoiceFiles, "_check", lambda *_: None),
            (files.VoiceFiles, "check_rest", lambda _: None),
            (programs, "check_program_records", lambda _: None),
        ):
            patches.enter_context(patch.object(owner, name, instead))
        load()


def _first(load: Callable[[], object]) -> None:
    """Load with all files read, as where nothing is known of them."""
    with patch.object(known_files.KnownFiles, "_recall", lambda *_: None):
        load()


def _share_of_a_stream(tts: TTS) -> float:
    """Return the share of a stream's time that passes in what only looks."""
    seconds = 0.0

    def timed(guard: Callable[..., object]) -> Callable[..., object]:
        def run(*args: object, **kwargs: object) -> object:
            nonlocal seconds
            start = perf_counter()
            try:
                return guard(*args, **kwargs)
            finally:
                seconds += perf_counter() - start

        return run

    with contextlib.ExitStack() as patches:
        for owner, name in STREAM_GUARDS:
            patches.enter_context(patch.object(owner, name, timed(getattr(owner, name))))
        start = perf_counter()
        for _ in tts.stream(TEXTS["440"], chunk_frames=CHUNK_FRAMES, seed=0):
            pass
        return seconds / (perf_counter() - start)


def judge(parts: dict[str, Any]) -> Iterator[tuple[str, float, float]]:
    """Yield what was looked at, what it came to and what it may."""
    for backend, found in parts.items():
        seconds = found["load_s"]
        yield f"{backend}: loading", ratio(seconds["guarded"], seconds["unguarded"]), MOST_OF_LOADING
        yield f"{backend}: a stream", median(found["share_of_a_stream"]), MOST_OF_A_STREAM


def main() -> int:
    """Measure, write JSON, and fail where guards cost more than they may."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-v", "--voice", type=Path, help="voice folder (default: the default voice)")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--out", type=Path, default=RESULTS, help="file of the results")
    args = parser.parse_args()
    parts = measure(args.voice or default_voice_folder(), n_rounds=args.rounds)
    write_whole(args.out, compact_json({"facts": facts(), "parts": parts}))
    status = 0
    for what, value, most in judge(parts):
        print(f"{what}: {value:.4f}, at most {most}")
        # Not `value > most`, which is false of NaN.
        status = status if value <= most else 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
