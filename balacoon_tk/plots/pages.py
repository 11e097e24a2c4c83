"""Whole pages: a comparison of strategies, and the intervals of a report."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.metrics.trace import REFERENCE
from balacoon_tk.plots.alternative import describe, listed
from balacoon_tk.plots.audio import draw_difference, draw_spectrogram, draw_waveform
from balacoon_tk.plots.figure import STYLES, new_figure, plain, styles_of
from balacoon_tk.plots.timing import draw_timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from balacoon_tk.metrics.comparison import Comparison


def comparison_figure(comparison: Comparison) -> Figure:
    """Return a page that shows a comparison: what was spoken, what differs, and when it was ready."""
    figure = new_figure(9.0, 10.0)
    # A title that is longer than the page would make the page wider.
    text = textwrap.shorten(comparison.text, 100, placeholder=" …")
    figure.suptitle(f"{comparison.voice}: “{text}”", fontsize="medium", parse_math=False)
    wave, spectrum, difference, timeline = figure.subplots(
        4, 1, gridspec_kw={"height_ratios": [1.0, 1.5, 1.2, 1.8]}
    )
    results, sample_rate = comparison.strategies, comparison.sample_rate
    reference = results[REFERENCE].samples
    streamed = {name: result.samples for name, result in results.items() if name != REFERENCE}
    # Strategies get better in their order, so the last one's chunks are those that a listener gets.
    last_name, last = list(results.items())[-1]
    borders = np.cumsum(last.median_trace.n_samples)[:-1].tolist()
    colour = styles_of(results)[last_name][0]
    draw_waveform(wave, reference, sample_rate=sample_rate, borders=borders, border_colour=colour)
    image = draw_spectrogram(spectrum, reference, sample_rate=sample_rate)
    figure.colorbar(image, ax=spectrum, label="dB below the peak", pad=0.01)
    draw_difference(difference, streamed, reference, sample_rate=sample_rate)
    draw_timeline(timeline, {name: result.median_trace for name, result in results.items()})
    titles = {
        wave: f"Waveform, and where the chunks of {last_name!r} begin",
        spectrum: "Spectrogram",
        difference: f"Largest difference to {REFERENCE!r}",
        timeline: "Audio ready (steps with marks) and played (thin lines), in the round of median length",
    }
    for axes, title in titles.items():
        axes.set_title(title, loc="left", fontsize="medium")
        # The timeline's seconds are those since the call, and the others' those of the audio.
        if axes is not timeline:
            axes.set(xlim=(0.0, comparison.audio_s))
            axes.tick_params(labelbottom=axes is difference)
        if axes is not spectrum:
            plain(axes)
    difference.set(xlabel="time in the audio (s)")
    return figure


def intervals_figure(
    names: Sequence[str], panels: Mapping[str, Sequence[tuple[float, float, float]]]
) -> Figure:
    """Draw a panel for each metric, with a mark and an interval for each series, the first one on top.

    `panels` has ``(value, low, high)`` of each series under a title with its unit; NaN draws nothing, and
    an end that isn't finite no bar.
    """
    n_columns = min(4, max(1, len(panels)))
    n_rows = max(1, math.ceil(len(panels) / n_columns))
    # Grows with the number of series, so that rows are as high in any report.
    figure = new_figure(1.5 + 2.3 * n_columns, n_rows * (0.7 + 0.28 * len(names)))
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, estimates) in zip(grid.flat, panels.items(), strict=False):
        draw_intervals(axes, title, names, estimates)
    return figure


def draw_intervals(
    axes: Axes, title: str, names: Sequence[str], estimates: Sequence[tuple[float, float, float]]
) -> None:
    """Draw ``(value, low, high)`` of each name as a mark and a bar in a row, the first one on top."""
    # Series are told apart by their row, so styles may repeat.
    for row, (value, low, high) in enumerate(estimates):
        colour, _, marker = STYLES[row % len(STYLES)]
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [row, row], color=colour, linewidth=2)
        axes.plot([value], [row], color=colour, marker=marker, markersize=5)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=4)
    plain(axes)
    axes.set_xlabel(title)
    told = [
        f"{name} {value:.3g} ({low:.3g} to {high:.3g})"
        for name, (value, low, high) in zip(names, estimates, strict=True)
        if not math.isnan(value)
    ]
    describe(axes, f"{title}: {listed(told)}.")
