"""What each kind of stage computes, in programs written by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from balacoon_tk.decoder import StatefulDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Port, Program, Stage
from native_laws import ONE_THREAD
from native_oracle import interpret
from native_programs import (
    LENGTHS,
    assert_lawful,
    convolution,
    feeds_of,
    made,
    random,
    store,
    streamed,
)


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


@pytest.mark.parametrize(
    ("kind", "n_in", "n_out", "n_taps", "options"),
    [
        ("convolve", 3, 5, 3, {}),
        ("convolve", 17, 1, 7, {}),
        ("convolve", 6, 9, 3, {"n_groups": 3}),
        ("convolve", 8, 70, 4, {"stride": 3, "pad_left": 9, "pad_right": 4}),
        ("depthwise", 37, 37, 5, {"dilation": 2}),
        ("paired", 33, 65, 3, {"dilation": 3}),
        ("paired", 32, 64, 3, {"pad_left": 0, "pad_right": 5}),
        ("fours", 32, 64, 5, {}),
    ],
)
def test_taps_that_read_padding_add_biases_of_their_own(kind, n_in, n_out, n_taps, options) -> None:
    program = convolution(n_in, n_out, n_taps, padding_biases="p", **options)
    arrays = {**program.arrays, "p": random(n_taps, n_out)}
    stages = program.stages
    if kind == "depthwise":
        stages = (replace(stages[0], kind="depthwise"),)
        arrays["w"] = random(n_out, 1, n_taps)
    program = replace(program, stages=stages, arrays=arrays)
    packed = pack(program, pairs=True)[0]
    assert packed.kind in (kind, "narrow")
    assert not packed.flat
    assert_lawful(program)


@pytest.mark.parametrize("held_back", [1, 7, 60])
@pytest.mark.parametrize("n_taps", [1, 5])
def test_steps_may_be_left_to_the_next_push(n_taps, held_back) -> None:
    program = convolution(33, 40, n_taps, held_back=held_back)
    assert_lawful(program)
    engine = NativeEngine(program, ONE_THREAD)
    outputs, _ = engine.step(engine.start(), feeds_of(program, 20), last=False)
    assert outputs["samples"].shape[-1] == max(0, 20 - n_taps // 2 - held_back)


@pytest.mark.parametrize(("n_channels", "first"), [(40, 0), (40, 32), (5, 3), (64, 8), (1, 71)])
def test_filters_may_be_a_part_of_others(n_channels, first) -> None:
    program = convolution(33, n_channels, 5, padding_biases="p", first_filter=first)
    (stage,) = program.stages
    chain = (Call("mul", out=1, a=0, array="c"), store(1, 1))
    arrays = {"w": random(72, 33, 5), "b": random(72), "p": random(5, 72), "c": random(n_channels)}
    assert_lawful(replace(program, stages=(replace(stage, chain=chain),), arrays=arrays))


@pytest.mark.parametrize("case", ["below 0", "behind", "groups", "depthwise", "bias"])
def test_filters_that_are_not_there_are_refused(case) -> None:
    first = {"below 0": -1, "behind": 33}.get(case, 8)
    program = convolution(40, 40, 3, first_filter=first, n_groups=2 if case == "groups" else 1)
    (stage,) = program.stages
    arrays = {"w": random(72, 40, 3), "b": random(40 if case == "bias" else 72)}
    if case == "depthwise":
        stage = replace(stage, kind="depthwise")
        arrays["w"] = random(72, 1, 3)
    with pytest.raises(ModelError, match="filters" if case != "bias" else "isn't one number for each of 72"):
        NativeEngine(replace(program, stages=(stage,), arrays=arrays), ONE_THREAD)


@pytest.mark.parametrize("case", ["shape", "type", "chain alone", "transposed", "reflected"])
def test_biases_of_padding_that_fit_no_convolution_are_refused(case) -> None:
    program = convolution(8, 40, 3, padding_biases="p")
    biases = random(3, 40)
    (stage,) = program.stages
    if case == "shape":
        biases = random(40, 3)
    elif case == "type":
        biases = biases.astype(np.float64)
    elif case == "chain alone":
        stage = replace(stage, kind="normalise", n_channels=8, n_taps=1, pad_left=0, pad_right=0)
    elif case == "transposed":
        stage = replace(stage, transposed=True)
        program = replace(program, arrays={**program.arrays, "w": random(8, 40, 3)})
    else:
        stage = replace(stage, padding="reflect")
    program = replace(program, stages=(stage,), arrays={**program.arrays, "p": biases})
    with pytest.raises(ModelError, match="biases of padding"):
        NativeEngine(program, ONE_THREAD)


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
    # A mean of numbers of both signs may be much smaller than they.
    assert_lawful(program, (0, 4, 8, 40, 400), tolerance=1e-4)


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
