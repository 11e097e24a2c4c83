"""Pictures of streaming itself: what context is worth, how far layers look, where the graph is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk.plots.alternative import describe, describe_curves
from balacoon_tk.plots.figure import (
    INK,
    PCM16_STEP,
    STYLES,
    draw_curve,
    draw_legend,
    draw_limit,
    note,
    plain,
    zero_at,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from balacoon_tk.graph.layers import Layer
    from balacoon_tk.graph.streaming.plan import CutPlan
    from balacoon_tk.metrics.sweeps import OverlapPoint

_SMALLEST = 1e-9
_MS = 1e3
_MEGA = 1e6
_COLOURS = {"Conv": STYLES[2][0], "ConvTranspose": STYLES[1][0], "other": STYLES[3][0]}
_STATE, _MARGIN, _AGAIN = STYLES[2][0], STYLES[5][0], STYLES[1][0]


def draw_overlap_error(
    axes: Axes, points: Sequence[OverlapPoint], *, needed_frames: int, work_axes: Axes | None = None
) -> None:
    """Draw the largest difference to the whole against the size of the overlap, as `sweep_overlap` found it.

    From `needed_frames`, which the receptive field asks for, only rounding is left. The frames decoded per
    frame of audio are drawn on `work_axes`, if there are any.
    """
    points = sorted(points, key=lambda point: point.context_frames)
    context = [point.context_frames for point in points]
    differences = [max(point.max_abs_diff, _SMALLEST) for point in points]
    draw_curve(axes, context, differences, STYLES[1])
    axes.lines[-1].set_clip_on(False)  # marks on the edge stand for no difference at all
    axes.set(yscale="log", ylim=(_SMALLEST, 2.0), ylabel="largest difference (full scale = 1)")
    axes.yaxis.set_major_formatter(zero_at(_SMALLEST))
    draw_limit(axes, PCM16_STEP, "one step of 16-bit PCM", ha="left")
    panels = [axes]
    if work_axes is not None:
        draw_curve(work_axes, context, [point.work_ratio for point in points], STYLES[2])
        work_axes.axhline(1.0, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        work_axes.set(ylim=(0.0, None), ylabel="frames decoded\nper frame of audio")
        axes.tick_params(labelbottom=False)
        panels.append(work_axes)
    for panel in panels:
        panel.axvline(needed_frames, color=INK, linewidth=0.8)
        panel.set(xlim=(-0.5, max([*context, needed_frames]) + 1.5))
        plain(panel)
    text, across = f"receptive field: {needed_frames} frames a side", ("data", "axes fraction")
    note(axes, text, (needed_frames, 1.0), (-4, -4), ha="right", va="top", coords=across)
    panels[-1].set(xlabel="context before and after each chunk (frames)")
    told = [f"{point.max_abs_diff:.1e} with {point.context_frames}" for point in points]
    describe(axes, f"Largest difference by frames of context: {', '.join(told) or 'nothing'}; {text}.")
    if work_axes is not None:
        describe_curves(work_axes, {"work": (context, [point.work_ratio for point in points])})


def draw_pushes(
    axes: Axes, pushes: Sequence[tuple[int, int]], *, hop_length: float, sample_rate: int
) -> None:
    """Draw how far a decoder's frontier, up to which samples are known, trails the frames pushed.

    Each push is the frames that went in and the samples that came out; there are `hop_length` samples a
    frame.
    """
    from matplotlib.ticker import MaxNLocator

    # From nothing pushed and nothing known, where both begin.
    counts = np.cumsum(np.array([(0, 0), *pushes], dtype=np.float64), axis=0)
    pushed_s, known_s = counts[:, 0] * hop_length / sample_rate, counts[:, 1] / sample_rate
    number = np.arange(len(counts))
    steps = ((pushed_s, STYLES[0], "frames pushed"), (known_s, STYLES[2], "samples known"))
    for values_s, style, label in steps:
        # Nothing comes between two pushes: a slope would claim that it does.
        draw_curve(axes, number, values_s, style, label, steps=True)
    axes.fill_between(number, known_s, pushed_s, step="post", color=STYLES[2][0], alpha=0.15, label="lag")
    axes.set(xlabel="push", ylabel="audio (s)", xlim=(0, None), ylim=(0.0, None))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    draw_legend(axes)
    plain(axes)
    # After the last push, which makes everything known, nothing is missing any more.
    lag_s = float(np.max((pushed_s - known_s)[:-1], initial=0.0))
    describe(
        axes,
        f"{len(pushes)} pushes of {pushed_s[-1]:.2f} s in all: what is known trails by at most "
        f"{lag_s:.3f} s, and is {known_s[-1]:.2f} s after the last one.",
    )


def draw_receptive_field(axes: Axes, layers: Sequence[Layer], *, frame_s: float | None = None) -> None:
    """Draw how far each of the `decoder_layers` looks, from the frames at the top to the samples below.

    Each bar reaches from the first to the last frame that a step of the layer depends on; time 0 is the
    step's own. What the rate is changed by is written beside. With the seconds of a frame there is a second
    scale in ms above.
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
        # Where the rate changes, since bars are in frames and a step of a later layer is a part of one.
        if y == 0 or layer.rate != layers[y - 1].rate:
            unit = "step" if layer.rate == 1.0 else "steps"
            axes.axhline(y - 0.5, color=INK, linewidth=0.5, linestyle=(0, (1, 2)))
            text, at_right = f"{layer.rate:g} {unit} a frame", ("axes fraction", "data")
            note(axes, text, (1.0, y - 0.5), (-2, -3), ha="right", va="top", coords=at_right)
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
    draw_legend(axes, handles=[Patch(color=_COLOURS[kind], label=kind) for kind in dict.fromkeys(kinds)])
    plain(axes)
    describe(axes, f"{len(layers)} layers that look around; the furthest looks {furthest:.1f} frames away.")
    axes.spines["top"].set_visible(frame_s is not None)


def draw_plan(axes: Axes, plan: CutPlan) -> None:
    """Draw where `plan_cuts` cuts a stateful decoder, and what each stretch between two cuts costs.

    A bar is a stretch: its length is the multiply-adds of a frame, with what is computed again at the
    planned chunk size on top, hatched. Stretches without multiply-adds are left out.
    """
    from matplotlib.patches import Patch

    steps = [step for step in plan.steps if step.multiply_adds]
    once = [step.multiply_adds / _MEGA for step in steps]
    # Per frame, as the work itself: what is repeated at a border is shared by the frames of a chunk.
    again = [step.recomputed / plan.chunk_frames / _MEGA for step in steps]
    lengths = [a + b for a, b in zip(once, again, strict=True)]
    for row, step in enumerate(steps):
        axes.barh(row, once[row], color=_STATE if step.segment is None else _MARGIN, height=0.7)
        if again[row] > 0.0:
            x, width = once[row], again[row]
            axes.barh(row, width, 0.7, x, color="white", edgecolor=_AGAIN, hatch="/////")
        tail = "" if step.segment is None else f", tail of {step.segment.tail} steps"
        operators = f"{len(step.nodes)} operator{'s' if len(step.nodes) > 1 else ''}{tail}"
        note(axes, operators, (lengths[row], row), (4, 0), va="center")
    # A tensor's name without what an exporter adds to it.
    names = [step.target.strip("/").removesuffix("_output_0") for step in steps]
    axes.set_yticks(range(len(steps)), names, fontsize="small")
    longest = max(lengths, default=1.0)
    axes.set(
        xlim=(0.0, 1.45 * longest),
        ylim=(len(steps) - 0.4, -0.6),
        xlabel="multiply-adds per frame (millions)",
        ylabel="stretch, by where it ends",
    )
    title = f"{100.0 * plan.recomputed_share:.1f} % computed again in chunks of {plan.chunk_frames} frames"
    axes.set_title(title, loc="left", fontsize="medium")
    handles = [
        Patch(color=_STATE, label="state at every operator"),
        Patch(color=_MARGIN, label="one segment with a margin"),
        Patch(facecolor="white", edgecolor=_AGAIN, hatch="/////", label="computed again"),
    ]
    draw_legend(axes, "upper right", handles=handles)
    plain(axes)
    n_margins = sum(step.segment is not None for step in steps)
    describe(
        axes,
        f"{len(steps)} stretches with {sum(once):.3g} million multiply-adds per frame, "
        f"{n_margins} of them with a margin that is computed again.",
    )
