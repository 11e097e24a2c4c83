"""Positions of steps, counted from the utterance's start: what a stream has to count itself.

A ``Range`` to the length of a tensor with time, and a table of positions that is cut to it, have a step for
each of the tensor's. In a stream a state holds how many there were before. Run on a piece they would begin
anew, so they are in no segment.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.counts import holds_counts
from balacoon_tk.graph.match import is_standard, name_of
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.timeline import Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.builder import GraphBuilder
    from balacoon_tk.graph.streaming.writer import StreamWriter

_HAS_RANGE = 11
_PICKING = frozenset({"Cast", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Unsqueeze"})


def add_to_count(
    build: GraphBuilder, n_new: ir.Value, *, n_most: int | None = None, rule: str = ""
) -> tuple[ir.Value, ir.Value]:
    """Count steps over the pushes, int64 (1,); return how many there were before and are after this one.

    More than `n_most` in all make the run fail, by a node that is called as the `rule` that was broken.
    """
    before = build.state((1,), 0, 1, np.dtype(np.int64))
    after = build.one("Add", before, n_new)
    if n_most is not None:
        # There is no operator that only checks: a look-up beyond the end of a table fails, and adds 0 else.
        zeros = build.constant(np.zeros(n_most + 1, np.int64))
        nothing = build.one("Gather", zeros, after, axis=0)
        build.nodes[-1].name = build.names.take(rule)
        after = build.one("Add", after, nothing)
    build.keep(before, after)
    return before, after


def check_can_count(ctx: NodeContext) -> None:
    """Refuse a node of a graph whose operators can't number steps."""
    if ctx.opset < _HAS_RANGE:
        ctx.refuse(
            f"its positions have to be counted, which opset {ctx.opset} can't: export for {_HAS_RANGE}"
        )


def counted(build: GraphBuilder, first: ir.Value, n_steps: ir.Value) -> ir.Value:
    """Return so many numbers from the first on, int64."""
    zero, one = (build.constant(np.array(n, np.int64)) for n in (0, 1))
    ramp = build.one("Range", zero, build.over_axes("Squeeze", n_steps, 0), one)
    return build.one("Add", ramp, first)


@rule("Range")
def _range(ctx: NodeContext) -> Effect:
    start, step = ctx.const(0), ctx.const(2)
    if start is None or step is None:
        ctx.refuse("where it begins and its step must be constants")
    # The runtime adds the step again and again, so that fractions round otherwise than counted ones.
    if start != np.floor(start) or step != np.floor(step):
        ctx.refuse("it numbers steps by fractions")
    return Effect(0, _of_each(ctx, 1, 0), write=_write_range, recurrent=True)


def _of_each(ctx: NodeContext, limit: int, axis: int) -> Local:
    """Return the effect of what has a step, or several, for each of the tensor whose length is an input."""
    name = ctx.input(limit) or ""
    source = ctx.sized_by.get(name)
    if source is None or (name not in ctx.lengths and not _is_picked(ctx.node.inputs[limit])):
        ctx.refuse("how its length follows from the number of frames isn't known")
    lengths = ctx.timelines[source].lengths
    ratios = {shape[axis] / n for shape, n in zip(ctx.output_shapes(), lengths, strict=True)}
    up = ratios.pop()
    if ratios or up != int(up):
        ctx.refuse("its length is not a whole multiple of the length that it is made from")
    return Local(up=int(up), span=int(up) - 1)


def _is_picked(value: ir.Value | None) -> bool:
    """Whether a number is one of a tensor's sizes, as it is; the one that varies is then its length."""
    while value is not None and (node := value.producer()) is not None and is_standard(node):
        if node.op_type == "Shape":
            return True
        if node.op_type not in _PICKING or (node.op_type == "Cast" and not holds_counts(node)):
            return False
        value = node.inputs[0]
    return False


def _write_range(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    build = writer.builder
    start, _, step = (value for value in node.inputs)
    assert start is not None and step is not None and start.const_value is not None
    positions = _positions(writer, node, effect)
    first, factor = start.const_value.numpy(), step.const_value.numpy() if step.const_value else np.array(1)
    if first.dtype != np.int64:
        positions = build.one("Cast", positions, to=int(ir.DataType.from_numpy(first.dtype)))
    if factor != 1:
        positions = build.one("Mul", positions, build.constant(factor))
    if first != 0:
        positions = build.one("Add", positions, build.constant(first))
    _set(writer, node, effect, positions)


def _source(writer: StreamWriter, node: ir.Node) -> str:
    sized = writer.analysis.sized_by
    return next(sized[name] for value in node.inputs if (name := name_of(value)) in sized)


def _positions(writer: StreamWriter, node: ir.Node, effect: Effect) -> ir.Value:
    build, source = writer.builder, _source(writer, node)
    n_new = build.length(writer.values[source], writer.axis(source))
    if effect.local.up > 1:
        n_new = build.one("Mul", n_new, build.ints(effect.local.up))
    # Of tensors that are known equally far, one count is enough.
    steps, lengths = writer.steps(source) * effect.local.up, writer.analysis.timelines[source].lengths
    key = ("positions", steps.tobytes(), lengths)
    if key not in writer.shared:
        writer.shared[key] = counted(build, add_to_count(build, n_new)[0], n_new)
    positions = writer.shared[key]
    assert isinstance(positions, ir.Value)
    return positions


def _set(writer: StreamWriter, node: ir.Node, effect: Effect, value: ir.Value) -> None:
    source, up = _source(writer, node), effect.local.up
    writer.set(node, value, writer.lag(source) * up, writer.steps(source) * up)


def table_of_positions(ctx: NodeContext) -> Effect:
    """Return the effect of a Slice that cuts a table, which has no time, to an utterance's length."""
    check_can_count(ctx)
    starts, axes, steps = ctx.const(1), ctx.const(3), ctx.const(4)
    axis = ctx.varying_axis()
    if starts is None or starts.size != 1 or int(starts[0]) < 0:
        ctx.refuse("where it begins must be one constant, counted from the start")
    if steps is not None and (steps != 1).any():
        ctx.refuse("it takes a table of positions in steps")
    if axis != (0 if axes is None else int(axes[0]) % ctx.rank(0)):
        ctx.refuse("it cuts another axis than the one that varies")
    return Effect(axis, _of_each(ctx, 2, axis), write=_write_table, recurrent=True)


def _write_table(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    build = writer.builder
    starts = node.inputs[1]
    assert starts is not None and starts.const_value is not None
    positions = _positions(writer, node, effect)
    first = int(starts.const_value.numpy()[0])
    if first:
        positions = build.one("Add", positions, build.ints(first))
    # Not a Slice: beyond the table's end that would give fewer steps, or one for all of them.
    table = writer.values[name_of(node.inputs[0])]
    _set(writer, node, effect, build.one("Gather", table, positions, axis=effect.axis))
