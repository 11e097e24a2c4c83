"""Speech against a reference as hearing and prosody see it: cepstra, pitch, PESQ and STOI.

All need the extra `eval`: a `MissingExtraError` names it, and a `ParameterError` what is wrong with an
argument. They take samples and a reference of shape (n_samples,), floating or int16, and the rate of both in
Hz. Cepstra and pitch also compare readings of different length: frames are then matched by dynamic time
warping of their cepstra. PESQ and STOI refuse two of different length, and what is too short or no speech.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.registry import import_eval, metric
from balacoon_tk.metrics.signal import as_pair, as_signal, checked_rate

# Hz; what recognisers and judges of speech were trained on.
EVAL_RATE = 16000

_N_MELS = 80
_N_CEPSTRA = 13
_FLOOR_DB = -80.0
_PITCH_LIMITS_HZ = (60.0, 500.0)
_PITCH_HOP_S = 0.01

_loss = partial(metric, better="lower", packages=("librosa",))
_pitch = partial(_loss, group="pitch")


@dataclass(frozen=True, slots=True)
class PitchErrors:
    """How far the fundamental frequency is from that of a reference."""

    rmse_hz: float
    """Over frames that are voiced in both; NaN if there is none."""
    rmse_cents: float
    """The same on the scale of hearing, an octave being 1200."""
    voicing_error: float
    """Share of frames, 0 to 1, that are voiced in one and unvoiced in the other."""


@_loss(
    "mel_cepstral_distortion_db",
    group="mcd",
    label="mel-cepstral distortion",
    unit="dB",
    digits=4,
    search_name="mcd_db",
)
def mel_cepstral_distortion_db(
    samples: AnyArray, reference: AnyArray, *, sample_rate: int, n_cepstra: int = _N_CEPSTRA
) -> float:
    """Return the mel-cepstral distortion in dB, the mean over (matched) frames.

    ``10 / ln 10 * sqrt(2 * sum over d = 1..n_cepstra of (c[d] - r[d])**2)``, the coefficients being those
    of ``ln |S| = c[0] + sum of c[d] cos(d w)`` over 80 mel bands w of frames every 5 ms; ``c[0]``, the
    loudness, is left out. With all coefficients, of which there are 79, it is the rms difference of the two
    mel spectra in dB.

    References
    ----------
    R. F. Kubichek, "Mel-cepstral distance measure for objective speech quality assessment", IEEE PACRIM
    1993, equation 1.
    """
    if not 1 <= n_cepstra < _N_MELS:
        raise ParameterError(f"n_cepstra={n_cepstra} must be in [1, {_N_MELS - 1}]")
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    c, d = _mel_cepstra(x, r, sample_rate, hop_s=0.005, n_cepstra=n_cepstra)
    # Where durations are equal nothing is warped: a shift would be an error, and warping hides it.
    rows, columns = _matched(c, d)
    distance = np.sqrt(2.0 * np.sum((c[:, rows] - d[:, columns]) ** 2, axis=0))
    return float(10.0 / math.log(10.0) * distance.mean())


def pitch_errors(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> PitchErrors:
    """Return RMSE of the fundamental frequency, and how often voicing is not the same.

    Pitch is tracked by probabilistic YIN between 60 and 500 Hz, every 10 ms; the rate must be >= 2000 Hz.

    References
    ----------
    M. Mauch and S. Dixon, "pYIN: a fundamental frequency estimator using probabilistic threshold
    distributions", ICASSP 2014; voicing error as the "VDE" of W. Chu and A. Alwan, "Reducing F0 frame
    error of F0 tracking algorithms under noisy conditions", ICASSP 2009, section 2.
    """
    x, r = as_signal("samples", samples), as_signal("reference", reference)
    pitch, target = track_pitch(x, sample_rate=sample_rate), track_pitch(r, sample_rate=sample_rate)
    if x.size != r.size:
        rows, columns = _matched(*_mel_cepstra(x, r, sample_rate, hop_s=_PITCH_HOP_S))
        pitch, target = pitch[rows], target[columns]
    return compare_pitch(pitch, target)


@_pitch("voicing_error", label="voicing error", digits=4, attribute="voicing_error")
@_pitch("f0_rmse_cents", label="F0 RMSE", unit="cents", search_name="f0_rmse_cents", attribute="rmse_cents")
@_pitch("f0_rmse_hz", label="F0 RMSE", unit="Hz", attribute="rmse_hz")
def compare_pitch(pitch: NDArray[np.float64], reference_pitch: NDArray[np.float64]) -> PitchErrors:
    """Return `pitch_errors` of two tracks of as many frames; see `track_pitch`."""
    voiced, wanted = ~np.isnan(pitch), ~np.isnan(reference_pitch)
    both = voiced & wanted
    rmse_hz = rmse_cents = math.nan
    if both.any():
        rmse_hz = float(np.sqrt(np.mean((pitch[both] - reference_pitch[both]) ** 2)))
        cents = 1200.0 * np.log2(pitch[both] / reference_pitch[both])
        rmse_cents = float(np.sqrt(np.mean(cents**2)))
    return PitchErrors(rmse_hz, rmse_cents, float(np.mean(voiced != wanted)))


@metric("pesq", group="pesq", label="PESQ", better="higher", packages=("pesq", "librosa"))
def pesq(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return wide-band PESQ, a predicted opinion of the samples beside the reference: 1.04 to 4.64.

    It takes a quarter of a second at least; both are resampled to 16 kHz.

    References
    ----------
    ITU-T P.862.2 (2007).
    """
    x, r = _pair_at_16_khz(samples, reference, sample_rate, at_least_s=0.25, what="PESQ")
    package = import_eval("pesq", what="PESQ")
    try:
        # Both packages take the reference first.
        return float(package.pesq(EVAL_RATE, r.astype(np.float32), x.astype(np.float32), "wb"))
    except package.PesqError as error:
        message = error.args[0].decode() if isinstance(error.args[0], bytes) else str(error)
        raise ParameterError(f"samples can't be judged by PESQ: {message}") from error


@metric("stoi", group="stoi", label="STOI", better="higher", digits=4, packages=("pystoi", "librosa"))
def stoi(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return the short-time objective intelligibility of the samples beside the reference, up to 1.

    It takes 0.4 s of speech at least, the silent parts not counted; both are resampled to 16 kHz.

    References
    ----------
    C. H. Taal et al., "An algorithm for intelligibility prediction of time-frequency weighted noisy
    speech", IEEE Trans. ASLP 19(7), 2011.
    """
    x, r = _pair_at_16_khz(samples, reference, sample_rate, at_least_s=0.4, what="STOI")
    package = import_eval("pystoi", what="STOI")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        try:
            return float(package.stoi(r, x, EVAL_RATE))
        # It would return 1e-5 for what it can't judge.
        except RuntimeWarning as warning:
            raise ParameterError(f"samples can't be judged by STOI: {warning}") from warning


def _pair_at_16_khz(
    samples: AnyArray, reference: AnyArray, sample_rate: int, *, at_least_s: float, what: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, r = as_pair(samples, reference)
    if x.size < at_least_s * sample_rate:
        raise ParameterError(f"samples last {x.size / sample_rate:.2f} s, and {what} needs {at_least_s} s")
    if not x.any() or not r.any():
        raise ParameterError(f"samples and reference must not be silent throughout for {what}")
    return at_eval_rate(x, sample_rate), at_eval_rate(r, sample_rate)


def at_eval_rate(samples: NDArray[np.float64], sample_rate: int) -> NDArray[np.float64]:
    """Return the samples at 16 kHz (soxr, high quality), of length ``ceil(n * 16000 / sample_rate)``."""
    if checked_rate(sample_rate) == EVAL_RATE:
        return samples
    # By its best filter: what lies above half the new rate is gone, and not folded back among the speech.
    librosa = import_eval("librosa", what="resampling")
    resampled: NDArray[np.float64] = librosa.resample(samples, orig_sr=sample_rate, target_sr=EVAL_RATE)
    return resampled


def _mel_power(signal: NDArray[np.float64], sample_rate: int, hop_s: float) -> NDArray[np.float64]:
    """Return powers (80, n_frames), a frame centred on every multiple of the hop."""
    n_window = max(2, round(0.025 * checked_rate(sample_rate)))
    librosa = import_eval("librosa", what="mel cepstra")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # at low rates the lowest mel bands are empty
        power: NDArray[np.float64] = librosa.feature.melspectrogram(
            y=signal,
            sr=sample_rate,
            # At least twice the window: the lowest mel bands are narrower than a bin of a shorter one.
            n_fft=2 ** math.ceil(math.log2(2 * n_window)),
            win_length=n_window,
            hop_length=max(1, round(hop_s * sample_rate)),
            n_mels=_N_MELS,
            pad_mode="constant",
        )
    return power


def _mel_cepstra(
    x: NDArray[np.float64],
    r: NDArray[np.float64],
    sample_rate: int,
    *,
    hop_s: float,
    n_cepstra: int = _N_CEPSTRA,
) -> list[NDArray[np.float64]]:
    """Return c[1] to c[n_cepstra] of each frame of both, each (n_cepstra, n_frames)."""
    powers = [_mel_power(signal, sample_rate, hop_s) for signal in (x, r)]
    # One floor for both, the reference's: what is inaudible in it must not bend the cepstra of the other.
    floor = max(powers[1].max() * 10.0 ** (_FLOOR_DB / 10.0), np.finfo(float).tiny)
    orders = np.arange(1, n_cepstra + 1)[:, np.newaxis]
    cosines = np.cos(math.pi * orders * (np.arange(_N_MELS) + 0.5) / _N_MELS)
    return [2.0 / _N_MELS * cosines @ (0.5 * np.log(np.maximum(power, floor))) for power in powers]


def _matched(c: NDArray[np.float64], d: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return which frame of `c` belongs to which of `d`: each to its own where there are as many."""
    if c.shape[1] == d.shape[1]:
        return (np.arange(c.shape[1]),) * 2
    librosa = import_eval("librosa", what="dynamic time warping")
    _, path = librosa.sequence.dtw(c, d, metric="euclidean")
    # The path is traced from its end.
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
        # YIN lays a stretch over itself a period later: two and a half of the longest period fit in.
        frame_length=2 ** math.ceil(math.log2(2.5 * sample_rate / low)),
        hop_length=max(1, round(_PITCH_HOP_S * sample_rate)),
        fill_na=np.nan,
        pad_mode="constant",
    )
    return np.where(voiced, pitch, np.nan)
