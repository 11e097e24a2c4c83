"""A picture of a text that is spoken while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.plots.alternative import describe, listed
from balacoon_tk.plots.figure import INK, draw_legend, note, plain, styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from balacoon_tk.metrics.live import LiveTrace


def draw_live(axes: Axes, traces: Mapping[str, LiveTrace]) -> None:
    """Draw how far a text is written, and how far it is heard, over the time since the call.

    The distance between the two curves, from left to right, is how long a listener waits for what is there
    already. All traces are of one text; each begins where its first word sounds.
    """
    styles, told = styles_of(traces), []
    for k, (name, trace) in enumerate(traces.items()):
        if k == 0:
            written_s, n_written = trace.written()
            told.append(f"{n_written[-1]} characters are written in {written_s[-1]:.2f} s")
            axes.step(written_s, n_written, where="post", color=INK, linewidth=1.3, label="written")
            _mark_sentences(axes, "".join(piece.text for piece in trace.pieces))
        if not trace.words:
            continue
        heard_s, n_heard = trace.heard()
        colour, line, marker = styles[name]
        label = f"{name}: first word after {heard_s[0]:.2f} s"
        axes.plot(heard_s, n_heard, color=colour, linestyle=line, linewidth=1.3, label=label)
        axes.plot(heard_s[:1], n_heard[:1], color=colour, marker=marker, markersize=6)
        told.append(f"{label}, last after {heard_s[-1]:.2f} s")
    axes.set(
        xlabel="time since the call (s)", ylabel="characters of the text", xlim=(0, None), ylim=(0, None)
    )
    draw_legend(axes, "lower right")
    plain(axes)
    describe(axes, f"A text as it is written and heard: {listed(told)}.")


def _mark_sentences(axes: Axes, text: str) -> None:
    """Draw a line where each sentence ends, with its last word."""
    for end in np.flatnonzero([character in ".!?" for character in text]) + 1:
        axes.axhline(float(end), color=INK, linewidth=0.5, linestyle=(0, (1, 3)))
        last_word = text[:end].split()[-1]
        note(axes, last_word, (0.0, float(end)), (4, 2), coords=("axes fraction", "data"))
