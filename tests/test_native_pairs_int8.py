"""Convolutions in int8 that are made in pairs of steps: where, that no bit changes, how voices get them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export.quantize import mixtures
from balacoon_tk.export.quantize.mixtures import NativeMixer, OrtMixer, choose_pairs, layers_of
from balacoon_tk.export.quantize.ranges import choose_range, collect_histograms
from balacoon_tk.graph.int8 import Range, quantize_kernel, read_qdq
from balacoon_tk.metrics.signal import snr_db
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.bundles import can_pair_bytes
from balacoon_tk.runtime.native.checks import check_program
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.kernels import KERNELS_VARIABLE
from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Call, Edge, Program, Stage
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.native import compile_native
from balacoon_tk.targets.native.paired import can_pair, quantize_even
from native_laws import ONE_THREAD, assert_same_bits
from native_programs import feeds_of, made, random, store, streamed

N_CHANNELS = 64


def even(n_out: int, n_in: int, n_taps: int) -> np.ndarray:
    return quantize_even(random(n_out, n_in, n_taps))[0]


def convolution(
    n_out: int = 96, n_in: int = N_CHANNELS, n_taps: int = 3, *, largest: int = 127, **fields: Any
) -> Program:
    """What a quantized convolution becomes: its input rounded by one stage, a residual added by the other."""
    span = (n_taps - 1) * int(fields.get("dilation", 1))
    first = Stage("pointwise", "round", None, n_in, (Call("load", edge=0), store(1)))
    second = Stage(
        "convolve",
        "conv",
        1,
        n_out,
        (Call("leaky_relu", scalar=0.1), store(2)),
        n_taps=n_taps,
        weights="w",
        bias="b",
        scales="s",
        **{"pad_left": span // 2, "pad_right": span - span // 2, **fields},
    )
    arrays = {"w": even(n_out, n_in, n_taps), "b": random(n_out), "s": abs(random(n_out)) / 1000}
    program = made(n_in, first, second, arrays=arrays)
    edge = Edge("1", n_in, scale=0.03, zero_point=largest // 3, largest=largest)
    return replace(program, edges=(program.edges[0], edge, program.edges[2]))


def kinds(program: Program) -> list[str]:
    return [stage.kind for stage in pack(program, pairs_of_bytes=True)]


def assert_no_bit_changes(program: Program, lengths: tuple[int, ...] = (1, 2, 13, 40, 130)) -> None:
    direct = NativeEngine(program, ONE_THREAD, pairs=False)
    for options in (ONE_THREAD, RuntimeOptions(n_threads=2)):
        paired = NativeEngine(program, options)
        for n_frames in lengths:
            feeds = feeds_of(program, n_frames)
            wanted = direct.whole(feeds)
            assert_same_bits(paired.whole(feeds), wanted, n_frames)
            for size in (1, 5, 16):
                sizes = [min(size, n_frames - k) for k in range(0, n_frames, size)]
                assert_same_bits(streamed(paired, program, feeds, sizes), wanted, (n_frames, size))


@pytest.mark.parametrize("dilation", [1, 2, 3, 12])
@pytest.mark.parametrize("n_taps", [3, 4, 5, 7, 11])
def test_pairs_of_bytes_change_no_bit(n_taps: int, dilation: int) -> None:
    program = convolution(n_taps=n_taps, dilation=dilation)
    assert kinds(program) == ["pointwise", "paired"]
    assert_no_bit_changes(program)


@pytest.mark.parametrize("padding", ["reflect", "edge"])
def test_pairs_of_bytes_read_padding_of_any_kind(padding: str) -> None:
    program = convolution(n_taps=5, padding=padding)
    assert kinds(program)[1] == "paired"
    assert_no_bit_changes(program, (7, 40))


@pytest.mark.parametrize(("n_out", "n_in"), [(70, 100), (16, 64), (33, 67)])
def test_pairs_of_bytes_of_odd_sizes_change_no_bit(n_out: int, n_in: int) -> None:
    program = convolution(n_out, n_in, 7, pad_left=6, pad_right=0)
    assert kinds(program)[1] == "paired"
    assert_no_bit_changes(program, (1, 30))


@pytest.mark.parametrize("kernels", _kernels.names())
def test_each_instruction_set_makes_pairs_of_bytes(kernels: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    assert_no_bit_changes(convolution(n_taps=5, dilation=2), (40,))


def test_what_can_be_joined_to_a_byte_or_has_whole_halves_alone_is_paired() -> None:
    program = convolution()
    stage, weights = program.stages[1], program.arrays["w"]
    assert can_pair_bytes(program, stage, weights)
    odd = weights.copy()
    odd[3, 5, 1] += 1
    assert not can_pair_bytes(program, stage, odd)
    large = weights.copy()
    large[0, 0] = 127, 2, 127
    assert not can_pair_bytes(program, stage, large)
    assert kinds(convolution(largest=128))[1] == "convolve"
    assert kinds(convolution(stride=2))[1] == "convolve"
    assert kinds(convolution(n_in=60))[1] == "convolve"
    assert kinds(replace(program, arrays=program.arrays | {"w": odd}))[1] == "convolve"
    assert [stage.kind for stage in pack(program)][1] == "convolve"


@pytest.mark.parametrize(("zero_point", "largest"), [(-1, 255), (128, 127), (0, 256)])
def test_bytes_that_are_none_are_refused(zero_point: int, largest: int) -> None:
    program = convolution()
    edge = replace(program.edges[1], zero_point=zero_point, largest=largest)
    with pytest.raises(ModelError, match=rf"zero_point={zero_point} and largest={largest} must be 0 to 255"):
        check_program(replace(program, edges=(program.edges[0], edge, program.edges[2])))


# ------------------------------------------------------------------------------------------------- quantizing


@pytest.mark.parametrize("n_taps", [3, 4, 5, 7, 11])
def test_even_kernels_have_even_sums_and_lose_little(n_taps: int) -> None:
    weight = random(40, 64, n_taps)
    weight[0], weight[1, :, ::3] = 0, 9  # nothing, and outer taps that are larger than all others
    kernel, scales = quantize_even(weight)
    for start in range(0, n_taps, 3):
        part = kernel[..., start : start + 3].astype(int)
        if part.shape[2] == 1:
            continue
        assert not (part.sum(2) % 2).any()
        middle = part[..., 1] if part.shape[2] == 3 else 0
        assert (abs(part[..., 0] + part[..., -1]) + abs(middle)).max() <= 254
    assert abs(kernel.astype(int)).max() <= 127
    left = abs(weight / scales.reshape(-1, 1, 1) - kernel)
    assert left.max() <= 1.001
    # Half of the threes are even as they are; of the others one tap is off by at most a step.
    assert (left**2).mean() < 2 * (1 / 12)
    # What a graph holds of it gives the same bytes again.
    assert np.array_equal(quantize_kernel(kernel * scales.reshape(-1, 1, 1), scales)[0], kernel)


def test_a_range_of_fewer_bytes_holds_the_same_numbers() -> None:
    for found in (Range(-1.0, 3.0), Range(0.0, 2.0), Range(-2.0, -1.0)):
        step = found.step_of(127)
        numbers = (np.arange(128) - int(step.zero_point)) * step.scale
        assert 0.0 in numbers and step.largest == 127
        assert numbers[0] <= min(found.low, 0) + step.scale and numbers[-1] >= max(found.high, 0) - step.scale
        assert found.step_of(255) == found.step


def decoder(n_channels: int = N_CHANNELS) -> onnx.ModelProto:
    """Two convolutions that could be paired, one of one tap beside the second, and the last."""
    rng = np.random.default_rng(0)
    nodes, arrays, last = [], [], "frames"
    for name, n_out, n_taps, source in (
        ("a", n_channels, 3, None),
        ("b", n_channels, 5, None),
        ("one", n_channels, 1, None),
        ("out", 8, 7, None),
    ):
        weight = rng.standard_normal((n_out, n_channels, n_taps)).astype("f4") / (n_channels * n_taps) ** 0.5
        arrays.append(numpy_helper.from_array(weight, f"{name}.w"))
        pads = [n_taps // 2] * 2
        nodes.append(
            helper.make_node("Conv", [source or last, f"{name}.w"], [f"{name}.y"], name=name, pads=pads)
        )
        nodes.append(helper.make_node("LeakyRelu", [f"{name}.y"], [f"{name}.z"], name=f"{name}.relu"))
        last = f"{name}.z"
    nodes[-1].output[0] = "samples"
    graph = helper.make_graph(
        nodes,
        "decoder",
        [helper.make_tensor_value_info("frames", TensorProto.FLOAT, [1, n_channels, "n"])],
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, 8, "n"])],
        arrays,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def feeds(n_frames: int, seed: int = 0) -> dict[str, np.ndarray]:
    shape = (1, N_CHANNELS, n_frames)
    return {"frames": np.random.default_rng(seed).standard_normal(shape).astype("f4")}


@pytest.fixture(scope="module")
def mixer() -> NativeMixer:
    found = NativeMixer(decoder())
    seen = collect_histograms(found.plain, [feeds(90, 1)], found.tensors)
    found.calibrate({name: choose_range(each, "minmax") for name, each in seen.items()})
    return found


def test_a_decoder_in_pairs_says_what_its_plain_graph_says(mixer: NativeMixer) -> None:
    layers = layers_of(mixer.blocks)
    assert mixer.find_pairable() == {"a", "b", "out"} and set(layers) == {"a", "b", "one", "out"}
    assert OrtMixer(decoder()).find_pairable() == frozenset()
    rounded = mixer.quantize(layers, sorted(mixer.find_pairable()))
    onnx.checker.check_model(rounded)
    steps = read_qdq(ir.from_proto(rounded)).steps
    assert {name: int(step.largest) for name, step in steps.items()} == {
        "frames": 127, "a.z": 127, "b.z": 255, "one.z": 127,
    }  # fmt: skip
    program = compile_native(rounded)
    assert kinds(program).count("paired") == 3
    engine, session = NativeEngine(program, ONE_THREAD), Session(rounded)
    # ONNX Runtime runs the same bytes: of sums in another order one falls to the next step now and then.
    given = [(engine.whole(feeds(5, k))["samples"], session.run(feeds(5, k))["samples"]) for k in range(5)]
    assert max(snr_db(a.ravel(), b.ravel()) for a, b in given) > 40
    assert_no_bit_changes(program, (40,))
    # In 7 bits it loses twice as much, which is 6 dB, and the parity of its kernels a little more.
    exact = Session(decoder()).run(feeds(200))["samples"].ravel()
    in_8, in_7 = (
        snr_db(mixer.open(mixer.round(layers, paired)).whole(feeds(200))["samples"].ravel(), exact)
        for paired in ((), mixer.find_pairable())
    )
    assert 2 < in_8 - in_7 < 9


@pytest.mark.parametrize("change", ["lower limit", "below the zero point", "no limit that is known"])
def test_a_clip_of_bytes_of_another_kind_is_left_where_it_is(mixer: NativeMixer, change: str) -> None:
    rounded = mixer.quantize(["a"], ["a"])
    clip = next(node for node in rounded.graph.node if node.op_type == "Clip")
    limit = next(each for each in rounded.graph.initializer if each.name == clip.input[2])
    if change == "lower limit":
        rounded.graph.initializer.append(numpy_helper.from_array(np.array(3, np.uint8), "low"))
        clip.input[1] = "low"
    elif change == "below the zero point":
        limit.CopyFrom(numpy_helper.from_array(np.array(2, np.uint8), limit.name))
    else:
        rounded.graph.input.append(helper.make_tensor_value_info(limit.name, TensorProto.UINT8, []))
        rounded.graph.initializer.remove(limit)
    model = ir.from_proto(rounded)
    assert read_qdq(ir.from_proto(mixer.quantize(["a"], ["a"]))).steps.keys() == {"frames"}
    assert not read_qdq(model).steps and any(node.op_type == "Clip" for node in model.graph)


def test_a_tensor_that_something_else_reads_in_8_bits_is_not_shortened() -> None:
    model = decoder()
    # The convolution of one tap reads what the first one reads.
    next(node for node in model.graph.node if node.name == "one").input[0] = "frames"
    model.graph.node[3].output[0], model.graph.node[5].output[0] = "b.z", "one.z"
    both = helper.make_node("Add", ["b.z", "one.z"], ["both"], name="both")
    model.graph.node.insert(6, both)
    next(node for node in model.graph.node if node.name == "out").input[0] = "both"
    found = NativeMixer(model)
    layers = layers_of(found.blocks)
    assert {layer for layer in layers if can_pair(node_of(model, layer))} == {"a", "b", "out"}
    assert found.find_pairable() == {"b", "out"}


def node_of(model: onnx.ModelProto, name: str) -> ir.Node:
    return next(node for node in ir.from_proto(model).graph if node.name == name)


@pytest.mark.parametrize("n_channels", [63, 64])
def test_few_channels_are_not_worth_pairs(n_channels: int) -> None:
    assert can_pair(node_of(decoder(n_channels), "a")) == (n_channels == 64)


def test_pairs_are_chosen_by_what_they_lose(mixer: NativeMixer, monkeypatch: pytest.MonkeyPatch) -> None:
    costly = {"b": 0.3, "a": 0.05, "out": 0.02}

    def loss(*args: Any) -> float:
        return 4.0 + sum(costly[layer] for layer in (args[4] if len(args) > 4 else ()))

    monkeypatch.setattr(mixtures, "_loss", loss)
    monkeypatch.setattr(mixtures, "_decode", lambda *_: [])
    shares: list[float] = []
    # All of int8 loses 4 dB, of which pairs may add a tenth.
    chosen = choose_pairs(mixer, [], shares.append)
    assert set(chosen) <= {"a", "b", "out"} and sum(costly[layer] for layer in chosen) <= 0.4
    assert shares == sorted(shares) and shares[-1] < 1
    costly["out"], costly["a"], costly["b"] = 1.0, 1.0, 1.0
    assert choose_pairs(mixer, [], shares.append) == ()
    ort = OrtMixer(decoder())
    assert choose_pairs(ort, [], shares.append) == ()
