"""Windows of time: convolutions, products with a matrix, padding, pooling, repetition."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.int8 import channel_axis
from balacoon_tk.graph.match import constant_of, ints_of, producer_of, product_of
from balacoon_tk.runtime.native.bundles import WIDTH
from balacoon_tk.runtime.native.program import Padding, Stage
from balacoon_tk.targets.native.operators.base import KEEPING_PADS, MOVING, Context, operator
from balacoon_tk.targets.native.operators.channels import ranges_read
from balacoon_tk.targets.native.views import View, Windows, concatenate


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
    users = ctx.readers(ctx.node.outputs[0], KEEPING_PADS)
    if mode == "constant" and value == 0 and min(left, right) >= 0 and users == {"Conv"}:
        return [ctx.builder.padded(view, left, right)]
    padding = cast(Padding, mode)
    if mode != "constant" and users == {"Conv"} and not any(view.pads):
        return [ctx.builder.padded(view, left, right, padding)]
    return [ctx.builder.pad(ctx.view(0), left, right, ctx.name, padding=padding, value=value)]


def _kernel_pads(ctx: Context, span: int) -> tuple[int, int]:
    auto = ctx.node.attributes.get_string("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        if ints_of(ctx.node, "strides", [1]) != [1]:
            ctx.refuse("its padding depends on the length")
        left = span // 2 if auto == "SAME_UPPER" else span - span // 2
        return left, span - left
    left, right = [0, 0] if auto == "VALID" else ints_of(ctx.node, "pads", [0, 0])
    return left, right


# Of how many channels there may be left, for a projection to be folded.
_MOST = 0.75
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


class _Folded(NamedTuple):
    """A convolution of what its input is projected from."""

    view: View
    weights: AnyArray
    bias: AnyArray
    padding_biases: AnyArray | None
    """What each tap lacks of the bias where it reads padding."""


def _fold_projection(ctx: Context) -> _Folded | None:
    """Let a convolution read what its input is projected from, if that has far fewer channels.

    A coupling layer takes C channels up to H with a matrix, ``x = P h + c``, and its first convolution, of
    kernels W, reads x. The two are one, ``W x = (W P) h + W c``, but for the ends of an utterance: there x is
    padded with zeros, and these have no share in c.
    """
    projection = producer_of(ctx.node.inputs[0], "Conv")
    matrix, weights = product_of(projection), constant_of(ctx.node, 1)
    if projection is None or matrix is None or weights is None or weights.dtype != np.float32:
        return None
    if weights.shape[2] == 1 or ctx.node.attributes.get_int("group", 1) > 1:
        return None
    if matrix.shape[1] > _MOST * len(matrix):
        return None
    source = ctx.at(projection)
    if ctx.rounding is not None or source.rounding is not None or ctx.shape(projection.outputs[0])[0] != 1:
        return None
    view = source.view(0, padded=True)
    if view.timeless or any(view.pads):
        return None
    bias = ctx.constant(2).astype(np.float64) if ctx.has(2) else np.zeros(len(weights))
    of_taps = None
    if source.has(2):
        of_taps = np.einsum("omk,m->ko", weights.astype(np.float64), source.constant(2).astype(np.float64))
        bias = bias + of_taps.sum(0)
    folded = np.einsum("omk,mc->ock", weights.astype(np.float64), matrix.astype(np.float64))
    return _Folded(
        view,
        folded.astype(np.float32),
        bias.astype(np.float32),
        None if of_taps is None else (-of_taps).astype(np.float32),
    )


@operator("Conv")
def _conv(ctx: Context) -> list[View]:
    if (windows := _windows(ctx)) is not None:
        return [windows]
    ctx.window(0)
    weights, scales, step = ctx.weights()
    (stride,) = ints_of(ctx.node, "strides", [1])
    (dilation,) = ints_of(ctx.node, "dilations", [1])
    n_groups = ctx.node.attributes.get_int("group", 1)
    view, bias, padding_biases = ctx.view(0, padded=True), _bias(ctx, 2), None
    folded = _fold_projection(ctx)
    if folded is not None:
        view, weights = folded.view, folded.weights
        bias = ctx.builder.array(folded.bias, f"{ctx.name}.bias")
        if folded.padding_biases is not None:
            padding_biases = ctx.builder.array(folded.padding_biases, f"{ctx.name}.padding_biases")
    n_out, n_in, n_taps = weights.shape
    left, right = _kernel_pads(ctx, (n_taps - 1) * dilation)
    if view.padding != "constant" and (left or right or step is not None or view.bases[0].draft is None):
        # Zeros around what is reflected, say.
        view = ctx.builder.pad(view, *view.pads, ctx.name, padding=view.padding)
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
        padding=view.padding,
        weights=ctx.builder.array(weights, f"{ctx.name}.weights"),
        bias=bias,
        padding_biases=padding_biases,
        scales=scales,
    )
    ranges = ranges_read(ctx, ctx.node.outputs[0]) if n_groups == 1 else []
    if not ranges or any(stop % WIDTH for _, stop in ranges):
        ranges = [(0, n_out)]
    rate = ctx.rate(ctx.node.outputs[0])
    # What is read apart is made apart: a gate takes the tanh of half of the channels while these lie in a
    # tile, and multiplies it by the sigmoid of the others.
    parts = [replace(stage, n_channels=stop - start, first_filter=start) for start, stop in ranges]
    return [concatenate([ctx.builder.window(part, view, rate, step) for part in parts])]


def _windows(ctx: Context) -> View | None:
    """Return what a convolution takes of each window, where it only picks numbers for a product.

    That is how `Tensor.unfold` is exported: each filter has a 1 at one place. Its channels may be the batch.
    """
    weights, source = constant_of(ctx.node, 1), ctx.node.inputs[0]
    if weights is None or weights.ndim != 3 or np.count_nonzero(weights) != len(weights) or ctx.has(2):
        return None
    filters, inputs, taps = np.nonzero(weights)
    one_each = (
        np.array_equal(filters, np.arange(len(weights))) and (weights[filters, inputs, taps] == 1).all()
    )
    if not one_each or ctx.time_axis(source) != 2 or ctx.readers(ctx.node.outputs[0], MOVING) != {"Einsum"}:
        return None
    (stride,) = ints_of(ctx.node, "strides", [1])
    (dilation,) = ints_of(ctx.node, "dilations", [1])
    n_batch, n_channels, _ = ctx.shape(source)
    n_groups = ctx.node.attributes.get_int("group", 1)
    span = (weights.shape[2] - 1) * dilation
    left, right = _kernel_pads(ctx, span)
    read = filters // (len(filters) // n_groups) * weights.shape[1] + inputs
    places = (np.arange(n_batch)[:, np.newaxis] * n_channels + read).reshape(-1)
    view = ctx.view(0, padded=True)
    if view.padding != "constant":
        return None
    return replace(
        view.take(places),
        pads=(left + view.pads[0], right + view.pads[1]),
        windows=Windows(stride, span + 1, np.tile(taps * dilation, n_batch)),
    )


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
        kind="depthwise" if view.n_channels > 1 else "convolve",
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
