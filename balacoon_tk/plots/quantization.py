"""Pictures of a choice: what a smaller or faster model costs in quality, and which part of it costs that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balacoon_tk.plots.alternative import describe, listed
from balacoon_tk.plots.figure import INK, STYLES, draw_legend, note, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MEGA = 1e6


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One model."""

    name: str
    xrt: float
    """How many times faster than real time."""
    n_bytes: int
    """Size on disk."""
    quality: float
    """Higher is better."""


@dataclass(frozen=True, slots=True)
class PartLoss:
    """One part of a model, quantized alone."""

    name: str
    loss_db: float
    """Log-spectral distance to the model as it is."""
    multiply_adds: float
    """Per frame."""


def draw_pareto_front(axes: Axes, points: Sequence[ParetoPoint], *, quality_label: str) -> None:
    """Draw quality against speed, with the area of a mark for the size, and a line through the best.

    The best are those that no other beats in speed and quality at once: the Pareto front. The label says
    what the quality is and its unit, such as "DNSMOS (1 to 5)".
    """
    from matplotlib.lines import Line2D

    best = _best(points)
    front = [point.xrt for point in best], [point.quality for point in best]
    axes.plot(*front, color=INK, linewidth=1.0, linestyle=(0, (4, 3)), zorder=1)
    largest = max((point.n_bytes for point in points), default=1)
    # Areas in square points, and no radii, stand for sizes: that is what an eye compares.
    areas = {point: max(30.0, 600.0 * point.n_bytes / largest) for point in points}
    beaten = [point for point in points if point not in best]
    handles = []
    for group, colour, marker, label in (
        (best, STYLES[2][0], "o", "best for its speed"),
        (beaten, STYLES[1][0], "D", "beaten by another"),
    ):
        axes.scatter(
            [point.xrt for point in group],
            [point.quality for point in group],
            s=[areas[point] for point in group],
            color=colour,
            alpha=0.85,
            edgecolor="white",
            marker=marker,
            zorder=2,
        )
        if group:
            # Not the marks themselves, whose size in a legend would be that of some model.
            handles.append(Line2D([], [], color=colour, marker=marker, linestyle="", label=label))
    # Names stand above and below in turn, as neighbours in speed are close to each other.
    for k, point in enumerate(sorted(points, key=lambda point: point.xrt)):
        text, radius = f"{point.name}, {point.n_bytes / _MEGA:.3g} MB", areas[point] ** 0.5 / 2
        offset, va = (radius + 3, "bottom") if k % 2 == 0 else (-radius - 3, "top")
        note(axes, text, (point.xrt, point.quality), (0, offset), ha="center", va=va)
    axes.margins(x=0.2, y=0.2)
    draw_legend(axes, "lower left", handles=handles, title="area: size on disk")
    axes.set(xlabel="speed (times faster than real time)", ylabel=quality_label)
    plain(axes)
    told = [
        f"{point.name} {point.xrt:.3g} times, {point.quality:.3g}, {point.n_bytes / _MEGA:.3g} MB"
        f"{'' if point in best else ' (beaten)'}"
        for point in points
    ]
    describe(axes, f"Speed, {quality_label}, size: {'; '.join(told) or 'nothing'}.")


def draw_sensitivity(axes: Axes, parts: Sequence[PartLoss]) -> None:
    """Draw the work of each part of a model, in its order, against what it loses if it alone is quantized."""
    losses, work = [part.loss_db for part in parts], [part.multiply_adds / _MEGA for part in parts]
    axes.scatter(losses, work, color=STYLES[1][0], zorder=2)
    for k, part in enumerate(parts):
        # In points, and not all at one height: blocks that are alike lie close to each other.
        note(axes, part.name, (losses[k], work[k]), (7, (0, -12, 10)[k % 3]), va="center")
    plain(axes)
    axes.margins(x=0.2, y=0.15)
    axes.set(
        xlabel="loss alone (dB of log-spectral distance)",
        ylabel="work (million multiply-adds a frame)",
        xlim=(0, None),
        ylim=(0, None),
    )
    told = [f"{part.name} {part.loss_db:.2g} dB" for part in parts]
    describe(axes, f"Loss of each part if it alone is quantized: {listed(told)}.")


def _best(points: Sequence[ParetoPoint]) -> list[ParetoPoint]:
    """Return the points that no other beats in both, the slowest first; of two equal ones both."""
    best = [
        point
        for point in points
        if not any(
            other.xrt >= point.xrt
            and other.quality >= point.quality
            and (other.xrt, other.quality) != (point.xrt, point.quality)
            for other in points
        )
    ]
    return sorted(best, key=lambda point: (point.xrt, -point.quality))
