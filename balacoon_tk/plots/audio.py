"""Pictures of sound: waveform, spectrogram, mel spectrogram, difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import FloatArray
from balacoon_tk.audio import PhonemeSpan
from balacoon_tk.errors import ParameterError
from balacoon_tk.plots.figure import BORDER, INK, PCM16_STEP, envelope, styles_of, zero_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_DB_RANGE = 80.0
_LARGEST_VALUE = 3.0  # of a channel; they are drawn from a normal distribution around the encodings
_MOST_DB = 30.0  # of a difference; what is more is drawn as that much
_N_COLUMNS = 2400  # more than a page has dots
_N_FFT = 1024
_MEL_TICKS_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)
_NARROWEST_LABEL = 0.0045
"""Share of the axes below which a phoneme's name would run into the next one's."""


def spectrogram_db(samples: FloatArray, *, n_fft: int = _N_FFT, hop_length: int = 256) -> NDArray[np.float32]:
    """Return the power spectrogram in dB relative to its loudest cell.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Padded with zeros, so that column ``t`` is centred on sample ``t * hop_length``.
    n_fft : int
        Length of the Hann window and of the transform, in samples.
    hop_length : int
        Samples from a column to the next.

    Returns
    -------
    ndarray of shape (n_fft // 2 + 1, n_columns), float32
        ``n_columns = 1 + n_samples // hop_length``; at most 0, cut at -80.
    """
    return _decibels(_power(samples, n_fft, hop_length))


def mel_db(
    samples: FloatArray,
    *,
    sample_rate: int,
    n_fft: int = _N_FFT,
    hop_length: int = 256,
    n_mels: int = 80,
) -> NDArray[np.float32]:
    """Return the mel spectrogram in dB relative to its loudest cell.

    Parameters
    ----------
    samples : ndarray of shape (n_samples,), float32
        Padded as in `spectrogram_db`.
    sample_rate : int
        Hz
    n_fft, hop_length : int
        As in `spectrogram_db`.
    n_mels : int
        Bands, triangles of equal area that are evenly spaced in mel from 0 to half the sample rate.

    Returns
    -------
    ndarray of shape (n_mels, n_columns), float32
        At most 0, cut at -80.

    References
    ----------
    The scale is that of M. Slaney, "Auditory Toolbox", Interval Research, 1998: linear below 1 kHz,
    logarithmic above.
    """
    bins_hz = np.linspace(0.0, sample_rate / 2.0, n_fft // 2 + 1)
    edges_hz = _mel_to_hz(np.linspace(0.0, _hz_to_mel(np.array(sample_rate / 2.0)), n_mels + 2))
    rising = (bins_hz - edges_hz[:-2, None]) / np.diff(edges_hz)[:-1, None]
    falling = (edges_hz[2:, None] - bins_hz) / np.diff(edges_hz)[1:, None]
    filters = np.maximum(0.0, np.minimum(rising, falling)) * 2.0 / (edges_hz[2:] - edges_hz[:-2])[:, None]
    return _decibels(filters @ _power(samples, n_fft, hop_length))


def draw_waveform(
    axes: Axes,
    samples: FloatArray,
    *,
    sample_rate: int,
    borders: Sequence[int] = (),
    border_colour: str = BORDER,
    alignment: Sequence[PhonemeSpan] = (),
) -> None:
    """Draw samples over time, the borders of chunks as ticks above, and phonemes below.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    samples : ndarray of shape (n_samples,), float32
        Drawn as the band between the lowest and the highest sample of each short span, or as a line if
        there are so few that each can be seen.
    sample_rate : int
        Hz
    borders : sequence of int
        First sample of each chunk but the first.
    border_colour : str
        A colour as matplotlib names them.
    alignment : sequence of PhonemeSpan
        What is said when; a phoneme too short for its name is drawn without.
    """
    low, high, times_s = envelope(samples, sample_rate, n_spans=2000)
    if low.size == samples.size:  # a band of one sample has no height
        axes.plot(times_s, samples, color=INK, linewidth=0.9)
    else:
        axes.fill_between(times_s, low, high, color=INK, linewidth=0.3)
    peak = float(np.max(np.abs(samples), initial=1e-3))
    axes.set(ylim=(-(1.6 if alignment else 1.1) * peak, 1.5 * peak), ylabel="amplitude")
    if alignment:
        _draw_phonemes(axes, alignment, bottom=0.0, top=0.14)
    borders_s = np.asarray(borders) / sample_rate
    across = axes.get_xaxis_transform()  # at one height in panels that share their amplitudes
    axes.vlines(borders_s, 0.9, 1.0, transform=across, color=border_colour, linewidth=1.2)


def draw_spectrogram(axes: Axes, samples: FloatArray, *, sample_rate: int) -> AxesImage:
    """Draw the power spectrogram, in dB below its loudest cell, up to half the sample rate."""
    hop_length = max(64, samples.size // _N_COLUMNS)
    values = spectrogram_db(samples, hop_length=hop_length)
    image = _draw_image(axes, values, column_s=hop_length / sample_rate, top=sample_rate / 2.0)
    axes.yaxis.set_major_formatter(lambda hz, _: f"{hz / 1e3:g}")
    axes.set(ylabel="frequency (kHz)")
    return image


def draw_mel(
    axes: Axes, samples: FloatArray, *, sample_rate: int, alignment: Sequence[PhonemeSpan] = ()
) -> AxesImage:
    """Draw the mel spectrogram, in dB below its loudest cell, with the phonemes above it.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    samples : ndarray of shape (n_samples,), float32
    sample_rate : int
        Hz
    alignment : sequence of PhonemeSpan
        What is said when; white lines show where one phoneme becomes the next.
    """
    hop_length = max(64, samples.size // _N_COLUMNS)
    values = mel_db(samples, sample_rate=sample_rate, hop_length=hop_length)
    n_mels = len(values)
    image = _draw_image(axes, values, column_s=hop_length / sample_rate, top=n_mels)
    ticks_hz = np.array([hz for hz in _MEL_TICKS_HZ if hz <= sample_rate / 2.0])
    band = n_mels / _hz_to_mel(np.array(sample_rate / 2.0))
    axes.set_yticks((_hz_to_mel(ticks_hz) * band).tolist(), [f"{hz / 1e3:g}" for hz in ticks_hz])
    axes.set(ylabel="frequency (kHz, mel scale)")
    if alignment:
        axes.set(ylim=(0.0, n_mels / 0.9))
        starts_s = [span.start_s for span in alignment]
        axes.vlines(starts_s, 0.0, n_mels, color="white", linewidth=0.4, alpha=0.6)
        _draw_phonemes(axes, alignment, bottom=0.9, top=1.0)
    return image


def draw_difference(
    axes: Axes, samples: Mapping[str, FloatArray], reference: FloatArray, *, sample_rate: int
) -> None:
    """Draw how far each strategy's samples are from the reference's, on a log scale over time.

    Each point is the largest difference within a short span. A span without any difference is drawn on
    the lower edge. The step of 16-bit PCM is drawn too: what lies below it can't be heard, since it is
    not even written to a WAV file.
    """
    bottom, tops = 1e-9, [PCM16_STEP]
    styles = styles_of(samples)
    for name, values in samples.items():
        low, high, times_s = envelope(values - reference, sample_rate, n_spans=300)
        worst = np.maximum(np.abs(low), np.abs(high))
        colour, style, _ = styles[name]
        peak = float(worst.max(initial=0.0))
        label = f"{name}: at most {peak:.1e}" if peak else f"{name}: the same to the bit"
        axes.plot(
            times_s, np.maximum(worst, bottom), color=colour, linestyle=style, linewidth=1.0, label=label
        )
        tops.append(peak)
    axes.axhline(PCM16_STEP, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        "one step of 16-bit PCM",
        (1.0, PCM16_STEP),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize="small",
        color=INK,
    )
    axes.set(yscale="log", ylim=(bottom, 30.0 * max(tops)), ylabel="difference to full")
    axes.yaxis.set_major_formatter(zero_at(bottom))
    if len(tops) > 1:
        axes.legend(loc="upper left", ncols=2, frameon=False, fontsize="small")


def draw_frames(axes: Axes, frames: FloatArray, *, frame_s: float) -> AxesImage:
    """Draw what the decoder reads: each channel of each frame, as far as three from zero.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    frames : ndarray of shape (n_channels, n_frames), float32
        As `Upsampler.window` gives them.
    frame_s : float
        Seconds of audio in a frame.

    Returns
    -------
    AxesImage
        For a colour bar.
    """
    image = axes.imshow(
        frames,
        aspect="auto",
        cmap="PuOr_r",
        vmin=-_LARGEST_VALUE,
        vmax=_LARGEST_VALUE,
        extent=(0.0, frames.shape[1] * frame_s, frames.shape[0], 0.0),
        interpolation="nearest",
    )
    axes.set(xlabel="time (s)", ylabel="channel")
    return image


def draw_spectral_difference(
    axes: Axes, samples: FloatArray, reference: FloatArray, *, sample_rate: int
) -> AxesImage:
    """Draw by how much louder or softer each cell of the spectrogram is than the reference's, in dB.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    samples, reference : ndarray of shape (n_samples,), float32
        As long as each other, and in time with each other.
    sample_rate : int
        Hz

    Returns
    -------
    AxesImage
        For a colour bar: orange is louder than the reference, purple softer. Both are cut at -80 dB of the
        reference's loudest cell, so what is that soft in both is no difference.

    Raises
    ------
    ParameterError
        If the lengths differ.
    """
    if samples.shape != reference.shape:
        raise ParameterError(
            f"samples of shape {samples.shape} must have that of the reference, {reference.shape}"
        )
    hop_length = max(64, samples.size // _N_COLUMNS)
    loudness = [_power(each, _N_FFT, hop_length) for each in (samples, reference)]
    floor = max(float(loudness[1].max()), np.finfo(np.float64).tiny) * 10.0 ** (-_DB_RANGE / 10.0)
    ours, theirs = (10.0 * np.log10(np.maximum(power, floor)) for power in loudness)
    image = _draw_image(axes, ours - theirs, column_s=hop_length / sample_rate, top=sample_rate / 2.0)
    image.set(cmap="PuOr_r", clim=(-_MOST_DB, _MOST_DB))
    axes.yaxis.set_major_formatter(lambda hz, _: f"{hz / 1e3:g}")
    axes.set(ylabel="frequency (kHz)")
    return image


def _draw_image(axes: Axes, values: FloatArray, *, column_s: float, top: float) -> AxesImage:
    """Draw a spectrogram whose first column is centred on time 0."""
    return axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-_DB_RANGE,
        vmax=0.0,
        extent=(-0.5 * column_s, (values.shape[1] - 0.5) * column_s, 0.0, top),
        interpolation="nearest",
    )


def _draw_phonemes(axes: Axes, alignment: Sequence[PhonemeSpan], *, bottom: float, top: float) -> None:
    """Write phonemes into a strip of the axes, given as shares of their height."""
    across = axes.get_xaxis_transform()
    end_s = alignment[-1].end_s
    starts_s = [span.start_s for span in alignment]
    axes.vlines([*starts_s, end_s], bottom, top, transform=across, color=INK, linewidth=0.4, alpha=0.5)
    for span in alignment:
        if span.end_s - span.start_s >= _NARROWEST_LABEL * (end_s - starts_s[0]):
            middle_s = 0.5 * (span.start_s + span.end_s)
            axes.text(
                middle_s,
                0.5 * (bottom + top),
                span.phoneme,
                transform=across,
                ha="center",
                va="center",
                fontsize="small",
                color=INK,
                clip_on=True,
                parse_math=False,
            )


def _power(samples: FloatArray, n_fft: int, hop_length: int) -> NDArray[np.float64]:
    """Return the power spectrogram (n_fft // 2 + 1, n_columns)."""
    padded = np.pad(samples, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    spectrum = np.fft.rfft(windows * np.hanning(n_fft + 1)[:-1], axis=1)
    power: NDArray[np.float64] = np.square(np.abs(spectrum)).T
    return power


def _decibels(power: NDArray[np.float64]) -> NDArray[np.float32]:
    peak = float(power.max())
    if peak == 0.0:
        return np.full(power.shape, -_DB_RANGE, np.float32)
    floor = 10.0 ** (-_DB_RANGE / 10.0)
    decibels: NDArray[np.float32] = 10.0 * np.log10(np.maximum(power / peak, floor)).astype(np.float32)
    return decibels


def _hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    above = 15.0 + 27.0 * np.log(np.maximum(hz, 1000.0) / 1000.0) / math.log(6.4)
    return np.where(hz < 1000.0, 3.0 * hz / 200.0, above)


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * math.log(6.4) / 27.0)
    return np.where(mel < 15.0, 200.0 * mel / 3.0, above)
