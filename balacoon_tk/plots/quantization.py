"""Pictures of a choice: what a smaller or faster model costs in quality, and which part of it costs that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from balacoon_tk.plots.figure import INK, STYLES, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SMALLEST_MARK, _LARGEST_MARK = 30.0, 600.0  # areas in square points
_MEGA = 1e6


@dataclass(frozen=True, slots=True)
class FrontierPoint:
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


def pareto_front(points: Sequence[FrontierPoint]) -> tuple[FrontierPoint, ...]:
    """Return the points that no other beats in speed and quality at once, the slowest first.

    Examples
    --------
    >>> models = [FrontierPoint("fp32", 10, 60, 4.0), FrontierPoint("int8", 20, 20, 3.5),
    ...           FrontierPoint("worse", 15, 20, 3.4)]
    >>> [point.name for point in pareto_front(models)]
    ['fp32', 'int8']
    """
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
    return tuple(sorted(best, key=lambda point: (point.xrt, -point.quality)))


def draw_frontier(axes: Axes, points: Sequence[FrontierPoint], *, quality_label: str) -> None:
    """Draw quality against speed, with the area of a mark for the size, and the frontier through the best.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    points : sequence of FrontierPoint
        A model each.
    quality_label : str
        What the quality is and its unit, such as "DNSMOS (1 to 5)".
    """
    from matplotlib.lines import Line2D

    best = pareto_front(points)
    axes.plot(
        [point.xrt for point in best],
        [point.quality for point in best],
        color=INK,
        linewidth=1.0,
        linestyle=(0, (4, 3)),
        zorder=1,
    )
    largest = max((point.n_bytes for point in points), default=1)
    beaten = [point for point in points if point not in best]
    groups = ((best, STYLES[2], "o", "best for its speed"), (beaten, STYLES[1], "D", "beaten by another"))
    for group, (colour, _, _), marker, _ in groups:
        axes.scatter(
            [point.xrt for point in group],
            [point.quality for point in group],
            s=[max(_SMALLEST_MARK, _LARGEST_MARK * point.n_bytes / largest) for point in group],
            color=colour,
            alpha=0.85,
            edgecolor="white",
            marker=marker,
            zorder=2,
        )
    for k, point in enumerate(sorted(points, key=lambda point: point.xrt)):
        radius = (max(_SMALLEST_MARK, _LARGEST_MARK * point.n_bytes / largest) ** 0.5) / 2
        axes.annotate(
            f"{point.name}, {point.n_bytes / _MEGA:.3g} MB",
            (point.xrt, point.quality),
            xytext=(0, radius + 3 if k % 2 == 0 else -radius - 3),
            textcoords="offset points",
            ha="center",
            va="bottom" if k % 2 == 0 else "top",
            fontsize="small",
            color=INK,
            zorder=4,
        )
    axes.margins(x=0.2, y=0.2)
    axes.legend(
        handles=[
            Line2D([], [], color=colour, marker=marker, linestyle="", label=label)
            for group, (colour, _, _), marker, label in groups
            if group
        ],
        loc="lower left",
        frameon=False,
        fontsize="small",
        title="area: size on disk",
        title_fontsize="small",
    )
    axes.set(xlabel="speed (times faster than real time)", ylabel=quality_label)
    plain(axes)


def draw_sensitivity(axes: Axes, parts: Sequence[PartLoss]) -> None:
    """Draw the work that each part of a model does against what it loses if it alone is quantized.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    parts : sequence of PartLoss
        In the order of the model.
    """
    axes.scatter(
        [part.loss_db for part in parts],
        [part.multiply_adds / _MEGA for part in parts],
        color=STYLES[1][0],
        zorder=2,
    )
    for k, part in enumerate(parts):
        place = part.loss_db, part.multiply_adds / _MEGA
        above = (0, -12, 10)[k % 3]  # points; blocks that are alike lie close to each other
        axes.annotate(part.name, place, (7, above), textcoords="offset points", va="center", fontsize="small")
    plain(axes)
    axes.margins(x=0.2, y=0.15)
    axes.set(
        xlabel="loss alone (dB of log-spectral distance)",
        ylabel="work (million multiply-adds a frame)",
        xlim=(0, None),
        ylim=(0, None),
    )
