"""What `balacoon-tk calibrate` has measured of a voice on this machine, kept in the user's cache.

A calibration is only believed for the graphs, the engine of the decoder, the number of threads, the processor
and the version of ONNX Runtime that it was measured with: all of them are part of its file's name, and stand
in the file.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from balacoon_tk._files import cache_folder, json_text, write_whole
from balacoon_tk.errors import ParameterError
from balacoon_tk.pacing.costs import CostModel
from balacoon_tk.runtime.machine import cpu_name
from balacoon_tk.runtime.session import runtime_version
from balacoon_tk.voice.voice import Voice

_FORMAT_VERSION = 4


class CalibrationWarning(UserWarning):
    """A calibration in the cache is damaged or of something else; it is ignored."""


@dataclass(frozen=True, slots=True)
class CalibrationKey:
    """What a calibration was measured with."""

    voice: str
    """Fingerprint of its plain graphs and weights."""
    compiled: int
    """Version of the passes that compiled them."""
    n_threads: int | None
    """None is ONNX Runtime's own choice."""
    cpu: str
    """Name of the processor."""
    n_cpus: int | None
    """Processors that this machine has."""
    onnxruntime: str
    """Version."""
    backend: str
    """What runs the decoder: native or onnxruntime, and execution providers other than the processor's."""

    @classmethod
    def of(cls, voice: Voice) -> CalibrationKey:
        """Return the key of a voice on this machine."""
        return cls(
            voice=voice.manifest.fingerprint,
            compiled=voice.target.version,
            n_threads=voice.n_threads,
            cpu=cpu_name(),
            # Of the machine and not of this process: what others use the rest for, the safety factor covers.
            n_cpus=os.cpu_count(),
            onnxruntime=runtime_version(),
            backend=voice.options.named(voice.backend.name),
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """The costs of a voice, and what they were measured with."""

    key: CalibrationKey
    voice: str
    """Name of the voice, for a person."""
    frontend: str
    """Name of the frontend's class."""
    costs: CostModel

    def to_dict(self) -> dict[str, object]:
        """Return what stands in the file."""
        return {"format_version": _FORMAT_VERSION, **asdict(self)}


def calibration_file(voice: Voice) -> Path:
    """Return where the calibration of a voice on this machine is kept, whether there is one or not."""
    # The version is part of the name, so that a file of an older one is found by nobody.
    key = json.dumps([_FORMAT_VERSION, asdict(CalibrationKey.of(voice))], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    return cache_folder() / "calibrations" / f"{voice.manifest.stem}-{digest}.json"


def load_calibration(voice: Voice) -> Calibration | None:
    """Return the calibration of a voice on this machine, or None if there is none to be trusted.

    A file that is damaged or says that it is of something else is a `CalibrationWarning`.
    """
    path, key = calibration_file(voice), CalibrationKey.of(voice)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format_version"] != _FORMAT_VERSION or data["key"] != asdict(key):
            raise ParameterError("it was measured with something else")
        return Calibration(key, str(data["voice"]), str(data["frontend"]), CostModel.from_dict(data["costs"]))
    except FileNotFoundError:
        return None
    # Nothing here is worth a voice that can't speak: RecursionError is what a file of brackets alone raises.
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        warnings.warn(
            f"{path}: the calibration is ignored: {error}; `balacoon-tk calibrate` makes it anew",
            CalibrationWarning,
            # Whoever made the TTS.
            stacklevel=3,
        )
        return None


def save_calibration(calibration: Calibration, voice: Voice) -> Path:
    """Keep a calibration for the next `TTS`, and return its file; only one of this voice on this machine."""
    # It would be found under the name of this machine, and believed.
    if calibration.key != CalibrationKey.of(voice):
        raise ParameterError(f"calibration of {calibration.voice!r} must be of this voice and this machine")
    path = calibration_file(voice)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json_text(calibration.to_dict()))
    return path
