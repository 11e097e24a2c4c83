"""Pictures of speed: engines and stages beside each other, growth with the text, streams at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.plots.figure import INK, STYLES, Style, log_locator, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

_MS = 1e3
_PERCENT = 100.0

Curve = Sequence[tuple[float, float]]
"""Points (x, y) in the order of x."""


def draw_spreads(axes: Axes, rounds_s: Mapping[str, Sequence[float]]) -> None:
    """Draw what things take, a line each: every round as a dot and the median as a number.

    Parameters
    ----------
    axes : Axes
        Where to draw; the first one is on top.
    rounds_s : mapping of str to sequence of float
        Name, and seconds of each round, > 0.
    """
    medians_ms = [float(np.median(seconds)) * _MS for seconds in rounds_s.values()]
    shortest_s, longest_s = (pick(map(pick, rounds_s.values())) for pick in (min, max))
    for k, (seconds, median_ms) in enumerate(zip(rounds_s.values(), medians_ms, strict=True)):
        times_ms = np.asarray(seconds) * _MS
        axes.plot(times_ms, np.full(times_ms.size, k), "o", color=STYLES[2][0], markersize=4, alpha=0.35)
        axes.plot([median_ms], [k], "|", color=INK, markersize=13, markeredgewidth=1.6)
        axes.annotate(
            f"{median_ms:.0f}" if median_ms >= 100.0 else f"{median_ms:.2g}",
            (median_ms, k),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            fontsize="small",
            color=INK,
        )
    axes.set_yticks(range(len(rounds_s)), list(rounds_s))
    axes.set(
        xscale="log",
        xlim=(0.7 * _MS * shortest_s, 1.4 * _MS * longest_s),
        ylim=(len(rounds_s) - 0.5, -0.8),
        xlabel="time (ms, log scale)",
    )
    _plain_log(axes.xaxis)
    plain(axes)


def draw_growth(axes: Axes, first_s: Mapping[str, Curve], total_s: Mapping[str, Curve]) -> None:
    """Draw the first sound and the whole against the length of the text, both on log scales.

    Parameters
    ----------
    axes : Axes
        Where to draw. Full marks are the whole utterance, hollow ones its first audible sample.
    first_s, total_s : mapping of str to curve
        For each engine points of phonemes and seconds.
    """
    for (name, curve), style in zip(total_s.items(), STYLES, strict=False):
        _draw_curve(axes, curve, style, f"{name}: all of it", hollow=False, factor=_MS)
        _draw_curve(axes, first_s[name], style, f"{name}: first sound", hollow=True, factor=_MS)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="phonemes in the text (log scale)",
        ylabel="time since the call with text (ms, log scale)",
    )
    _plain_log(axes.xaxis)
    _plain_log(axes.yaxis)
    axes.legend(frameon=False, fontsize="small")
    plain(axes)


def draw_streams(axes: Sequence[Axes], shares: Mapping[str, Curve], underruns_s: Mapping[str, Curve]) -> None:
    """Draw how streams at once fare: the share that never waits, and how long the worst one does.

    Parameters
    ----------
    axes : sequence of two Axes
        For the share above and the wait below.
    shares, underruns_s : mapping of str to curve
        For each way to start or to buffer, points of streams and share from 0 to 1, or seconds.
    """
    above, below = axes
    for panel, curves, factor in ((above, shares, _PERCENT), (below, underruns_s, _MS)):
        for (name, curve), style in zip(curves.items(), STYLES, strict=False):
            _draw_curve(panel, curve, style, name, hollow=False, factor=factor)
        panel.legend(frameon=False, fontsize="small")
        panel.tick_params(labelbottom=panel is below)
        plain(panel)
    above.set(ylabel="streams that never wait (%)", ylim=(0.0, 105.0))
    below.set(ylabel="worst wait (ms)", xlabel="streams at once", ylim=(0.0, None))


def _plain_log(axis: Axis) -> None:
    axis.set_major_locator(log_locator())
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter("")


def _draw_curve(axes: Axes, curve: Curve, style: Style, label: str, *, hollow: bool, factor: float) -> None:
    colour, line, marker = style
    axes.plot(
        [x for x, _ in curve],
        [factor * y for _, y in curve],
        color=colour,
        linestyle=line,
        marker=marker,
        markersize=4.5,
        markerfacecolor="white" if hollow else colour,
        linewidth=0.7 if hollow else 1.3,
        label=label,
    )
