"""Sounds at one loudness: of two that differ by nothing else, the louder one is preferred."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import MissingExtraError
from balacoon_tk.metrics.signal import as_signal

TARGET_LUFS = -23.0
"""That of EBU R 128, loudness units relative to full scale."""

_CEILING_DBFS = -1.0
_BLOCK_S = 0.4


def loudness_lufs(samples: FloatArray, *, sample_rate: int) -> float:
    """Return the integrated loudness, in LUFS; -inf for silence.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        One channel, in [-1, 1]. What is shorter than a block of 0.4 s is measured with silence behind it.
    sample_rate : int
        Hz

    References
    ----------
    Recommendation ITU-R BS.1770-4, "Algorithms to measure audio programme loudness and true-peak audio
    level", annex 1; measured by pyloudnorm (Steinmetz and Reiss, 150th AES Convention, 2021).
    """
    try:
        import pyloudnorm
    except ImportError as error:
        raise MissingExtraError("matching levels", extra="notebooks") from error
    n_least = int(np.ceil(_BLOCK_S * sample_rate)) + 1
    padded = np.pad(samples.astype(np.float64), (0, max(0, n_least - samples.size)))
    # Blocks may all be below the gate of -70 LUFS; their mean is then that of none.
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(pyloudnorm.Meter(sample_rate).integrated_loudness(padded))


def match_levels(
    sounds: Sequence[AnyArray], *, sample_rate: int
) -> tuple[tuple[FloatArray, ...], tuple[float, ...]]:
    """Bring sounds to one loudness, `TARGET_LUFS`, or less where a peak would leave -1 dB of full scale.

    Parameters
    ----------
    sounds : sequence of ndarray of shape (n_samples,), floating or int16
    sample_rate : int
        Hz

    Returns
    -------
    sounds : tuple of ndarray of shape (n_samples,), float32
    gains_db : tuple of float
        What each was multiplied by; silence stays as it is.
    """
    plain = [as_signal("sound", sound).astype(np.float32) for sound in sounds]
    levels = [loudness_lufs(sound, sample_rate=sample_rate) for sound in plain]
    gains = [TARGET_LUFS - level if np.isfinite(level) else 0.0 for level in levels]
    peaks = [float(np.max(np.abs(sound), initial=0.0)) for sound in plain]
    # Taken off all of them: one that is softer than the others would be heard as worse.
    loudest_db = [gain + 20.0 * np.log10(peak) for gain, peak in zip(gains, peaks, strict=True) if peak]
    excess_db = max(0.0, max(loudest_db, default=_CEILING_DBFS) - _CEILING_DBFS)
    gains = [float(gain - excess_db) for gain in gains]
    matched = (sound * np.float32(10.0 ** (gain / 20.0)) for sound, gain in zip(plain, gains, strict=True))
    return tuple(matched), tuple(gains)
