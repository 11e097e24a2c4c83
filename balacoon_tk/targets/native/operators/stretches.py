"""Stretching time by a fixed rate: repetition of steps, and interpolation between them.

By a rate of ``up / down``, step j of the output stands at the place ``(j * down + c) / up`` of the input,
where c is 0, or ``(down - up) / 2`` with half pixels. So every `down`-th step of a finer grid is taken, whose
step m stands at ``(m + c) / up``, and which a transposed convolution makes of each channel by itself: its
kernel is that of the interpolation, at the places of the grid. Ends are clamped: they are padded by the edge.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from math import floor

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.program import Stage
from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.views import View

_MOST_PHASES = 64
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")


@operator("Resize", "Upsample")
def _resize(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    attributes = ctx.node.attributes
    rate = ctx.rate(made) / ctx.rate(source)
    if ctx.channel_shape(source) != ctx.channel_shape(made):
        ctx.refuse("it changes the number of channels")
    if rate == 1:
        return [ctx.view(0)]
    # Opset 10 has no attributes for how places are found.
    default = ("asymmetric", "floor") if ctx.opset <= 10 else ("half_pixel", "round_prefer_floor")
    transform = attributes.get_string("coordinate_transformation_mode", default[0])
    mode = attributes.get_string("mode", "nearest")
    if mode != "nearest":
        return [_interpolated(ctx, rate, mode, transform)]
    form = transform, attributes.get_string("nearest_mode", default[1])
    # With these, and a whole factor, the step that is nearest is the one that the step falls into.
    if rate.denominator != 1 or form not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
        ctx.refuse("it isn't a repetition of each step")
    return [ctx.builder.phases([ctx.builder.gathered(ctx.view(0), ctx.name)] * int(rate), ctx.name)]


def _interpolated(ctx: Context, rate: Fraction, mode: str, transform: str) -> View:
    up, down, attributes = rate.numerator, rate.denominator, ctx.node.attributes
    # Of shorter utterances ONNX Runtime copies those that keep their length: here more than one step does.
    if up > _MOST_PHASES or 2 * up < 3 * down:
        ctx.refuse(f"it interpolates by {rate}, and not by 3/2 to {_MOST_PHASES}")
    outside = attributes.get_int("exclude_outside", 0)
    if transform not in (*_HALF_PIXEL, "asymmetric") or outside:
        ctx.refuse(f"it interpolates in a way that isn't known, with {transform}")
    radius = 2 if mode == "cubic" else 1
    weight = _cubic(attributes.get_float("cubic_coeff_a", -0.75)) if mode == "cubic" else _linear
    first = Fraction(down - up, 2) if transform in _HALF_PIXEL else Fraction(0)
    view = ctx.builder.pad(ctx.view(0), radius, radius, ctx.name, padding="edge")
    # Of all places on the grid that padded steps have a part in, which is the output's first.
    crop = floor(first + 2 * up * radius)
    kernel = weight((np.arange(2 * radius * up) - crop + float(first)) / up + radius)
    kernel = np.trim_zeros(kernel, "b")
    n_taps = -(-len(kernel) // up)
    weights = np.tile(kernel.astype(np.float32), (view.n_channels, 1, 1))
    fine = Stage(
        kind="depthwise",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        n_taps=n_taps,
        pad_left=n_taps - 1,
        pad_right=n_taps - 1,
        n_phases=up,
        crop=crop,
        # Of n steps it makes n * up - (down - 1), of which every `down`-th are n * up // down.
        n_extra=1 - down - 2 * radius * up,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
        transposed=True,
    )
    view = ctx.builder.window(fine, view, view.rate * up)
    if down == 1:
        return view
    ones = ctx.builder.array(np.ones((view.n_channels, 1, 1), np.float32), f"{ctx.name}.ones")
    taken = Stage("depthwise", ctx.name, None, view.n_channels, stride=down, weights=ones)
    return ctx.builder.window(taken, view, view.rate / down)


def _linear(distance: AnyArray) -> AnyArray:
    weights: AnyArray = np.maximum(0, 1 - np.abs(distance))
    return weights


def _cubic(a: float) -> Callable[[AnyArray], AnyArray]:
    """Return the weights of cubic convolution (Keys 1981, "Cubic convolution interpolation", equation 4)."""

    def weight(distance: AnyArray) -> AnyArray:
        x = np.abs(distance)
        near = (a + 2) * x**3 - (a + 3) * x**2 + 1
        far = a * (x**3 - 5 * x**2 + 8 * x - 4)
        return np.where(x <= 1, near, np.where(x < 2, far, 0))

    return weight
