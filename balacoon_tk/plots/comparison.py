"""One page that shows a comparison of strategies."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.metrics import REFERENCE
from balacoon_tk.metrics.compare import Comparison
from balacoon_tk.plots.audio import draw_difference, draw_spectrogram, draw_waveform
from balacoon_tk.plots.figure import new_figure, plain, styles_of
from balacoon_tk.plots.timing import draw_timeline

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    colour = styles_of(results)[last_name][0]
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
        plain(axes)
    return figure
