"""How far streamed samples are from those of the whole utterance; NumPy alone.

Every function takes samples and a reference, of shape (n_samples,), floating or int16, and the rate of both
in Hz if it needs that. Both must have the same length, else a `ParameterError` is raised: streaming changes
values and no durations. Where durations differ, see `mel_cepstral_distortion_db`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray
from balacoon_tk.audio import PCM16_MAX
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.registry import metric

_FLOOR_DB = -80.0  # quieter than this below the reference's loudest cell counts as silence

_loss = partial(metric, group="signal", better="lower")
_ratio = partial(metric, group="signal", better="higher", unit="dB", digits=1)


def as_signal(name: str, samples: object) -> NDArray[np.float64]:
    """Return samples as float64, full scale being 1; `name` is what the error calls them."""
    found = f"of type {type(samples).__name__}"
    if isinstance(samples, np.ndarray):
        found = f"of shape {samples.shape}, {samples.dtype}"
    if (
        not isinstance(samples, np.ndarray)
        or samples.ndim != 1
        or not (samples.dtype == np.int16 or np.issubdtype(samples.dtype, np.floating))
    ):
        raise ParameterError(f"{name} {found} must be a 1-D array of floats or int16")
    if samples.size == 0:
        raise ParameterError(f"{name} must hold at least one sample")
    # Differences near rounding are squared in here, where float32 would lose them.
    signal = samples.astype(np.float64)
    if samples.dtype == np.int16:
        return signal / PCM16_MAX
    if not np.isfinite(signal).all():
        position = int(np.argmin(np.isfinite(signal)))
        raise ParameterError(f"{name}[{position}]={samples[position]} must be finite")
    return signal


@_loss("max_abs_diff", label="largest difference", digits=7)
def max_abs_diff(samples: AnyArray, reference: AnyArray) -> float:
    """Return the largest difference to a sample of the reference, full scale being 1."""
    x, r = as_pair(samples, reference)
    return float(np.max(np.abs(x - r)))


@_ratio("snr_db", label="SNR")
def snr_db(samples: AnyArray, reference: AnyArray) -> float:
    """Return the signal-to-noise ratio in dB, the noise being the difference to the reference.

    ``10 log10(sum(reference**2) / sum((samples - reference)**2))``; infinite if they are equal.
    """
    x, r = as_pair(samples, reference)
    return _ratio_db(float(np.sum(r**2)), float(np.sum((x - r) ** 2)))


@_ratio("segmental_snr_db", label="segmental SNR")
def segmental_snr_db(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return the mean of the SNR of short segments in dB, each limited to [-10, 35].

    Segments last 30 ms, begin every 7.5 ms and are weighted by a Hann window; those in which the
    reference is silent (80 dB below its loudest one) are left out. NaN if all are.

    References
    ----------
    J. H. L. Hansen and B. L. Pellom, "An effective quality evaluation protocol for speech enhancement
    algorithms", ICSLP 1998, section 2.1; the limits are theirs.
    """
    x, r = as_pair(samples, reference)
    size = max(4, round(0.03 * checked_rate(sample_rate)))
    signal = np.sum(_windows(r, size, size // 4) ** 2, axis=1)
    noise = np.sum(_windows(x - r, size, size // 4) ** 2, axis=1)
    sounding = signal > signal.max() * 10.0 ** (_FLOOR_DB / 10.0)
    if not sounding.any():
        return float("nan")
    with np.errstate(divide="ignore"):
        # A segment without noise is infinitely good, which the limits make 35 dB of.
        ratios = 10.0 * np.log10(signal[sounding] / noise[sounding])
    return float(np.clip(ratios, -10.0, 35.0).mean())


@_loss("log_spectral_distance_db", label="log-spectral distance", unit="dB", digits=4, search_name="lsd_db")
def log_spectral_distance_db(
    samples: AnyArray, reference: AnyArray, *, n_fft: int = 1024, hop_length: int = 256
) -> float:
    """Return the log-spectral distance in dB, the mean over columns of the spectrogram.

    ``mean over t of sqrt(mean over f of (10 log10(P[f, t] / R[f, t]))**2)`` with the powers P of the
    samples and R of the reference, neither below 80 dB under the loudest cell of the reference. An equal
    gain at every frequency gives that gain. The Hann window is as long as the transform; both lengths and
    the hop are in samples.

    References
    ----------
    A. H. Gray and J. D. Markel, "Distance measures for speech processing", IEEE Trans. ASSP 24(5), 1976,
    equation 4 with p = 2.
    """
    x, r = as_pair(samples, reference)
    powers = [power_spectrogram(y, n_fft, hop_length) for y in (x, r)]
    # Below the reference's own loudest cell and not absolute: a voice that is soft is judged like others.
    # Silence against near-silence would else be the largest distance of all.
    floor = powers[1].max() * 10.0 ** (_FLOOR_DB / 10.0)
    if floor == 0.0:
        return float("nan") if powers[0].max() > 0.0 else 0.0
    difference = 10.0 * np.log10(np.maximum(powers[0], floor) / np.maximum(powers[1], floor))
    return float(np.sqrt((difference**2).mean(axis=0)).mean())


def boundary_click_db(samples: AnyArray, borders: Sequence[int], *, sample_rate: int) -> float:
    """Return how much sharper the samples bend at the borders of chunks than around them, in dB.

    The ratio of two mean energies of the second difference ``x[n + 1] - 2 x[n] + x[n - 1]``: at the two
    of them that span a border, and at the others within 10 ms of one. Speech that was cut without a
    trace gives about 0; a click at the borders gives as much as it stands out of the speech around it. NaN
    if there is no border, or nothing but straight lines around every one.

    Borders are the first sample of each chunk but the first; one outside [1, n_samples) is a
    `ParameterError`.
    """
    x = as_signal("samples", samples)
    for border in borders:
        if not 1 <= border < x.size:
            raise ParameterError(f"borders holds {border}, which must be in [1, {x.size})")
    # The second difference sees a jump and a kink alike, and no loudness.
    energy = np.zeros(x.size)
    energy[1:-1] = np.diff(x, n=2) ** 2
    at_border, near = np.zeros(x.size, bool), np.zeros(x.size, bool)
    radius = max(2, round(0.01 * checked_rate(sample_rate)))
    for border in borders:
        at_border[border - 1 : border + 1] = True
        near[max(0, border - radius) : border + radius] = True
    # A border beside an end has a difference on one side only; there is none at the ends themselves.
    at_border[[0, -1]] = near[[0, -1]] = False
    near &= ~at_border
    if not at_border.any() or not near.any():
        return float("nan")
    return _ratio_db(float(energy[at_border].mean()), float(energy[near].mean()))


@_loss("click_db", label="boundary click", unit="dB", digits=3)
def _click_db(samples: AnyArray, reference: AnyArray, borders: Sequence[int], sample_rate: int) -> float:
    # Speech that bends at a border by itself is no click: the whole bends there as well.
    streamed, whole = (boundary_click_db(x, borders, sample_rate=sample_rate) for x in (samples, reference))
    return streamed - whole


def _ratio_db(numerator: float, denominator: float) -> float:
    # Nothing over nothing is no ratio; anything over nothing is infinite, and says so.
    if numerator == 0.0 == denominator:
        return float("nan")
    with np.errstate(divide="ignore"):
        return float(10.0 * (np.log10(numerator) - np.log10(denominator)))


def power_spectrogram(signal: NDArray[np.floating], n_fft: int, hop_length: int) -> NDArray[np.float64]:
    """Return powers of shape (n_fft // 2 + 1, n_columns), column t centred on sample ``t * hop_length``."""
    power: NDArray[np.float64] = np.abs(np.fft.rfft(_windows(signal, n_fft, hop_length), axis=1)).T ** 2
    return power


def _windows(signal: NDArray[np.floating], size: int, hop: int) -> NDArray[np.float64]:
    """Return Hann-weighted segments (n_segments, size) over the whole signal, padded with zeros."""
    if size < 1 or hop < 1:
        raise ParameterError(f"a window of {size} samples every {hop} must be of at least 1 every 1")
    # Around no sample, two halves of an odd window are one short of a segment.
    padded = np.pad(signal, (size // 2, max(size // 2, size - size // 2 - signal.size)))
    segments = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    # Without its last value the window is periodic, and overlapping ones add up evenly.
    weighted: NDArray[np.float64] = segments * np.hanning(size + 1)[:-1]
    return weighted


def as_pair(samples: AnyArray, reference: AnyArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both as `as_signal` does, or refuse two of different length."""
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    if x.size != r.size:
        raise ParameterError(f"samples of length {x.size} must be as long as the reference, {r.size}")
    return x, r


def checked_rate(sample_rate: int) -> int:
    """Return a rate in Hz, or refuse it."""
    if sample_rate < 1:
        raise ParameterError(f"sample_rate={sample_rate} must be >= 1")
    return sample_rate
