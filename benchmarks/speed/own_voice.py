"""The default voice as this code exports it, calibrated, for every process of a benchmark."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from balacoon_tk import TTS
from balacoon_tk._files import CACHE_VARIABLE
from balacoon_tk.pacing.calibration import save_calibration
from balacoon_tk.pacing.measure import calibrate
from balacoon_tk.runtime.options import Backend
from balacoon_tk.voice.default import default_voice_folder
from peers.int8_voice import int8_voice
from peers.two_speakers import two_speakers_voice

ROOT = Path(__file__).parents[2]
WORK = ROOT / "out" / "bench"


def use_own_voice(threads: Sequence[int], backends: Sequence[Backend] = ("auto",)) -> Path:
    """Let every process speak the default voice as this code exports it, whatever lies in the cache.

    It is calibrated, as ``balacoon-tk calibrate`` does it: other engines have their best settings as well.
    Its folder is returned.
    """
    rooms = (
        "export",
        *(f"balacoon_tk/{name}" for name in ("graph", "runtime", "targets", "voice", "stages")),
    )
    files = (path for room in rooms for path in sorted((ROOT / room).rglob("*.py")))
    code = hashlib.sha256(b"".join(path.read_bytes() for path in files))
    os.environ[CACHE_VARIABLE] = str(WORK / f"voice-{code.hexdigest()[:16]}")
    folder = default_voice_folder()
    _calibrate(folder, threads, backends)
    return folder


def use_its_variants(threads: Sequence[int]) -> None:
    """Make that voice in int8 and with a second speaker, and calibrate both, before they are spoken."""
    for folder in (int8_voice(), two_speakers_voice()):
        _calibrate(folder, threads, ("native",))


def _calibrate(folder: Path, threads: Sequence[int], backends: Sequence[Backend]) -> None:
    for n_threads in threads:
        for backend in backends:
            tts = TTS(folder, frontend="espeak", n_threads=n_threads, backend=backend)
            if tts.calibration is None:
                save_calibration(calibrate(tts), tts.voice)
