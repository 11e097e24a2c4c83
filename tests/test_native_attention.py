"""Attention in streams of the native engine: windows by hand, and the graphs that have them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.kernels import KERNELS_VARIABLE
from balacoon_tk.runtime.native.program import Call, Program, Stage
from balacoon_tk.runtime.native.session import NativeSession
from balacoon_tk.targets.native import NotNativeError, compile_native
from native_laws import ONE_THREAD, assert_native
from native_programs import assert_damage_is_harmless, assert_lawful, damages, made, random, store
from test_native_encoder import attention
from test_streaming_attention import MASKS, N, near, ramp, where
from test_streaming_attention import attention as graph
from test_streaming_positions import COUNTED
from tiny_graphs import TinyGraph

# --- windows by hand


def windowed(
    left: int, right: int, *, n_heads: int = 2, n_in: int = 8, n_out: int = 5, period: int = 0
) -> Program:
    """Queries that see some steps before and behind their own, with biases if they come again."""
    program = attention(
        n_heads,
        n_in,
        n_out,
        left_context=left,
        right_context=right,
        distance_biases="biases" if period else None,
    )
    biases = random(n_heads, max(1, period), left + 1 + right)
    biases[..., :left][random(*biases[..., :left].shape) > 1] = np.finfo(np.float32).min
    return replace(program, arrays={"biases": biases})


@pytest.mark.parametrize("period", [0, 1, 3])
@pytest.mark.parametrize(("left", "right"), [(0, 0), (3, 0), (0, 2), (5, 3), (40, 1), (100, 50)])
def test_a_window_is_the_oracles_in_any_pushes(left: int, right: int, period: int) -> None:
    assert_lawful(windowed(left, right, period=period), (0, 1, 2, 5, 13, 40, 97), tolerance=1e-4)


@pytest.mark.parametrize(("n_heads", "n_in", "n_out"), [(1, 1, 1), (3, 16, 33), (2, 64, 64)])
def test_heads_of_any_width_have_windows(n_heads: int, n_in: int, n_out: int) -> None:
    program = windowed(7, 2, n_heads=n_heads, n_in=n_in, n_out=n_out, period=1)
    assert_lawful(program, (1, 13, 33, 70), tolerance=1e-4)


@pytest.mark.parametrize("kernels", _kernels.names())
def test_a_window_is_the_oracles_with_all_kernels(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    assert_lawful(windowed(9, 1, period=2), (1, 12, 45), tolerance=1e-4)


def test_a_chain_works_on_what_a_window_gives() -> None:
    chain = (Call("load", out=1, edge=0), Call("add", out=2, a=0, b=1), Call("tanh", out=0, a=2), store(1))
    program = attention(2, 8, 40, 0, chain=chain, left_context=4)
    assert_lawful(program, (1, 13, 40), tolerance=1e-4)


def test_a_window_looks_back_no_further_than_it_says() -> None:
    """What a query doesn't see has no part in its last bit."""
    engine = NativeEngine(windowed(4, 1), ONE_THREAD)
    feeds = random(1, 42, 60)
    whole = engine.whole({"frames": feeds})["out"]
    changed = feeds.copy()
    changed[..., 20] = 1e6
    other = engine.whole({"frames": changed})["out"]
    same = (whole == other).all((0, 1))
    assert same[:19].all()
    assert same[25:].all()
    assert not same[19:25].any()


WINDOWED = windowed(6, 2, period=2)
OF_WINDOWS = NativeEngine(WINDOWED, ONE_THREAD)


@damages
@given(st.data())
def test_a_damaged_state_is_refused_or_harmless(data: st.DataObject) -> None:
    assert_damage_is_harmless(OF_WINDOWS, WINDOWED, data)


def test_a_state_holds_the_window_and_no_more() -> None:
    engine = NativeEngine(windowed(30, 2), ONE_THREAD)
    state, sizes = engine.start(), []
    for n_steps in (10, 10, 40, 1, 200):
        _, state = engine.step(state, {"frames": random(1, 42, n_steps)}, last=False)
        sizes.append(engine.save(state)["rows"].nbytes // (48 * 4))
    assert sizes == [10, 20, 32, 32, 32]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"left_context": -1}, "must not be below 0"),
        ({"right_context": -1}, "must not be below 0"),
        ({"left_context": None, "distance_biases": None, "right_context": 2}, "sees all steps"),
        ({"left_context": 3}, "its biases of distances are float32 of the shape"),
        ({"kind": "pad", "others": (), "distance_biases": None}, "is no attention"),
    ],
)
def test_what_a_window_says_wrong_is_named(change: dict[str, object], reason: str) -> None:
    program = windowed(4, 0, period=1)
    stage = replace(program.stages[0], **change)
    with pytest.raises(ModelError, match=reason):
        NativeSession(replace(program, stages=(stage,)), ONE_THREAD)


@pytest.mark.parametrize("n_phases", [1, 3])
@pytest.mark.parametrize("n_channels", [1, 40])
def test_steps_are_counted_from_the_start(n_phases: int, n_channels: int) -> None:
    chain = (
        Call("load", out=1, edge=0, by_group=True, broadcast=True),
        Call("position", out=2),
        store(1, a=2),
    )
    stage = Stage("pointwise", "positions", None, n_channels, chain, n_phases=n_phases)
    assert_lawful(made(2, stage, arrays={}))


# --- graphs

REFUSED = {"capped": "more than a product and a bias"}


@pytest.mark.parametrize("name", MASKS)
def test_attention_runs_natively_whose_mask_bounds_it(name: str) -> None:
    masked, left, right = MASKS[name]
    model = graph(masked)
    if name in REFUSED:
        with pytest.raises(NotNativeError, match=REFUSED[name]):
            compile_native(model)
        return
    (stage,) = (stage for stage in assert_native(model).program.stages if stage.kind == "attend")
    assert (stage.left_context, stage.right_context) == (left, right)
    assert (stage.distance_biases is None) == (
        name not in {"blocks", "blocks of floats", "slopes", "a bias by distance"}
    )


@pytest.mark.parametrize("build", COUNTED)
def test_positions_are_counted_natively(build: Callable[[TinyGraph, str], str]) -> None:
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(N), N, N, 3, pads=[1, 1])
    assert_native(g.model(g.conv(build(g, x), N, 2, 4, pads=[2, 1])))


def later_ones_see_more(g: TinyGraph, x: str) -> str:
    i, j = ramp(g, x, axis=1), ramp(g, x, axis=0)
    return g.op("And", near(g, x), g.op("LessOrEqual", g.op("Sub", j, i), g.op("Div", i, g.const(50))))


def by_fractions(g: TinyGraph, x: str, scores: str) -> str:
    """Biases that are rounded otherwise at each position."""
    i, j = (g.op("Mul", ramp(g, x, axis=axis, to=1), g.number(0.3)) for axis in (1, 0))
    return where(near)(g, x, g.op("Add", scores, g.op("Sub", j, i)))


def not_itself(g: TinyGraph, x: str) -> str:
    distance = g.op("Sub", ramp(g, x, axis=1), ramp(g, x, axis=0))
    return g.op("And", g.op("Greater", distance, g.const(0)), g.op("Less", distance, g.const(4)))


def said_itself(g: TinyGraph, x: str, scores: str) -> str:
    """Of some keys that are seen the mask says the score."""
    beside = g.op("Equal", g.op("Sub", ramp(g, x, axis=1), ramp(g, x, axis=0)), g.const(1))
    return where(near)(g, x, g.op("Where", beside, g.number(0.3), scores))


def by_heads(g: TinyGraph, x: str, scores: str) -> str:
    """Each head's scores times a number of its own."""
    return where(near)(g, x, g.op("Mul", scores, g.const([[[0.5]], [[2.0]]], np.float32)))


def cut_off(g: TinyGraph, x: str) -> str:
    """Positions less a fraction, cut towards 0: two of the first ones become one number."""
    i, j = (g.op("Cast", g.op("Sub", ramp(g, x, axis=axis, to=1), g.number(3.5)), to=7) for axis in (1, 0))
    return g.op("LessOrEqual", g.op("Abs", g.op("Sub", i, j)), g.const(2))


def test_what_is_far_below_a_querys_own_score_is_hidden_and_no_more() -> None:
    """A step at a time, of biases that all are low."""

    def masked(g: TinyGraph, x: str, scores: str) -> str:
        far = g.op("Abs", g.op("Sub", ramp(g, x, axis=1, to=1), ramp(g, x, axis=0, to=1)))
        biases = g.op("Sub", g.number(-9999.0), g.op("Mul", far, g.number(1.0)))
        return where(near)(g, x, g.op("Add", scores, biases))

    assert_native(graph(masked), tolerance=1e-3)


@pytest.mark.parametrize(
    ("masked", "reason"),
    [
        (where(cut_off), "the mask follows from positions"),
        (said_itself, "some scores are no products"),
        (by_heads, "multiplied by more than a number"),
        (where(later_ones_see_more), "in its attention the mask follows from positions"),
        (by_fractions, "in its attention the mask follows from positions"),
        (where(not_itself), "a query doesn't see itself"),
    ],
)
def test_attention_is_refused_whose_mask_the_engine_does_not_have(
    masked: Callable[[TinyGraph, str, str], str], reason: str
) -> None:
    with pytest.raises(NotNativeError, match=reason):
        compile_native(graph(masked))
