"""What `balacoon-tk calibrate` has measured of a voice on this machine, kept in the user's cache.

A calibration is only believed for the graphs, the number of threads, the processor and the version of
ONNX Runtime that it was measured with: all of them are part of its file's name, and stand in the file.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from balacoon_tk._files import json_text, write_whole
from balacoon_tk.errors import ParameterError
from balacoon_tk.pacing.costs import CostModel
from balacoon_tk.runtime.session import runtime_version
from balacoon_tk.voice.voice import Voice

_FORMAT_VERSION = 2
_KEY_DIGITS = 16
_CPU_INFO = Path("/proc/cpuinfo")


class CalibrationWarning(UserWarning):
    """A calibration in the cache is damaged or of something else; it is ignored."""


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """What a calibration was measured with."""

    encoder_sha256: str
    decoder_sha256: str
    n_threads: int | None
    """None is ONNX Runtime's own choice."""
    cpu: str
    """Name of the processor."""
    n_cpus: int | None
    """Processors that this machine has."""
    onnxruntime: str
    """Version."""

    @classmethod
    def of(cls, voice: Voice) -> CalibrationKey:
        """Return the key of a voice on this machine."""
        return cls(
            encoder_sha256=voice.manifest.encoder.sha256,
            decoder_sha256=voice.manifest.decoder.sha256,
            n_threads=voice.n_threads,
            cpu=_cpu_name(),
            n_cpus=os.cpu_count(),
            onnxruntime=runtime_version(),
        )

    @property
    def digest(self) -> str:
        """What stands for the key in a file's name."""
        text = json.dumps([_FORMAT_VERSION, asdict(self)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_KEY_DIGITS]


@dataclass(frozen=True, slots=True)
class Calibration:
    """The costs of a voice, and what they were measured with."""

    key: CalibrationKey
    voice: str
    """Name of the voice, for a person."""
    frontend: str
    """Name of the frontend's class."""
    costs: CostModel

    def to_dict(self) -> dict[str, Any]:
        """Return what stands in the file."""
        return {
            "format_version": _FORMAT_VERSION,
            "voice": self.voice,
            "key": asdict(self.key),
            "frontend": self.frontend,
            "costs": self.costs.to_dict(),
        }


def calibration_file(voice: Voice) -> Path:
    """Return where the calibration of a voice on this machine is kept, whether there is one or not."""
    from balacoon_tk.voice.default import cache_folder

    return cache_folder() / "calibrations" / f"{voice.manifest.name}-{CalibrationKey.of(voice).digest}.json"


def load_calibration(voice: Voice) -> Calibration | None:
    """Return the calibration of a voice on this machine, or None if there is none to be trusted.

    Warns
    -----
    CalibrationWarning
        If there is a file, and it is damaged or says that it is of something else.
    """
    path, key = calibration_file(voice), CalibrationKey.of(voice)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] != _FORMAT_VERSION or data["key"] != asdict(key):
            raise ParameterError("it was measured with something else")
        return Calibration(key, str(data["voice"]), str(data["frontend"]), CostModel.from_dict(data["costs"]))
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        warnings.warn(
            f"{path}: the calibration is ignored: {error}; `balacoon-tk calibrate` makes it anew",
            CalibrationWarning,
            stacklevel=3,
        )
        return None


def save_calibration(calibration: Calibration, voice: Voice) -> Path:
    """Keep a calibration for the next `TTS`, and return its file.

    Raises
    ------
    ParameterError
        If it is not of this voice and this machine.
    """
    if calibration.key != CalibrationKey.of(voice):
        raise ParameterError(f"calibration of {calibration.voice!r} must be of this voice and this machine")
    path = calibration_file(voice)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json_text(calibration.to_dict()))
    return path


@functools.cache
def _cpu_name() -> str:
    """Return what the processor is called; the plain architecture where the system doesn't say."""
    try:
        lines = _CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
