"""Stages that read the same window are made together, block by block, and obey the laws."""

from __future__ import annotations

from dataclasses import replace

import pytest

from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.kernels import choose_kernels
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Program, Stage
from native_programs import assert_lawful, made, random, store

OFTEN, SELDOM = (40, 1), (1, 1)
"""Steps for a frame: with few of them, steps are made in pairs at most."""


def gated(
    n_taps: int,
    rate: tuple[int, int] = OFTEN,
    *,
    n_channels: int = 64,
    ahead: int = 0,
    padding: str = "constant",
) -> Program:
    """tanh(a) * sigmoid(b) of two convolutions of one window, plus what looks `ahead` further."""
    window = {
        "n_taps": n_taps,
        "pad_left": n_taps // 2,
        "pad_right": (n_taps - 1) // 2,
        "padding": padding,
        "rate": rate,
    }
    late = Stage(
        "convolve", "late", 0, n_channels, (store(1),), weights="c", n_taps=1 + ahead, pad_right=ahead
    )
    a = Stage(
        "convolve",
        "a",
        0,
        n_channels,
        (Call("tanh", out=1, a=0), store(2, 1)),
        weights="a",
        bias="bias",
        **window,
    )
    gate = (
        Call("sigmoid", out=1, a=0),
        Call("load", out=2, edge=2),
        Call("mul", out=2, a=2, b=1),
        Call("load", out=1, edge=1),
        Call("add", out=2, a=2, b=1),
        store(3, 2),
    )
    b = Stage("convolve", "b", 0, n_channels, gate, weights="b", **window)
    last = Stage(
        "convolve", "last", 3, 5, (store(4),), weights="last", n_taps=3, pad_left=1, pad_right=1, rate=rate
    )
    arrays = {
        "a": random(n_channels, 32, n_taps),
        "b": random(n_channels, 32, n_taps),
        "c": random(n_channels, 32, 1 + ahead),
        "bias": random(n_channels),
        "last": random(5, n_channels, 3),
    }
    return made(32, late, a, b, last, arrays=arrays)


def siblings(program: Program) -> list[int]:
    pairs = _kernels.has_pairs(choose_kernels())
    return [stage.n_siblings for stage in pack(program, pairs=pairs)]


@pytest.mark.parametrize(("n_taps", "rate"), [(1, OFTEN), (2, SELDOM), (3, SELDOM), (5, SELDOM), (5, OFTEN)])
@pytest.mark.parametrize("n_channels", [64, 40, 8])
def test_siblings_obey_the_laws(n_taps, rate, n_channels):
    program = gated(n_taps, rate, n_channels=n_channels)
    assert siblings(program)[1:3] == [1, 0]
    assert_lawful(program)


def test_a_sibling_that_has_to_wait_for_something_else_obeys_the_laws():
    program = gated(3, ahead=17)
    assert siblings(program)[1:3] == [1, 0]
    assert_lawful(program)


@pytest.mark.parametrize("n_stages", [2, 3, 4, 5, 9])
def test_several_stages_are_siblings(n_stages):
    stages, arrays = [], {}
    for k in range(n_stages):
        chain = (
            (Call("load", out=1, edge=k), Call("add", out=1, a=1, b=0), store(k + 1, 1)) if k else (store(1),)
        )
        stages.append(Stage("convolve", f"s{k}", 0, 32, chain, weights=f"w{k}", n_taps=3, pad_left=2))
        arrays[f"w{k}"] = random(32, 32, 3)
    program = made(32, *stages, arrays=arrays)
    # Four at most, with their first one.
    assert siblings(program) == [min(3, n_stages - k - 1) if k % 4 == 0 else 0 for k in range(n_stages)]
    assert_lawful(program)


@pytest.mark.parametrize(
    "change",
    [
        {"n_taps": 2},
        {"dilation": 2},
        {"pad_left": 3, "pad_right": 1},
        {"source_channel": 1},
        {"n_channels": 32},
    ],
)
def test_other_windows_are_no_siblings(change):
    program = gated(4, n_channels=64)
    stages = list(program.stages)
    stages[2] = replace(stages[2], **change)
    arrays = {**program.arrays, "b": random(stages[2].n_channels, 32, stages[2].n_taps)}
    assert siblings(replace(program, stages=tuple(stages), arrays=arrays))[1] == 0


@pytest.mark.parametrize("change", [{"channel": 32}, {"by_group": True}, {"broadcast": True}])
def test_what_reads_other_numbers_of_the_one_in_front_is_no_sibling(change):
    program = gated(3)
    stages = list(program.stages)
    chain = tuple(replace(call, **change) if call.edge == 2 else call for call in stages[2].chain)
    stages[2] = replace(stages[2], chain=chain)
    assert siblings(replace(program, stages=tuple(stages)))[1] == 0


def test_what_is_padded_with_its_own_steps_is_made_by_itself():
    program = gated(3)
    stages = list(program.stages)
    stages[3] = replace(stages[3], padding="edge")
    assert siblings(replace(program, stages=tuple(stages)))[1] == 0
    assert_lawful(replace(program, stages=tuple(stages)))
