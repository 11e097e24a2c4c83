"""Pictures of streaming itself: what context is worth, how far layers look, where the graph is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.plots.figure import INK, PCM16_STEP, STYLES, plain, zero_at

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from balacoon_tk.graph.layers import Layer
    from balacoon_tk.graph.streaming.plan import Plan
    from balacoon_tk.metrics.sweeps import OverlapPoint

_SMALLEST = 1e-9
_MS = 1e3
_MEGA = 1e6
_COLOURS = {
    "Conv": STYLES[2][0],
    "ConvTranspose": STYLES[1][0],
    "other": STYLES[3][0],
}
_STATE, _MARGIN, _AGAIN = STYLES[2][0], STYLES[5][0], STYLES[1][0]


def draw_overlap_error(
    axes: Axes,
    points: Sequence[OverlapPoint],
    *,
    needed_frames: int,
    work_axes: Axes | None = None,
) -> None:
    """Draw the largest difference to the whole against the size of the overlap.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    points : sequence of OverlapPoint
        As `balacoon_tk.metrics.sweeps.sweep_overlap` gives them.
    needed_frames : int
        Context that the receptive field asks for: from there on only rounding is left.
    work_axes : Axes, optional
        Where to draw the frames decoded per frame of audio; nowhere if None.
    """
    points = sorted(points, key=lambda point: point.context_frames)
    context = [point.context_frames for point in points]
    colour, _, marker = STYLES[1]
    axes.plot(
        context,
        [max(point.max_abs_diff, _SMALLEST) for point in points],
        color=colour,
        marker=marker,
        markersize=4.5,
        linewidth=1.3,
        clip_on=False,
    )
    axes.set(yscale="log", ylim=(_SMALLEST, 2.0), ylabel="largest difference (full scale = 1)")
    axes.yaxis.set_major_formatter(zero_at(_SMALLEST))
    axes.axhline(PCM16_STEP, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        "one step of 16-bit PCM",
        (0.0, PCM16_STEP),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize="small",
        color=INK,
    )
    last = axes
    if work_axes is not None:
        colour, style, marker = STYLES[2]
        work_axes.plot(
            context,
            [point.work_ratio for point in points],
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=4.5,
            linewidth=1.3,
        )
        work_axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        work_axes.set(ylim=(0.0, None), ylabel="frames decoded\nper frame of audio")
        axes.tick_params(labelbottom=False)
        last = work_axes
    for panel in {axes, last}:
        panel.axvline(needed_frames, color=INK, linewidth=0.8)
        panel.set(xlim=(-0.5, max([*context, needed_frames]) + 1.5))
        plain(panel)
    axes.annotate(
        f"receptive field: {needed_frames} frames a side",
        (needed_frames, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-4, -4),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize="small",
        color=INK,
    )
    last.set(xlabel="context before and after each chunk (frames)")


def draw_pushes(
    axes: Axes, pushes: Sequence[tuple[int, int]], *, hop_length: float, sample_rate: int
) -> None:
    """Draw how far a decoder's frontier, up to which samples are known, trails the frames pushed.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    pushes : sequence of (n_frames, n_samples)
        What went in with each push, and what came out.
    hop_length : float
        Samples per frame.
    sample_rate : int
        Hz
    """
    from matplotlib.ticker import MaxNLocator

    counts = np.cumsum(np.array([(0, 0), *pushes], dtype=np.float64), axis=0)
    pushed_s, known_s = counts[:, 0] * hop_length / sample_rate, counts[:, 1] / sample_rate
    number = np.arange(len(counts))
    for values_s, (colour, style, marker), label in (
        (pushed_s, STYLES[0], "frames pushed"),
        (known_s, STYLES[2], "samples known"),
    ):
        axes.step(
            number,
            values_s,
            where="post",
            color=colour,
            linestyle=style,
            marker=marker,
            markersize=3.5,
            linewidth=1.3,
            label=label,
        )
    axes.fill_between(number, known_s, pushed_s, step="post", color=STYLES[2][0], alpha=0.15, label="lag")
    axes.set(xlabel="push", ylabel="audio (s)", xlim=(0, None), ylim=(0.0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(loc="upper left", frameon=False, fontsize="small")
    plain(axes)


def draw_receptive_field(axes: Axes, layers: Sequence[Layer], *, frame_s: float | None = None) -> None:
    """Draw how far each layer of a decoder looks, from the frames at the top to the samples below.

    Each bar reaches from the first to the last frame that a step of the layer depends on; time 0 is the
    step's own. What the rate is changed by is written beside.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    layers : sequence of Layer
        As `balacoon_tk.graph.layers.decoder_layers` gives them.
    frame_s : float, optional
        Length of a frame in seconds, for a second scale in ms above.
    """
    from matplotlib.patches import Patch

    kinds = [layer.op_type if layer.op_type in _COLOURS else "other" for layer in layers]
    axes.barh(
        range(len(layers)),
        [layer.left_frames + layer.right_frames for layer in layers],
        left=[-layer.left_frames for layer in layers],
        height=0.75,
        color=[_COLOURS[kind] for kind in kinds],
    )
    axes.axvline(0.0, color=INK, linewidth=0.8)
    furthest = max((max(layer.left_frames, layer.right_frames) for layer in layers), default=1.0)
    for y, layer in enumerate(layers):
        if y == 0 or layer.rate != layers[y - 1].rate:
            unit = "step" if layer.rate == 1.0 else "steps"
            axes.axhline(y - 0.5, color=INK, linewidth=0.5, linestyle=(0, (1, 2)))
            axes.annotate(
                f"{layer.rate:g} {unit} a frame",
                (1.0, y - 0.5),
                xycoords=("axes fraction", "data"),
                xytext=(-2, -3),
                textcoords="offset points",
                ha="right",
                va="top",
                fontsize="small",
                color=INK,
            )
    axes.set(
        xlim=(-1.08 * furthest, 1.45 * furthest),
        ylim=(len(layers) - 0.25, -0.75),
        xlabel="frames, 0 being the one rendered",
        ylabel=f"layer ({len(layers)} that look around)",
    )
    if layers:
        left, right = layers[-1].left_frames, layers[-1].right_frames
        axes.set_title(f"{left:.1f} frames before, {right:.1f} after", loc="left", fontsize="medium")
    if frame_s is not None:
        scale = frame_s * _MS
        above = axes.secondary_xaxis(
            "top", functions=(lambda x: np.multiply(x, scale), lambda x: np.divide(x, scale))
        )
        above.set_xlabel("ms")
    axes.legend(
        handles=[Patch(color=_COLOURS[kind], label=kind) for kind in dict.fromkeys(kinds)],
        loc="upper left",
        frameon=False,
        fontsize="small",
    )
    plain(axes)
    axes.spines["top"].set_visible(frame_s is not None)


def draw_plan(axes: Axes, plan: Plan) -> None:
    """Draw where a stateful decoder is cut, and what each stretch between two cuts costs.

    A bar is a stretch: its length is the multiply-adds of a frame, with what is computed again at the
    planned chunk size on top, hatched. Stretches without multiply-adds are left out.

    Parameters
    ----------
    axes : Axes
        Where to draw.
    plan : Plan
        As `balacoon_tk.graph.streaming.plan.make_plan` gives it.
    """
    from matplotlib.patches import Patch

    steps = [step for step in plan.steps if step.multiply_adds]
    once = [step.multiply_adds / _MEGA for step in steps]
    again = [step.recomputed / plan.chunk_frames / _MEGA for step in steps]
    colours = [_STATE if step.segment is None else _MARGIN for step in steps]
    rows = range(len(steps))
    axes.barh(rows, once, color=colours, height=0.7)
    repeating = [row for row in rows if again[row] > 0.0]
    axes.barh(
        repeating,
        [again[row] for row in repeating],
        left=[once[row] for row in repeating],
        color="white",
        edgecolor=_AGAIN,
        hatch="/////",
        height=0.7,
    )
    for row, step, length in zip(rows, steps, [a + b for a, b in zip(once, again, strict=True)], strict=True):
        tail = "" if step.segment is None else f", tail of {step.segment.tail} steps"
        axes.annotate(
            f"{len(step.nodes)} operator{'s' if len(step.nodes) > 1 else ''}{tail}",
            (length, row),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize="small",
            color=INK,
        )
    axes.set_yticks(list(rows), [_short(step.target) for step in steps], fontsize="small")
    longest = max([a + b for a, b in zip(once, again, strict=True)], default=1.0)
    axes.set(
        xlim=(0.0, 1.45 * longest),
        ylim=(len(steps) - 0.4, -0.6),
        xlabel="multiply-adds per frame (millions)",
        ylabel="stretch, by where it ends",
    )
    axes.set_title(
        f"{100.0 * plan.recomputed_share:.1f} % computed again in chunks of {plan.chunk_frames} frames",
        loc="left",
        fontsize="medium",
    )
    axes.legend(
        handles=[
            Patch(color=_STATE, label="state at every operator"),
            Patch(color=_MARGIN, label="one segment with a margin"),
            Patch(facecolor="white", edgecolor=_AGAIN, hatch="/////", label="computed again"),
        ],
        loc="upper right",
        frameon=False,
        fontsize="small",
    )
    plain(axes)


def _short(name: str) -> str:
    """Return a tensor's name without what an exporter adds to it."""
    return name.strip("/").removesuffix("_output_0")
