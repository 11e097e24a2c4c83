"""What a program waits for before it can speak: the import, and a `TTS` that is ready."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from balacoon_tk import TTS
from balacoon_tk.session import Session
from speed.measure import Rounds, in_turn, show_progress

__all__ = ["measure"]

_N_THREADS = 2
_IMPORT = "import time; start = time.perf_counter(); import balacoon_tk; print(time.perf_counter() - start)"


def measure(rounds: Rounds) -> dict[str, Any]:
    """Time the import in new processes, and a warm `TTS` against ONNX Runtime loading the same graphs.

    Returns
    -------
    dict
        Seconds, a value a round. NumPy is part of the import; files are in the system's cache.
    """
    import_s = [
        float(
            subprocess.run([sys.executable, "-c", _IMPORT], capture_output=True, check=True, text=True).stdout
        )
        for _ in range(rounds.n_process + 1)
    ][1:]
    voice = TTS(n_threads=_N_THREADS).voice
    files = (voice.manifest.encoder.file, voice.manifest.decoder.file)
    ready = in_turn(
        {
            "tts_s": lambda: TTS(n_threads=_N_THREADS),
            "graphs_s": lambda: [Session(voice.path / file, n_threads=_N_THREADS) for file in files],
        },
        n_rounds=rounds.n_process,
    )
    show_progress("start", 1.0)
    return {"import_s": import_s, **ready}
