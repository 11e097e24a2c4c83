"""Stretching time by a fixed rate: repetition of steps, and interpolation between them.

A step ``i`` of the output stands at a place of the input, ``(i + 0.5) / rate - 0.5`` with half pixels and
``i / rate`` otherwise, and is made of the steps that are less than a radius away: 1 for linear, 2 for cubic
interpolation. Places beyond the ends are clamped to them, so what an operator does at the end of a piece it
does at the end of the utterance too, and nothing else is spoiled than what waits for its neighbours.

The rate is a fraction, ``up / down``. Whatever its phase, the operator runs on pieces that begin at a
multiple of `down` steps: there the same places come again. They are counted from the piece's start, and in
float32 that rounds them less than counting from the utterance's start, as the whole run does: with a rate
that is no power of two the two differ by that rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.timeline import Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.builder import GraphBuilder, Steps
    from balacoon_tk.graph.streaming.writer import StreamWriter

_LARGEST_DENOMINATOR = 4096  # 24000 / 22050 is 160 / 147, and a frame has few thousands of samples
_N_CHECKED = 2**16  # steps of the output for which a rate in float32 must give the lengths of its fraction

_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
_RADIUS = {"linear": 1, "cubic": 2}


@dataclass(frozen=True, slots=True)
class _Stretch:
    """How interpolation treats time."""

    up: int
    down: int
    radius: int
    half_pixel: bool
    # Of one step of the output the place is the first step of the input, as pytorch_half_pixel has it.
    first_if_single: bool

    @property
    def _shift(self) -> int:
        # Of `known`: how far the last place that is known lies behind, in its units.
        if self.half_pixel:
            return (2 * self.radius - 1) * self.up - self.down
        return self.radius * self.up - self.down

    @property
    def _factor(self) -> int:
        return 2 if self.half_pixel else 1

    @property
    def local(self) -> Local:
        """The window, as that of a transposed convolution whose ends are clamped."""
        up, down = self.up, self.down
        if up == 1:
            return Local(down=down, span=down - 1, reach=self.min_length if self.first_if_single else 0)
        late = max(0, -(-self._shift // self._factor)) + down - 1
        # Of a whole rate the last step within the radius; of a fraction no segment asks for it.
        last = (2 * self.radius + 1) * up // 2 - 1 if self.half_pixel else self.radius * up - 1
        span = late + max(last, up - 1)
        return Local(up=up, down=down, span=span, pad_left=late, pad_right=span + 1 - up - late)

    @property
    def min_length(self) -> int:
        """Steps that a piece must have to be treated as any longer one is.

        ONNX Runtime copies what keeps its length, as a few steps do at a rate little above 1.
        """
        if self.up > self.down:
            return -(-self.down // (self.up - self.down))
        return -(-2 * self.down // self.up) if self.first_if_single else 1

    @property
    def n_back(self) -> int:
        """Steps behind the newest that what isn't known yet may look at, and that a piece must have."""
        # Going down, the utterance may have to be longer to have a step whose place is known.
        return max(2 * self.radius + self.down // self.up, self.min_length)

    def known(self, n_steps: Steps) -> Steps:
        """Return how many steps of the output are known, given how many of the input are."""
        # The place of step i is at most ``n_steps - radius``, solved for i.
        known = (self._factor * self.up * n_steps - self._shift) // (self._factor * self.down)
        result: Steps = np.minimum(known, n_steps * self.up // self.down)
        return result

    def write_known(self, build: GraphBuilder, n_steps: ir.Value) -> ir.Value:
        """Write `known` into a graph."""
        slope, shift = build.ints(self._factor * self.up), build.ints(self._shift)
        below = build.one("Sub", build.one("Mul", n_steps, slope), shift)
        # Division truncates: what is below 0 it brings to 0 at most.
        known = build.larger(build.one("Div", below, build.ints(self._factor * self.down)), build.ints(0))
        if self.up >= self.down:
            return known
        # Going down a place may be known whose step the utterance would have to be longer to have.
        whole = build.one("Mul", n_steps, build.ints(self.up))
        return build.smaller(known, build.one("Div", whole, build.ints(self.down)))


@rule("Resize")
def _resize(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    rate = _rate(ctx, timeline.axis)
    transform = "asymmetric"  # as opset 10 has it, which doesn't name it
    if ctx.opset > 10:
        transform = ctx.string("coordinate_transformation_mode", "half_pixel")
    if transform == "tf_crop_and_resize":
        ctx.refuse("it crops by a share of the length")
    if rate == 1:
        return Effect(timeline.axis)
    mode = ctx.string("mode", "nearest")
    if mode == "nearest":
        return _repeat(ctx, rate, transform)
    if transform not in (*_HALF_PIXEL, "asymmetric"):
        ctx.refuse(f"with {transform} where a step is read depends on the length of the utterance")
    if ctx.int("antialias", 0) and rate < 1:
        ctx.refuse("with antialias its window is not that of interpolation: write it as a convolution")
    if transform == "half_pixel_symmetric" and rate.denominator > 1:
        ctx.refuse("with half_pixel_symmetric places depend on the length where the rate is a fraction")
    if mode == "cubic" and rate.numerator == 1:
        ctx.refuse("cubic interpolation that only goes down in rate is not supported: use linear")
    half, single = transform in _HALF_PIXEL, transform == "pytorch_half_pixel"
    stretch = _Stretch(rate.numerator, rate.denominator, _RADIUS[mode], half, single)
    return Effect(timeline.axis, stretch.local, write=partial(_write_stretch, stretch))


def _rate(ctx: NodeContext, axis: int) -> Fraction:
    """Return the steps of the output for one of the input."""
    scales = ctx.const(1 if ctx.opset == 10 else 2)
    if scales is None or not scales.size:
        ctx.refuse("it stretches time to a fixed length")
    axes = [axis % ctx.rank(0) for axis in ctx.ints("axes") or range(ctx.rank(0))]
    scale = np.float32(scales[axes.index(axis)] if axis in axes else 1)
    rate = Fraction(float(scale)).limit_denominator(_LARGEST_DENOMINATOR)
    # The runtime multiplies lengths by the scale in float32, which may fall just short of a whole number.
    # Lengths grow where a step of the output is reached, so there and just before is where to look.
    made = np.arange(1, _N_CHECKED)
    given = -(-made * rate.denominator // rate.numerator)
    for n_steps in (given, given - 1):
        lengths = (n_steps.astype(np.float32) * scale).astype(np.int64)
        if not np.array_equal(lengths, n_steps * rate.numerator // rate.denominator):
            ctx.refuse(f"it stretches time by {scale:g}, which is not a ratio of small whole numbers")
    return rate


def _repeat(ctx: NodeContext, rate: Fraction, transform: str) -> Effect:
    mode = (transform, ctx.string("nearest_mode", "round_prefer_floor") if ctx.opset > 10 else "floor")
    axis, up, down = ctx.only_time().axis, rate.numerator, rate.denominator
    # Every so many steps; only a power of two is so many exactly, counted in float32.
    if up == 1 and not down & (down - 1) and mode == ("asymmetric", "floor"):
        stretch = _Stretch(up, down, 0, half_pixel=False, first_if_single=False)
        return Effect(axis, stretch.local, write=partial(_write_stretch, stretch))
    if down != 1:
        ctx.refuse(f"it stretches time by {float(rate):g}, which is not a whole number")
    if mode not in _REPEATING:
        ctx.refuse(f"with {' and '.join(mode)} it doesn't repeat every step equally often")
    return Effect(axis, Local(up=up, span=up - 1))


# Where the steps ``up * n`` to ``up * n + up - 1`` are all made of step ``n``: with half pixels the place is
# less than half a step away; otherwise it is ``i / up``.
_REPEATING = {
    ("asymmetric", "floor"),
    *((transform, f"round_prefer_{side}") for transform in _HALF_PIXEL for side in ("floor", "ceil")),
}


def _write_stretch(stretch: _Stretch, writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    name, build, down = writer.source(node), writer.builder, stretch.down
    axis = writer.axis(name)
    # A first push is no shorter, unless the utterance is: then it is the whole run.
    writer.frontiers.need(name, stretch.min_length)
    state, line = writer.line(name, stretch.n_back + down - 1)
    shown, known = (stretch.write_known(build, build.length(value, axis)) for value in (state, line))
    stretched = writer.copy_on(node, line).outputs[0]
    out = build.slice(stretched, axis, shown, build.all_if_last(known))
    # An empty state is the utterance's start; later ones begin where the places come again.
    start = build.larger(
        build.one("Sub", build.length(line, axis), build.ints(stretch.n_back)), build.ints(0)
    )
    if down > 1:
        start = build.one("Mul", build.one("Div", start, build.ints(down)), build.ints(down))
    build.keep(state, build.after(line, axis, start))
    if effect.local.goes_up:
        lag = (writer.lag(name) * stretch.up + effect.local.pad_left) / down
    else:
        lag = writer.lag_after(name, effect.local.span, down)
    writer.set(node, out, lag, stretch.known(writer.steps(name)))
