"""What a figure says to whoever can't see it: a text with the figure's own numbers.

Each ``draw_`` function notes on its axes what it has drawn, in words and numbers. Axes on which nobody has
noted anything are told by their labels, so that figures of one's own have a text too. It is the text
alternative of WCAG 2.2, success criterion 1.1.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Here and not on the figure, which may be one of pyplot's or of somebody else.
_NOTES: WeakKeyDictionary[Axes, list[str]] = WeakKeyDictionary()


def describe(axes: Axes, text: str) -> None:
    """Note on axes, in a sentence, what is drawn there, for the `alt_text` of their figure."""
    _NOTES.setdefault(axes, []).append(text)


def describe_curves(axes: Axes, curves: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> None:
    """Note where curves, ``(x, y)`` by name, begin and end; the axes must have their labels already."""
    points = {name: np.asarray(curve, dtype=np.float64) for name, curve in curves.items()}
    told = [f"{name} {y[0]:.3g} to {y[-1]:.3g}" for name, (_, y) in points.items() if y.size]
    text = axes.get_ylabel()
    if told and axes.get_xlabel():
        across = np.concatenate([x for x, _ in points.values()])
        text += f" for {axes.get_xlabel()} from {across.min():.3g} to {across.max():.3g}"
    describe(axes, f"{text}: {listed(told)}.")


def listed(told: Iterable[str]) -> str:
    """Join what is told in one sentence."""
    return ", ".join(told) or "nothing"


def counted_as(n: int, what: str) -> str:
    """Return a number with the name of what is counted; nothing for none."""
    return "" if n == 0 else f"{n} {what}{'' if n == 1 else 's'}"


def alt_text(figure: Figure) -> str:
    """Return a text that says what a figure shows, with its numbers.

    Parameters
    ----------
    figure : matplotlib.figure.Figure

    Returns
    -------
    str
        A sentence or two for each of its panels, from top to bottom, in one line.
    """
    panels = [axes for axes in figure.axes if axes.get_visible() and axes.get_label() != "<colorbar>"]
    told = [_tell(axes) for axes in panels]
    if len(told) > 1:
        told = [f"Panel {k} of {len(told)}: {text}" for k, text in enumerate(told, 1)]
    title = figure.get_suptitle()
    return " ".join(" ".join([f"{title}." if title else "", *told]).split()) or "An empty figure."


def _tell(axes: Axes) -> str:
    title = axes.get_title(loc="left") or axes.get_title()
    notes = " ".join(_NOTES.get(axes) or [_labels(axes)])
    return f"{title}: {notes}" if title else notes


def _labels(axes: Axes) -> str:
    scales = " against ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
    names: Sequence[str] = axes.get_legend_handles_labels()[1]
    return f"{scales or 'axes without labels'}: {listed(names)}."
