"""What all figures share: colours, sizes, files.

matplotlib is imported when a figure is drawn, and only its object interface is used: no window opens
and no global state changes. Strategies have the colours of Okabe and Ito's palette ("Color Universal
Design", 2008), which colour-blind readers tell apart, and differ in line style and marker for print
without colour.
"""

from __future__ import annotations

import math
import os
import secrets
import warnings
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder import STRATEGIES
from balacoon_tk.errors import MissingExtraError, ParameterError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

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
_DPI = 120


def styles_of(names: Collection[str]) -> dict[str, Style]:
    """Give each name a style; a strategy has the same one in every figure.

    Other names get those of the strategies where no strategy is among them and all others are taken.
    """
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


def log_locator() -> LogLocator:
    """Return what puts ticks at 1, 2 and 5 of each decade."""
    from matplotlib.ticker import LogLocator

    return LogLocator(subs=(1.0, 2.0, 5.0))


def plain(axes: Axes) -> None:
    """Take the frame's upper and right edge away and draw a faint grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.5)
    axes.set_axisbelow(True)


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


def envelope(
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
