"""Operators with a bounded window over time: convolutions, pooling, padding.

A kernel is written on a window of what was seen and what is new: it runs without its own padding on
``state + new``. Its first state is its own left padding, and in the last push its right padding follows, so
the padding of the whole run is there and nothing has to be masked. A kernel that goes down in rate leaves in
the state what the windows of this push have not used up. If its stride is longer than its window, steps are
skipped that may have yet to come: they are counted by the length of a second state.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.cost import WEIGHT_INPUT
from balacoon_tk.graph.match import ints_of
from balacoon_tk.graph.rules.base import Effect, NodeContext, first_spatial_axis, rule
from balacoon_tk.graph.timeline import POINTWISE, Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.writer import StreamWriter


def _kernel(ctx: NodeContext, kernel_shape: list[int]) -> Local:
    timeline = ctx.only_time()
    if timeline.axis == 0:
        return POINTWISE  # the batch: every step has a kernel of its own
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
    return Local(down=stride, span=span, pad_left=left, pad_right=right)


def _windowed(ctx: NodeContext, local: Local, *, fill: float = 0.0) -> Effect:
    # Of a kernel that can be run without its own padding, on a window it is given.
    write = _write_reducing if local.down > 1 else _write_window
    return Effect(ctx.only_time().axis, local, write=None if local.pointwise else write, fill=fill)


@rule("Conv")
def _conv(ctx: NodeContext) -> Effect:
    return _windowed(ctx, _kernel(ctx, list(ctx.shape(1)[2:])))


@rule("ConvInteger")
def _conv_integer(ctx: NodeContext) -> Effect:
    return _windowed(ctx, _kernel(ctx, list(ctx.shape(1)[2:])), fill=_zero_point(ctx))


@rule("QLinearConv")
@rule("QLinearConv", domain="com.microsoft")
def _qlinear_conv(ctx: NodeContext) -> Effect:
    return _windowed(ctx, _kernel(ctx, list(ctx.shape(3)[2:])), fill=_zero_point(ctx))


def _zero_point(ctx: NodeContext) -> float:
    # The byte that stands for zero is what a convolution of bytes pads with.
    zero = ctx.const(2)
    return 0.0 if zero is None else float(zero.item())


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
    kernel = _kernel(ctx, shape)
    more = (ctx.ints("output_padding") or [0] * len(shape))[timeline.axis - first_spatial_axis(ctx.node)]
    # Its stride goes up in rate, not down.
    return Effect(
        timeline.axis, replace(kernel, up=kernel.down, down=1, output_padding=more, transposed=True)
    )


@rule("AveragePool", "MaxPool", "LpPool")
def _pool(ctx: NodeContext) -> Effect:
    if len(ctx.node.outputs) > 1:
        ctx.refuse("the places of the maxima are counted from the utterance's start")
    kernel = _kernel(ctx, ctx.ints("kernel_shape") or [])
    if ctx.int("ceil_mode", 0) and ctx.only_time().axis:
        ctx.refuse("with ceil_mode its last window depends on the length of the utterance")
    if not (kernel.pad_left or kernel.pad_right):
        return _windowed(ctx, kernel)
    if kernel.down > 1:
        ctx.refuse("a pool that reduces the rate and pads is not supported; pad before it")
    # What it pads with counts for nothing, and no value in a window that it is given would.
    return Effect(ctx.only_time().axis, kernel)


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
    mirrors = mode in ("reflect", "edge") and (left or right)
    # What is cut off at one end isn't there to be mirrored at the other.
    reach = max(left, right) + 1 - min(left, right, 0) if mirrors else 0
    return Effect(timeline.axis, Local(pad_left=left, pad_right=right, reach=reach))


def _write_window(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    name, local = writer.source(node), effect.local
    right = local.span - local.pad_left
    copy = _unpadded(writer, node, writer.window(name, local, fill=effect.fill))
    writer.set(node, copy.outputs[0], writer.lag(name) + right, writer.steps(name) - right)


def _write_reducing(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    name, local, build = writer.source(node), effect.local, writer.builder
    axis, down = writer.axis(name), local.down
    state, window = writer.line(name, max(local.pad_left, local.span), local, fill=effect.fill)
    # Only the length of this state counts, its content is never read: it is how a graph without integers
    # among its states remembers a number.
    n_skipped = down - local.span - 1
    if n_skipped > 0:
        to_skip = build.state((0,), 0, n_skipped, np.dtype(np.float32))
        window = build.after(window, axis, build.length(to_skip, 0))
    given = _unpadded(writer, node, window).outputs[0]
    used = build.one("Mul", build.length(given, effect.axis), build.ints(down))
    build.keep(state, build.after(window, axis, used))
    if n_skipped > 0:
        ahead = build.one("Sub", used, build.length(window, axis))
        zeros = build.constant(np.zeros(n_skipped, dtype=np.float32))
        build.keep(to_skip, build.slice(zeros, 0, 0, build.larger(ahead, build.ints(0))))
    # As many windows as fit into what is known, the padding on the left counted in.
    right = local.span - local.pad_left
    steps = (writer.steps(name) - right - 1) // down + 1
    writer.set(node, given, writer.lag_after(name, right, down), steps)


def _unpadded(writer: StreamWriter, node: ir.Node, window: ir.Value) -> ir.Node:
    # The window brings the padding along time; that of other axes stays.
    name = writer.source(node)
    copy = writer.copy_on(node, window)
    k, n_spatial = writer.axis(name) - first_spatial_axis(node), len(writer.shape(name)) - 2
    pads = _pads(writer, node, n_spatial)
    pads[k] = pads[k + n_spatial] = 0
    copy.attributes["pads"] = ir.AttrInt64s("pads", pads)
    copy.attributes.pop("auto_pad", None)
    return copy


def _pads(writer: StreamWriter, node: ir.Node, n_spatial: int) -> list[int]:
    # What is automatic is written out: it would be worked out anew from the length of each push.
    automatic = node.attributes["auto_pad"].as_string() if "auto_pad" in node.attributes else "NOTSET"
    if automatic == "NOTSET" and "pads" in node.attributes:
        return ints_of(node, "pads", [])
    # ONNX: as many outputs as inputs over strides, the odd one at the end for SAME_UPPER. Axes beside time
    # are as long in a push as in the whole run, so there it comes to the same numbers.
    pads = [0] * 2 * n_spatial
    if not automatic.startswith("SAME"):
        return pads
    strides, dilations = (ints_of(node, key, [1] * n_spatial) for key in ("strides", "dilations"))
    kernel = ints_of(node, "kernel_shape", [])
    if not kernel:
        kernel = list(writer.analysis.inputs.probe.shape_of(node.inputs[WEIGHT_INPUT[node.op_type]])[2:])
    first, shape = first_spatial_axis(node), writer.shape(writer.source(node))
    for k, length in enumerate(shape[first : first + n_spatial]):
        last_start = (ceil(length / strides[k]) - 1) * strides[k]
        total = max(0, last_start + dilations[k] * (kernel[k] - 1) + 1 - length)
        smaller, larger = total // 2, total - total // 2
        upper = automatic == "SAME_UPPER"
        pads[k], pads[k + n_spatial] = (smaller, larger) if upper else (larger, smaller)
    return pads
