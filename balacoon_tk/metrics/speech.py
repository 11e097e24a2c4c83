"""Speech against a reference as hearing and prosody see it: cepstra, pitch, PESQ and STOI.

All need the extra `eval`. Cepstra and pitch also compare readings of different length: where the
lengths differ, frames are matched by dynamic time warping of their cepstra.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics._extra import EVAL_RATE, import_eval, resample
from balacoon_tk.metrics.signal import as_signal

_HOP_S = 0.005
_WINDOW_S = 0.025
_N_MELS = 80
_N_CEPSTRA = 13
_FLOOR_DB = -80.0
_PITCH_LIMITS_HZ = (60.0, 500.0)
_PITCH_HOP_S = 0.01
_CENTS_PER_OCTAVE = 1200.0
_PESQ_MIN_S = 0.25
_STOI_MIN_S = 0.4


@dataclass(frozen=True, slots=True)
class PitchErrors:
    """How far the fundamental frequency is from that of a reference."""

    rmse_hz: float
    """Over frames that are voiced in both; NaN if there is none."""
    rmse_cents: float
    """The same on the scale of hearing, an octave being 1200."""
    voicing_error: float
    """Share of frames, 0 to 1, that are voiced in one and unvoiced in the other."""


def mel_cepstral_distortion_db(
    samples: AnyArray, reference: AnyArray, *, sample_rate: int, n_cepstra: int = _N_CEPSTRA
) -> float:
    """Return the mel-cepstral distortion in dB, the mean over (matched) frames.

    ``10 / ln 10 * sqrt(2 * sum over d = 1..n_cepstra of (c[d] - r[d])**2)``, the coefficients being those
    of ``ln |S| = c[0] + sum of c[d] cos(d w)`` over 80 mel bands w of frames every 5 ms; ``c[0]``, the
    loudness, is left out. With all coefficients it is the rms difference of the two mel spectra in dB.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16
        Where their lengths differ, frames are matched by dynamic time warping.
    sample_rate : int
        Hz, of both.
    n_cepstra : int
        Coefficients that are compared, in [1, 79].

    Raises
    ------
    MissingExtraError
        If librosa isn't installed.
    ParameterError
        If an argument is wrong.

    References
    ----------
    R. F. Kubichek, "Mel-cepstral distance measure for objective speech quality assessment", IEEE PACRIM
    1993, equation 1.
    """
    if not 1 <= n_cepstra < _N_MELS:
        raise ParameterError(f"n_cepstra={n_cepstra} must be in [1, {_N_MELS - 1}]")
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    floor = _mel_power(r, sample_rate, _HOP_S).max() * 10.0 ** (_FLOOR_DB / 10.0)
    c, d = (_mel_cepstra(y, sample_rate, _HOP_S, floor, n_cepstra) for y in (x, r))
    rows, columns = _matched(c, d)
    distance = np.sqrt(2.0 * np.sum((c[:, rows] - d[:, columns]) ** 2, axis=0))
    return float(10.0 / math.log(10.0) * distance.mean())


def pitch_errors(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> PitchErrors:
    """Return RMSE of the fundamental frequency, and how often voicing is not the same.

    Pitch is tracked by probabilistic YIN between 60 and 500 Hz, every 10 ms.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16
        Where their lengths differ, frames are matched by dynamic time warping of mel cepstra.
    sample_rate : int
        Hz, of both; at least 2000.

    Raises
    ------
    MissingExtraError
        If librosa isn't installed.
    ParameterError
        If an argument is wrong.

    References
    ----------
    M. Mauch and S. Dixon, "pYIN: a fundamental frequency estimator using probabilistic threshold
    distributions", ICASSP 2014; voicing error as the "VDE" of W. Chu and A. Alwan, "Reducing F0 frame
    error of F0 tracking algorithms under noisy conditions", ICASSP 2009, section 2.
    """
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    pitch, target = track_pitch(x, sample_rate=sample_rate), track_pitch(r, sample_rate=sample_rate)
    if x.size != r.size:
        floor = _mel_power(r, sample_rate, _PITCH_HOP_S).max() * 10.0 ** (_FLOOR_DB / 10.0)
        cepstra = (_mel_cepstra(y, sample_rate, _PITCH_HOP_S, floor, _N_CEPSTRA) for y in (x, r))
        rows, columns = _matched(*cepstra)
        pitch, target = pitch[rows], target[columns]
    return compare_pitch(pitch, target)


def compare_pitch(pitch: NDArray[np.float64], target: NDArray[np.float64]) -> PitchErrors:
    """Return `pitch_errors` of two tracks of as many frames; see `track_pitch`."""
    voiced, wanted = ~np.isnan(pitch), ~np.isnan(target)
    both = voiced & wanted
    rmse_hz = rmse_cents = math.nan
    if both.any():
        rmse_hz = float(np.sqrt(np.mean((pitch[both] - target[both]) ** 2)))
        cents = _CENTS_PER_OCTAVE * np.log2(pitch[both] / target[both])
        rmse_cents = float(np.sqrt(np.mean(cents**2)))
    return PitchErrors(rmse_hz, rmse_cents, float(np.mean(voiced != wanted)))


def pesq(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return wide-band PESQ, a predicted opinion of the samples beside the reference: 1.04 to 4.64.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16
        At least a quarter of a second.
    sample_rate : int
        Hz; both are resampled to 16 kHz.

    Raises
    ------
    MissingExtraError
        If pesq or librosa isn't installed.
    ParameterError
        If they are too short or hold no speech, or their lengths differ.

    References
    ----------
    ITU-T P.862.2 (2007).
    """
    x, r = _pair_at_16_khz(samples, reference, sample_rate, at_least_s=_PESQ_MIN_S, what="PESQ")
    package = import_eval("pesq", what="PESQ")
    try:
        return float(package.pesq(EVAL_RATE, r.astype(np.float32), x.astype(np.float32), "wb"))
    except package.PesqError as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ParameterError(f"samples can't be judged by PESQ: {message}") from error


def stoi(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return the short-time objective intelligibility of the samples beside the reference, up to 1.

    Parameters
    ----------
    samples, reference : ndarray of shape (n_samples,), floating or int16
        At least 0.4 s of speech, the silent parts not counted.
    sample_rate : int
        Hz

    Raises
    ------
    MissingExtraError
        If pystoi or librosa isn't installed.
    ParameterError
        If they are too short or hold no speech, or their lengths differ.

    References
    ----------
    C. H. Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech", IEEE Trans. ASLP 19(7), 2011.
    """
    x, r = _pair_at_16_khz(samples, reference, sample_rate, at_least_s=_STOI_MIN_S, what="STOI")
    package = import_eval("pystoi", what="STOI")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(r, x, EVAL_RATE))
        except RuntimeWarning as warning:  # it would return 1e-5 for what it can't judge
            raise ParameterError(f"samples can't be judged by STOI: {warning}") from warning


def _pair_at_16_khz(
    samples: AnyArray, reference: AnyArray, sample_rate: int, *, at_least_s: float, what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    if x.size != r.size:
        raise ParameterError(f"samples of length {x.size} must be as long as the reference, {r.size}")
    if x.size < at_least_s * sample_rate:
        raise ParameterError(f"samples last {x.size / sample_rate:.2f} s, and {what} needs {at_least_s} s")
    if not x.any() or not r.any():
        raise ParameterError(f"samples and reference must not be silent throughout for {what}")
    return resample(x, sample_rate, EVAL_RATE), resample(r, sample_rate, EVAL_RATE)


def _mel_power(signal: NDArray[np.float64], sample_rate: int, hop_s: float) -> NDArray[np.float64]:
    """Return powers (80, n_frames), a frame centred on every multiple of the hop."""
    if sample_rate < 1:
        raise ParameterError(f"sample_rate={sample_rate} must be >= 1")
    librosa = import_eval("librosa", what="mel cepstra")
    n_window = max(2, round(_WINDOW_S * sample_rate))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # at low rates the lowest mel bands are empty
        power: NDArray[np.float64] = librosa.feature.melspectrogram(
            y=signal,
            sr=sample_rate,
            n_fft=2 ** math.ceil(math.log2(2 * n_window)),
            win_length=n_window,
            hop_length=max(1, round(hop_s * sample_rate)),
            n_mels=_N_MELS,
            pad_mode="constant",
        )
    return power


def _mel_cepstra(
    signal: NDArray[np.float64], sample_rate: int, hop_s: float, floor: float, n_cepstra: int
) -> NDArray[np.float64]:
    """Return c[1] to c[n_cepstra] of each frame, (n_cepstra, n_frames)."""
    power = np.maximum(_mel_power(signal, sample_rate, hop_s), max(floor, np.finfo(float).tiny))
    orders = np.arange(1, n_cepstra + 1)[:, np.newaxis]
    cosines = np.cos(math.pi * orders * (np.arange(_N_MELS) + 0.5) / _N_MELS)
    cepstra: NDArray[np.float64] = 2.0 / _N_MELS * cosines @ (0.5 * np.log(power))
    return cepstra


def _matched(c: NDArray[np.float64], d: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which frame of `c` belongs to which of `d`: each to its own where there are as many."""
    if c.shape[1] == d.shape[1]:
        both = np.arange(c.shape[1])
        return both, both
    librosa = import_eval("librosa", what="dynamic time warping")
    _, path = librosa.sequence.dtw(c, d, metric="euclidean")
    return path[::-1, 0], path[::-1, 1]


def track_pitch(samples: AnyArray, *, sample_rate: int) -> NDArray[np.float64]:
    """Return the pitch every 10 ms in Hz, NaN where there is none; as for `pitch_errors`."""
    if sample_rate < 4 * _PITCH_LIMITS_HZ[1]:
        raise ParameterError(f"sample_rate={sample_rate} must be >= {4 * _PITCH_LIMITS_HZ[1]:.0f} for pitch")
    signal = as_signal("samples", samples)
    librosa = import_eval("librosa", what="pitch")
    low, high = _PITCH_LIMITS_HZ
    pitch: NDArray[np.float64]
    pitch, voiced, _ = librosa.pyin(
        signal,
        fmin=low,
        fmax=high,
        sr=sample_rate,
        frame_length=2 ** math.ceil(math.log2(2.5 * sample_rate / low)),
        hop_length=max(1, round(_PITCH_HOP_S * sample_rate)),
        fill_na=np.nan,
        pad_mode="constant",
    )
    return np.where(voiced, pitch, np.nan)
