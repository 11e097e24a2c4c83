"""Sums over channels: norms and means."""

from __future__ import annotations

import numpy as np

from balacoon_tk.runtime.native.program import Stage
from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.views import View


@operator("LayerNormalization", "RMSNormalization")
def _layer_normalization(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    axis = ctx.node.attributes.get_int("axis", -1)
    shape = ctx.shape(source)
    normed = shape[axis % len(shape) :]
    time = ctx.time_axis(source)
    if time is not None and time >= axis % len(shape):
        ctx.refuse("it takes a mean over time")
    if int(np.prod(normed)) != int(np.prod(ctx.channel_shape(source))):
        ctx.refuse("it takes means over groups of channels")
    view = ctx.builder.gathered(ctx.view(0), ctx.name)
    stage = Stage(
        kind="normalise",
        name=ctx.name,
        source=None,
        n_channels=view.n_channels,
        epsilon=ctx.node.attributes.get_float("epsilon", 1e-5),
        centre=ctx.node.op_type == "LayerNormalization",
    )
    result = ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))
    for index, function in ((1, "mul"), (2, "add")):
        if ctx.has(index):
            result = ctx.builder.function(function, [result, ctx.operand(index)], ctx.name)
    return [result]


@operator("ReduceMean", "ReduceSum")
def _reduce(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    axes = ctx.ints("axes", 1) or []
    rank, time = len(ctx.shape(source)), ctx.time_axis(source)
    n_reduced = int(np.prod([ctx.shape(source)[axis] for axis in axes]))
    if not axes or time in [axis % rank for axis in axes]:
        ctx.refuse("it takes a sum over time")
    view = ctx.builder.gathered(ctx.view(0), ctx.name)
    if n_reduced != view.n_channels:
        ctx.refuse("it takes sums over groups of channels")
    # A convolution of one step with equal weights is a sum.
    weight = 1 / n_reduced if ctx.node.op_type == "ReduceMean" else 1.0
    kernel = np.full((1, view.n_channels, 1), weight, np.float32)
    stage = Stage("convolve", ctx.name, None, 1, weights=ctx.builder.array(kernel, f"{ctx.name}.weights"))
    return [ctx.builder.window(stage, view, ctx.rate(ctx.node.outputs[0]))]
