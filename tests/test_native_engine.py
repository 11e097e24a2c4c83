"""Programs written by hand in the native engine: what stages compute, and the laws of streams and states."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import fields, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Edge, Port, Program, Stage
from balacoon_tk.runtime.options import RuntimeOptions
from native_laws import ONE_THREAD, assert_same_bits
from native_oracle import interpret
from native_programs import (
    LENGTHS,
    TWO_THREADS,
    assert_damage_is_harmless,
    assert_lawful,
    cut,
    damages,
    feeds_of,
    made,
    random,
    store,
    streamed,
)


def convolution(n_in: int, n_out: int, n_taps: int, *, bias: bool = True, **options: Any) -> Program:
    n_groups = options.get("n_groups", 1)
    span = (n_taps - 1) * options.get("dilation", 1)
    pads = {"pad_left": span // 2, "pad_right": span - span // 2} | options
    stage = Stage(
        "convolve",
        "conv",
        0,
        n_out,
        (store(1),),
        n_taps=n_taps,
        weights="w",
        bias="b" if bias else None,
        **pads,
    )
    return made(n_in, stage, arrays={"w": random(n_out, n_in // n_groups, n_taps), "b": random(n_out)})


@pytest.mark.parametrize(
    ("n_in", "n_out", "n_taps", "options"),
    [
        (1, 1, 1, {}),
        (3, 5, 3, {}),
        (33, 31, 3, {}),
        (32, 64, 2, {}),
        (70, 65, 5, {"dilation": 3}),
        (4, 8, 7, {"dilation": 12}),
        (8, 6, 4, {"stride": 2}),
        (8, 40, 1, {"stride": 3}),
        (6, 9, 3, {"n_groups": 3}),
        (80, 80, 3, {"n_groups": 2}),
        (5, 2, 61, {}),
        (5, 7, 3, {"pad_left": 2, "pad_right": 0}),
        (5, 7, 3, {"pad_left": 9, "pad_right": 4}),
        (17, 1, 7, {}),
        (17, 4, 7, {"stride": 2}),
        (6, 6, 3, {"bias": False}),
    ],
)
def test_a_convolution_is_a_sum_over_taps_and_channels(n_in, n_out, n_taps, options) -> None:
    assert_lawful(convolution(n_in, n_out, n_taps, **options))


def test_a_window_that_an_utterance_has_no_room_for_is_an_error() -> None:
    program = convolution(3, 5, 6, pad_left=0, pad_right=1)
    engine = NativeEngine(program, ONE_THREAD)
    for sizes in ([4], [1, 1, 2], [4, 0]):
        with pytest.raises(ModelError, match="too short"):
            streamed(engine, program, feeds_of(program, 4), sizes)
    assert_lawful(program, (0, 5, 6, 20))


@pytest.mark.parametrize(
    ("width", "stride", "n_groups", "left", "right", "extra"),
    [
        (4, 2, 1, 1, 1, 0),
        (3, 3, 1, 0, 0, 0),
        (2, 5, 1, 0, 0, 0),
        (2, 5, 1, 0, 0, 3),
        (2, 5, 1, 1, 0, 4),
        (16, 8, 1, 4, 4, 0),
        (7, 3, 1, 2, 2, 1),
        (4, 2, 4, 1, 1, 0),
        (5, 1, 1, 2, 2, 0),
        (5, 1, 2, 0, 3, 0),
        (6, 2, 1, 5, 0, 0),
        (6, 2, 1, 0, 5, 0),
        (1, 2, 1, 0, 0, 0),
        (1, 2, 1, 0, 0, 1),
    ],
)
@pytest.mark.parametrize("n_out", [3, 36])
def test_a_transposed_convolution_spreads_each_step(
    width, stride, n_groups, left, right, extra, n_out
) -> None:
    n_in, n_taps = 8, -(-width // stride)
    n_out *= n_groups
    stage = Stage(
        "convolve",
        "up",
        0,
        n_out,
        (store(1),),
        n_groups=n_groups,
        n_taps=n_taps,
        pad_left=n_taps - 1,
        pad_right=n_taps - 1 + max(0, -(-(width + extra - right - n_taps * stride) // stride)),
        n_phases=stride,
        crop=left,
        n_extra=width - stride + extra - left - right,
        weights="w",
        bias="b",
        transposed=True,
    )
    arrays = {"w": random(n_in, n_out // n_groups, width), "b": random(n_out)}
    lengths = tuple(n for n in LENGTHS if n == 0 or n * stride + stage.n_extra > 0)
    assert_lawful(made(n_in, stage, arrays=arrays), lengths)


@pytest.mark.parametrize(
    ("n_channels", "n_taps", "dilation", "stride"), [(5, 3, 1, 1), (37, 7, 2, 1), (64, 4, 1, 3)]
)
def test_a_depthwise_convolution_leaves_channels_apart(n_channels, n_taps, dilation, stride) -> None:
    stage = Stage(
        "depthwise", "each", 0, n_channels, (store(1),), n_taps=n_taps, dilation=dilation, stride=stride,
        pad_left=n_taps, pad_right=n_taps * dilation, weights="w", bias="b",
    )  # fmt: skip
    assert_lawful(
        made(n_channels, stage, arrays={"w": random(n_channels, 1, n_taps), "b": random(n_channels)})
    )


@pytest.mark.parametrize("n_channels", [8, 32, 64, 70])
@pytest.mark.parametrize("n_phases", [1, 3])
def test_residuals_and_activations_may_end_a_chain(n_channels, n_phases) -> None:
    up = {"n_phases": n_phases, "transposed": True} if n_phases > 1 else {}
    leaky = Call("leaky_relu", out=2, a=1, scalar=0.1)
    first = Stage("convolve", "first", 0, n_channels, (store(1),), weights="w", bias="b", **up)
    chain = (Call("load", out=1, edge=1), Call("add", out=1, a=0, b=1), store(2, 1), leaky, store(3, 2))
    second = replace(first, name="second", chain=chain, weights="v")
    third = (
        Call("load", out=1, edge=1), Call("add", out=1, a=0, b=1), Call("load", out=2, edge=2),
        Call("add", out=1, a=1, b=2), Call("div", out=1, a=1, scalar=3.0), store(4, 1),
    )  # fmt: skip
    last = Stage("convolve", "last", 3, n_channels, third, weights="u")
    shape = (n_channels, 6, 1) if n_phases == 1 else (6, n_channels, n_phases)
    arrays = {"w": random(*shape), "v": random(*shape), "b": random(n_channels)}
    arrays["u"] = random(n_channels, n_channels, 1)
    assert_lawful(made(6, first, second, last, arrays=arrays, n_edges=5))


def with_kernels(
    n_in: int, n_out: int, n_taps: int, dilation: int, n_steps: int, *, biased: bool = True
) -> Program:
    """A kernel, and biases, for each frame of 6 channels, and what they convolve: `n_steps` for a frame."""
    n_kernel, span = n_taps * n_in * n_out, (n_taps - 1) * dilation
    stages = (
        Stage(
            "convolve", "kernels", 0, n_kernel + n_out + 4, (store(1),), n_taps=3, pad_left=1, pad_right=1,
            weights="k",
        ),
        Stage("convolve", "up", 0, n_in + 1, (store(2),), n_phases=n_steps, transposed=True, weights="u"),
        Stage(
            "predicted", "predicted", 2, n_out, (Call("tanh", out=1, a=0), store(3, 1)), source_channel=1,
            n_in=n_in, n_taps=n_taps, dilation=dilation, pad_left=span // 2, pad_right=span - span // 2,
            kernels=1, kernel_channel=3, kernel_steps=n_steps, rate=(n_steps, 1),
            biases=1 if biased else None, bias_channel=4 + n_kernel if biased else 0,
        ),
    )  # fmt: skip
    arrays = {"k": random(n_kernel + n_out + 4, 6, 3) / 4, "u": random(6, n_in + 1, n_steps) / 4}
    return made(6, *stages, arrays=arrays, n_edges=4)


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(
    ("n_in", "n_out", "n_taps", "dilation", "n_steps"),
    [
        (1, 1, 1, 1, 1),
        (3, 5, 3, 1, 4),
        (7, 33, 2, 3, 5),
        (20, 70, 5, 2, 1),
        (32, 64, 3, 1, 13),
        (4, 6, 4, 9, 30),
    ],
)
def test_a_convolution_with_a_kernel_for_each_frame(n_in, n_out, n_taps, dilation, n_steps, biased) -> None:
    assert_lawful(with_kernels(n_in, n_out, n_taps, dilation, n_steps, biased=biased), (0, 1, 2, 5, 13))


def test_a_kernel_for_each_frame_needs_as_many_frames_as_there_are() -> None:
    program = with_kernels(3, 5, 3, 1, 4)
    shorter = replace(program.stages[2], pad_right=0)
    engine = NativeEngine(replace(program, stages=(*program.stages[:2], shorter)), ONE_THREAD)
    with pytest.raises(ModelError, match="too short"):
        engine.whole(feeds_of(program, 9))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kernels": None}, "nothing in front of it writes"),
        ({"kernels": 3}, "nothing in front of it writes"),
        ({"biases": 7}, "nothing in front of it writes"),
        ({"kernel_channel": 10}, "as a kernel or bias"),
        ({"kernel_channel": -1}, "as a kernel or bias"),
        ({"bias_channel": 50}, "as a kernel or bias"),
        ({"kernel_steps": 0}, "must be at least 1"),
        ({"n_in": 0}, "no inputs"),
        ({"source_channel": 2}, "reads 3 channels of 4"),
        ({"stride": 2}, "a stride"),
        ({"kind": "normalise"}, "no convolution with such"),
    ],
)
def test_what_a_program_says_wrong_of_kernels_is_named(change, reason) -> None:
    program = with_kernels(3, 5, 3, 1, 4)
    stages = (*program.stages[:2], replace(program.stages[2], **change))
    with pytest.raises(ModelError, match=reason):
        NativeEngine(replace(program, stages=stages), ONE_THREAD)


@pytest.mark.parametrize("n_channels", [1, 7, 32, 100])
@pytest.mark.parametrize("centre", [True, False])
def test_a_norm_is_over_the_channels_of_a_step(n_channels, centre) -> None:
    chain = (Call("mul", out=1, a=0, array="w"), store(1, 1))
    stage = Stage("normalise", "norm", 0, n_channels, chain, epsilon=1e-5, centre=centre)
    assert_lawful(made(n_channels, stage, arrays={"w": random(n_channels)}), tolerance=2e-5)


def test_a_norm_may_be_over_some_of_the_channels() -> None:
    stage = Stage("normalise", "norm", 0, 7, (store(1),), source_channel=5, epsilon=1e-5)
    assert_lawful(made(40, stage, arrays={}), tolerance=2e-5)


@pytest.mark.parametrize("n_channels", [3, 40])
@pytest.mark.parametrize("padding", ["constant", "reflect", "edge"])
@pytest.mark.parametrize(
    ("left", "right"), [(3, 2), (0, 4), (4, 0), (-2, -1), (-3, 0), (0, -2), (-1, 2), (2, -1)]
)
def test_padding_stands_in_front_and_behind(n_channels, padding, left, right) -> None:
    stage = Stage(
        "pad", "pad", 0, n_channels, (store(1),), pad_left=left, pad_right=right, padding=padding, value=0.5
    )
    if min(left, right) < 0 and padding != "constant":
        pytest.skip("what is cropped isn't reflected as well")
    shortest = max(left, right) + 1 if padding == "reflect" else max(0, -left) + max(0, -right)
    lengths = tuple(n for n in LENGTHS if n == 0 or n >= shortest)
    assert_lawful(made(n_channels, stage, arrays={}), lengths)


@pytest.mark.parametrize("padding", ["reflect", "edge"])
@pytest.mark.parametrize(
    ("n_taps", "dilation", "stride", "left", "right"),
    [(3, 1, 1, 1, 1), (3, 4, 1, 4, 4), (4, 2, 3, 5, 0), (2, 1, 1, 0, 1), (7, 1, 1, 2, 6), (1, 1, 1, 3, 3)],
)
@pytest.mark.parametrize("kind", ["convolve", "depthwise"])
def test_a_convolution_reads_steps_in_front_and_behind(
    kind, n_taps, dilation, stride, left, right, padding
) -> None:
    first = Stage("convolve", "first", 0, 40, (store(1), Call("tanh", out=1, a=0), store(2, 1)), weights="a")
    stage = Stage(
        kind, "conv", 2, 40, (store(3),), n_taps=n_taps, dilation=dilation, stride=stride, pad_left=left,
        pad_right=right, padding=padding, weights="w",
    )  # fmt: skip
    # Whoever reads the steps alone sees none of the padding.
    beside = Stage("pointwise", "beside", None, 40, (Call("load", out=1, edge=2), store(4, 1)))
    weights = random(40, 40 if kind == "convolve" else 1, n_taps)
    program = made(5, first, stage, beside, arrays={"a": random(40, 5, 1), "w": weights}, n_edges=5)
    outputs = tuple(
        Port(name, edge, (1, 40), (1, each))
        for name, edge, each in (("conv", 3, stride), ("beside", 4, 1), ("first", 1, 1))
    )
    shortest = max(left, right) + 1 if padding == "reflect" else 1
    n_window = (n_taps - 1) * dilation + 1 - left - right
    lengths = tuple(n for n in (*LENGTHS, 6, 7, 8) if n == 0 or n >= max(shortest, n_window))
    assert_lawful(replace(program, outputs=outputs), lengths)


def padded_convolution() -> Program:
    first = Stage("convolve", "first", 0, 2, (store(1),), weights="a")
    stage = Stage(
        "convolve",
        "conv",
        1,
        2,
        (store(2),),
        n_taps=3,
        pad_left=2,
        pad_right=3,
        padding="reflect",
        weights="w",
    )
    return made(2, first, stage, arrays={"a": random(2, 2, 1), "w": random(2, 2, 3)})


def test_an_edge_that_repeats_its_steps_does_so_in_one_way() -> None:
    program = padded_convolution()
    other = replace(program.stages[1], pad_left=1, chain=(store(2),))
    stages = (*program.stages, replace(other, name="other", chain=(store(3),)))
    edges = (*program.edges, replace(program.edges[2], name="other"))
    with pytest.raises(ModelError, match="in several ways"):
        NativeEngine(replace(program, stages=stages, edges=edges), ONE_THREAD)


@pytest.mark.parametrize(
    "program",
    [
        made(
            2, Stage("pad", "pad", 0, 2, (store(1),), pad_left=3, pad_right=2, padding="reflect"), arrays={}
        ),
        padded_convolution(),
    ],
)
def test_an_utterance_that_is_too_short_to_be_reflected_is_an_error(program) -> None:
    engine = NativeEngine(program, ONE_THREAD)
    for sizes in ([3], [1, 1, 1], [2, 1, 0]):
        with pytest.raises(ModelError, match="too short"):
            streamed(engine, program, feeds_of(program, 3), sizes)


def test_a_chain_works_in_several_registers() -> None:
    chain = (
        store(1),
        Call("tanh", out=1, a=0),
        Call("load", out=2, edge=0),
        Call("mul", out=3, a=1, b=2),
        Call("leaky_relu", out=4, a=3, scalar=0.1),
        Call("add", out=5, a=4, array="v"),
        Call("fill", out=6, array="v"),
        Call("sub", out=7, a=6, b=5),
        Call("max", out=0, a=7, b=0),
        store(2, 5),
        store(3),
    )
    stage = Stage("convolve", "conv", 0, 35, chain, n_taps=3, pad_left=1, pad_right=1, weights="w")
    program = made(35, stage, arrays={"w": random(35, 35, 3), "v": random(35)}, n_edges=4)
    outputs = tuple(Port(f"out_{k}", k, (1, 35)) for k in (1, 2, 3))
    assert_lawful(replace(program, outputs=outputs))


@pytest.mark.parametrize("n_phases", [1, 3, 64, 384, 385])
@pytest.mark.parametrize("n_taps", [1, 7])
def test_one_channel_is_a_tile_of_steps(n_phases, n_taps) -> None:
    window = {"n_taps": n_taps, "pad_left": n_taps // 2, "pad_right": n_taps // 2}
    doubled = (Call("tanh", out=1, a=0), store(1, 1), Call("mul", out=2, a=1, scalar=2.0), store(2, 2))
    chain = (
        Call("load", out=1, edge=1, by_group=True),
        Call("load", out=2, edge=3),
        Call("mul", out=1, a=1, b=2),
        Call("fill", out=2, scalar=0.5),
        Call("sub", out=1, a=1, b=2),
        Call("load", out=2, edge=5),
        Call("add", out=1, a=1, b=2),
        store(4, 1),
    )
    mean = Stage("convolve", "mean", 2, 1, (store(6),), weights="mean", n_taps=4, stride=4)
    program = made(
        40,
        Stage("convolve", "post", 0, 1, doubled, weights="post", bias="bias", **window),
        Stage("convolve", "up", 2, 1, (store(3),), weights="up", transposed=True, n_phases=n_phases),
        mean,
        Stage("pointwise", "gate", None, 1, chain, n_phases=n_phases),
        arrays={
            "post": random(1, 40, n_taps),
            "bias": random(1),
            "up": random(1, 1, n_phases),
            "mean": random(1, 1, 4),
        },
        n_edges=7,
        more=(Port("gain", 5, (1, 1), rate=(0, 1)),),
    )
    outputs = (replace(program.outputs[0], edge=4, rate=(n_phases, 1)), Port("mean", 6, (1, 1), rate=(1, 4)))
    program = replace(program, outputs=outputs)
    assert [stage.flat for stage in pack(program)] == [True, False, True, n_phases < 385]
    assert_lawful(program, (0, 4, 8, 40, 400))


def test_loads_by_group_by_order_and_of_one_channel() -> None:
    three_of_each = Stage(
        "pointwise",
        "up",
        None,
        5,
        (
            Call("load", out=0, edge=0, by_group=True, order="phases"),
            Call("load", out=1, edge=0, by_group=True, broadcast=True, channel=6),
            Call("mul", out=1, a=1, b=0),
            store(1, 1),
        ),
        n_phases=3,
    )
    behind = Stage(
        "pointwise",
        "flip",
        None,
        40,
        (
            Call("fill", out=2, scalar=0.25),
            Call("load", out=2, edge=1, order="some"),
            Call("load", out=3, edge=1, broadcast=True, channel=4),
            Call("add", out=2, a=2, b=3),
            store(2, 2),
        ),
        rate=(3, 1),
    )
    some = np.arange(40, dtype=np.int32) % 5
    some[[3, 33]] = -1
    phases = np.array([[6, 5, 4, 3, 2], [0, 1, 0, 1, 0], [2, 2, 2, 2, 2]], np.int32)
    program = made(7, three_of_each, behind, arrays={"phases": phases, "some": some})
    # In the oracle an order works on what a register holds as well: 0.25 where it is -1.
    assert_lawful(program)


def test_codes_are_looked_up_and_one_beyond_the_table_leaves_the_stream_as_it_was() -> None:
    chain = (
        Call("lookup", out=0, edge=0, channel=0, array="t"),
        Call("lookup", out=1, edge=0, channel=2, array="u"),
        Call("add", out=0, a=0, b=1),
        store(1),
    )
    program = made(
        3, Stage("pointwise", "look", None, 34, chain), arrays={"t": random(5, 34), "u": random(5, 34)}
    )
    program = replace(program, inputs=(replace(program.inputs[0], symbols=True),))
    assert_lawful(program)
    decoder, feeds = StatefulDecoder(NativeEngine(program, ONE_THREAD)), feeds_of(program, 9)["frames"]
    parts = [decoder.push(feeds[..., :4])]
    for code in (5, -1, 2**40):
        wrong = feeds[..., 4:].copy()
        wrong[0, 2, 3] = code
        with pytest.raises(ModelError, match="code"):
            decoder.push(wrong)
    parts.append(decoder.push(feeds[..., 4:], last=True))
    wanted = interpret(program, {"frames": feeds})["samples"]
    np.testing.assert_allclose(np.concatenate(parts, -1), wanted, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(4,), (1, 4), (1, 4, 1), (2, 2)])
def test_inputs_without_time_are_those_of_the_push(shape) -> None:
    added = (Call("load", out=1, edge=2), Call("add", out=1, a=0, b=1), store(3, 1))
    stages = (
        Stage("convolve", "speaker", 1, 6, (store(2),), weights="s"),
        Stage("convolve", "conv", 0, 6, added, n_taps=3, pad_left=1, pad_right=1, weights="w"),
    )
    arrays = {"s": random(6, 4, 1), "w": random(6, 3, 3)}
    program = made(3, *stages, arrays=arrays, n_edges=4, more=(Port("speaker", 1, shape, (0, 1)),))
    edges = list(program.edges)
    edges[2] = replace(edges[2], timeless=True)
    program = replace(program, edges=tuple(edges))
    assert_lawful(program)


def test_tensors_of_different_lengths_that_meet_are_an_error() -> None:
    loads = Call("load", out=1, edge=0), Call("load", out=2, edge=1)
    added = (*loads, Call("add", out=1, a=1, b=2), store(2, 1))
    stages = (
        Stage("pad", "shorter", 0, 3, (store(1),), pad_right=-1),
        Stage("pointwise", "sum", None, 3, added),
    )
    engine = NativeEngine(made(3, *stages, arrays={}), ONE_THREAD)
    with pytest.raises(ModelError, match="too short"):
        engine.whole({"frames": random(1, 3, 9)})


# ------------------------------------------------------------------------------------------- whole decoders


def vocoder(n_channels: int = 40) -> Program:
    """Frames of 8 channels, up by 4 and by 2, residuals, one channel of samples."""
    half = n_channels // 2
    convolution = partial(Stage, "convolve", pad_left=1, pad_right=1)
    leaky = (Call("leaky_relu", out=1, a=0, scalar=0.1), store(2), store(3, 1))
    added = (Call("load", out=1, edge=2), Call("add", out=1, a=1, b=0), Call("tanh", out=2, a=1), store(4, 2))
    tanh = (Call("tanh", out=1, a=0), store(6, 1))
    up = {"n_taps": 2, "transposed": True}
    stages = (
        convolution("first", 0, n_channels, (store(1),), n_taps=3, weights="a"),
        convolution("up", 1, half, leaky, n_phases=4, crop=2, weights="b", **up),
        convolution("residual", 3, half, added, n_taps=3, weights="c", rate=(4, 1)),
        convolution("up again", 4, half, (store(5),), n_phases=2, crop=1, weights="d", rate=(4, 1), **up),
        convolution("last", 5, 1, tanh, n_taps=3, weights="e", rate=(8, 1)),
    )
    arrays = {
        "a": random(n_channels, 8, 3),
        "b": random(n_channels, half, 8),
        "c": random(half, half, 3),
        "d": random(half, half, 4),
        "e": random(1, half, 3),
    }
    arrays = {name: array / np.float32(np.sqrt(array[0].size)) for name, array in arrays.items()}
    return made(8, *stages, arrays=arrays, n_edges=7)


@pytest.fixture(scope="module")
def program() -> Program:
    return vocoder()


@pytest.fixture(scope="module")
def engine(program) -> NativeEngine:
    return NativeEngine(program, ONE_THREAD)


def test_a_whole_decoder_streams_bit_for_bit(program) -> None:
    assert_lawful(program, (0, 1, 2, 9, 150))


def test_it_is_an_engine_for_streams(engine) -> None:
    assert isinstance(engine, Engine)
    assert engine.contract.streaming is not None
    assert engine.contract.streaming.outputs[0].hop_length == 8


def test_a_text_and_arrays_are_the_same_program(program, engine) -> None:
    again = Program.from_json(program.to_json(), program.arrays)
    feeds = feeds_of(program, 20)
    assert again.fingerprint == program.fingerprint
    assert_same_bits(NativeEngine(again, ONE_THREAD).whole(feeds), engine.whole(feeds))
    with pytest.raises(ModelError, match="not a native program"):
        Program.from_json("{}", {})


def test_a_state_can_be_stepped_from_twice_and_by_another_engine(program, engine) -> None:
    feeds = feeds_of(program, 30)
    first, state = engine.step(engine.start(), cut(program, feeds, 0, 11), last=False)
    rest = cut(program, feeds, 11, 30)
    other = NativeEngine(program, TWO_THREADS)
    saved = engine.save(state)
    ends = [
        engine.step(state, rest, last=True)[0],
        engine.step(state, rest, last=True)[0],
        other.step(other.load(saved), rest, last=True)[0],
        engine.step(engine.load(saved), rest, last=True)[0],
    ]
    whole = engine.whole(feeds)
    for end in ends:
        assert_same_bits({"samples": np.concatenate([first["samples"], end["samples"]], -1)}, whole)
    fresh, over = engine.load(engine.save(engine.start())), engine.step(state, rest, last=True)[1]
    assert_same_bits(engine.step(fresh, feeds, last=True)[0], whole)
    with pytest.raises(ParameterError, match="over"):
        engine.step(over, rest, last=False)


def test_a_state_goes_on_in_another_process(program, engine, tmp_path) -> None:
    feeds = feeds_of(program, 24)
    first, state = engine.step(engine.start(), cut(program, feeds, 0, 10), last=False)
    rest = cut(program, feeds, 10, 24)["frames"]
    (tmp_path / "program.json").write_text(program.to_json(), encoding="utf-8")
    np.savez(tmp_path / "arrays.npz", **program.arrays)
    np.savez(tmp_path / "state.npz", **engine.save(state))
    np.save(tmp_path / "rest.npy", rest)
    script = """
import sys
from pathlib import Path
import numpy as np
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.options import RuntimeOptions
folder = Path(sys.argv[1])
text = (folder / "program.json").read_text(encoding="utf-8")
program = Program.from_json(text, dict(np.load(folder / "arrays.npz")))
engine = NativeEngine(program, RuntimeOptions(n_threads=1))
state = engine.load(dict(np.load(folder / "state.npz")))
samples = engine.step(state, {"frames": np.load(folder / "rest.npy")}, last=True)[0]["samples"]
np.save(folder / "samples.npy", samples)
"""
    subprocess.run([sys.executable, "-P", "-c", script, str(tmp_path)], check=True)
    joined = np.concatenate([first["samples"], np.load(tmp_path / "samples.npy")], -1)
    assert_same_bits({"samples": joined}, engine.whole(feeds))


def test_a_state_of_other_arrays_is_refused(program, engine) -> None:
    _, state = engine.step(engine.start(), feeds_of(program, 9), last=False)
    good = engine.save(state)
    for bad in (
        {"positions": good["positions"]},
        good | {"more": good["rows"]},
        good | {"rows": good["rows"][:-1]},
        good | {"rows": np.append(good["rows"], good["rows"][:1])},
        good | {"rows": good["rows"].astype(np.int8)},
        good | {"positions": good["positions"][:-1]},
        good | {"positions": good["positions"].astype(np.int32)},
        good | {"positions": good["positions"].reshape(1, -1)},
        good | {"positions": good["positions"] + 1},
        good | {"positions": np.zeros_like(good["positions"])},
        {"positions": good["positions"], "rows": good["rows"].tobytes()},
    ):
        with pytest.raises(ParameterError):
            engine.load(bad)  # type: ignore[arg-type]


@damages
@given(st.data())
def test_a_damaged_state_is_refused_or_harmless(program, engine, data: st.DataObject) -> None:
    assert_damage_is_harmless(engine, program, data)


def test_a_step_that_fails_leaves_the_state_as_it_was(program) -> None:
    stage = Stage("pad", "pad", 0, 2, (store(1),), pad_left=6, pad_right=2, padding="reflect")
    short = made(2, stage, arrays={})
    engine, feeds = NativeEngine(short, ONE_THREAD), feeds_of(short, 10)
    _, state = engine.step(engine.start(), cut(short, feeds, 0, 3), last=False)
    with pytest.raises(ModelError, match="too short"):
        engine.step(state, cut(short, feeds, 3, 5), last=True)
    end, _ = engine.step(state, cut(short, feeds, 3, 10), last=True)
    assert_same_bits(end, engine.whole(feeds))


def test_arrays_that_are_missing_or_not_finite_are_refused(program) -> None:
    arrays = dict(program.arrays)
    del arrays["c"]
    with pytest.raises(ModelError, match="'c'"):
        NativeEngine(replace(program, arrays=arrays), ONE_THREAD)
    arrays["c"] = program.arrays["c"].copy()
    arrays["c"][0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        NativeEngine(replace(program, arrays=arrays), ONE_THREAD)


NUMBERS = st.integers(-3, 9) | st.sampled_from([40, 2**31 - 1, 2**40, -(2**31), 0.5, "1", None])


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_program_is_refused_or_harmless(program, data: st.DataObject) -> None:
    damaged = json.loads(program.to_json())
    places = [item for part in ("edges", "stages") for item in damaged[part]]
    places += [call for stage in damaged["stages"] for call in stage.get("chain", ())]
    numbers = {f.name for kind in (Edge, Stage, Call) for f in fields(kind) if "int" in str(f.type)}
    written = [(item, key) for item in places for key in sorted(numbers & item.keys())]
    item, key = written[data.draw(st.integers(0, len(written) - 1))]
    item[key] = data.draw(NUMBERS)
    arrays = dict(program.arrays)
    name = sorted(arrays)[data.draw(st.integers(0, len(arrays) - 1))]
    cuts = (np.s_[:], np.s_[:], np.s_[:-1], np.s_[:, :-1], np.s_[..., :-1], 0)
    arrays[name] = arrays[name][cuts[data.draw(st.integers(0, len(cuts) - 1))]]
    try:
        engine = NativeEngine(Program.from_json(json.dumps(damaged), arrays), ONE_THREAD)
        engine.whole(feeds_of(program, 12))
    except ModelError:
        return


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "unknown"}, "isn't known"),
        ({"source": 4}, "nothing in front of it writes"),
        ({"n_channels": 41}, "its weights have the shape"),
        ({"n_taps": 0}, "must be at least 1"),
        ({"pad_left": -1}, "crops by its padding"),
        ({"n_phases": 2}, "no transposed convolution"),
        ({"source_channel": 1}, "reads 8 channels of 8"),
        ({"weights": "missing"}, "which isn't there"),
        ({"chain": (store(9),)}, "writes the edge 9"),
        ({"chain": (Call("tanh", out=8, a=0), store(1))}, "the register 8"),
        ({"chain": (Call("sink", out=1, a=0), store(1))}, "'sink' isn't known"),
        ({"chain": (Call("load", out=1, edge=0), store(1))}, "channels from 0 on, of 8"),
        ({"chain": (Call("load", out=1, edge=3), store(1))}, "nothing in front of it"),
        ({"chain": (Call("mul", out=1, a=0, array="a"), store(1))}, "one number for each"),
    ],
)
def test_what_a_program_says_wrong_is_named(program, change, reason) -> None:
    stages = (replace(program.stages[0], **change), *program.stages[1:])
    with pytest.raises(ModelError, match=reason):
        NativeEngine(replace(program, stages=stages), ONE_THREAD)


def test_an_edge_is_written_once(program) -> None:
    stages = (*program.stages[:2], replace(program.stages[2], chain=(store(3),)), *program.stages[3:])
    with pytest.raises(ModelError, match="an input, has made"):
        NativeEngine(replace(program, stages=stages), ONE_THREAD)


def test_an_output_that_a_stage_reads_is_refused(program) -> None:
    outputs = (*program.outputs, Port("inner", 3, (1, 20), (4, 1)))
    with pytest.raises(ModelError, match="edge of its own"):
        NativeEngine(replace(program, outputs=outputs), ONE_THREAD)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_many_streams_in_many_threads(program, n_threads) -> None:
    engine = NativeEngine(program, RuntimeOptions(n_threads=n_threads))
    feeds = [feeds_of(program, 30 + k) for k in range(6)]
    wanted = [engine.whole(each)["samples"] for each in feeds]
    wrong: list[int] = []

    def run(k: int) -> None:
        for size in (1, 7, 40):
            n = feeds[k]["frames"].shape[-1]
            bounds = [*range(0, n, size), n]
            sizes = [stop - start for start, stop in pairwise(bounds)]
            got = streamed(engine, program, feeds[k], sizes)["samples"]
            if not np.array_equal(got, wanted[k]):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_process_whose_threads_run_decodes_as_well(program) -> None:
    engine = NativeEngine(program, RuntimeOptions(n_threads=3))
    feeds = feeds_of(program, 40)
    wanted = engine.whole(feeds)["samples"]
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            engine.whole(feeds)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(8):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the child has one thread
                child = os.fork()
            if child == 0:
                code = 1
                try:
                    right: list[bool] = []

                    def decode(right: list[bool] = right) -> None:
                        got = streamed(engine, program, feeds, [8] * 5)["samples"]
                        right.append(np.array_equal(got, wanted))

                    # Several of its threads begin at once, as those of a server that has forked its workers.
                    begun = [threading.Thread(target=decode) for _ in range(4)]
                    for thread in begun:
                        thread.start()
                    for thread in begun:
                        thread.join()
                    code = 0 if right == [True] * 4 else 2
                finally:
                    os._exit(code)
            deadline = time.monotonic() + 20
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.005)
            if ended[0] == 0:
                os.kill(child, 9)
                os.waitpid(child, 0)
            assert ended == (child, 0)
    finally:
        stop.set()
        busy.join()


def n_threads_now() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_threads_end_with_their_engine(program) -> None:
    feeds = feeds_of(program, 5)
    NativeEngine(program, RuntimeOptions(n_threads=4)).whole(feeds)
    gc.collect()
    before = n_threads_now()
    for _ in range(3):
        engine = NativeEngine(program, RuntimeOptions(n_threads=4))
        assert n_threads_now() == before  # threads begin with the first step
        _, state = engine.step(engine.start(), feeds, last=False)
        assert n_threads_now() == before + 3
        # An engine that is part of a garbage cycle, and a stream that nobody ends.
        cycle: list[Any] = [engine, engine._executor, state]
        cycle.append(cycle)
        del engine, state, cycle
        gc.collect()
        assert n_threads_now() == before


def test_buffers_between_stages_do_not_grow_with_the_utterance() -> None:
    # 40 000 frames: between stages 160 000 steps of 64 channels would be 41 MB each; in and out are 2.6 MB.
    script = """
import resource
import sys
import numpy as np
import test_native_engine as tests
program = tests.vocoder(128)
engine = tests.NativeEngine(program, tests.ONE_THREAD)
frames = np.zeros((1, 8, 40_000), np.float32)
engine.whole({"frames": frames[..., :2000]})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine.whole({"frames": frames})
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) >> (20 if sys.platform == "darwin" else 10))
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment
    )
    assert int(done.stdout) < 20
