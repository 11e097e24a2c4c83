"""Pictures of time: when audio is ready and played, and what chunk sizes and lengths cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from balacoon_tk.metrics import StreamTrace, playback, ttfa_s
from balacoon_tk.plots.figure import INK, log_locator, plain, styles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from balacoon_tk.metrics.sweeps import ChunkPoint, LengthPoint

_MS = 1e3
_N_INSIDE = 3
"""Names that have room between the curves; more stand above."""
_NEAR_REAL_TIME = 0.5
"""RTF from which on the line of real time is drawn beside the curves."""

_Point = TypeVar("_Point", "ChunkPoint", "LengthPoint")


def draw_timeline(axes: Axes, traces: Mapping[str, StreamTrace]) -> None:
    """Draw how much audio is ready, and how much has been played, over the time since the call.

    The steps are the audio handed over; the thin line of the same colour is the playback that starts
    with the first chunk, and the space between them is what waits in the buffer. Where they touch,
    playback has to wait. Time is on a log scale, because the first sound
    comes in milliseconds and the last in seconds.
    """
    sounding = [trace for trace in traces.values() if trace.ready_s]
    last_s = max((float(playback(trace)[1][-1]) for trace in sounding), default=1.0)
    first_s = min((trace.ready_s[0] for trace in sounding), default=1e-3)
    styles = styles_of(traces)
    for name, trace in traces.items():
        if not trace.ready_s:
            continue
        colour, style, marker = styles[name]
        audio_s = np.cumsum(trace.n_samples) / trace.sample_rate
        ready_s = np.asarray(trace.ready_s)
        axes.step(
            np.append(ready_s[0], ready_s),
            np.append(0.0, audio_s),
            where="post",
            color=colour,
            linestyle=style,
            linewidth=1.3,
            marker=marker,
            markersize=3.5,
            label=f"{name}: " + _first_sound(trace),
        )
        start_s, stop_s = playback(trace)
        times_s = np.stack([start_s, stop_s], axis=1).ravel()
        played_s = np.stack([audio_s - np.diff(audio_s, prepend=0.0), audio_s], axis=1).ravel()
        fine_s = np.geomspace(times_s[0], times_s[-1], 400)
        axes.plot(fine_s, np.interp(fine_s, times_s, played_s), color=colour, linewidth=0.7)
    axes.set(
        xscale="log",
        xlim=(0.7 * first_s, 1.2 * last_s),
        ylim=(0.0, None),
        xlabel="time since the call with text (s, log scale)",
        ylabel="audio (s)",
    )
    axes.xaxis.set_major_locator(log_locator())
    axes.xaxis.set_major_formatter(lambda s, _: f"{s:g}")
    axes.xaxis.set_minor_formatter("")
    if axes.lines:
        few = len(traces) <= _N_INSIDE
        axes.legend(
            loc="upper left" if few else "lower left",
            bbox_to_anchor=(0.0, 1.0),
            ncols=1 if few else _N_INSIDE,
            frameon=False,
            fontsize="small",
            title="steps: ready; thin: played",
            title_fontsize="small",
            alignment="left",
        )
    else:
        axes.text(0.5, 0.5, "no audio yet", transform=axes.transAxes, ha="center", color=INK)


def draw_chunk_sweep(axes: Sequence[Axes], points: Sequence[ChunkPoint]) -> None:
    """Draw what the size of chunks does: the first sound, the cost, and whether playback waits.

    Parameters
    ----------
    axes : sequence of three Axes
        For TTFA, RTF and continuity, from top to bottom.
    points : sequence of ChunkPoint
        As `balacoon_tk.metrics.sweeps.sweep_chunks` gives them.
    """
    by_strategy = _by_strategy(points)
    styles = styles_of(by_strategy)
    panels: tuple[tuple[str, Callable[[ChunkPoint], float]], ...] = (
        ("TTFA (ms)", lambda point: point.ttfa_s * _MS),
        ("RTF", lambda point: point.rtf),
        ("continuity (%)", lambda point: point.continuity * 100.0),
    )
    for panel, (label, value) in zip(axes, panels, strict=True):
        for name, curve in by_strategy.items():
            colour, style, marker = styles[name]
            panel.plot(
                [point.chunk_s * _MS for point in curve],
                [value(point) for point in curve],
                color=colour,
                linestyle=style,
                marker=marker,
                markersize=4.0,
                linewidth=1.3,
                label=name,
            )
        panel.set(xscale="log", ylim=(0.0, None), ylabel=label)
        panel.xaxis.set_major_locator(log_locator())
        panel.xaxis.set_major_formatter(lambda ms, _: f"{ms:g}")
        panel.xaxis.set_minor_formatter("")
        panel.tick_params(labelbottom=panel is axes[-1])
        plain(panel)
    if any(point.rtf > _NEAR_REAL_TIME for point in points):  # else it is far above everything drawn
        axes[1].set(ylim=(0.0, max(1.2, axes[1].get_ylim()[1])))
        axes[1].axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        axes[1].annotate(
            "real time",
            (1.0, 1.0),
            xycoords=("axes fraction", "data"),
            xytext=(-4, 3),
            textcoords="offset points",
            ha="right",
            fontsize="small",
            color=INK,
        )
    axes[-1].set(xlabel="audio in a chunk (ms, log scale)", ylim=(0.0, 105.0))
    if by_strategy:
        axes[0].set(ylim=(0.0, 1.25 * axes[0].get_ylim()[1]))  # room for the legend
        axes[0].legend(loc="upper left", frameon=False, fontsize="small", ncols=len(by_strategy))


def draw_cost(axes: Axes, points: Sequence[LengthPoint]) -> None:
    """Draw what an utterance costs against how long it plays: all of it, and up to its first sound.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    points : sequence of LengthPoint
        As `balacoon_tk.metrics.sweeps.sweep_lengths` gives them. Full marks are the whole utterance, hollow
        ones its first audible sample.
    """
    by_strategy = _by_strategy(points)
    styles = styles_of(by_strategy)
    for name, curve in by_strategy.items():
        colour, style, marker = styles[name]
        length_s = [point.audio_s for point in curve]
        axes.plot(
            length_s,
            [point.total_s * _MS for point in curve],
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4.5,
            linewidth=1.3,
            label=f"{name}: all of it",
        )
        axes.plot(
            length_s,
            [point.ttfa_s * _MS for point in curve],
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4.5,
            linewidth=0.7,
            markerfacecolor="white",
            label=f"{name}: first sound",
        )
    axes.set(
        xlabel="audio (s)",
        ylabel="time since the call with text (ms, log scale)",
        yscale="log",
        xlim=(0.0, None),
    )
    axes.set(ylim=(None, 3.0 * axes.get_ylim()[1]))  # room for the legend
    axes.yaxis.set_major_locator(log_locator())
    axes.yaxis.set_major_formatter(lambda ms, _: f"{ms:g}")
    axes.yaxis.set_minor_formatter("")
    plain(axes)
    if by_strategy:
        axes.legend(loc="upper left", frameon=False, fontsize="small", ncols=len(by_strategy))


def _by_strategy(points: Sequence[_Point]) -> dict[str, list[_Point]]:
    found: dict[str, list[_Point]] = {}
    for point in points:
        found.setdefault(point.strategy, []).append(point)
    return found


def _first_sound(trace: StreamTrace) -> str:
    if trace.first_audible is None:
        return "silent"
    return f"first sound after {ttfa_s(trace) * _MS:.0f} ms"
