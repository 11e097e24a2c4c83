"""How far streamed samples are from those of the whole utterance; NumPy alone.

Every function takes the samples and a reference of the same length: streaming changes values and no
durations. Where durations differ, see `mel_cepstral_distortion_db`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray
from balacoon_tk.audio import PCM16_MAX
from balacoon_tk.errors import ParameterError

_FLOOR_DB = -80.0  # quieter than this below the reference's loudest cell counts as silence
_SEGMENT_S = 0.03
_SEGMENT_LIMITS_DB = (-10.0, 35.0)
_CLICK_RADIUS_S = 0.01


def as_signal(name: str, samples: object) -> NDArray[np.float64]:
    """Return samples as float64, full scale being 1.

    Parameters
    ----------
    name : str
        What the error calls them.
    samples : ndarray of shape (n_samples,), floating or int16

    Raises
    ------
    ParameterError
        If they are no samples, there is none, or one isn't finite.
    """
    if (
        not isinstance(samples, np.ndarray)
        or samples.ndim != 1
        or not (samples.dtype == np.int16 or np.issubdtype(samples.dtype, np.floating))
    ):
        found = (
            f"of shape {samples.shape}, {samples.dtype}"
            if isinstance(samples, np.ndarray)
            else f"of type {type(samples).__name__}"
        )
        raise ParameterError(f"{name} {found} must be a 1-D array of floats or int16")
    if samples.size == 0:
        raise ParameterError(f"{name} must hold at least one sample")
    signal = samples.astype(np.float64)
    if samples.dtype == np.int16:
        return signal / PCM16_MAX
    if not np.isfinite(signal).all():
        position = int(np.argmin(np.isfinite(signal)))
        raise ParameterError(f"{name}[{position}]={samples[position]} must be finite")
    return signal


def max_abs_diff(samples: AnyArray, reference: AnyArray) -> float:
    """Return the largest difference to a sample of the reference, full scale being 1.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16

    Raises
    ------
    ParameterError
        If their lengths differ.
    """
    x, r = _pair(samples, reference)
    return float(np.max(np.abs(x - r)))


def snr_db(samples: AnyArray, reference: AnyArray) -> float:
    """Return the signal-to-noise ratio in dB, the noise being the difference to the reference.

    ``10 log10(sum(reference**2) / sum((samples - reference)**2))``; infinite if they are equal.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16

    Raises
    ------
    ParameterError
        If their lengths differ.
    """
    x, r = _pair(samples, reference)
    return _ratio_db(float(np.sum(r**2)), float(np.sum((x - r) ** 2)))


def segmental_snr_db(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return the mean of the SNR of short segments in dB, each limited to [-10, 35].

    Segments last 30 ms, begin every 7.5 ms and are weighted by a Hann window; those in which the
    reference is silent (80 dB below its loudest one) are left out. NaN if all are.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16
    sample_rate : int
        Hz

    Raises
    ------
    ParameterError
        If their lengths differ.

    References
    ----------
    J. H. L. Hansen and B. L. Pellom, "An effective quality evaluation protocol for speech enhancement
    algorithms", ICSLP 1998, section 2.1; the limits are theirs.
    """
    x, r = _pair(samples, reference)
    size = max(4, round(_SEGMENT_S * _checked_rate(sample_rate)))
    signal = np.sum(_windows(r, size, size // 4) ** 2, axis=1)
    noise = np.sum(_windows(x - r, size, size // 4) ** 2, axis=1)
    sounding = signal > signal.max() * 10.0 ** (_FLOOR_DB / 10.0)
    if not sounding.any():
        return float("nan")
    with np.errstate(divide="ignore"):
        ratios = 10.0 * np.log10(signal[sounding] / noise[sounding])
    return float(np.clip(ratios, *_SEGMENT_LIMITS_DB).mean())


def log_spectral_distance_db(
    samples: AnyArray, reference: AnyArray, *, n_fft: int = 1024, hop_length: int = 256
) -> float:
    """Return the log-spectral distance in dB, the mean over columns of the spectrogram.

    ``mean over t of sqrt(mean over f of (10 log10(P[f, t] / R[f, t]))**2)`` with the powers P of the
    samples and R of the reference, neither below 80 dB under the loudest cell of the reference. An equal
    gain at every frequency gives that gain.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16
    n_fft : int
        Length of the Hann window and of the transform, in samples.
    hop_length : int
        Samples from a column to the next.

    Raises
    ------
    ParameterError
        If their lengths differ.

    References
    ----------
    A. H. Gray and J. D. Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24(5), 1976,
    equation 4 with p = 2.
    """
    x, r = _pair(samples, reference)
    powers = [np.abs(np.fft.rfft(_windows(y, n_fft, hop_length), axis=1)) ** 2 for y in (x, r)]
    floor = powers[1].max() * 10.0 ** (_FLOOR_DB / 10.0)
    if floor == 0.0:
        return float("nan") if powers[0].max() > 0.0 else 0.0
    difference = 10.0 * np.log10(np.maximum(powers[0], floor) / np.maximum(powers[1], floor))
    return float(np.sqrt((difference**2).mean(axis=1)).mean())


def boundary_click_db(samples: AnyArray, borders: Sequence[int], *, sample_rate: int) -> float:
    """Return how much sharper the samples bend at the borders of chunks than around them, in dB.

    The ratio of two mean energies of the second difference ``x[n + 1] - 2 x[n] + x[n - 1]``: at the two
    of them that span a border, and at the others within 10 ms of one. Speech that was cut without a
    trace gives about 0; a click at the borders gives as much as it stands out of the speech around it.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), floating or int16
    borders : sequence of int
        First sample of each chunk but the first, in [1, n_samples).
    sample_rate : int
        Hz

    Returns
    -------
    float
        NaN if there is no border, or nothing but straight lines around every one.

    Raises
    ------
    ParameterError
        If a border is not inside of the samples.
    """
    x = as_signal("samples", samples)
    for border in borders:
        if not 1 <= border < x.size:
            raise ParameterError(f"borders holds {border}, which must be in [1, {x.size})")
    energy = np.zeros(x.size)
    energy[1:-1] = np.diff(x, n=2) ** 2
    at_border, near = np.zeros(x.size, bool), np.zeros(x.size, bool)
    radius = max(2, round(_CLICK_RADIUS_S * _checked_rate(sample_rate)))
    for border in borders:
        at_border[border - 1 : border + 1] = True
        near[max(0, border - radius) : border + radius] = True
    at_border[[0, -1]] = near[[0, -1]] = False  # no second difference there
    near &= ~at_border
    if not at_border.any() or not near.any():
        return float("nan")
    return _ratio_db(float(energy[at_border].mean()), float(energy[near].mean()))


def _ratio_db(numerator: float, denominator: float) -> float:
    if numerator == 0.0 == denominator:
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(10.0 * (np.log10(numerator) - np.log10(denominator)))


def _windows(signal: NDArray[np.float64], size: int, hop: int) -> NDArray[np.float64]:
    """Return Hann-weighted segments (n_segments, size) over the whole signal, padded with zeros."""
    if size < 1 or hop < 1:
        raise ParameterError(f"a window of {size} samples every {hop} must be of at least 1 every 1")
    padded = np.pad(signal, size // 2)
    if padded.size < size:
        padded = np.pad(padded, (0, size - padded.size))
    segments = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    weighted: NDArray[np.float64] = segments * np.hanning(size + 1)[:-1]
    return weighted


def _pair(samples: AnyArray, reference: AnyArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    if x.size != r.size:
        raise ParameterError(f"samples of length {x.size} must be as long as the reference, {r.size}")
    return x, r


def _checked_rate(sample_rate: int) -> int:
    if sample_rate < 1:
        raise ParameterError(f"sample_rate={sample_rate} must be >= 1")
    return sample_rate
