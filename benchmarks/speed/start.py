"""What a program waits for before it can speak: the import, and a `TTS` that is ready."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from balacoon_tk import TTS
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.choice import find_compiled
from balacoon_tk.voice.files import VoiceFiles
from speed.measure import Rounds, in_turn, show_progress

_N_THREADS = 2
_IMPORTS = {"import_s": "import balacoon_tk", "import_tts_s": "from balacoon_tk import TTS"}
_TIMED = "import time; start = time.perf_counter(); {}; print(time.perf_counter() - start)"


def measure(rounds: Rounds) -> dict[str, Any]:
    """Time the import in new processes, and a warm `TTS` against ONNX Runtime loading the same graphs.

    Returns
    -------
    dict
        Seconds, a value a round. NumPy is part of the second import; files are in the system's cache.
    """
    imports = {
        # The first process of each brings the files into the system's cache.
        name: [_in_new_process(_TIMED.format(line)) for _ in range(rounds.n_process + 1)][1:]
        for name, line in _IMPORTS.items()
    }
    options = RuntimeOptions(n_threads=_N_THREADS)
    compiled = find_compiled(VoiceFiles(TTS(options=options).voice.path), options)
    # Checksums are taken here, once: what is timed against a `TTS`, which checks them, is loading alone.
    graphs = [compiled.files.graph(info) for info in (compiled.info.encoder, compiled.info.decoder)]
    ready = in_turn(
        {
            "tts_s": lambda: TTS(options=options),
            "graphs_s": lambda: [Session(graph, options) for graph in graphs],
        },
        n_rounds=rounds.n_process,
    )
    show_progress("start", 1.0)
    return {**imports, **ready}


def _in_new_process(code: str) -> float:
    return float(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    )
