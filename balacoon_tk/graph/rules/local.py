"""Operators with a bounded window over time: convolutions, pooling, padding."""

from __future__ import annotations

from dataclasses import dataclass

from balacoon_tk.graph.rules.base import Effect, NodeContext, first_spatial_axis, rule
from balacoon_tk.graph.timeline import Local, Timeline

_SPATIAL = 2
"""The first axis that a kernel moves over, unless channels come last."""


@dataclass(frozen=True, slots=True)
class _Kernel:
    """A kernel's numbers along time."""

    stride: int
    span: int
    pad_left: int
    pad_right: int


def _kernel(ctx: NodeContext, timeline: Timeline, kernel_shape: list[int]) -> _Kernel:
    n = len(kernel_shape)
    k = timeline.axis - first_spatial_axis(ctx.node)
    if not 0 <= k < n:
        ctx.refuse("its kernel mixes channels that lie along time")
    stride = (ctx.ints("strides") or [1] * n)[k]
    span = (ctx.ints("dilations") or [1] * n)[k] * (kernel_shape[k] - 1)
    pads = ctx.ints("pads") or [0] * 2 * n
    left, right = pads[k], pads[k + n]
    auto = ctx.string("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        if stride > 1:
            ctx.refuse("its automatic padding depends on the length of the utterance")
        left = span // 2 if auto == "SAME_UPPER" else span - span // 2
        right = span - left
    elif auto == "VALID":
        left = right = 0
    return _Kernel(stride, span, left, right)


@rule("Conv", "ConvInteger")
def _conv(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if timeline.axis == 0:
        return Effect(0)  # the batch: every step has a kernel of its own
    kernel = _kernel(ctx, timeline, list(ctx.shape(1)[2:]))
    if ctx.node.op_type == "ConvInteger" and (kernel.pad_left or kernel.pad_right):
        zero = ctx.const(2)
        if zero is not None and zero.any():
            ctx.refuse("its padding is not of zeros: pad before it")
    return _windowed(timeline, kernel)


@rule("QLinearConv")
@rule("QLinearConv", domain="com.microsoft")
def _qlinear_conv(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    ctx.const(2)  # what it pads with
    return _windowed(timeline, _kernel(ctx, timeline, list(ctx.shape(3)[2:])))


def _windowed(timeline: Timeline, kernel: _Kernel) -> Effect:
    return Effect(
        timeline.axis,
        Local(
            down=kernel.stride,
            span=kernel.span,
            pad_left=kernel.pad_left,
            pad_right=kernel.pad_right,
            valid=True,
        ),
    )


@rule("ConvTranspose")
def _conv_transpose(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if timeline.axis == 0:
        return Effect(0)
    if ctx.ints("output_shape"):
        ctx.refuse("its output_shape fixes the length of time")
    if ctx.string("auto_pad", "NOTSET").startswith("SAME"):
        ctx.refuse("its automatic padding is not supported; write pads out")
    shape = list(ctx.shape(1)[2:])
    kernel = _kernel(ctx, timeline, shape)
    extra = (ctx.ints("output_padding") or [0] * len(shape))[timeline.axis - _SPATIAL]
    return Effect(
        timeline.axis,
        Local(
            up=kernel.stride,
            span=kernel.span,
            pad_left=kernel.pad_left,
            pad_right=kernel.pad_right,
            output_padding=extra,
            transposed=True,
        ),
    )


@rule("AveragePool", "MaxPool", "LpPool")
def _pool(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if len(ctx.node.outputs) > 1:
        ctx.refuse("the places of the maxima are counted from the utterance's start")
    if timeline.axis == 0:
        return Effect(0)
    kernel = _kernel(ctx, timeline, ctx.ints("kernel_shape") or [])
    if ctx.int("ceil_mode", 0):
        ctx.refuse("with ceil_mode its last window depends on the length of the utterance")
    padded = kernel.pad_left or kernel.pad_right
    if kernel.stride > 1 and padded:
        ctx.refuse("a pool that reduces the rate and pads is not supported; pad before it")
    return Effect(
        timeline.axis,
        Local(
            down=kernel.stride,
            span=kernel.span,
            pad_left=kernel.pad_left,
            pad_right=kernel.pad_right,
            valid=not padded,
        ),
    )


@rule("Pad")
def _pad(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    pads = ctx.ints("pads", 1) or []
    given = ctx.ints("axes", 3)
    rank = ctx.rank(0)
    axes = list(range(rank)) if given is None else [axis % rank for axis in given]
    if timeline.axis not in axes:
        return Effect(timeline.axis)
    k = axes.index(timeline.axis)
    left, right = pads[k], pads[k + len(axes)]
    mode = ctx.string("mode", "constant")
    if mode == "wrap":
        ctx.refuse("it continues the utterance's end at its start")
    reach = max(left, right) + 1 if mode in ("reflect", "edge") else 0
    return Effect(timeline.axis, Local(pad_left=left, pad_right=right, reach=reach if left or right else 0))
