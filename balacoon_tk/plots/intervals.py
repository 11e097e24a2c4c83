"""The picture of a report: figures with their confidence intervals, side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from balacoon_tk.plots.figure import STYLES, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_N_COLUMNS = 4


def intervals_figure(
    names: Sequence[str], panels: Mapping[str, Sequence[tuple[float, float, float]]]
) -> Figure:
    """Draw a panel for each metric, with a mark and an interval for each series.

    Parameters
    ----------
    names : sequence of str
        The series, such as ``voice/strategy``, first one on top.
    panels : mapping
        From a title with its unit to ``(value, low, high)`` for each series; NaN draws nothing, and an
        end that isn't finite no bar.

    Raises
    ------
    MissingExtraError
        If matplotlib is not installed.
    """
    n_columns = min(_N_COLUMNS, max(1, len(panels)))
    n_rows = max(1, math.ceil(len(panels) / n_columns))
    figure = new_figure(1.5 + 2.3 * n_columns, n_rows * (0.7 + 0.28 * len(names)))
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    for axes, (title, estimates) in zip(grid.flat, panels.items(), strict=False):
        for row, (value, low, high) in enumerate(estimates):
            colour, _, marker = STYLES[row % len(STYLES)]
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [row, row], color=colour, linewidth=2)
            axes.plot([value], [row], color=colour, marker=marker, markersize=5)
        axes.set_xlabel(title)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.locator_params(axis="x", nbins=4)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure
