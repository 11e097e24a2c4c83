"""What sees all steps before: recurrences, and running sums."""

from __future__ import annotations

import numpy as np

from balacoon_tk.runtime.native.program import Cell, Stage
from balacoon_tk.targets.native.operators.base import Context, operator
from balacoon_tk.targets.native.views import View

_CELLS: dict[tuple[str, tuple[str, ...]], Cell] = {
    ("LSTM", ("Sigmoid", "Tanh", "Tanh")): "lstm",
    ("GRU", ("Sigmoid", "Tanh")): "gru",
    ("RNN", ("Tanh",)): "elman_tanh",
    ("RNN", ("Relu",)): "elman_relu",
}
"""By the operator and its activations, of which the first are those that it has if it names none."""
_FIRST_STATE, _PEEPHOLES = 5, 7
"""Inputs: of the state at the start, and of an LSTM whose gates see its cell."""


@operator("LSTM", "GRU", "RNN")
def _recurrent(ctx: Context) -> list[View]:
    cell = _cell(ctx)
    weights, recurrent = (ctx.constant(k)[0].astype(np.float32) for k in (1, 2))
    n_rows, n_units = recurrent.shape
    biases = ctx.constant(3)[0].astype(np.float32) if ctx.has(3) else np.zeros(2 * n_rows, np.float32)
    of_input, of_output = biases[:n_rows], biases[n_rows:].copy()
    hidden = None
    if cell == "gru":
        # What is added to the product for its hidden gate is reset with that.
        hidden = ctx.builder.array(of_output[-n_units:].copy(), f"{ctx.name}.bias")
        of_output[-n_units:] = 0
    gates = Stage(
        kind="convolve",
        name=f"{ctx.name}.gates",
        source=None,
        n_channels=n_rows,
        weights=ctx.builder.array(weights[:, :, np.newaxis], f"{ctx.name}.weights"),
        bias=ctx.builder.array(of_input + of_output, f"{ctx.name}.biases"),
    )
    rate = ctx.rate(ctx.node.outputs[0])
    source = ctx.builder.window(gates, ctx.builder.gathered(ctx.view(0), ctx.name), rate)
    stage = Stage(
        kind="recur",
        name=ctx.name,
        source=None,
        n_channels=2 * n_units if cell == "lstm" else n_units,
        cell=cell,
        weights=ctx.builder.array(recurrent, f"{ctx.name}.recurrent"),
        bias=hidden,
    )
    return [ctx.builder.recurrence(stage, source).take(np.arange(n_units))]


def _cell(ctx: Context) -> Cell:
    """Return what a node makes of a step and the one before, if the engine has that."""
    op_type, attributes = ctx.node.op_type, ctx.node.attributes
    usual = next(names for known, names in _CELLS if known == op_type)
    activations = tuple(attributes.get_strings("activations", usual))
    cell = _CELLS.get((op_type, activations))
    if cell is None:
        ctx.refuse(f"its activations are {activations}")
    if "clip" in attributes or attributes.get_int("input_forget", 0) != 0 or ctx.has(_PEEPHOLES):
        ctx.refuse("it clips, couples its gates or lets them see its cell")
    for index in range(_FIRST_STATE, _PEEPHOLES):
        if ctx.has(index) and not (ctx.is_constant(index) and not ctx.constant(index).any()):
            ctx.refuse("its first state isn't zeros")
    if cell == "gru" and attributes.get_int("linear_before_reset", 0) == 0:
        return "gru_reset_first"
    return cell


@operator("CumSum")
def _cumsum(ctx: Context) -> list[View]:
    source = ctx.node.inputs[0]
    if int(ctx.constant(1)) % len(ctx.shape(source)) != ctx.time_axis(source):
        ctx.refuse("it sums over channels")
    view = ctx.view(0)
    if ctx.node.attributes.get_int("exclusive", 0) != 0:
        view = ctx.builder.pad(view, 1, -1, ctx.name)
    stage = Stage("recur", ctx.name, None, view.n_channels, cell="sum")
    return [ctx.builder.recurrence(stage, ctx.builder.gathered(view, ctx.name))]
