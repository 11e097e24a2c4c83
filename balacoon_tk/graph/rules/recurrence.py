"""Operators that see all steps before: recurrences, running sums, and loops over time.

What a whole run carries from step to step is carried from push to push instead, so nothing is computed again
and nothing waits. What runs from the utterance's end can't be: its first step is the last that is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.lengths import RANDOM
from balacoon_tk.graph.match import ints_of, name_of
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.walk import branches

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.writer import StreamWriter

_FIRST_STATE = 5  # the input that holds the hidden state at the start; the one of an LSTM's cell follows
_BACKWARDS = (
    "it also runs from the utterance's end to its start: "
    "a model trained with the forward direction alone streams"
)


@rule("LSTM", "GRU", "RNN")
def _recurrent(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    if ctx.string("direction", "forward") != "forward":
        ctx.refuse(_BACKWARDS)
    if ctx.int("layout", 0) or timeline.axis != 0:
        ctx.refuse("only the layout with time first is supported")
    if ctx.input(4) is not None:
        ctx.refuse("its sequence lengths are given from outside")
    _refuse_final_states(ctx, ctx.node.outputs[1:])
    return Effect(0, write=_write_recurrent, recurrent=True)


def _refuse_final_states(ctx: NodeContext, states: Sequence[ir.Value]) -> None:
    if any(value.uses() or value.is_graph_output() for value in states):
        ctx.refuse("its final state is used: that is known at the utterance's end only")


def _write_recurrent(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # The operator's own state goes in and out.
    name, build = writer.source(node), writer.builder
    inputs = [None if value is None else writer.values[str(value.name)] for value in node.inputs]
    inputs += [None] * (_FIRST_STATE - len(inputs))
    n_states = 2 if node.op_type == "LSTM" else 1
    # Batch, and hidden size: the second weight turns a state into what is added to the gates.
    shape = (writer.shape(name)[1], writer.analysis.inputs.probe.shape_of(node.inputs[2])[-1])
    states = []
    for k in range(_FIRST_STATE, _FIRST_STATE + n_states):
        first = inputs[k] if k < len(inputs) else None
        if first is None:
            states.append(build.state((1, *shape), 0, 1, writer.dtype(name)))
            inputs[k : k + 1] = states[-1:]
        else:  # an empty state is followed by the first one, which stands in for it
            states.append(build.state((0, *shape), 0, 1, writer.dtype(name)))
            inputs[k] = build.slice(build.concat([states[-1], first], 0), 0, 0, 1)
    copy = build.clone(node, inputs, n_outputs=1 + n_states)
    for state, value in zip(states, copy.outputs[1:], strict=True):
        build.keep(state, value)
    writer.set(node, copy.outputs[0], writer.lag(name), writer.steps(name))


@rule("CumSum")
def _cumsum(ctx: NodeContext) -> Effect:
    timeline = ctx.only_time()
    axis = ctx.const(1)
    if axis is None or int(axis) % ctx.rank(0) != timeline.axis:
        return Effect(timeline.axis)
    if ctx.int("reverse", 0):
        ctx.refuse("it sums from the utterance's end")
    return Effect(timeline.axis, write=_write_cumsum, recurrent=True)


def _write_cumsum(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # On from the last sum: it stands in front of the new steps, and is left off what comes out.
    name, build = writer.source(node), writer.builder
    axis = writer.axis(name)
    state, line = writer.line(name, 1)
    sums = writer.copy_on(node, line).outputs[0]
    last = build.after(sums, axis, -1)
    if node.attributes.get_int("exclusive", 0):  # each sum is of the steps before, so the newest is missing
        last = build.one("Add", last, build.after(line, axis, -1))
    build.keep(state, last)
    new = build.after(sums, axis, build.length(state, axis))
    writer.set(node, new, writer.lag(name), writer.steps(name))


@rule("Scan")
def _scan(ctx: NodeContext) -> Effect:
    node = ctx.node
    n_scanned = ctx.int("num_scan_inputs", 0)
    n_states = len(node.inputs) - n_scanned
    axes, directions = (ints_of(node, f"scan_input_{key}", [0] * n_scanned) for key in ("axes", "directions"))
    if any(ctx.time(index) is not None for index in range(n_states)):
        ctx.refuse("one of its first states has time")
    for k, index in enumerate(range(n_states, len(node.inputs))):
        timeline = ctx.time(index)
        if timeline is None or timeline.axis != axes[k] % ctx.rank(index):
            ctx.refuse(f"it doesn't walk along time over its input {index}")
    if any((*directions, *ints_of(node, "scan_output_directions", []))):
        ctx.refuse(_BACKWARDS)
    _refuse_final_states(ctx, node.outputs[:n_states])
    if _draws_noise(node):
        ctx.refuse("its body draws its own noise, other in each run: make the noise an input of the scan")
    made = {axis for value in node.outputs[n_states:] if (axis := _time_axis(ctx, value)) is not None}
    if len(made) != 1:
        ctx.refuse("its outputs have time on different axes")
    return Effect(made.pop(), write=_write_scan, recurrent=True)


def _time_axis(ctx: NodeContext, value: ir.Value) -> int | None:
    """Return the axis that the steps of a scan's output are joined along, None if nothing reads it."""
    node = ctx.node
    n_states = len(node.inputs) - ctx.int("num_scan_inputs", 0)
    axes = ints_of(node, "scan_output_axes", [0] * (len(node.outputs) - n_states))
    if not name_of(value):
        return None
    rank = len(ctx.probe.shapes[name_of(value)][0])
    return axes[list(node.outputs).index(value) - n_states] % rank


def _draws_noise(node: ir.Node) -> bool:
    return any(
        inner.op_type in RANDOM
        for body in branches(node)
        for inner in ir.traversal.RecursiveGraphIterator(body)
    )


def _write_scan(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    # The body runs as it is; an empty state is followed by the first one, which stands in for it.
    build, probe = writer.builder, writer.analysis.inputs.probe
    n_states = len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0)
    names = [name_of(value) for value in node.inputs]
    aligned, lag, steps = writer.align(list(dict.fromkeys(names[n_states:])))
    states, first = [], []
    for value, name in zip(node.inputs[:n_states], names, strict=False):
        kept = build.state((0, *probe.shape_of(value)), 0, 1, _dtype(writer, value))
        given = build.over_axes("Unsqueeze", writer.values[name], 0)
        states.append(kept)
        joined = build.slice(build.concat([kept, given], 0), 0, 0, 1)
        first.append(build.over_axes("Squeeze", joined, 0))
    copy = build.clone(node, [*first, *(aligned[name] for name in names[n_states:])], keep_names=True)
    copy.attributes["body"] = ir.AttrGraph("body", _body_reading(writer, node))
    for state, value in zip(states, copy.outputs, strict=False):
        value.name = value.name or build.names.take(
            "scan.state"
        )  # also one that nothing in the original reads
        build.keep(state, build.over_axes("Unsqueeze", value, 0))
    for old, new in zip(node.outputs[n_states:], copy.outputs[n_states:], strict=True):
        if name_of(old):
            writer.values[name_of(old)] = new
            writer.frontiers.note(name_of(old), lag, steps)


def _dtype(writer: StreamWriter, value: ir.Value | None) -> np.dtype[np.generic]:
    if value is not None and value.const_value is not None:
        return value.const_value.dtype.numpy()
    return writer.dtype(name_of(value))


def _body_reading(writer: StreamWriter, node: ir.Node) -> ir.Graph:
    """Return a copy of a scan's body that reads from the stateful graph what it reads from outside."""
    body = node.attributes["body"].as_graph().clone(allow_outer_scope_values=True)
    outside = set(writer.analysis.model.graph.inputs) | set(writer.analysis.model.graph.initializers.values())
    outside |= {value for other in writer.analysis.model.graph for value in other.outputs}
    for inner in ir.traversal.RecursiveGraphIterator(body):
        for index, value in enumerate(inner.inputs):
            if value in outside:
                inner.replace_input_with(index, writer.values[name_of(value)])
    return body
