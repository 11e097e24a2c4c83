"""Positions of steps, counted from the utterance's start, and tables of such."""

from __future__ import annotations

import numpy as np

from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.views import View


@operator("Range")
def _range(ctx: Context) -> list[View]:
    return [counted(ctx, float(ctx.constant(0)), float(ctx.constant(2)))]


def counted(ctx: Context, start: float, step: float = 1.0) -> View:
    """Return the numbers of the steps of what a node makes, so much from one to the next."""
    positions = ctx.builder.positions(*ctx.sized_by(), ctx.name)
    if step != 1:
        positions = ctx.builder.function("mul", [positions, step], ctx.name)
    if start:
        positions = ctx.builder.function("add", [positions, start], ctx.name)
    return positions


def cut_table(ctx: Context) -> list[View]:
    """Return the rows of a constant for the steps of what a Slice of it makes."""
    axis = ctx.time_axis(ctx.node.outputs[0])
    starts = ctx.ints("starts", 1)
    if axis is None or starts is None or len(starts) != 1:
        ctx.refuse("it cuts a table in a way that isn't known")
    rows = np.moveaxis(ctx.constant(0), axis, 0)
    return [ctx.builder.look_up(counted(ctx, float(starts[0])), rows.reshape(len(rows), -1), ctx.name)]
