"""How the native engine lays weights out, and divides its stages into pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balacoon_tk.runtime.native.ending import Ending, find_ending
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Edge, Program, Stage
from native_programs import made, random, store
from test_native_encoder import convolved


def chained(n_channels: int, n_stages: int, *, n_phases: int = 1) -> Program:
    """Convolutions of one tap, one after the other, the last of them transposed to `n_phases`."""
    stages = [
        Stage("convolve", f"conv{k}", k, n_channels, (store(k + 1),), weights=f"w{k}")
        for k in range(n_stages)
    ]
    arrays = {f"w{k}": random(n_channels, n_channels, 1) for k in range(n_stages)}
    if n_phases > 1:
        up = Stage(
            "convolve",
            "up",
            n_stages,
            n_channels,
            (store(n_stages + 1),),
            n_phases=n_phases,
            weights="up",
            transposed=True,
        )
        stages.append(up)
        arrays["up"] = random(n_channels, n_channels, n_phases)
    return made(n_channels, *stages, arrays=arrays)


def test_weights_lie_one_after_the_other_each_at_the_start_of_a_cache_line():
    packed = pack(chained(33, 5))
    places = [stage.weights.ctypes.data for stage in packed if stage.weights is not None]
    assert all(place % 64 == 0 for place in places)
    sizes = [stage.weights.nbytes for stage in packed if stage.weights is not None]
    # Blocks of few channels are larger than what they are made of, so that one piece of memory may not do.
    n_gaps = sum(b - a != -(-size // 64) * 64 for a, b, size in zip(places, places[1:], sizes, strict=False))
    assert len(places) == 5 and n_gaps <= 2


def test_what_is_packed_is_the_weights():
    program = chained(32, 3)
    for k, stage in enumerate(pack(program)):
        assert stage.weights is not None
        assert np.array_equal(stage.weights.reshape(32, 32), program.arrays[f"w{k}"][..., 0].T)


def test_pieces_go_by_frames_until_the_rate_goes_up():
    wide = pack(chained(64, 2, n_phases=64))
    assert [stage.n_most for stage in wide] == [96, 96, 4]
    assert [stage.n_most for stage in pack(chained(4, 1, n_phases=2))] == [96, 2048]


@pytest.mark.parametrize(("n_channels", "n_most"), [(512, [96, 96, 96]), (16, [96, 96, 64])])
def test_a_piece_has_steps_enough_for_many_weights(n_channels, n_most):
    # 96 steps of what reads 1.5 MB of weights; else what fits into a cache, a step of 64 times 256 channels.
    first = Stage("convolve", "first", 0, 512, (store(1),), weights="first")
    up = Stage("convolve", "up", 1, 256, (store(2),), n_phases=64, weights="up", transposed=True)
    last = Stage("convolve", "last", 2, n_channels, (store(3),), n_taps=3, rate=(64, 1), weights="last")
    arrays = {
        "first": random(512, 8, 1),
        "up": random(512, 256, 64),
        "last": random(n_channels, 256, 3),
    }
    assert [stage.n_most for stage in pack(made(8, first, up, last, arrays=arrays))] == n_most


@pytest.mark.parametrize(
    ("rate", "n_taps", "kind", "n_together"),
    [((1, 1), 6, "paired", 6), ((1, 1), 3, "paired", 1), ((1, 1), 4, "fours", 1), ((2, 1), 6, "fours", 1)],
)
def test_many_weights_are_laid_out_for_fours_where_a_frame_is_many_steps(rate, n_taps, kind, n_together):
    stage = Stage("convolve", "conv", 0, 112, (store(1),), n_taps=n_taps, rate=rate, weights="w")
    program = made(112, stage, arrays={"w": random(112, 112, n_taps)})
    packed = pack(program, pairs=True)[0]
    assert (packed.kind, packed.n_together) == (kind, n_together)


@pytest.mark.parametrize(
    ("n_channels", "n_taps", "left_context", "kind", "n_together"),
    [
        (256, 3, None, "shared_fours", 4),
        (64, 3, None, "shared_fours", 1),
        (64, 3, 8, "paired", 1),
        (64, 5, None, "fours", 1),
        (64, 2, None, "convolve", 1),
        (8, 3, None, "convolve", 1),
    ],
)
def test_three_taps_of_what_is_run_whole_are_laid_out_for_shared_fours(
    n_channels, n_taps, left_context, kind, n_together
):
    program = convolved(n_channels, n_taps, left_context=left_context)
    packed = pack(program, pairs=True)[1]
    assert (packed.kind, packed.n_together) == (kind, n_together)
    if kind == "shared_fours":
        assert packed.weights is not None
        weights = program.arrays["w"]
        lies = packed.weights.reshape(-1, n_channels, 3, 32)  # block, channel in, tap, channel out
        scaled = weights * np.array([1, 0.75, 0.5625], np.float32)
        assert np.array_equal(lies.transpose(0, 3, 1, 2).reshape(weights.shape), scaled)


LOAD, ADD = Call("load", out=1, edge=0), Call("add", out=2, a=0, b=1)
LEAKY = Call("leaky_relu", out=3, a=2, scalar=0.1)


@pytest.mark.parametrize(
    ("chain", "ending"),
    [
        ((LOAD, ADD, store(1, 2), LEAKY, store(1, 3)), Ending(0, 0, (0,), None, 2, 3, 4)),
        ((LOAD, Call("add", out=2, a=1, b=0), store(1, 2)), Ending(0, 0, (0,), None, 2, None, None)),
        (
            (LOAD, ADD, LOAD, Call("add", out=2, a=2, b=1), Call("div", out=2, a=2, scalar=3.0), store(1, 2)),
            Ending(0, 0, (0, 2), 4, 5, None, None),
        ),
        ((Call("tanh", out=2, a=0), LEAKY, store(1, 3)), Ending(1, 2, (), None, None, 1, 2)),
        (
            (store(1), Call("leaky_relu", out=3, a=0, scalar=0.1), store(1, 3)),
            Ending(0, 0, (), None, 0, 1, 2),
        ),
        # Three of two that are added.
        (
            (LOAD, ADD, LOAD, Call("add", out=2, a=2, b=1), LOAD, Call("add", out=2, a=2, b=1), store(1, 2)),
            Ending(2, 2, (2, 4), None, 6, None, None),
        ),
        # Nothing but a store, or two.
        ((store(1),), Ending(0, 0, (), None, 0, None, None)),
        ((store(1), store(4)), Ending(0, 0, (), None, 0, None, 1)),
        # Another number is stored; another function; a number for each channel.
        ((LOAD, ADD, store(1, 0)), None),
        ((LOAD, ADD, LEAKY, store(1, 2)), None),
        ((LOAD, Call("mul", out=2, a=0, b=1), store(1, 2)), None),
        ((Call("mul", out=2, a=0, array="w"), store(1, 2)), None),
        ((LOAD, Call("add", out=2, a=1, b=1), store(1, 2)), None),
        ((LOAD, ADD, LEAKY, store(1, 3), Call("tanh", out=2, a=3)), None),
        ((replace(LOAD, by_group=True), ADD, store(1, 2)), None),
        ((replace(LOAD, broadcast=True), ADD, store(1, 2)), None),
        ((replace(LOAD, edge=2), ADD, store(1, 2)), None),
        ((replace(LOAD, edge=3), ADD, store(1, 2)), None),
    ],
)
def test_what_one_kernel_can_finish_is_found(chain, ending):
    edges = (Edge("0", 32), Edge("1", 32), Edge("2", 32, timeless=True), Edge("3", 32, scale=0.1))
    stage = Stage("convolve", "conv", 0, 32, chain, weights="w")
    assert find_ending(Program(edges, (stage,), (), ()), stage) == ending
