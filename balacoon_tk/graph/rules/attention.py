"""Attention of which is known how far it sees, as `balacoon_tk.graph.attention` takes it out of a graph.

Keys and values are kept as far back as a query sees. A query waits for the steps after its own that it
sees. Which of the keys there are it sees, its mask says, computed for the positions that this push has:
of the queries from their count on, of the keys from the first that is kept::

    keys      [ kept, at most left + right | new ]
    queries            [ waited: right | new, but for the last right ]

There is no padding anywhere: at the start fewer keys are kept, and in the last push no query waits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.attention.windows import KEYS, N_AXES, QUERIES, REFUSAL, WINDOW, Expression, Window
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.rules.base import Effect, NodeContext, rule
from balacoon_tk.graph.rules.positions import add_to_count, check_can_count, counted
from balacoon_tk.graph.timeline import Local

if TYPE_CHECKING:
    from balacoon_tk.graph.streaming.writer import StreamWriter


@rule("Window", domain="balacoon")
def _window(ctx: NodeContext) -> Effect:
    refusal = ctx.node.meta.get(REFUSAL)
    if isinstance(refusal, NotStreamableError):
        raise refusal
    check_can_count(ctx)
    window = _window_of(ctx.node)
    for index, axis in enumerate(window.axes[:3]):
        timeline = ctx.time(index)
        if timeline is None or timeline.axis != axis:
            ctx.refuse("time isn't where the queries, keys and values of an attention have it")
    left = window.left or 0
    local = Local(span=left + window.right, pad_left=left, pad_right=window.right)
    return Effect(
        window.axes[3],
        local,
        write=_write,
        recurrent=window.left is None,
        in_segments=False,
    )


def _window_of(node: ir.Node) -> Window:
    window = node.meta[WINDOW]
    assert isinstance(window, Window)
    return window


@dataclass(slots=True)
class _Push:
    """What attentions share that look equally far, at tensors that are known equally far."""

    n_dropped: ir.Value
    """Keys, of those that there are, which no later query sees."""
    positions: dict[int, ir.Value]
    """Those of the queries and keys, int64 vectors."""
    written: dict[Expression, ir.Value]
    """What is computed of them."""


def _write(writer: StreamWriter, node: ir.Node, effect: Effect) -> None:
    build, window = writer.builder, _window_of(node)
    query, key, value = (name_of(source) for source in node.inputs[:3])
    new, lag, steps = writer.align(list(dict.fromkeys([query, key, value])))
    queries, axis = new[query], writer.axis(query)
    if window.right:
        # A wait of its own: a query is as early as its keys, and has to see keys that are still to come.
        waiting, line = writer.line(query, window.right, new=queries)
        queries = build.slice(line, axis, 0, build.end_before(window.right))
        build.keep(waiting, build.after(line, axis, -window.right))
    n_kept = _most_steps(writer, query, window) if window.left is None else window.left + window.right
    lines = {name: writer.line(name, max(1, n_kept), new=new[name]) for name in (key, value)}
    (_, keys), (_, values) = lines[key], lines[value]
    n_keys = build.length(keys, writer.axis(key))
    shared = (steps.tobytes(), writer.analysis.timelines[query].lengths, window.left, window.right)
    if shared not in writer.shared:
        writer.shared[shared] = _new_push(writer, node, build.length(queries, axis), n_keys)
    push = writer.shared[shared]
    assert isinstance(push, _Push)
    # Of the line and not of what is new: a push may be shorter than what a later query still sees.
    for name, (kept, line) in lines.items():
        build.keep(kept, build.after(line, writer.axis(name), push.n_dropped))

    by_keys, by_values = window.products
    emit = _Emitter(writer, push)
    scores = build.clone(by_keys, [queries, keys]).outputs[0]
    emit.have("scores", emit.lifted(scores, len(writer.shape(name_of(by_keys.outputs[0])))))
    emit.have("probabilities", build.one("Softmax", emit.value(window.scores), axis=-1))
    weights = emit.value(window.weights)
    if window.n_axes < N_AXES:
        weights = build.over_axes("Squeeze", weights, *range(N_AXES - window.n_axes))
    out = build.clone(by_values, [weights, values]).outputs[0]
    writer.set(node, out, lag + window.right, steps - window.right)


def _most_steps(writer: StreamWriter, name: str, window: Window) -> int:
    return int((window.max_frames or 0) * writer.analysis.timelines[name].rate)


def _new_push(writer: StreamWriter, node: ir.Node, n_queries: ir.Value, n_keys: ir.Value) -> _Push:
    build, window = writer.builder, _window_of(node)
    if window.left is None:
        n_most = _most_steps(writer, name_of(node.inputs[0]), window)
        rule = f"no_utterance_is_longer_than_max_frames_{window.max_frames}"
        first, _ = add_to_count(build, n_queries, n_most=n_most, rule=rule)
        first_key, n_dropped = build.ints(0), build.ints(0)
    else:
        first, after = add_to_count(build, n_queries)
        first_key, kept_from = (
            build.larger(build.one("Sub", count, build.ints(window.left)), build.ints(0))
            for count in (first, after)
        )
        n_dropped = build.one("Sub", kept_from, first_key)
    # The first key that is kept follows from the count of queries, so nobody has to count keys.
    positions = {QUERIES: counted(build, first, n_queries), KEYS: counted(build, first_key, n_keys)}
    return _Push(n_dropped, positions, {})


class _Emitter:
    """Writes expressions, each once, for the queries and keys that a push has."""

    def __init__(self, writer: StreamWriter, push: _Push) -> None:
        self._writer, self._build = writer, writer.builder
        self._positions, self._made = push.positions, push.written
        self._leaves: dict[str, ir.Value] = {}

    def have(self, op_type: str, value: ir.Value) -> None:
        """Say what the expressions of some type are."""
        self._leaves[op_type] = value

    def lifted(self, value: ir.Value, n_axes: int) -> ir.Value:
        """Give a value the axes that the scores have."""
        missing = range(N_AXES - n_axes)
        return self._build.over_axes("Unsqueeze", value, *missing) if missing else value

    def value(self, item: Expression) -> ir.Value:
        """Write an expression, if it isn't yet."""
        if item.op_type in self._leaves:
            return self._leaves[item.op_type]
        if item not in self._made:
            self._made[item] = self._write(item)
        return self._made[item]

    def _write(self, item: Expression) -> ir.Value:
        build = self._build
        if item.value is not None:
            known = self._writer.values[name_of(item.value)]
            return build.one("Reshape", known, build.ints(*item.shape))
        if item.op_type == "position":
            axis = item.axes[0]
            assert axis is not None
            shape = [-1 if k == N_AXES + axis else 1 for k in range(N_AXES)]
            return build.one("Reshape", self._positions[axis], build.ints(*shape))
        if item.array is not None:
            return self._constant(item, item.array)
        inputs = [None if value is None else self.value(value) for value in item.inputs]
        if item.node is not None:
            return build.clone(item.node, inputs).outputs[0]
        if item.to is not None:
            return build.one(item.op_type, *inputs, to=int(item.to))
        return build.one(item.op_type, *inputs)

    def _constant(self, item: Expression, array: AnyArray) -> ir.Value:
        build = self._build
        if item.op_type == "lookup":
            index = self.value(next(value for value in item.inputs if value is not None))
            beside = item.axes[0]
            if beside is None:
                return build.one("Gather", build.constant(array[:, 0]), index, axis=0)
            # What is looked up comes behind the index, one of whose axes of one element it takes.
            found = build.one("Gather", build.constant(array), index, axis=0)
            order = [*range(N_AXES), N_AXES + beside]
            order[N_AXES + beside] = N_AXES
            return build.over_axes("Squeeze", build.one("Transpose", found, perm=order), N_AXES)
        # A single number without axes, as Clip asks for.
        value = build.constant(array.reshape(()) if array.size == 1 else array)
        if item.op_type == "table":
            for axis in (QUERIES, KEYS):
                if axis in item.axes:
                    value = build.one("Gather", value, self._positions[axis], axis=N_AXES + axis)
        return value
