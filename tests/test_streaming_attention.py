"""Attention that sees a bounded part of an utterance streams; what sees all of it is refused, or has a limit."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export import NotStreamableError, make_streaming
from balacoon_tk.graph.attention import fuse as fusing
from balacoon_tk.graph.attention.bands import Band
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.receptive_field import receptive_field
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.triton.held_states import END_INPUT, hold_states
from streaming_laws import Streamed, assert_streams, stream
from test_streaming_positions import n_steps, positions
from tiny_graphs import TinyGraph

N, HEADS = 8, 2
"""Channels, and heads that share them."""

FAR_BELOW = float(np.finfo(np.float32).min)

Mask = Callable[[TinyGraph, str], str]


def ramp(g: TinyGraph, x: str, *, axis: int, to: int | None = None) -> str:
    """The numbers of the steps, along the queries (axis 1, as a column) or the keys (axis 0)."""
    numbers = g.op("Range", g.const(0), n_steps(g, x), g.const(1))
    return g.unsqueeze(numbers if to is None else g.op("Cast", numbers, to=to), axis)


def square(g: TinyGraph, x: str, value: float, dtype: type = np.float32) -> str:
    """A constant of as many rows and columns as there are steps."""
    n = g.length(x)
    return g.op("Expand", g.const(value, dtype), g.op("Concat", n, n, axis=0))


def heads(g: TinyGraph, x: str, n_heads: int = HEADS) -> str:
    """A projection of (1, N, time), as (1, heads, time, channels of a head)."""
    y = g.op("MatMul", g.transpose(x, 0, 2, 1), g.weight(N, n_heads * N // HEADS))
    return g.transpose(g.op("Reshape", y, g.const([1, -1, n_heads, N // HEADS])), 0, 2, 1, 3)


def attention(
    masked: Callable[[TinyGraph, str, str], str], *, opset: int = 20, after: float = 0.0
) -> onnx.ModelProto:
    """Attention between two convolutions; `masked` is what becomes of the scores."""
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(N), N, N, 3, pads=[1, 1])
    q, k, v = (heads(g, x) for _ in range(3))
    scores = g.op("Mul", g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2)), g.number(0.5))
    weights = g.op("Softmax", masked(g, x, scores), axis=-1)
    weights = g.op("Add", weights, g.number(after)) if after else weights
    y = g.transpose(g.op("MatMul", weights, v), 0, 1, 3, 2)
    y = g.op("Add", x, g.op("Reshape", y, g.const([1, N, -1])))
    return g.model(g.up(y, N, 2, 4, 2, pads=[1, 1]))


def where(seen: Mask, value: float = -np.inf) -> Callable[[TinyGraph, str, str], str]:
    return lambda g, x, scores: g.op("Where", seen(g, x), scores, g.number(value))


def added(hidden: Mask, value: float = -np.inf) -> Callable[[TinyGraph, str, str], str]:
    def masked(g: TinyGraph, x: str, scores: str) -> str:
        bias = g.op("Where", hidden(g, x), g.number(value), g.number(0))
        return g.op("Add", scores, g.unsqueeze(bias, 0, 1))

    return masked


def near(g: TinyGraph, x: str, *, left: int = 5, right: int = 0) -> str:
    i, j = ramp(g, x, axis=1), ramp(g, x, axis=0)
    not_after = g.op("LessOrEqual", j, g.op("Add", i, g.const(right)))
    return g.op("And", not_after, g.op("GreaterOrEqual", g.op("Sub", j, i), g.const(-left)))


def far(g: TinyGraph, x: str) -> str:
    i, j = ramp(g, x, axis=1), ramp(g, x, axis=0)
    return g.op("Or", g.op("Greater", j, i), g.op("Less", j, g.op("Sub", i, g.const(4))))


def by_triangles(g: TinyGraph, x: str) -> str:
    ones = square(g, x, 1.0)
    band = g.op("Mul", g.op("Trilu", ones, upper=0), g.op("Trilu", ones, g.const(-6), upper=1))
    return g.op("Equal", band, g.number(0))


def by_sums(g: TinyGraph, x: str) -> str:
    ones = g.op("ConstantOfShape", g.length(x), value=onnx.numpy_helper.from_array(np.array([1], np.int64)))
    steps = g.op("CumSum", ones, g.const(0))
    i, j = g.unsqueeze(steps, 1), g.unsqueeze(steps, 0)
    distance = g.op("Sub", i, j)
    return g.op("Or", g.op("Less", distance, g.const(0)), g.op("Not", g.op("Less", distance, g.const(4))))


def by_table(g: TinyGraph, x: str) -> str:
    table = np.tril(np.ones((1, 100, 100), bool)) & np.triu(np.ones((1, 100, 100), bool), -3)
    rows = g.op("Slice", g.const(table, bool), g.const([0]), g.length(x), g.const([1]))
    return g.op("Slice", rows, g.const([0]), g.length(x), g.const([2]), g.const([1]))


def of_the_first(g: TinyGraph, x: str) -> str:
    """A mask of a batch of one, of which the one is taken."""
    return g.op("Gather", g.unsqueeze(near(g, x), 0), g.const(0), axis=0)


def around(g: TinyGraph, x: str) -> str:
    return g.op("LessOrEqual", g.op("Abs", g.op("Sub", ramp(g, x, axis=1), ramp(g, x, axis=0))), g.const(3))


def blocks(g: TinyGraph, x: str) -> str:
    i, j = (g.op("Div", ramp(g, x, axis=axis), g.const(4)) for axis in (1, 0))
    return g.op("And", g.op("LessOrEqual", j, i), g.op("GreaterOrEqual", j, g.op("Sub", i, g.const(1))))


def blocks_of_floats(g: TinyGraph, x: str) -> str:
    i, j = (g.op("Floor", g.op("Div", ramp(g, x, axis=a, to=TensorProto.FLOAT), g.number(3))) for a in (1, 0))
    return g.op("Equal", i, j)


def slopes(g: TinyGraph, x: str, scores: str) -> str:
    """ALiBi, with a window."""
    i, j = (ramp(g, x, axis=axis, to=TensorProto.FLOAT) for axis in (1, 0))
    slope = g.const([[[0.5]], [[0.25]]], np.float32)
    scores = g.op("Add", scores, g.op("Mul", slope, g.op("Sub", j, i)))
    return added(far, FAR_BELOW)(g, x, scores)


def by_distance(g: TinyGraph, x: str, scores: str) -> str:
    """A learned bias for each distance, of each head."""
    distance = g.op("Sub", ramp(g, x, axis=0), ramp(g, x, axis=1))
    row = g.op("Add", g.op("Clip", distance, g.const(-6), g.const(6)), g.const(6))
    bias = g.transpose(g.op("Gather", g.weight(13, HEADS), row, axis=0), 2, 0, 1)
    return added(far)(g, x, g.op("Add", scores, g.unsqueeze(bias, 0)))


def capped(g: TinyGraph, x: str, scores: str) -> str:
    scores = g.op("Mul", g.op("Tanh", g.op("Div", scores, g.number(30))), g.number(30))
    return where(near)(g, x, scores)


def by_product(g: TinyGraph, x: str, scores: str) -> str:
    """(1 - mask) * -1e9, as older exports have it."""
    mask = g.op("Cast", near(g, x), to=TensorProto.FLOAT)
    return g.op("Add", scores, g.op("Mul", g.op("Sub", g.number(1), mask), g.number(-1e9)))


MASKS: dict[str, tuple[Callable[[TinyGraph, str, str], str], int, int]] = {
    "Where by a window": (where(near), 5, 0),
    "Where by a window, not to infinity": (where(near, -1e4), 5, 0),
    "a window added": (added(far), 4, 0),
    "a window added, not of infinity": (added(far, FAR_BELOW), 4, 0),
    "each step by itself": (where(lambda g, x: near(g, x, left=0)), 0, 0),
    "a window that looks ahead": (where(lambda g, x: near(g, x, right=3)), 5, 3),
    "as far before as after": (where(around, -1e9), 3, 3),
    "triangles": (added(by_triangles), 6, 0),
    "sums of ones": (added(by_sums), 3, 0),
    "a table": (where(by_table), 3, 0),
    "a mask of the batch": (where(of_the_first), 5, 0),
    "blocks": (where(blocks), 7, 3),
    "blocks of floats": (where(blocks_of_floats), 2, 2),
    "slopes": (slopes, 4, 0),
    "a bias by distance": (by_distance, 4, 0),
    "capped": (capped, 5, 0),
    "a product": (by_product, 5, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MASKS)
def test_attention_streams_whose_mask_bounds_it(name: str) -> None:
    masked, left, right = MASKS[name]
    twins = assert_streams(attention(masked), tolerance=1e-5)
    kept = [state for state in twins[0].spec.states if len(state.shape) == 4]
    # Also where nothing is kept there is a state, of a step at most.
    assert {state.max_length for state in kept} == {max(1, left + right)} | ({right} if right else set())


def test_values_may_have_time_where_the_result_has_none() -> None:
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(N), N, N, 3, pads=[1, 1])
    q, k, v = (heads(g, x) for _ in range(3))
    scores = where(near)(g, x, g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2)))
    weights = g.op("Softmax", scores, axis=-1)
    y = g.op("Einsum", weights, g.transpose(v, 0, 1, 3, 2), equation="bhqk,bhck->bhqc")
    y = g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, N, -1]))
    assert_streams(g.model(g.conv(y, N, 2, 3, pads=[1, 1])), tolerance=1e-5)


@pytest.mark.parametrize("opset", [11, 12, 13, 17, 22])
def test_attention_streams_in_any_opset_that_numbers_steps(opset: int) -> None:
    assert_streams(attention(added(far), opset=opset), tolerance=1e-5, plans=("planned",))


def test_attention_of_an_opset_that_numbers_no_steps_is_refused() -> None:
    with pytest.raises(NotStreamableError, match="opset 10"):
        make_streaming(attention(where(by_table), opset=10))


@pytest.mark.parametrize("right", [0, 3])
def test_attention_streams_where_the_rate_has_fallen(right: int) -> None:
    """As between an encoder's strides and a decoder's."""
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(N), N, N, 3, strides=[2], pads=[2, 0])
    x = positions(g, x)
    q, k, v = (heads(g, x) for _ in range(3))
    scores = g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2))
    seen = near(g, x, right=right)
    weights = g.op("Softmax", g.op("Where", seen, scores, g.number(-np.inf)))
    y = g.op("Reshape", g.transpose(g.op("MatMul", weights, v), 0, 1, 3, 2), g.const([1, N, -1]))
    assert_streams(g.model(g.up(g.op("Add", x, y), N, 2, 4, 2, pads=[1, 1])), tolerance=1e-5)


def test_an_attention_is_one_node_that_sees_as_far_as_its_mask_lets_it() -> None:
    """Whatever else is decided by how far a decoder sees, as an overlap is, is told of it."""
    model = attention(where(lambda g, x: near(g, x, right=3)))
    local = {node.op_type: effect.local for node, effect in analyse_model(model).effects.items()}["Window"]
    assert (local.pad_left, local.pad_right, local.span) == (5, 3, 8)
    field = receptive_field(model)
    assert (field.left_context, field.lookahead) == (5 + 1 + 1, 3 + 1 + 1)


def in_one_operator(
    g: TinyGraph, x: str, mask: str, *, kv_heads: int = HEADS, flat: bool, **attributes: float
) -> str:
    if not flat:
        y = g.op("Attention", *(heads(g, x, n) for n in (HEADS, kv_heads, kv_heads)), mask, **attributes)
        return g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, N, -1]))
    by_steps, size = g.transpose(x, 0, 2, 1), N // HEADS
    parts = [g.op("MatMul", by_steps, g.weight(N, n * size)) for n in (HEADS, kv_heads, kv_heads)]
    y = g.op("Attention", *parts, mask, q_num_heads=HEADS, kv_num_heads=kv_heads, **attributes)
    return g.transpose(y, 0, 2, 1)


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    "options",
    [{}, {"kv_heads": 1, "scale": 0.3}, {"is_causal": 1}, {"kv_heads": 1, "is_causal": 1, "bias": 1}],
)
def test_attention_in_one_operator_streams(flat: bool, options: dict[str, float]) -> None:
    given = dict(options)
    g = TinyGraph(opset=23)
    x = g.conv(g.frames(N), N, N, 3, pads=[1, 1])
    mask = near(g, x, right=2)
    if given.pop("bias", 0):
        mask = g.op("Where", mask, g.number(0), g.number(-np.inf))
    y = in_one_operator(g, x, mask, flat=flat, **given)  # type: ignore[arg-type]
    assert_streams(g.model(g.conv(g.op("Add", x, y), N, 2, 4, pads=[2, 1])), tolerance=1e-5)


def test_rotary_positions_in_one_operator_stream() -> None:
    """An operator without a rule is written as ONNX defines it, of operators that have one."""
    g = TinyGraph(opset=23)
    x = g.conv(g.frames(N), N, N, 3, pads=[1, 1])
    positions = g.op("Cast", g.op("Unsqueeze", ramp(g, x, axis=1), g.const([0])), to=TensorProto.FLOAT)
    angles = g.op("Mul", positions, g.const([1, 0.1], np.float32))
    tables = [g.op(name, angles) for name in ("Cos", "Sin")]
    query, key, value = (heads(g, x) for _ in range(3))
    query, key = (g.op("RotaryEmbedding", part, *tables) for part in (query, key))
    y = g.transpose(g.op("Attention", query, key, value, near(g, x)), 0, 1, 3, 2)
    y = g.op("Reshape", y, g.const([1, N, -1]))
    assert_streams(g.model(g.conv(g.op("Add", x, y), N, 2, 4, pads=[2, 1])), tolerance=1e-5)


def test_a_causal_attention_without_a_window_needs_the_longest_utterance() -> None:
    with pytest.raises(NotStreamableError, match="max_frames"):
        make_streaming(attention(where(causal)))
    assert_streams(attention(where(causal)), tolerance=1e-5, max_frames=200)


def first_steps_too(g: TinyGraph, x: str) -> str:
    """A window, and two steps at the start that all see."""
    i, j = ramp(g, x, axis=1), ramp(g, x, axis=0)
    return g.op("And", g.op("LessOrEqual", j, i), g.op("Or", near(g, x), g.op("Less", j, g.const(2))))


@pytest.mark.parametrize(("seen", "reason"), [(np.tril, "max_frames"), (np.asarray, "every step meets")])
def test_a_table_without_a_window_is_as_long_as_it_likes(
    seen: Callable[[np.ndarray], np.ndarray], reason: str
) -> None:
    def by_rows(g: TinyGraph, x: str) -> str:
        rows = g.const(seen(np.ones((100, 100), bool)), bool)
        for axis in (0, 1):
            rows = g.op("Slice", rows, g.const([0]), g.length(x), g.const([axis]))
        return rows

    with pytest.raises(NotStreamableError, match=reason):
        make_streaming(attention(where(by_rows)))
    if seen is np.tril:
        assert_streams(attention(where(by_rows)), tolerance=1e-5, max_frames=90)


def test_steps_that_all_later_ones_see_are_kept_for_the_longest_utterance() -> None:
    with pytest.raises(NotStreamableError, match="max_frames"):
        make_streaming(attention(where(first_steps_too)))
    assert_streams(attention(where(first_steps_too)), tolerance=1e-5, max_frames=60)


def causal(g: TinyGraph, x: str) -> str:
    return g.op("LessOrEqual", ramp(g, x, axis=0), ramp(g, x, axis=1))


@pytest.mark.parametrize("pushes", [[20], [7, 7, 6], [1] * 20])
def test_an_utterance_longer_than_the_longest_fails(pushes: list[int]) -> None:
    pair = Streamed(attention(where(causal)), max_frames=19)
    stream(pair, pair.feeds(19), [19])
    with pytest.raises(ModelError, match="run failed"):
        stream(pair, pair.feeds(20), pushes)


@pytest.mark.parametrize("max_frames", [0, -1, 2.5, "long"])
def test_the_longest_utterance_is_a_number_of_frames(max_frames: object) -> None:
    with pytest.raises(ParameterError, match="max_frames"):
        make_streaming(attention(where(causal)), max_frames=max_frames)  # type: ignore[arg-type]


def test_attentions_of_one_window_count_once() -> None:
    g = TinyGraph(opset=20)
    x = g.frames(N)
    seen = near(g, x)
    for _ in range(3):
        q, k, v = (heads(g, x) for _ in range(3))
        scores = g.op("Where", seen, g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2)), g.number(-np.inf))
        y = g.op("MatMul", g.op("Softmax", scores), v)
        x = g.op("Add", x, g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, N, -1])))
    (pair, *_) = assert_streams(g.model(x), tolerance=1e-5)
    assert [state.dtype for state in pair.spec.states].count("int64") == 1
    ops = [node.op_type for node in make_streaming(g.model(x)).graph.node]
    assert ops.count("LessOrEqual") == 1


@pytest.mark.parametrize("right", [0, 3])
def test_keys_are_held_in_states_of_fixed_sizes_too(right: int) -> None:
    """A server that keeps states for its clients wants them as large as they ever are."""
    model = attention(where(lambda g, x: near(g, x, right=right)))
    pair = Streamed(model)
    held, states = hold_states(make_streaming(model), pair.spec)
    session, kept = Session(held), {s.input: np.full(s.shape, s.fill, s.dtype) for s in states}
    feeds, pieces, position = pair.feeds(30), [], 0
    for n_frames in (8, 3, 5, 1, 6, 7):
        push = {"frames": feeds["frames"][..., position : position + n_frames]}
        position += n_frames
        outputs = session.run({**push, **kept, END_INPUT: np.array([position == 30], np.int32)})
        pieces.append(outputs[pair.spec.outputs[0].name])
        kept = {s.input: outputs[s.output] for s in states}
    (whole,) = pair.run_whole(feeds).values()
    np.testing.assert_allclose(np.concatenate(pieces, -1), whole, atol=1e-5)


@pytest.mark.parametrize("told", [Band(-4, 3), Band(-5, 2), Band(-inf, 2)])
def test_what_is_told_of_a_mask_is_held_against_a_run(told: Band, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusing, "_seen", lambda scores: told)
    with pytest.raises(NotStreamableError, match="in a run it sees steps"):
        make_streaming(attention(where(lambda g, x: near(g, x, right=3))), max_frames=50)


def by_what_is_said(g: TinyGraph, x: str) -> str:
    """A mask of frames that are loud: it isn't known beforehand."""
    loud = g.op("Greater", g.reduce("ReduceSum", x, 1), g.number(0))
    return g.op("And", near(g, x), loud)


def in_bytes(g: TinyGraph, x: str) -> str:
    i, j = (ramp(g, x, axis=axis, to=TensorProto.INT8) for axis in (1, 0))
    i, j = (g.op("Cast", k, to=TensorProto.INT32) for k in (i, j))
    return g.op("LessOrEqual", g.op("Abs", g.op("Sub", i, j)), g.const(3, np.int32))


UNKNOWN: dict[str, tuple[Callable[[TinyGraph, str, str], str], str]] = {
    "by what is said": (where(by_what_is_said), "isn't known"),
    "by the utterance's end": (
        where(lambda g, x: g.op("And", near(g, x), g.op(
            "Less", ramp(g, x, axis=0), g.op("Sub", n_steps(g, x), g.const(2))))),
        "isn't known"),
    "positions in bytes": (where(in_bytes), "every step meets every other"),
    "not far enough below": (where(near, -50.0), "every step meets every other"),
    "a bias alone": (lambda g, x, scores: g.op("Add", scores, g.op("Cast", g.op(
        "Sub", ramp(g, x, axis=0), ramp(g, x, axis=1)), to=TensorProto.FLOAT)), "every step meets every other"),
    "weights that are raised after the softmax": (where(near), "every step meets every other"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_attention_is_refused_of_which_it_cannot_be_told_what_it_sees(name: str) -> None:
    masked, reason = UNKNOWN[name]
    after = 1e-3 if name.startswith("weights") else 0.0
    with pytest.raises(NotStreamableError, match=reason):
        make_streaming(attention(masked, after=after), max_frames=100)


def test_an_attention_that_sees_everything_is_refused() -> None:
    with pytest.raises(NotStreamableError, match="window for the attention"):
        make_streaming(attention(lambda g, x, scores: scores))
    ahead = where(lambda g, x: g.op("GreaterOrEqual", ramp(g, x, axis=0), ramp(g, x, axis=1)))
    with pytest.raises(NotStreamableError, match="window for the attention"):
        make_streaming(attention(ahead))
