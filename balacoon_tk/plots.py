"""Every figure that reports and notebooks show, drawn on axes that the caller may bring.

matplotlib is imported when a figure is drawn, and only its object interface is used: no window opens
and no global state changes. Strategies have the colours of Okabe and Ito's palette ("Color Universal
Design", 2008), which colour-blind readers tell apart, and differ in line style and marker for print
without colour.
"""

from __future__ import annotations

import math
import os
import secrets
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import FloatArray
from balacoon_tk.compare import REFERENCE, Comparison
from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.metrics import StreamTrace, playback, ttfa_s

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage
    from matplotlib.ticker import LogLocator

__all__ = [
    "check_figure_path",
    "comparison_figure",
    "draw_difference",
    "draw_spectrogram",
    "draw_timeline",
    "draw_waveform",
    "new_figure",
    "save_figure",
    "spectrogram_db",
]

_INK = "#222222"
_STYLES = (  # colour, line style, marker; in the order of the strategies
    ("#000000", "-", "s"),
    ("#D55E00", "--", "o"),
    ("#0072B2", "-.", "^"),
    ("#009E73", ":", "D"),
    ("#CC79A7", "-", "v"),
)
_BORDER = "#56B4E9"
_PCM16_STEP = 1.0 / 32768.0
_DB_RANGE = 80.0
_DPI = 120
_MS = 1e3


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure, sizes in inches.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("drawing a figure", extra="plots") from error
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def check_figure_path(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's name ends with, before anything has been drawn.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    ParameterError
        If the name ends in nothing that matplotlib can write.
    """
    suffix = Path(path).suffix.lstrip(".").lower()
    formats = new_figure(1.0, 1.0).canvas.get_supported_filetypes()
    if suffix not in formats:
        raise ParameterError(f"{path}: the name must end in one of .{', .'.join(sorted(formats))}")
    return suffix


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure, in the format that the file's name ends with; never half of it.

    Raises
    ------
    ParameterError
        If the name ends in nothing that matplotlib can write.
    """
    path = Path(path)
    suffix = check_figure_path(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    # Without the program's version in it, the same figure is the same file.
    metadata = {"Software": None} if suffix == "png" else None
    try:
        with warnings.catch_warnings():
            # A text in another script shows as boxes in the title; that is no reason to say so twice.
            warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
            figure.savefig(part, format=suffix, dpi=_DPI, metadata=metadata)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def spectrogram_db(samples: FloatArray, *, n_fft: int = 1024, hop_length: int = 256) -> NDArray[np.float32]:
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
    padded = np.pad(samples, n_fft // 2)
    windows = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    spectrum = np.fft.rfft(windows * np.hanning(n_fft + 1)[:-1], axis=1)
    power = np.square(np.abs(spectrum)).T
    peak = float(power.max())
    if peak == 0.0:
        return np.full(power.shape, -_DB_RANGE, np.float32)
    floor = 10.0 ** (-_DB_RANGE / 10.0)
    decibels: NDArray[np.float32] = 10.0 * np.log10(np.maximum(power / peak, floor)).astype(np.float32)
    return decibels


def draw_waveform(
    axes: Axes,
    samples: FloatArray,
    *,
    sample_rate: int,
    borders: Sequence[int] = (),
    border_colour: str = _BORDER,
) -> None:
    """Draw samples over time, and the borders of chunks as ticks on the upper edge.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    samples : ndarray of shape (n_samples,), float32
        Drawn as the band between the lowest and the highest sample of each short span.
    sample_rate : int
        Hz
    borders : sequence of int
        First sample of each chunk but the first.
    border_colour : str
        A colour as matplotlib names them.
    """
    low, high, times_s = _envelope(samples, sample_rate, n_spans=2000)
    axes.fill_between(times_s, low, high, color=_INK, linewidth=0.3)
    peak = float(np.max(np.abs(samples), initial=1e-3))
    axes.set(ylim=(-1.1 * peak, 1.5 * peak), ylabel="amplitude")
    borders_s = np.asarray(borders) / sample_rate
    axes.vlines(borders_s, 1.2 * peak, 1.5 * peak, color=border_colour, linewidth=1.2)


def draw_spectrogram(axes: Axes, samples: FloatArray, *, sample_rate: int) -> AxesImage:
    """Draw the power spectrogram, in dB below its loudest cell, up to half the sample rate."""
    hop_length = max(64, samples.size // 2400)
    values = spectrogram_db(samples, n_fft=1024, hop_length=hop_length)
    half = 0.5 * hop_length / sample_rate
    image = axes.imshow(
        values,
        origin="lower",
        aspect="auto",
        cmap="magma",
        vmin=-_DB_RANGE,
        vmax=0.0,
        extent=(-half, (values.shape[1] - 0.5) * hop_length / sample_rate, 0.0, sample_rate / 2.0),
        interpolation="nearest",
    )
    axes.yaxis.set_major_formatter(lambda hz, _: f"{hz / 1e3:g}")
    axes.set(ylabel="frequency (kHz)")
    return image


def draw_difference(
    axes: Axes, samples: Mapping[str, FloatArray], reference: FloatArray, *, sample_rate: int
) -> None:
    """Draw how far each strategy's samples are from the reference's, on a log scale over time.

    Each point is the largest difference within a short span. A span without any difference is drawn on
    the lower edge. The step of 16-bit PCM is drawn too: what lies below it can't be heard, since it is
    not even written to a WAV file.
    """
    bottom, tops = 1e-9, [_PCM16_STEP]
    for (name, values), (colour, _, _) in zip(samples.items(), _STYLES[1:], strict=False):
        low, high, times_s = _envelope(values - reference, sample_rate, n_spans=300)
        worst = np.maximum(np.abs(low), np.abs(high))
        peak = float(worst.max(initial=0.0))
        label = f"{name}: at most {peak:.1e}" if peak else f"{name}: the same to the bit"
        axes.plot(times_s, np.maximum(worst, bottom), color=colour, linewidth=1.0, label=label)
        tops.append(peak)
    axes.axhline(_PCM16_STEP, color=_INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        "one step of 16-bit PCM",
        (1.0, _PCM16_STEP),
        xycoords=("axes fraction", "data"),
        xytext=(-4, 3),
        textcoords="offset points",
        ha="right",
        fontsize="small",
        color=_INK,
    )
    axes.set(yscale="log", ylim=(bottom, 30.0 * max(tops)), ylabel="difference to full")
    axes.yaxis.set_major_formatter(
        lambda value, _: "0" if value <= bottom else f"$10^{{{round(math.log10(value))}}}$"
    )
    if len(tops) > 1:
        axes.legend(loc="upper left", ncols=2, frameon=False, fontsize="small")


def draw_timeline(axes: Axes, traces: Mapping[str, StreamTrace]) -> None:
    """Draw how much audio is ready, and how much has been played, over the time since the call.

    The steps are the audio handed over; the thin line of the same colour is the playback that starts
    with the first chunk, and the space between them is what waits in the buffer. Where they touch,
    playback has to wait. Time is on a log scale,
    because the first sound comes in milliseconds and the last in seconds.
    """
    sounding = [trace for trace in traces.values() if trace.ready_s]
    last_s = max((float(playback(trace)[1][-1]) for trace in sounding), default=1.0)
    first_s = min((trace.ready_s[0] for trace in sounding), default=1e-3)
    for (name, trace), (colour, style, marker) in zip(traces.items(), _STYLES, strict=False):
        if not trace.ready_s:
            continue
        audio_s = np.cumsum(trace.n_samples) / trace.sample_rate
        ready_s = np.asarray(trace.ready_s)
        axes.step(
            np.append(ready_s[0], ready_s),
            np.append(0.0, audio_s),
            where="post",
            color=colour,
            linestyle=style,
            linewidth=1.3,
            marker=marker,
            markersize=3.5,
            label=f"{name}: " + _first_sound(trace),
        )
        start_s, stop_s = playback(trace)
        times_s = np.stack([start_s, stop_s], axis=1).ravel()
        played_s = np.stack([audio_s - np.diff(audio_s, prepend=0.0), audio_s], axis=1).ravel()
        fine_s = np.geomspace(times_s[0], times_s[-1], 400)
        axes.plot(fine_s, np.interp(fine_s, times_s, played_s), color=colour, linewidth=0.7)
    axes.set(
        xscale="log",
        xlim=(0.7 * first_s, 1.2 * last_s),
        ylim=(0.0, None),
        xlabel="time since the call with text (s, log scale)",
        ylabel="audio (s)",
    )
    axes.xaxis.set_major_locator(_log_locator())
    axes.xaxis.set_major_formatter(lambda s, _: f"{s:g}")
    axes.xaxis.set_minor_formatter("")
    if axes.lines:
        axes.legend(loc="upper left", frameon=False, fontsize="small")


def comparison_figure(comparison: Comparison) -> Figure:
    """Return a page that shows a comparison: what was spoken, what differs, and when it was ready.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    figure = new_figure(9.0, 10.0)
    text = textwrap.shorten(comparison.text, 100, placeholder=" …")
    figure.suptitle(f"{comparison.voice}: “{text}”", fontsize="medium", parse_math=False)
    results = comparison.strategies
    streamed = {name: result for name, result in results.items() if name != REFERENCE}
    sample_rate, reference = comparison.sample_rate, results[REFERENCE].samples
    wave, spectrum, difference, timeline = figure.subplots(
        4, 1, gridspec_kw={"height_ratios": [1.0, 1.5, 1.2, 1.8]}
    )
    last_name, last = list(results.items())[-1]
    borders = np.cumsum(last.median_trace.n_samples)[:-1].tolist()
    colour = _STYLES[(len(results) - 1) % len(_STYLES)][0]
    draw_waveform(wave, reference, sample_rate=sample_rate, borders=borders, border_colour=colour)
    image = draw_spectrogram(spectrum, reference, sample_rate=sample_rate)
    figure.colorbar(image, ax=spectrum, label="dB below the peak", pad=0.01)
    draw_difference(
        difference,
        {name: result.samples for name, result in streamed.items()},
        reference,
        sample_rate=sample_rate,
    )
    draw_timeline(timeline, {name: result.median_trace for name, result in results.items()})
    titles = {
        wave: f"Waveform, and where the chunks of {last_name!r} begin",
        spectrum: "Spectrogram",
        difference: f"Largest difference to {REFERENCE!r}",
        timeline: "Audio ready (steps with marks) and played (thin lines), in the round of median length",
    }
    for axes, title in titles.items():
        axes.set_title(title, loc="left", fontsize="medium")
    for axes in (wave, spectrum, difference):
        axes.set(xlim=(0.0, comparison.audio_s))
        axes.tick_params(labelbottom=axes is difference)
    difference.set(xlabel="time in the audio (s)")
    for axes in (wave, difference, timeline):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.5)
    return figure


def _first_sound(trace: StreamTrace) -> str:
    if trace.first_audible is None:
        return "silent"
    return f"first sound after {ttfa_s(trace) * _MS:.0f} ms"


def _log_locator() -> LogLocator:
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0))


def _envelope(
    samples: FloatArray, sample_rate: int, *, n_spans: int
) -> tuple[FloatArray, FloatArray, NDArray[np.float64]]:
    """Return the lowest and highest sample of each of about `n_spans` spans, and their middle times."""
    length = max(1, samples.size // n_spans)
    starts = np.arange(0, samples.size, length)
    if starts.size == 0:
        return samples, samples, np.zeros(0)
    low = np.minimum.reduceat(samples, starts)
    high = np.maximum.reduceat(samples, starts)
    return low, high, (starts + 0.5 * length) / sample_rate
