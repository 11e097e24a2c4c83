"""Convolutions in pairs and fours of steps in the native engine: where, and that chunks change no bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native import _kernels, packing
from balacoon_tk.runtime.native._native import Executor
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.kernels import KERNELS_VARIABLE, choose_kernels
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Program, Stage
from native_laws import ONE_THREAD, assert_same_bits
from native_programs import LENGTHS, assert_lawful, convolution, feeds_of, made, random, store, streamed

needs_pairs = pytest.mark.skipif(
    not _kernels.has_pairs(choose_kernels()), reason="this processor's kernels don't convolve in pairs"
)


def kinds(program: Program, *, pairs: bool = True) -> list[str]:
    return [stage.kind for stage in pack(program, pairs=pairs)]


OFTEN, SELDOM = (64, 1), (1, 1)  # steps for a frame: many, so that four of them lie within few frames; few


@pytest.mark.parametrize("dilation", [1, 2, 3, 5, 12])
@pytest.mark.parametrize("rate", [OFTEN, SELDOM])
@pytest.mark.parametrize(
    ("n_in", "n_out", "n_taps"), [(16, 32, 3), (32, 64, 5), (40, 33, 7), (17, 70, 4), (33, 40, 9)]
)
def test_bundles_obey_the_laws(n_in, n_out, n_taps, rate, dilation):
    program = convolution(n_in, n_out, n_taps, dilation=dilation, rate=rate)
    assert kinds(program) == ["fours" if n_taps > 3 and 3 * dilation <= 4 * rate[0] else "paired"]
    assert_lawful(program, (*LENGTHS, 100))


@pytest.mark.parametrize("rate", [OFTEN, SELDOM])
@pytest.mark.parametrize("pads", [{"pad_left": 12, "pad_right": 0}, {"pad_left": 0, "pad_right": 0}, {}])
def test_bundles_obey_the_laws_with_other_padding(pads, rate):
    assert_lawful(convolution(16, 32, 5, dilation=3, bias=False, rate=rate, **pads), (13, 40, 100))


@pytest.mark.parametrize("dilation", [1, 3])
def test_many_weights_are_read_for_several_tiles_at_once(dilation, monkeypatch):
    monkeypatch.setitem(packing._TILES_TOGETHER, "paired", 2)
    program = convolution(160, 240, 7, dilation=dilation)
    assert kinds(program) == ["paired"] and pack(program, pairs=True)[0].n_together > 1
    assert_lawful(program, (5, 100))


def residual(dilation: int, n_channels: int = 32, rate: tuple[int, int] = OFTEN) -> Program:
    """What vocoders are made of: an activation kept beside its input, a convolution, their sum."""
    span = 4 * dilation
    first = Stage(
        "pointwise",
        "activation",
        None,
        n_channels,
        (Call("load", edge=0), Call("leaky_relu", scalar=0.1), store(1)),
    )
    second = Stage(
        "convolve",
        "conv",
        1,
        n_channels,
        (
            Call("load", out=1, edge=0),
            Call("add", a=0, b=1),
            store(2),
            Call("tanh"),
            Call("mul", array="gain"),
            store(3),
        ),
        n_taps=5,
        dilation=dilation,
        pad_left=span // 2,
        pad_right=span // 2,
        weights="w",
        bias="b",
        rate=rate,
    )
    third = replace(
        second, name="again", source=2, chain=(Call("load", out=2, edge=3), Call("sub", b=2), store(4))
    )
    arrays = {
        "w": random(n_channels, n_channels, 5) / 10,
        "b": random(n_channels),
        "gain": random(n_channels),
    }
    return made(n_channels, first, second, third, arrays=arrays, n_edges=5)


@pytest.mark.parametrize(("rate", "kind"), [(OFTEN, "fours"), (SELDOM, "paired")])
@pytest.mark.parametrize("dilation", [2, 6, 12])
def test_chains_behind_bundles_obey_the_laws(dilation, rate, kind):
    program = residual(dilation, rate=rate)
    assert kinds(program) == ["pointwise", kind, kind]
    assert_lawful(program, (1, 5, 40, 130))


@needs_pairs
@pytest.mark.parametrize(("rate", "kind"), [((10, 1), "fours"), (SELDOM, "paired")])
def test_pieces_of_a_long_run_change_no_bit(rate, kind):
    program = residual(12, rate=rate)
    assert kinds(program)[1] == kind
    engine, feeds = NativeEngine(program, ONE_THREAD), feeds_of(program, 2500)
    assert pack(program, pairs=True)[1].n_most < 1000
    whole = engine.whole(feeds)
    for sizes in ([64] * 39 + [4], [8] * 312 + [4], [1000, 1, 1499]):
        assert_same_bits(streamed(engine, program, feeds, sizes), whole, sizes[0])


def transposed(n_in: int, n_out: int, n_phases: int, n_taps: int, crop: int = 0, behind: int = 0) -> Program:
    weights = random(n_in, n_out, n_taps * n_phases) / n_in**0.5
    stage = Stage(
        "convolve",
        "up",
        0,
        n_out,
        (Call("leaky_relu", scalar=0.1), store(1)),
        n_taps=n_taps,
        pad_left=n_taps - 1,
        pad_right=n_taps - 1,
        n_phases=n_phases,
        crop=crop,
        n_extra=(n_taps - 1) * n_phases - crop - behind,
        transposed=True,
        rate=OFTEN,
        weights="w",
        bias="b",
    )
    return made(n_in, stage, arrays={"w": weights, "b": random(n_out)})


@pytest.mark.parametrize(
    ("n_in", "n_out", "n_phases", "n_taps"), [(128, 64, 2, 2), (130, 63, 3, 2), (40, 32, 5, 3)]
)
@pytest.mark.parametrize(("crop", "behind"), [(0, 0), (1, 1), (2, 5), (7, 3)])
def test_transposed_convolutions_in_pairs_obey_the_laws(n_in, n_out, n_phases, n_taps, crop, behind):
    program = transposed(n_in, n_out, n_phases, n_taps, crop, behind)
    assert kinds(program) == ["paired"]
    assert_lawful(program, (6, 7, 13, 40))


@needs_pairs
def test_phases_are_joined_where_pairs_would_be_more_products():
    joined = transposed(128, 33, 8, 2)
    assert kinds(joined) == ["convolve"]
    assert pack(joined, pairs=True)[0].joined


@needs_pairs
def test_pairs_can_be_switched_off():
    program = convolution(32, 32, 7)
    feeds = feeds_of(program, 50)
    ours = NativeEngine(program, ONE_THREAD).whole(feeds)["samples"]
    direct = NativeEngine(program, ONE_THREAD, pairs=False).whole(feeds)["samples"]
    assert kinds(program, pairs=False) == ["convolve"]
    assert ours.tobytes() != direct.tobytes()
    np.testing.assert_allclose(ours, direct, atol=1e-4)


@pytest.mark.parametrize(
    ("n_in", "n_out", "n_taps", "options"),
    [
        (16, 32, 2, {}),
        (15, 32, 3, {}),
        (16, 31, 3, {}),
        (64, 256, 2, {}),
        (32, 64, 3, {"stride": 2}),
        (32, 64, 3, {"n_groups": 2}),
    ],
    ids=["two taps", "few inputs", "few outputs", "two taps, few inputs", "stride", "groups"],
)
def test_pairs_are_left_out_where_they_bring_nothing(n_in, n_out, n_taps, options):
    assert kinds(convolution(n_in, n_out, n_taps, **options)) == ["convolve"]


def test_kernels_without_pairs_run_the_same_programs(monkeypatch):
    monkeypatch.setenv(KERNELS_VARIABLE, "plain")
    program = residual(3)
    assert_lawful(program, (40,))
    with pytest.raises(ModelError, match="the kernels plain can't convolve 'conv' in pairs"):
        Executor(program, pack(program, pairs=True), 1, "plain")
