"""A recording as a codec reads it: its codes, by the encoder that the voice may have beside its decoder."""

from __future__ import annotations

import numpy as np

from balacoon_tk._typing import FloatArray, IntArray
from balacoon_tk.errors import ParameterError, VoiceError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.voice.files import VoiceFiles


def find_codes(files: VoiceFiles, options: RuntimeOptions, samples: FloatArray) -> IntArray:
    """Return the codes (n_codebooks, n_frames) of a recording at the codec's rate; see `Voice.analyze`."""
    manifest, info = files.manifest, files.manifest.analyzer
    if info is None:
        raise ParameterError(
            f"{manifest.name}: it was exported without its encoder, so codes can't be made of a recording"
        )
    if samples.ndim != 1 or not samples.size or samples.dtype != np.float32:
        rule = "must be (n_samples,), float32, not empty"
        raise ParameterError(f"samples of shape {samples.shape}, {samples.dtype} {rule}")
    if not np.isfinite(samples).all():
        raise ParameterError("samples hold NaN or infinity")
    whole = np.pad(samples, (0, -samples.size % manifest.hop_length))[np.newaxis, np.newaxis]
    # Loaded for this alone: a codec that says what a model gives never needs it.
    codes = Session(files.graph(info), options).run({"samples": whole})["frames"]
    wanted = (1, manifest.n_channels, whole.shape[-1] // manifest.hop_length)
    if codes.shape != wanted or codes.dtype != np.int64:
        rule = f"must be {wanted}, int64"
        raise VoiceError(f"{info.file}: codes of shape {codes.shape}, {codes.dtype} {rule}")
    found: IntArray = codes[0]
    return found
