"""Operators that carry a state through the utterance: the recurrence itself is what a stream keeps."""

from __future__ import annotations

from balacoon_tk.graph.rules.base import Effect, NodeContext, rule


@rule("LSTM", "GRU", "RNN")
def _recurrent(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.string("direction", "forward") != "forward":
        ctx.refuse("it also runs from the utterance's end to its start")
    if ctx.int("layout", 0) or timeline.axis != 0:
        ctx.refuse("only the layout with time first is supported")
    if ctx.input(4) is not None:
        ctx.refuse("its sequence lengths are given from outside")
    if any(value.uses() or value.is_graph_output() for value in ctx.node.outputs[1:]):
        ctx.refuse("its final state is used: that is known at the utterance's end only")
    if any(ctx.input(index) in ctx.sized_by for index in (5, 6)):
        ctx.refuse("its first state is computed from the number of frames")
    return Effect(0, kind="recurrent")


@rule("CumSum")
def _cumsum(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    axis = ctx.const(1)
    if axis is None or int(axis) % ctx.rank(0) != timeline.axis:
        return Effect(timeline.axis)
    if ctx.int("reverse", 0):
        ctx.refuse("it sums from the utterance's end")
    if ctx.int("exclusive", 0):
        ctx.refuse("an exclusive sum over time is not supported")
    return Effect(timeline.axis, kind="recurrent")
