"""What all figures share: colours, sizes, files.

matplotlib is imported when a figure is made, which raises a `MissingExtraError` where it isn't installed, and
only its object interface is used: no window opens and no global state changes. Strategies have the colours of
Okabe and Ito's palette ("Color Universal Design", 2008), which colour-blind readers tell apart, and differ in
line style and marker for print without colour.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from balacoon_tk._leftovers import beside, remove_leftovers
from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.plots.alternative import alt_text

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure
    from matplotlib.legend import Legend

    from balacoon_tk.plots.page_figure import PageFigure

Style = tuple[str, str, str]
"""Colour, line style, marker."""

INK = "#222222"
STYLES: tuple[Style, ...] = (  # the first ones are those of the strategies, in their order
    ("#000000", "-", "s"),
    ("#D55E00", "--", "o"),
    ("#0072B2", "-.", "^"),
    ("#009E73", ":", "D"),
    ("#CC79A7", "-", "v"),
    ("#E69F00", "--", "P"),
)
BORDER = "#56B4E9"
PCM16_STEP = 1.0 / 32768.0


def styles_of(names: Collection[str]) -> dict[str, Style]:
    """Give each name a style; a strategy has the same one in every figure.

    Other names get those of the strategies where no strategy is among them and all others are taken.
    """
    # Kept for them even where others are drawn alone: a reader compares figures by their colours.
    own: dict[str, Style] = dict(zip(STRATEGIES, STYLES, strict=False))
    found = {name: own[name] for name in names if name in own}
    ordered = (*STYLES[len(own) :], *STYLES[: len(own)])
    result: dict[str, Style] = {}
    for name in names:
        free = [style for style in ordered if style not in found.values()]
        result[name] = found.setdefault(name, (free or ordered)[0])
    return result


def zero_at(bottom: float) -> Callable[[float, float], str]:
    """Return the labels of a log scale on whose lower edge nothing at all is drawn."""
    return lambda value, _: "0" if value <= bottom else f"$10^{{{round(math.log10(value))}}}$"


def label_log(axis: Axis) -> None:
    """Put plain numbers at 1, 2 and 5 of each decade of a log scale, which matplotlib writes as powers."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter("")


def draw_curve(
    axes: Axes,
    x: ArrayLike,
    y: ArrayLike,
    style: Style,
    label: str | None = None,
    *,
    hollow: bool = False,
    steps: bool = False,
) -> None:
    """Draw points with lines or steps between them; hollow ones are thinner, for another curve of a style."""
    colour, line, marker = style
    axes.plot(
        x,
        y,
        color=colour,
        linestyle=line,
        marker=marker,
        # Steps are many, and marks on them would touch.
        markersize=3.5 if steps else 4.5,
        drawstyle="steps-post" if steps else "default",
        markerfacecolor="white" if hollow else colour,
        linewidth=0.7 if hollow else 1.3,
        label=label,
    )


def note(
    axes: Axes,
    text: str,
    place: tuple[float, float],
    offset: tuple[float, float],
    *,
    ha: str = "left",
    va: str = "baseline",
    coords: str | tuple[str, str] = "data",
) -> None:
    """Write a short text beside a place, so many points away from it; `coords` are those of the place."""
    # Above the curves, which would else run through it.
    axes.annotate(
        text, place, offset, coords, "offset points", ha=ha, va=va, fontsize="small", color=INK, zorder=4
    )


def draw_limit(axes: Axes, value: float, text: str, *, ha: str = "right") -> None:
    """Draw a dashed line across, with its name at one end."""
    axes.axhline(value, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    x, offset = (1.0, (-4, 3)) if ha == "right" else (0.0, (4, 3))
    note(axes, text, (x, value), offset, ha=ha, coords=("axes fraction", "data"))


def draw_legend(
    axes: Axes,
    loc: Literal["best", "lower left", "lower right", "upper left", "upper right"] = "upper left",
    *,
    handles: Sequence[Artist] | None = None,
    ncols: int = 1,
    title: str | None = None,
) -> Legend:
    """Name what is drawn, in small print without a frame; of the labelled curves if there are no handles."""
    return axes.legend(
        handles=handles or axes.get_legend_handles_labels()[0],
        loc=loc,
        ncols=ncols,
        title=title,
        frameon=False,
        fontsize="small",
        title_fontsize="small",
        alignment="left",
    )


def plain(axes: Axes) -> None:
    """Take the frame's upper and right edge away and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)


def new_figure(width: float, height: float) -> PageFigure:
    """Return an empty figure, sizes in inches; a page shows it with its `alt_text` and links to save it."""
    try:
        from matplotlib.layout_engine import ConstrainedLayoutEngine

        from balacoon_tk.plots.page_figure import PageFigure
    except ImportError as error:
        raise MissingExtraError("drawing a figure", extra="plots") from error
    # The object and not pyplot: no window, no state, and as many threads as one likes.
    return PageFigure(figsize=(width, height), layout=ConstrainedLayoutEngine(), facecolor="white")


def check_figure_path(path: str | os.PathLike[str]) -> str:
    """Return the format that a file's name ends with, or raise a `ParameterError` before all is drawn."""
    suffix = Path(path).suffix.lstrip(".").lower()
    formats = new_figure(1.0, 1.0).canvas.get_supported_filetypes()
    if suffix not in formats:
        raise ParameterError(f"{path}: the name must end in one of .{', .'.join(sorted(formats))}")
    return suffix


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format that its name ends with (`check_figure_path`), whole or not at all."""
    path = Path(path)
    suffix = check_figure_path(path)
    # Beside it and renamed, since a rename within a folder is whole or not at all.
    remove_leftovers(path.parent)
    part = beside(path)
    try:
        write_figure(figure, part, suffix=suffix)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_figure(figure: Figure, target: Path | BinaryIO, *, suffix: str) -> None:
    """Write a figure in a format, with its `alt_text` in the file where the format has a place for it."""
    # Without the program's version and the time in it, the same figure is the same file.
    volatile = {"png": "Software", "svg": "Date"}.get(suffix)
    metadata = {volatile: None, "Description": alt_text(figure)} if volatile else None
    with warnings.catch_warnings():
        # A text in another script shows as boxes in the title; that is no reason to say so twice.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font", category=UserWarning)
        figure.savefig(target, format=suffix, dpi=120, metadata=metadata)


def envelope(
    samples: FloatArray, sample_rate: int, *, n_spans: int
) -> tuple[FloatArray, FloatArray, NDArray[np.float64]]:
    """Return the lowest and highest sample of each of about `n_spans` spans, and their middle times."""
    length = max(1, samples.size // n_spans)
    starts = np.arange(0, samples.size, length)
    if starts.size == 0:
        return samples, samples, np.zeros(0)
    # Extremes and no means: a click of one sample has to be seen.
    low = np.minimum.reduceat(samples, starts)
    high = np.maximum.reduceat(samples, starts)
    return low, high, (starts + 0.5 * length) / sample_rate
