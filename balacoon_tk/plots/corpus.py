"""A corpus on a page: how long its utterances are, what they cost, and what metrics say of each voice."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balacoon_tk.metrics.bootstrap import Estimate
from balacoon_tk.plots.figure import draw_legend, new_figure, plain, styles_of
from balacoon_tk.plots.pages import draw_intervals

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_N_BINS = 40
_SHOWN = (0.5, 99.5)  # percent: a few outliers would leave no room to all others
_PANELS = {"duration_s": "duration of an utterance (s)", "rtf": "RTF on one thread"}
_MOST_NAMES = 12


def corpus_figure(
    columns: Mapping[str, Mapping[str, NDArray[np.float64]]], panels: Mapping[str, Mapping[str, Estimate]]
) -> Figure:
    """Return a page with a distribution for each column, and intervals for each metric.

    Parameters
    ----------
    columns : mapping
        For each variant ``duration_s`` and ``rtf``, float64 (n_utterances,).
    panels : mapping
        For each metric, by its title, an estimate of each variant.
    """
    n_columns = 2
    n_rows = 1 + math.ceil(len(panels) / n_columns)
    figure = new_figure(9.0, 3.2 + (n_rows - 1) * (0.9 + 0.3 * len(columns)))
    heights = [3.2, *[0.9 + 0.3 * len(columns)] * (n_rows - 1)]
    grid = figure.subplots(n_rows, n_columns, squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, (name, title) in zip(grid[0], _PANELS.items(), strict=True):
        draw_distribution(axes, {variant: found[name] for variant, found in columns.items()})
        axes.set_xlabel(title)
    if len(columns) <= _MOST_NAMES:
        draw_legend(grid[0][0], "upper right")
    rest = [*grid[1:].flat]
    for axes, (title, estimates) in zip(rest, panels.items(), strict=False):
        intervals = [(each.value, each.low, each.high) for each in estimates.values()]
        draw_intervals(axes, title, [*estimates], intervals)
    for axes in rest[len(panels) :]:
        axes.set_visible(False)
    return figure


def draw_distribution(axes: Axes, series: Mapping[str, NDArray[np.float64]]) -> None:
    """Draw the share of values in bins of one width, a line of steps for each series."""
    filled = {name: values for name, values in series.items() if values.size}
    if not filled:
        return
    low, high = np.percentile(np.concatenate([*filled.values()]), _SHOWN)
    edges = np.linspace(low, high if high > low else low + 1.0, _N_BINS + 1)
    for name, (colour, line, _) in styles_of(filled).items():
        counts, _ = np.histogram(np.clip(filled[name], edges[0], edges[-1]), edges)
        shares = 100.0 * counts / filled[name].size
        axes.stairs(shares, edges, color=colour, linestyle=line, linewidth=1.3, label=name)
    axes.set_ylabel("utterances (%)")
    plain(axes)
