"""Pictures of time: when audio is ready and played, and what chunk sizes, lengths and many streams cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from balacoon_tk.metrics.latency import playback, ttfa_s, underrun_s
from balacoon_tk.plots.alternative import counted_as, describe, describe_curves, listed
from balacoon_tk.plots.figure import (
    INK,
    STYLES,
    Style,
    draw_curve,
    draw_legend,
    draw_limit,
    label_log,
    note,
    plain,
    styles_of,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from balacoon_tk.metrics.sweeps import ChunkPoint, LengthPoint
    from balacoon_tk.metrics.trace import StreamTrace

_MS = 1e3

# Points (x, y) in the order of x.
Curve = Sequence[tuple[float, float]]

_Point = TypeVar("_Point", "ChunkPoint", "LengthPoint")


def draw_timeline(axes: Axes, traces: Mapping[str, StreamTrace]) -> None:
    """Draw how much audio is ready, and how much has been played, over the time since the call.

    The steps are the audio handed over; the thin line of the same colour is the playback that starts
    with the first chunk, and the space between them is what waits in the buffer. Where they touch,
    playback has to wait. Time is on a log scale, because the first sound
    comes in milliseconds and the last in seconds.
    """
    sounding = {name: trace for name, trace in traces.items() if trace.ready_s}
    last_s = max((float(playback(trace)[1][-1]) for trace in sounding.values()), default=1.0)
    first_s = min((trace.ready_s[0] for trace in sounding.values()), default=1e-3)
    # Of all traces: one that is silent keeps its colour, as in the next figure.
    styles = styles_of(traces)
    for name, trace in sounding.items():
        audio_s = np.cumsum(trace.n_samples) / trace.sample_rate
        silent = trace.first_audible is None
        first = "silent" if silent else f"first sound after {ttfa_s(trace) * _MS:.0f} ms"
        ready_s, steps_s = np.append(trace.ready_s[0], trace.ready_s), np.append(0.0, audio_s)
        draw_curve(axes, ready_s, steps_s, styles[name], f"{name}: {first}", steps=True)
        times_s = np.stack(playback(trace), axis=1).ravel()
        played_s = np.stack([audio_s - np.diff(audio_s, prepend=0.0), audio_s], axis=1).ravel()
        # A straight line bends on a log scale, so it is drawn through many points.
        fine_s = np.geomspace(times_s[0], times_s[-1], 400)
        axes.plot(fine_s, np.interp(fine_s, times_s, played_s), color=styles[name][0], linewidth=0.7)
    axes.set(
        xscale="log",
        xlim=(0.7 * first_s, 1.2 * last_s),
        ylim=(0.0, None),
        xlabel="time since the call with text (s, log scale)",
        ylabel="audio (s)",
    )
    label_log(axes.xaxis)
    if axes.lines:
        few, title = len(traces) <= 3, "steps: ready; thin: played"
        legend = draw_legend(axes, "upper left" if few else "lower left", ncols=1 if few else 3, title=title)
        # The space above the curves is for three names; more would lie over the steps, and stand above.
        legend.set_bbox_to_anchor((0.0, 1.0), axes.transAxes)
    else:
        axes.text(0.5, 0.5, "no audio yet", transform=axes.transAxes, ha="center", color=INK)
    told = [f"{name}: {_tell_trace(trace)}" for name, trace in sounding.items()]
    describe(axes, f"{'; '.join(told) or 'No audio yet'}.")


def draw_chunk_sweep(axes: Sequence[Axes], points: Sequence[ChunkPoint]) -> None:
    """Draw what the size of chunks does: the first sound, the cost, and whether playback waits.

    The points of `sweep_chunks`, on three axes: TTFA, RTF and continuity from top to bottom.
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
            draw_curve(panel, [p.chunk_s * _MS for p in curve], [*map(value, curve)], styles[name], name)
        panel.set(xscale="log", ylim=(0.0, None), ylabel=label)
        label_log(panel.xaxis)
        panel.tick_params(labelbottom=panel is axes[-1])
        plain(panel)
    # Where all is much faster, the line of real time is far above everything drawn.
    if any(point.rtf > 0.5 for point in points):
        axes[1].set(ylim=(0.0, max(1.2, axes[1].get_ylim()[1])))
        draw_limit(axes[1], 1.0, "real time")
    axes[-1].set(xlabel="audio in a chunk (ms, log scale)", ylim=(0.0, 105.0))
    if by_strategy:
        axes[0].set(ylim=(0.0, 1.25 * axes[0].get_ylim()[1]))  # room for the legend
        draw_legend(axes[0], ncols=len(by_strategy))
    for panel in axes:
        _describe_drawn(panel)


def draw_cost(axes: Axes, points: Sequence[LengthPoint]) -> None:
    """Draw what an utterance costs against how long it plays: all of it, and up to its first sound.

    The points of `sweep_lengths`. Full marks are the whole utterance, hollow ones its first audible sample.
    """
    by_strategy = _by_strategy(points)
    first_s = {name: [(p.audio_s, p.ttfa_s) for p in curve] for name, curve in by_strategy.items()}
    total_s = {name: [(p.audio_s, p.total_s) for p in curve] for name, curve in by_strategy.items()}
    _draw_first_and_total(axes, first_s, total_s, styles_of(by_strategy).values())
    axes.set(xlabel="audio (s)", xlim=(0.0, None))
    axes.set(ylim=(None, 3.0 * axes.get_ylim()[1]))  # room for the legend
    plain(axes)
    if by_strategy:
        draw_legend(axes, ncols=len(by_strategy))
    _describe_drawn(axes)


def draw_growth(axes: Axes, first_s: Mapping[str, Curve], total_s: Mapping[str, Curve]) -> None:
    """Draw the first sound and the whole of each engine against phonemes, in seconds, both on log scales."""
    _draw_first_and_total(axes, first_s, total_s, STYLES)
    axes.set(xscale="log", xlabel="phonemes in the text (log scale)")
    label_log(axes.xaxis)
    draw_legend(axes, "best")
    plain(axes)
    _describe_drawn(axes)


def draw_spreads(axes: Axes, rounds_s: Mapping[str, Sequence[float]]) -> None:
    """Draw what things take, a line each, the first one on top: every round > 0 s, and the median."""
    # Every round is shown, because a median alone hides a machine that had something else to do.
    medians_ms = [float(np.median(seconds)) * _MS for seconds in rounds_s.values()]
    shortest_s, longest_s = (pick(map(pick, rounds_s.values())) for pick in (min, max))
    for k, (seconds, median_ms) in enumerate(zip(rounds_s.values(), medians_ms, strict=True)):
        times_ms = np.asarray(seconds) * _MS
        axes.plot(times_ms, np.full(times_ms.size, k), "o", color=STYLES[2][0], markersize=4, alpha=0.35)
        axes.plot([median_ms], [k], "|", color=INK, markersize=13, markeredgewidth=1.6)
        text = f"{median_ms:.0f}" if median_ms >= 100.0 else f"{median_ms:.2g}"
        note(axes, text, (median_ms, k), (0, 8), ha="center")
    axes.set_yticks(range(len(rounds_s)), list(rounds_s))
    axes.set(
        xscale="log",
        xlim=(0.7 * _MS * shortest_s, 1.4 * _MS * longest_s),
        ylim=(len(rounds_s) - 0.5, -0.8),
        xlabel="time (ms, log scale)",
    )
    label_log(axes.xaxis)
    plain(axes)
    told = [f"{name} {median_ms:.3g} ms" for name, median_ms in zip(rounds_s, medians_ms, strict=True)]
    describe(axes, f"Medians of rounds: {listed(told)}.")


def draw_streams(axes: Sequence[Axes], shares: Mapping[str, Curve], underruns_s: Mapping[str, Curve]) -> None:
    """Draw how streams at once fare: the share that never waits above, how long the worst waits below.

    For each way to start or to buffer, points of streams and share from 0 to 1, or seconds.
    """
    above, below = axes
    for panel, curves, factor in ((above, shares, 100.0), (below, underruns_s, _MS)):
        for (name, curve), style in zip(curves.items(), STYLES, strict=False):
            _draw(panel, curve, style, name, factor=factor)
        # A legend each: the ways to buffer are not those to start.
        draw_legend(panel, "best")
        panel.tick_params(labelbottom=panel is below)
        plain(panel)
    above.set(ylabel="streams that never wait (%)", ylim=(0.0, 105.0))
    below.set(ylabel="worst wait (ms)", xlabel="streams at once", ylim=(0.0, None))
    for panel in axes:
        _describe_drawn(panel)


def _draw_first_and_total(
    axes: Axes, first_s: Mapping[str, Curve], total_s: Mapping[str, Curve], styles: Iterable[Style]
) -> None:
    """Draw the first sound, hollow, and the whole in ms on a log scale."""
    for (name, curve), style in zip(total_s.items(), styles, strict=False):
        _draw(axes, curve, style, f"{name}: all of it", factor=_MS)
        _draw(axes, first_s[name], style, f"{name}: first sound", factor=_MS, hollow=True)
    axes.set(yscale="log", ylabel="time since the call with text (ms, log scale)")
    label_log(axes.yaxis)


def _draw(axes: Axes, curve: Curve, style: Style, label: str, *, factor: float, hollow: bool = False) -> None:
    draw_curve(axes, [x for x, _ in curve], [factor * y for _, y in curve], style, label, hollow=hollow)


def _describe_drawn(axes: Axes) -> None:
    # A label of matplotlib's own begins with an underscore: that is a limit, and no curve.
    named = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    describe_curves(axes, {str(line.get_label()): (line.get_xdata(), line.get_ydata()) for line in named})


def _tell_trace(trace: StreamTrace) -> str:
    chunks, length_s = counted_as(len(trace.n_samples), "chunk"), sum(trace.n_samples) / trace.sample_rate
    waits_s = underrun_s(trace)
    first = "silent" if trace.first_audible is None else f"TTFA {ttfa_s(trace) * _MS:.0f} ms"
    waits = f"waits {waits_s * _MS:.0f} ms" if waits_s > 0.0 else "no underrun"
    return f"{chunks} of {length_s:.2f} s in all, {first}, {waits}"


def _by_strategy(points: Sequence[_Point]) -> dict[str, list[_Point]]:
    found: dict[str, list[_Point]] = {}
    for point in points:
        found.setdefault(point.strategy, []).append(point)
    return found
