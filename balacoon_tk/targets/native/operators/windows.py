"""Windows of time: convolutions, products with a matrix, padding, pooling, repetition."""

from __future__ import annotations

from typing import cast

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.int8 import channel_axis
from balacoon_tk.graph.match import constant_of, ints_of
from balacoon_tk.runtime.native.program import Padding, Stage
from balacoon_tk.targets.native.builder import View
from balacoon_tk.targets.native.operators.base import Context, operator


@operator("Pad")
def _pad(ctx: Context) -> list[View]:
    view = ctx.view(0, padded=True)
    pads = ctx.ints("pads", 1) or []
    rank, axis = len(ctx.shape(ctx.node.inputs[0])), ctx.time_axis(ctx.node.inputs[0])
    if ctx.has(3):
        axes = [int(n) % rank for n in ctx.constant(3).reshape(-1)]
        whole = [0] * 2 * rank
        for k, place in enumerate(axes):
            whole[place], whole[place + rank] = pads[k], pads[k + len(axes)]
        pads = whole
    if axis is None or any(n for k, n in enumerate(pads) if k % rank != axis):
        ctx.refuse("it pads channels")
    left, right = pads[axis], pads[axis + rank]
    if left == right == 0:
        return [view]
    mode = ctx.node.attributes.get_string("mode", "constant")
    value = float(ctx.constant(2).reshape(-1)[0]) if ctx.has(2) else 0.0
    if mode not in ("constant", "reflect", "edge") or (min(left, right) < 0 and mode != "constant"):
        ctx.refuse("it pads time in a way that isn't known")
    users = {node.op_type for node, _ in ctx.node.outputs[0].uses()}
    if ctx.node.outputs[0].is_graph_output():
        users.add("output")
    if mode == "constant" and value == 0 and min(left, right) >= 0 and users == {"Conv"}:
        return [ctx.builder.padded(view, left, right)]
    view = ctx.builder.gathered(ctx.view(0), ctx.name)
    stage = Stage(
        kind="pad",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        pad_left=left,
        pad_right=right,
        padding=cast(Padding, mode),
        value=value,
    )
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))]


def _kernel_pads(ctx: Context, span: int) -> tuple[int, int]:
    auto = ctx.node.attributes.get_string("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        if ints_of(ctx.node, "strides", [1]) != [1]:
            ctx.refuse("its padding depends on the length")
        left = span // 2 if auto == "SAME_UPPER" else span - span // 2
        return left, span - left
    left, right = [0, 0] if auto == "VALID" else ints_of(ctx.node, "pads", [0, 0])
    return left, right


# So few are summed up by a kernel of their own, which reads little enough.
_FEW_FILTERS = 4


def can_round(node: ir.Node) -> bool:
    """Return whether a node is a convolution that gets faster in int8: dense, of more than a few filters."""
    if node.op_type not in ("Conv", "ConvTranspose") or node.attributes.get_int("group", 1) != 1:
        return False
    weights = constant_of(node, 1)
    if weights is None or weights.ndim != 3 or weights.dtype != np.float32:
        return False
    return int(weights.shape[channel_axis(node)]) > _FEW_FILTERS


@operator("Conv")
def _conv(ctx: Context) -> list[View]:
    ctx.window(0)
    weights, scales, step = ctx.weights()
    (stride,) = ints_of(ctx.node, "strides", [1])
    (dilation,) = ints_of(ctx.node, "dilations", [1])
    n_groups = ctx.node.attributes.get_int("group", 1)
    n_out, n_in, n_taps = weights.shape
    view = ctx.view(0, padded=True)
    left, right = _kernel_pads(ctx, (n_taps - 1) * dilation)
    left, right = left + view.pads[0], right + view.pads[1]
    if min(left, right) < 0:
        ctx.refuse(f"its padding {left, right} is negative")
    if view.timeless and (n_taps > 1 or stride > 1 or left or right):
        ctx.refuse("it reads a window of what has no time")
    depthwise = n_groups > 1 and n_groups == n_out == view.n_channels and n_in == 1
    if depthwise and step is not None:  # few sums, which bytes make no faster
        weights, scales, step = ctx.constant(1).astype(np.float32), None, None
    if n_groups == 1:
        view, weights = _in_one_piece(ctx, view, weights)
    else:
        view = ctx.builder.gathered(view, ctx.name)
    stage = Stage(
        kind="depthwise" if depthwise else "convolve",
        name=ctx.name,
        source=None,
        n_channels=n_out,
        n_groups=1 if depthwise else n_groups,
        n_taps=n_taps,
        dilation=dilation,
        stride=stride,
        pad_left=left,
        pad_right=right,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
        bias=_bias(ctx, 2),
        scales=scales,
    )
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]), step)]


def _bias(ctx: Context, index: int) -> str | None:
    if not ctx.has(index):
        return None
    return ctx.builder.array(ctx.constant(index).astype(np.float32), f"{ctx.name}.bias")


def _in_one_piece(ctx: Context, view: View, weights: AnyArray) -> tuple[View, AnyArray]:
    """Return a view whose channels lie in order, and weights (out, in, taps) for them in that order."""
    order = np.argsort(view.channels, kind="stable")
    moved = view.take(order)
    first = int(moved.channels[0])
    in_order = np.array_equal(moved.channels, np.arange(first, first + view.n_channels))
    if len(view.bases) == 1 and in_order:
        same = np.array_equal(order, np.arange(len(order)))
        return moved, weights if same else np.ascontiguousarray(weights[:, order])
    return ctx.builder.gathered(view, ctx.name), weights


@operator("ConvTranspose")
def _conv_transpose(ctx: Context) -> list[View]:
    ctx.window(0)
    weights, scales, step = ctx.weights()
    (stride,) = ints_of(ctx.node, "strides", [1])
    (dilation,) = ints_of(ctx.node, "dilations", [1])
    (extra,) = ints_of(ctx.node, "output_padding", [0])
    if "output_shape" in ctx.node.attributes:
        ctx.refuse("its output_shape is given")
    view = ctx.view(0)
    n_groups = ctx.node.attributes.get_int("group", 1)
    depthwise = n_groups > 1 and n_groups == len(weights) and weights.shape[1] == 1
    if depthwise and step is not None:  # few sums, which bytes make no faster
        weights, scales, step = ctx.constant(1).astype(np.float32), None, None
    if dilation > 1:
        spread = np.zeros((*weights.shape[:2], (weights.shape[2] - 1) * dilation + 1), weights.dtype)
        spread[..., ::dilation] = weights
        weights = spread
    width = weights.shape[2]
    left, right = _kernel_pads(ctx, max(0, width - stride))
    if min(left, right) < 0:
        ctx.refuse(f"its padding {left, right} is negative")
    n_taps = -(-width // stride)
    # Steps behind the last that any tap reaches, of a bias alone.
    n_behind = max(0, -(-(width + extra - right - n_taps * stride) // stride))
    stage = Stage(
        kind="depthwise" if depthwise else "convolve",
        name=ctx.name,
        source=None,
        n_channels=weights.shape[1] * n_groups,
        n_groups=1 if depthwise else n_groups,
        n_taps=n_taps,
        pad_left=n_taps - 1,
        pad_right=n_taps - 1 + n_behind,
        n_phases=stride,
        crop=left,
        n_extra=width - stride + extra - left - right,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
        bias=_bias(ctx, 2),
        scales=scales,
        transposed=True,
    )
    view = ctx.builder.gathered(view, ctx.name)
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]), step)]


@operator("MatMul", "Gemm")
def _matmul(ctx: Context) -> list[View]:
    attributes = ctx.node.attributes
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    if any(attributes.get_float(name, 1.0) != 1.0 for name in ("alpha", "beta")):
        ctx.refuse("it has factors")
    if attributes.get_int("transA", 0):
        ctx.refuse("it transposes its first input")
    weights = ctx.constant(1).astype(np.float32)
    shape = ctx.shape(source)
    if weights.ndim != 2 or ctx.time_axis(source) == len(shape) - 1:
        ctx.refuse("it isn't a product of each step's channels with a matrix")
    if int(np.prod(ctx.channel_shape(source))) != shape[-1]:
        ctx.refuse("it multiplies channels in groups")
    if ctx.rounding is not None and ctx.rounding.input is not None:
        ctx.refuse("it is a product in int8, which only convolutions are here")
    # (n_in, n_out) as a kernel of one step: (n_out, n_in, 1).
    kernel = (weights if attributes.get_int("transB", 0) else weights.T)[..., np.newaxis]
    view, kernel = _in_one_piece(ctx, ctx.view(0), np.ascontiguousarray(kernel))
    stage = Stage(
        kind="convolve",
        name=ctx.name,
        source=None,
        n_channels=len(kernel),
        weights=ctx.builder.array(kernel, f"{ctx.name}.weights"),
        bias=_bias(ctx, 2) if ctx.node.op_type == "Gemm" else None,
    )
    return [ctx.builder.window(stage, view, ctx.rate(made))]


@operator("AveragePool")
def _average_pool(ctx: Context) -> list[View]:
    ctx.window(0)
    (n_taps,) = ints_of(ctx.node, "kernel_shape", [1])
    (stride,) = ints_of(ctx.node, "strides", [1])
    view = ctx.view(0)
    left, right = _kernel_pads(ctx, n_taps - 1)
    if view.timeless or ints_of(ctx.node, "dilations", [1]) != [1]:
        ctx.refuse("it reads a window of what has no time, or with gaps")
    if (left or right) and not ctx.node.attributes.get_int("count_include_pad", 0):
        ctx.refuse("it leaves its padding out of the mean")
    if ctx.node.attributes.get_int("ceil_mode", 0):
        ctx.refuse("it counts windows that aren't whole")
    view = ctx.builder.gathered(view, ctx.name)
    weights = np.full((view.n_channels, 1, n_taps), 1 / n_taps, np.float32)
    stage = Stage(
        kind="depthwise",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        n_taps=n_taps,
        stride=stride,
        pad_left=left,
        pad_right=right,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
    )
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))]


@operator("Resize", "Upsample")
def _resize(ctx: Context) -> list[View]:
    source, made = ctx.node.inputs[0], ctx.node.outputs[0]
    attributes = ctx.node.attributes
    times = ctx.rate(made) / ctx.rate(source)
    if attributes.get_string("mode", "nearest") != "nearest" or times.denominator != 1:
        ctx.refuse("it isn't a repetition of each step")
    if times > 1 and ctx.node.op_type == "Resize":
        form = (
            attributes.get_string("coordinate_transformation_mode", "half_pixel"),
            attributes.get_string("nearest_mode", "round_prefer_floor"),
        )
        # With these, and a whole factor, the step that is nearest is the one that the step falls into.
        if form not in (("asymmetric", "floor"), ("half_pixel", "round_prefer_floor")):
            ctx.refuse("it isn't a repetition of each step")
    if ctx.channel_shape(source) != ctx.channel_shape(made):
        ctx.refuse("it changes the number of channels")
    return [ctx.builder.phases([ctx.builder.gathered(ctx.view(0), ctx.name)] * int(times), ctx.name)]
