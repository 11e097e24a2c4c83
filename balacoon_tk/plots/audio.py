"""Pictures of sound: waveform, spectrogram, mel spectrogram, difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import FloatArray
from balacoon_tk.audio import PhonemeSpan
from balacoon_tk.errors import ParameterError
from balacoon_tk.metrics.signal import power_spectrogram
from balacoon_tk.plots.alternative import counted_as, describe, listed
from balacoon_tk.plots.figure import (
    BORDER,
    INK,
    PCM16_STEP,
    draw_legend,
    draw_limit,
    envelope,
    styles_of,
    zero_at,
)
from balacoon_tk.stages.mel import MelInfo, mel_filters, to_mels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

_DB_RANGE = 80.0
_N_COLUMNS = 2400  # more than a page has dots
_N_FFT = 1024
_MEL_TICKS_HZ = (250.0, 500.0, 1000.0, 2000.0, 4000.0, 8000.0, 16000.0)


def spectrogram_db(samples: FloatArray, *, n_fft: int = _N_FFT, hop_length: int = 256) -> NDArray[np.float32]:
    """Return `power_spectrogram` in dB relative to its loudest cell, float32, cut at -80."""
    return _decibels(power_spectrogram(samples, n_fft, hop_length))


def mel_db(
    samples: FloatArray, *, sample_rate: int, n_fft: int = _N_FFT, hop_length: int = 256, n_mels: int = 80
) -> NDArray[np.float32]:
    """Return the mel spectrogram (n_mels, n_columns) in dB relative to its loudest cell, cut at -80.

    Bands are triangles of equal area, evenly spaced from 0 to half the sample rate on Slaney's scale:
    linear below 1 kHz, logarithmic above.
    """
    scale = MelInfo(n_fft, n_fft, hop_length, n_mels, f_min=0.0, f_max=sample_rate / 2.0)
    return _decibels(mel_filters(scale, sample_rate) @ power_spectrogram(samples, n_fft, hop_length))


def draw_waveform(
    axes: Axes,
    samples: FloatArray,
    *,
    sample_rate: int,
    borders: Sequence[int] = (),
    border_colour: str = BORDER,
    alignment: Sequence[PhonemeSpan] = (),
) -> None:
    """Draw samples, float32 (n_samples,), over time, the borders of chunks as ticks above, phonemes below.

    They are the band between the lowest and the highest sample of each short span, or a line if there are
    so few that each can be seen. A border is the first sample of a chunk. A phoneme too short for its name
    is drawn without.
    """
    # A page has fewer dots than a sentence has samples: what is drawn is the band that they fill.
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
    peak = float(np.max(np.abs(samples), initial=0.0))
    counted = [counted_as(len(borders), "border"), counted_as(len(alignment), "phoneme")]
    marks = "".join(f", {told}" for told in counted if told)
    describe(axes, f"Waveform of {samples.size / sample_rate:.2f} s, peak {peak:.2g}{marks}.")


def draw_spectrogram(axes: Axes, samples: FloatArray, *, sample_rate: int) -> AxesImage:
    """Draw the power spectrogram, in dB below its loudest cell, up to half the sample rate."""
    hop_length = max(64, samples.size // _N_COLUMNS)
    values = spectrogram_db(samples, hop_length=hop_length)
    row, column = np.unravel_index(values.argmax(), values.shape)
    loudest_s, loudest_hz = column * hop_length / sample_rate, row / (len(values) - 1) * sample_rate / 2.0
    describe(
        axes,
        f"Spectrogram of {samples.size / sample_rate:.2f} s up to {sample_rate / 2e3:g} kHz, "
        f"loudest after {loudest_s:.2f} s at {loudest_hz:.0f} Hz.",
    )
    return _draw_spectrum(axes, values, column_s=hop_length / sample_rate, rate=sample_rate)


def draw_mel(
    axes: Axes, samples: FloatArray, *, sample_rate: int, alignment: Sequence[PhonemeSpan] = ()
) -> AxesImage:
    """Draw the mel spectrogram, in dB below its loudest cell, of samples (n_samples,), float32.

    Phonemes stand above it, and white lines show where one becomes the next.
    """
    hop_length = max(64, samples.size // _N_COLUMNS)
    values = mel_db(samples, sample_rate=sample_rate, hop_length=hop_length)
    n_mels = len(values)
    image = _draw_image(axes, values, column_s=hop_length / sample_rate, top=n_mels)
    ticks_hz = np.array([hz for hz in _MEL_TICKS_HZ if hz <= sample_rate / 2.0])
    band = n_mels / to_mels(np.array(sample_rate / 2.0), "slaney")
    axes.set_yticks((to_mels(ticks_hz, "slaney") * band).tolist(), [f"{hz / 1e3:g}" for hz in ticks_hz])
    axes.set(ylabel="frequency (kHz, mel scale)")
    if alignment:
        axes.set(ylim=(0.0, n_mels / 0.9))
        starts_s = [span.start_s for span in alignment]
        axes.vlines(starts_s, 0.0, n_mels, color="white", linewidth=0.4, alpha=0.6)
        _draw_phonemes(axes, alignment, bottom=0.9, top=1.0)
    length_s, top_khz = samples.size / sample_rate, sample_rate / 2e3
    spoken = f", phonemes {' '.join(span.phoneme for span in alignment)}" if alignment else ""
    describe(axes, f"Mel spectrogram of {length_s:.2f} s, up to {top_khz:g} kHz{spoken}.")
    return image


def draw_difference(
    axes: Axes, samples: Mapping[str, FloatArray], reference: FloatArray, *, sample_rate: int
) -> None:
    """Draw how far each strategy's samples are from the reference's, on a log scale over time.

    Each point is the largest difference within a short span. A span without any difference is drawn on
    the lower edge. The step of 16-bit PCM is drawn too: what lies below it can't be heard, since it is
    not even written to a WAV file.
    """
    bottom, tops, labels = 1e-9, [PCM16_STEP], []
    for name, (colour, style, _) in styles_of(samples).items():
        low, high, times_s = envelope(samples[name] - reference, sample_rate, n_spans=300)
        worst = np.maximum(np.abs(low), np.abs(high))
        peak = float(worst.max(initial=0.0))
        label = f"{name}: at most {peak:.1e}" if peak else f"{name}: the same to the bit"
        labels.append(label)
        worst = np.maximum(worst, bottom)
        axes.plot(times_s, worst, color=colour, linestyle=style, linewidth=1.0, label=label)
        tops.append(peak)
    draw_limit(axes, PCM16_STEP, "one step of 16-bit PCM")
    axes.set(yscale="log", ylim=(bottom, 30.0 * max(tops)), ylabel="difference to full")
    # A log scale has no 0: what is the same lies on the lower edge, which is labelled so.
    axes.yaxis.set_major_formatter(zero_at(bottom))
    if len(tops) > 1:
        draw_legend(axes, ncols=2)
    step = f"one step of 16-bit PCM is {PCM16_STEP:.1e}"
    describe(axes, f"Largest difference over {reference.size / sample_rate:.2f} s: {listed(labels)}; {step}.")


def draw_frames(axes: Axes, frames: FloatArray, *, frame_s: float) -> AxesImage:
    """Draw what the decoder reads: each channel of each frame, as far as three from zero.

    Frames are float32 (n_channels, n_frames), as `Upsampler.window` gives them, of `frame_s` seconds each.
    Returns the image for a colour bar.
    """
    n_channels, n_frames = frames.shape
    image = axes.imshow(
        frames, aspect="auto", extent=(0.0, n_frames * frame_s, n_channels, 0.0), interpolation="nearest"
    )
    # They are drawn from a normal distribution around the encodings: few are further from zero.
    image.set(cmap="PuOr_r", clim=(-3.0, 3.0))
    axes.set(xlabel="time (s)", ylabel="channel")
    span = f"values from {frames.min():.2g} to {frames.max():.2g}" if frames.size else "no values"
    size = f"{counted_as(n_channels, 'channel')} of {counted_as(n_frames, 'frame')}"
    describe(axes, f"{size} over {n_frames * frame_s:.2f} s, {span}.")
    return image


def draw_spectral_difference(
    axes: Axes, samples: FloatArray, reference: FloatArray, *, sample_rate: int
) -> AxesImage:
    """Draw by how much louder or softer each cell of the spectrogram is than the reference's, in dB.

    Both are float32 (n_samples,) and in time with each other; two of different length are a
    `ParameterError`. Returns the image for a colour bar: orange is louder than the reference, purple
    softer. Both are cut at -80 dB of the reference's loudest cell, so what is that soft in both is no
    difference.
    """
    if samples.shape != reference.shape:
        raise ParameterError(
            f"samples of shape {samples.shape} must have that of the reference, {reference.shape}"
        )
    hop_length = max(64, samples.size // _N_COLUMNS)
    # Both from the same floor, the reference's: what is silent in both is then the same, and no noise.
    loudness = [power_spectrogram(each, _N_FFT, hop_length) for each in (samples, reference)]
    floor = max(float(loudness[1].max()), np.finfo(np.float64).tiny) * 10.0 ** (-_DB_RANGE / 10.0)
    ours, theirs = (10.0 * np.log10(np.maximum(power, floor)) for power in loudness)
    difference = ours - theirs
    describe(
        axes,
        f"Spectral difference over {samples.size / sample_rate:.2f} s: from {difference.min():.1f} to "
        f"{difference.max():+.1f} dB, {np.abs(difference).mean():.1f} dB on average.",
    )
    image = _draw_spectrum(axes, difference, column_s=hop_length / sample_rate, rate=sample_rate)
    # Of what differs by more it matters only that it does.
    image.set(cmap="PuOr_r", clim=(-30.0, 30.0))
    return image


def _draw_spectrum(axes: Axes, values: FloatArray, *, column_s: float, rate: int) -> AxesImage:
    image = _draw_image(axes, values, column_s=column_s, top=rate / 2.0)
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
        # A column is centred on its time, and imshow counts from edges.
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
        # Names of shorter ones would be written over each other, and none could be read.
        if span.end_s - span.start_s >= 0.0045 * (end_s - starts_s[0]):
            axes.text(
                0.5 * (span.start_s + span.end_s),
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


def _decibels(power: NDArray[np.float64]) -> NDArray[np.float32]:
    # Relative to the loudest cell: pictures of soft and loud speech are then alike.
    peak = float(power.max())
    if peak == 0.0:
        return np.full(power.shape, -_DB_RANGE, np.float32)
    floor = 10.0 ** (-_DB_RANGE / 10.0)
    decibels: NDArray[np.float32] = 10.0 * np.log10(np.maximum(power / peak, floor)).astype(np.float32)
    return decibels
