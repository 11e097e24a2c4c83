"""Graphs as decoders are made: joins, several rates, transforms, recurrences, shapes computed on the way."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from streaming_laws import assert_streams
from tiny_graphs import TO_THE_END, TinyGraph

N = 4
"""Channels."""


def residual(g: TinyGraph, x: str, kernel: int, dilation: int = 1) -> str:
    pad = dilation * (kernel - 1) // 2
    y = g.conv(g.op("LeakyRelu", x, alpha=0.1), N, N, kernel, pads=[pad, pad], dilations=[dilation])
    return str(g.op("Add", x, y))


# --- joins -----------------------------------------------------------------------------------


def test_branches_of_different_lag_join() -> None:
    g = TinyGraph()
    x = g.frames()
    a = g.conv(x, N, N, 9, pads=[4, 4])
    b = g.conv(x, N, N, 5, pads=[0, 4])
    c = g.conv(x, N, N, 3, pads=[2, 0])
    assert_streams(g.model(g.op("Concat", a, g.op("Mul", b, c), g.op("Sub", x, c), axis=1)))


def test_a_branch_that_is_ahead_of_its_input_joins() -> None:
    g = TinyGraph()
    x = g.frames()
    early = g.conv(x, N, N, 3, pads=[4, 0])  # two steps more than come in
    late = g.pad(g.conv(x, N, N, 5, pads=[2, 2]), 1, 1)
    assert_streams(g.model(g.op("Add", early, late)))


def test_tensors_cut_at_either_end_join() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    now, next_ = g.slice(x, 0, -1, 2), g.slice(x, 1, TO_THE_END, 2)
    difference = g.op("Sub", next_, now)
    assert_streams(g.model(g.op("Concat", g.pad(difference, 1, 0), g.pad(difference, 0, 1), axis=1)))


def test_a_stack_of_residual_blocks_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 7, pads=[3, 3])
    for stride in (3, 2):
        x = g.up(x, N, N, 2 * stride, stride, pads=[stride // 2, stride - stride // 2])
        blocks = [residual(g, residual(g, x, kernel), kernel, 3) for kernel in (3, 5)]
        x = g.op("Div", g.op("Add", *blocks), g.number(2))
    assert_streams(g.model(g.op("Tanh", g.conv(x, N, 1, 7, pads=[3, 3]))))


def test_a_flow_with_channel_flips_streams() -> None:
    g = TinyGraph()
    x = g.frames()
    for _ in range(3):
        x = g.slice(x, -1, -TO_THE_END, 1, -1)
        a, b = g.split(x, 2, 2)
        hidden = g.conv(a, 2, N, 1)
        gates = g.conv(hidden, N, 2 * N, 5, pads=[2, 2])
        hidden = g.op(
            "Mul", g.op("Tanh", g.slice(gates, 0, N, 1)), g.op("Sigmoid", g.slice(gates, N, TO_THE_END, 1))
        )
        x = g.op("Concat", a, g.op("Sub", b, g.conv(hidden, N, 2, 1)), axis=1)
    assert_streams(g.model(x))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_u_net_streams(depth: int) -> None:
    """Down and up again, joined with what was there before; whole runs only fit multiples of the fold."""
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    skips = []
    for _ in range(depth):
        skips.append(x)
        x = g.op("Relu", g.conv(x, N, N, 4, pads=[1, 1], strides=[2]))
    x = residual(g, x, 3)
    for skip in reversed(skips):
        x = g.op("Concat", g.up(x, N, N, 4, 2, pads=[1, 1]), skip, axis=1)
        x = g.conv(x, 2 * N, N, 3, pads=[1, 1])
    assert_streams(g.model(x), multiple=2**depth)


@pytest.mark.parametrize(("first", "second"), [(2, 3), (3, 2), (4, 6)])
def test_a_rate_may_fall_by_several_factors(first: int, second: int) -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, first + 1, pads=[1, 0], strides=[first])
    assert_streams(g.model(g.conv(x, N, N, second + 2, pads=[1, 1], strides=[second])))


def test_a_rate_may_fall_rise_and_fall_again() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 2, strides=[2])
    x = g.up(x, N, N, 4, 2, pads=[1, 1])
    x = g.conv(x, N, N, 3, strides=[3])
    assert_streams(g.model(g.up(x, N, N, 3, 3)))


def test_a_rate_may_rise_and_fall_again() -> None:
    g = TinyGraph()
    x = g.up(g.frames(), N, N, 6, 3, pads=[1, 2])
    x = g.conv(x, N, N, 4, pads=[1, 1], strides=[2])
    assert_streams(g.model(x))


# --- several inputs and outputs --------------------------------------------------------------


def test_inputs_at_different_rates_meet() -> None:
    g = TinyGraph()
    mel, f0 = g.frames(N, "mel"), g.frames(1, "f0")
    x = g.up(g.conv(mel, N, N, 5, pads=[2, 2]), N, N, 6, 3, pads=[1, 2])
    y = g.op("Sin", g.conv(f0, 1, N, 7, pads=[3, 3]))
    (pair, *_) = assert_streams(g.model(g.conv(g.op("Add", x, y), N, 1, 3, pads=[1, 1])))
    assert {item.name: item.steps_per_frame for item in pair.spec.inputs} == {"mel": 1, "f0": 3}


def test_the_fast_input_may_come_first() -> None:
    g = TinyGraph()
    f0, mel = g.frames(1, "f0"), g.frames(N, "mel")
    x = g.up(mel, N, N, 8, 4, pads=[2, 2])
    x = g.op("Mul", x, f0)
    (pair, *_) = assert_streams(g.model(g.conv(x, N, 1, 3, pads=[1, 1])))
    assert {item.name: item.steps_per_frame for item in pair.spec.inputs} == {"f0": 4, "mel": 1}


def test_inputs_at_three_rates_meet() -> None:
    g = TinyGraph()
    slow, middle, fast = g.frames(N, "slow"), g.frames(N, "middle"), g.frames(N, "fast")
    x = g.op("Add", g.up(slow, N, N, 4, 2, pads=[1, 1]), middle)
    x = g.op("Add", g.up(x, N, N, 6, 3, pads=[1, 2]), fast)
    (pair, *_) = assert_streams(g.model(x))
    assert [item.steps_per_frame for item in pair.spec.inputs] == [1, 2, 6]


def test_a_speaker_without_time_comes_with_every_push() -> None:
    g = TinyGraph()
    x, speaker = g.frames(), g.input("speaker", [1, 3, 1])
    condition = g.conv(g.op("Tanh", speaker), 3, N, 1)
    x = g.op("Add", g.conv(x, N, N, 5, pads=[2, 2]), condition)
    assert_streams(g.model(g.up(x, N, 2, 4, 2, pads=[1, 1])))


def test_a_speaker_number_is_looked_up() -> None:
    g = TinyGraph()
    x, speaker = g.frames(), g.input("speaker", ["batch"], np.int64)
    row = g.unsqueeze(g.op("Gather", g.weight(5, N), speaker, axis=0), 2)
    assert_streams(g.model(g.conv(g.op("Add", x, row), N, N, 3, pads=[1, 1])), time_inputs={"frames": 2})


def test_tokens_are_embedded() -> None:
    g = TinyGraph()
    tokens = g.input("tokens", [1, "n"], np.int64)
    x = g.transpose(g.op("Gather", g.weight(5, N), tokens, axis=0), 0, 2, 1)
    x = g.conv(x, N, N, 5, pads=[2, 2])
    assert_streams(g.model(g.up(x, N, 2, 4, 2, pads=[1, 1])))


def test_outputs_at_different_rates_and_lags_stream() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 5, pads=[2, 2])
    low = g.conv(x, N, 2, 3, pads=[2, 0])
    high = g.up(x, N, 1, 6, 3, pads=[1, 2])
    (pair, *_) = assert_streams(
        g.model(x, low, g.conv(high, 1, 1, 9, pads=[4, 4]), names=("x", "low", "high"))
    )
    assert [item.hop_length for item in pair.spec.outputs] == [1, 1, 3]
    assert [item.lag for item in pair.spec.outputs] == [2, 2, 11]


def test_an_output_may_be_an_input_or_an_output_twice() -> None:
    g = TinyGraph()
    x = g.frames()
    y = g.conv(x, N, N, 3, pads=[1, 1])
    assert_streams(g.model(x, y, y, names=("same", "first", "second")))


def test_a_graph_may_do_nothing_but_pointwise_work() -> None:
    g = TinyGraph()
    (pair, *_) = assert_streams(g.model(g.op("Tanh", g.op("MatMul", g.weight(2, N), g.frames()))))
    assert pair.spec.states == ()
    assert pair.spec.outputs[0].lag == 0


def test_an_input_that_nothing_reads_is_taken_and_ignored() -> None:
    g = TinyGraph()
    x = g.frames()
    g.input("unused", [1, 2, "n_frames"])
    assert_streams(g.model(g.conv(x, N, N, 3, pads=[1, 1])))


# --- time on another axis --------------------------------------------------------------------


def test_time_may_lie_in_the_middle() -> None:
    g = TinyGraph()
    x = g.input("frames", [1, "n", N])
    y = g.conv(g.transpose(x, 0, 2, 1), N, N, 5, pads=[2, 2])
    y = g.op("LayerNormalization", g.transpose(y, 0, 2, 1), g.weight(N), g.weight(N))
    assert_streams(g.model(g.op("Add", g.op("MatMul", y, g.weight(N, N)), x)))


def test_time_may_lie_first() -> None:
    g = TinyGraph()
    x = g.input("frames", ["n", 1, N])
    y = g.transpose(g.conv(g.transpose(x, 1, 2, 0), N, N, 3, pads=[1, 1]), 2, 0, 1)
    assert_streams(g.model(g.op("Mul", g.op("Gemm", g.squeeze(y, 1), g.weight(N, N)), g.squeeze(x, 1))))


# --- time folded into channels ---------------------------------------------------------------


def pixel_shuffle(g: TinyGraph, x: str, factor: int, n_out: int) -> str:
    """(1, n_out * factor, n) to (1, n_out, n * factor), by shapes as exporters write them."""
    y = g.op("Reshape", x, g.const([1, n_out, factor, -1]))
    return str(g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, n_out, -1])))


def pixel_unshuffle(g: TinyGraph, x: str, factor: int, n_in: int) -> str:
    y = g.op("Reshape", x, g.const([1, n_in, -1, factor]))
    return str(g.op("Reshape", g.transpose(y, 0, 1, 3, 2), g.const([1, n_in * factor, -1])))


def test_channels_folded_into_time_stream() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, 6, 3, pads=[1, 1])
    assert_streams(g.model(g.conv(pixel_shuffle(g, x, 3, 2), 2, 1, 5, pads=[2, 2])))


def test_time_folded_into_channels_and_back_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, 2, 3, pads=[1, 1])
    x = g.conv(pixel_unshuffle(g, x, 3, 2), 6, 6, 3, pads=[1, 1])
    assert_streams(g.model(pixel_shuffle(g, x, 3, 2)), multiple=3)


def test_a_fold_keeps_what_is_no_whole_group() -> None:
    g = TinyGraph()
    (twin,) = assert_streams(g.model(pixel_unshuffle(g, g.frames(), 3, N)), plans=("states",), multiple=3)
    assert [state.max_length for state in twin.spec.states] == [2]


def test_folds_of_tensors_that_trail_by_different_steps_join() -> None:
    g = TinyGraph()
    x = g.up(g.frames(), N, 2, 2, 2)
    later = g.conv(x, 2, 2, 2, pads=[0, 1])
    assert_streams(g.model(g.op("Add", pixel_unshuffle(g, later, 2, 2), pixel_unshuffle(g, x, 2, 2))))


def test_a_filter_bank_streams() -> None:
    """PQMF synthesis: bands are spread by zeros and filtered (Nguyen 1994)."""
    g = TinyGraph()
    bands = g.conv(g.frames(), N, 4, 7, pads=[3, 3])
    identity = g.const(4 * np.eye(4)[:, :, None], np.float32)
    spread = g.op("ConvTranspose", bands, identity, strides=[4], output_padding=[3])
    assert_streams(g.model(g.conv(spread, 4, 1, 15, pads=[7, 7], bias=False)))


# --- transforms ------------------------------------------------------------------------------


def inverse_stft(g: TinyGraph, spectrum: str, n_fft: int, hop: int, n_bins: int, *, envelope: bool) -> str:
    """Overlap-add by a transposed convolution, divided by the windows' own sum, the centre cut out."""
    y = g.op("ConvTranspose", spectrum, g.weight(n_bins, 1, n_fft), strides=[hop])
    if envelope:
        ones = g.filled(g.slice(spectrum, 0, 1, 1), 1.0)
        window = np.hanning(n_fft + 1)[:-1].astype(np.float32)[None, None] ** 2 + 0.05
        y = g.op("Div", y, g.op("ConvTranspose", ones, g.const(window, np.float32), strides=[hop]))
    return g.slice(y, n_fft // 2, -(n_fft // 2), 2)


@pytest.mark.parametrize("envelope", [False, True])
def test_an_inverse_fourier_head_streams(envelope: bool) -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 7, pads=[3, 3], groups=N)
    spectrum = g.conv(x, N, 10, 1)
    magnitude, phase = g.split(spectrum, 5, 5)
    magnitude = g.op("Exp", magnitude)
    real, imaginary = (g.op("Mul", magnitude, g.op(op, phase)) for op in ("Cos", "Sin"))
    x = g.op("Concat", real, imaginary, axis=1)
    x = inverse_stft(g, g.pad(x, 1, 0, mode="reflect"), 16, 4, 10, envelope=envelope)
    assert_streams(g.model(x))


def test_a_phase_accumulator_streams() -> None:
    """A harmonic source: the phase is the sum of the frequency so far."""
    g = TinyGraph()
    mel, f0 = g.frames(N, "mel"), g.frames(1, "f0")
    harmonics = g.op("Mul", f0, g.const([[[1], [2], [3]]], np.float32))
    phase = g.op("CumSum", g.op("Div", harmonics, g.number(24.0)), g.const(2))
    source = g.conv(g.op("Sin", phase), 3, N, 3, pads=[1, 1])
    x = g.up(g.conv(mel, N, N, 5, pads=[2, 2]), N, N, 4, 2, pads=[1, 1])
    assert_streams(g.model(g.conv(g.op("Add", x, source), N, 1, 3, pads=[1, 1])))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_running_sum_streams(axis: int) -> None:
    g = TinyGraph()
    x = g.op("CumSum", g.frames(), g.const(axis))
    assert_streams(g.model(x), tolerance=0)


# --- recurrences -----------------------------------------------------------------------------


def recurrent(op_type: str, *, state: str, hidden: int = 3, opset: int = 17) -> onnx.ModelProto:
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op_type]
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    inputs = [g.transpose(x, 2, 0, 1), g.weight(1, gates * hidden, N), g.weight(1, gates * hidden, hidden)]
    inputs.append(g.weight(1, 2 * gates * hidden))
    shape = (1, 1, hidden)
    n_states = 2 if op_type == "LSTM" else 1
    if state == "zeros":
        inputs += ["", *(g.const(np.zeros(shape), np.float32) for _ in range(n_states))]
    elif state == "weights":
        inputs += ["", *(g.weight(*shape) for _ in range(n_states))]
    elif state == "speaker":
        speaker = g.input("speaker", [1, 1, hidden])
        inputs += ["", *(g.op("Tanh", speaker) for _ in range(n_states))]
    elif state == "shape":
        n_batch = g.op("Gather", g.op("Shape", x), g.const([0]), axis=0)
        zeros = g.op("ConstantOfShape", g.op("Concat", g.const([1]), n_batch, g.const([hidden]), axis=0))
        inputs += ["", *[zeros] * n_states]
    outputs = g.op(op_type, *inputs, n_outputs=1 + n_states, hidden_size=hidden)
    y = g.op("Concat", g.transpose(g.squeeze(outputs[0], 1), 1, 2, 0), x, axis=1)
    return g.model(g.conv(y, hidden + N, 2, 5, pads=[2, 2]))


@pytest.mark.parametrize("op_type", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("state", ["none", "zeros", "weights", "speaker", "shape"])
def test_a_recurrence_streams(op_type: str, state: str) -> None:
    assert_streams(recurrent(op_type, state=state))


# --- shapes computed on the way --------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_a_shape_put_together_from_pieces_streams(opset: int) -> None:
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    n_batch = g.op("Gather", g.op("Shape", x), g.const(0), axis=0)
    steps = g.op("Gather", g.op("Shape", x), g.const(2), axis=0)
    dims = [g.unsqueeze(n_batch, 0), g.const([2]), g.const([2]), g.unsqueeze(steps, 0)]
    y = g.op("Reshape", x, g.op("Concat", *dims, axis=0))
    y = g.op("ReduceMax", y, axes=[1]) if opset < 18 else g.reduce("ReduceMax", y, 1)
    dims = [g.unsqueeze(n_batch, 0), g.const([2]), g.unsqueeze(steps, 0)]
    y = g.op("Reshape", y, g.op("Concat", *dims, axis=0))
    assert_streams(g.model(g.conv(y, 2, 2, 5, pads=[2, 2])))


@pytest.mark.parametrize("whole_shape", [False, True])
@pytest.mark.parametrize("opset", [11, 17])
def test_a_tensor_of_zeros_in_the_shape_of_another_streams(whole_shape: bool, opset: int) -> None:
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    if whole_shape:
        zeros = g.filled(x, 0.25)
    else:
        n_batch, steps = (g.length(x, axis) for axis in (0, 2))
        shape = g.op("Concat", n_batch, g.const([1]), steps, axis=0)
        zeros = g.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([0.5], np.float32)))
    y = g.op("Add", g.conv(x, N, N, 5, pads=[2, 2]), zeros)
    assert_streams(g.model(g.op("Mul", y, g.op("Exp", zeros))))


@pytest.mark.parametrize("n_own", [1, 2])
def test_a_tensor_repeated_to_the_length_of_another_streams(n_own: int) -> None:
    g = TinyGraph()
    x, speaker = g.frames(), g.input("speaker", [1, 3, n_own])
    y = g.up(g.conv(x, N, N, 5, pads=[2, 2]), N, N, 3 * n_own, n_own, pads=[n_own] * 2)
    wide = g.op("Tile", speaker, g.op("Concat", g.const([1, 1]), g.length(x), axis=0))
    assert_streams(g.model(g.conv(g.op("Concat", y, wide, axis=1), N + 3, 2, 3, pads=[1, 1])))


@pytest.mark.parametrize("opset", [13, 17])
def test_a_tensor_expanded_to_the_length_of_another_streams(opset: int) -> None:
    g = TinyGraph(opset=opset)
    x, speaker = g.frames(), g.input("speaker", [1, 3, 1])
    y = g.conv(x, N, N, 5, pads=[2, 2])
    shape = g.op("Concat", g.const([1, 3]), g.length(y), axis=0)
    wide = g.op("Expand", speaker, shape)
    assert_streams(g.model(g.conv(g.op("Concat", y, wide, axis=1), N + 3, 2, 3, pads=[1, 1])))


def test_channels_expanded_by_a_computed_shape_stream() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, 1, 3, pads=[1, 1])
    shape = g.op("Concat", g.length(x, 0), g.const([3]), g.length(x), axis=0)
    assert_streams(g.model(g.conv(g.op("Expand", x, shape), 3, 2, 3, pads=[1, 1])))


def test_an_expansion_to_minus_one_as_torch_writes_it_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, 1, 3, pads=[1, 1])
    wanted = g.op("Concat", g.length(x, 0), g.const([3]), g.const([-1]), axis=0)
    ones = g.op("ConstantOfShape", g.const([3]), value=numpy_helper.from_array(np.array([1], np.int64)))
    kept = g.op("Equal", wanted, g.op("Mul", ones, g.const(-1)))
    shape = g.op("Where", kept, ones, wanted)
    assert_streams(g.model(g.conv(g.op("Expand", x, shape), 3, 2, 3, pads=[1, 1])))


def test_a_slice_with_computed_ends_streams() -> None:
    g = TinyGraph()
    x = g.up(g.frames(), N, N, 8, 4)
    end = g.op("Sub", g.length(x), g.const([3]))
    y = g.op("Slice", x, g.const([1]), end, g.const([2]), g.const([1]))
    n_half = g.op("Div", g.length(y, 1), g.const([2]))
    a = g.op("Slice", y, g.const([0]), n_half, g.const([1]))
    b = g.op("Slice", y, n_half, g.length(y, 1), g.const([1]))
    assert_streams(g.model(g.op("Mul", a, b)))


def test_a_padding_with_computed_widths_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    width = g.op("Sub", g.length(x, 1), g.const([2]))
    zeros = g.const([0, 0])
    pads = g.op("Concat", zeros, width, zeros, width, axis=0)
    assert_streams(g.model(g.conv(g.op("Pad", x, pads, mode="reflect"), N, 2, 5)))


def test_a_resize_to_a_computed_size_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 1])
    shape = g.op("Shape", x)
    front = g.op("Slice", shape, g.const([0]), g.const([2]), g.const([0]))
    sizes = g.op("Concat", front, g.op("Mul", g.length(x), g.const([3])), axis=0)
    y = g.op("Resize", x, "", "", sizes, mode="nearest",
             coordinate_transformation_mode="asymmetric", nearest_mode="floor")  # fmt: skip
    assert_streams(g.model(g.conv(y, N, 2, 5, pads=[2, 2])))


def test_an_upsampled_tensor_of_ones_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 5, pads=[2, 2])
    shape = g.op("Concat", g.const([1, 1]), g.op("Mul", g.length(x), g.const([3])), axis=0)
    ones = g.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([1], np.float32)))
    envelope = g.conv(ones, 1, 1, 7, pads=[3, 3], bias=False)
    assert_streams(g.model(g.op("Add", g.up(x, N, 1, 6, 3, pads=[1, 2]), envelope)))


# --- how graphs are written ------------------------------------------------------------------


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
def test_a_decoder_of_any_opset_streams(opset: int) -> None:
    g = TinyGraph(opset=opset)
    x = g.frames()
    y = residual(g, g.conv(x, N, N, 5, pads=[2, 2]), 3, 2)
    y = g.squeeze(g.unsqueeze(y, 0), 0)
    a, b = g.split(g.pad(y, 3, 1), 2, 2)
    y = g.op("Concat", g.op("Softmax", a, axis=1) if opset >= 13 else a, b, axis=1)
    y = g.up(y, N, N, 6, 3)
    y = g.op("AveragePool", y, kernel_shape=[3], strides=[3])
    y = g.op("Sub", y, g.reduce("ReduceMean", y, 1))
    assert_streams(g.model(g.op("Add", y, g.reduce("ReduceSum", y, 1))))


def test_constants_may_be_nodes() -> None:
    g = TinyGraph()
    x = g.op("Add", g.frames(), g.const([[[1.0], [2.0], [3.0], [4.0]]], np.float32, as_node=True))
    axes = g.const([1], as_node=True)
    x = g.op("Slice", x, axes, g.const([TO_THE_END], as_node=True), axes)
    weight = g.const(np.linspace(-1, 1, 18).reshape(2, 3, 3), np.float32, as_node=True)
    assert_streams(g.model(g.op("Conv", x, weight, pads=[1, 1])))


def test_functions_are_inlined() -> None:
    g = TinyGraph()
    g.domains["tiny"] = 1
    nodes = [
        helper.make_node("Sigmoid", ["x"], ["s"]),
        helper.make_node("Mul", ["x", "s"], ["m"]),
        helper.make_node("Conv", ["m", "w"], ["y"], pads=[1, 1]),
    ]
    opsets = [helper.make_opsetid("", 17)]
    g.functions.append(helper.make_function("tiny", "Block", ["x", "w"], ["y"], nodes, opsets))
    x = g.op("Block", g.frames(), g.weight(N, N, 3), domain="tiny")
    x = g.op("Block", x, g.weight(N, N, 3), domain="tiny")
    assert_streams(g.model(x))


def test_half_precision_streams() -> None:
    g = TinyGraph(dtype=np.float16)
    x = residual(g, g.conv(g.frames(), N, N, 5, pads=[2, 2]), 3)
    x = g.up(g.op("Tanh", x), N, 2, 6, 3, pads=[1, 2])
    assert_streams(g.model(g.pad(x, 1, 2)), tolerance=2e-3)  # one step of float16 is 1e-3


def test_a_quantized_graph_streams() -> None:
    """Scales are constant, so a piece is quantized as the whole is; a step of the last scale may be rounded."""
    g = TinyGraph()
    scale, zero = g.number(0.03), g.const(128, np.uint8)

    def fake(y: str) -> str:
        return str(g.op("DequantizeLinear", g.op("QuantizeLinear", y, scale, zero), scale, zero))

    weight = g.const(np.arange(-24, 24).reshape(4, 4, 3), np.int8)
    weight = g.op(
        "DequantizeLinear", weight, g.const([0.01] * 4, np.float32), g.const([0] * 4, np.int8), axis=0
    )
    x = fake(g.op("Conv", fake(g.frames()), weight, pads=[1, 1]))
    x = fake(g.op("LeakyRelu", x))
    assert_streams(g.model(g.up(x, N, 1, 4, 2, pads=[1, 1])), tolerance=0.05)


@pytest.mark.parametrize("zeros", [(), (7,), (7, 3), (0, 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_integer_convolutions_pad_with_what_stands_for_zero(stride: int, zeros: tuple[int, ...]) -> None:
    g = TinyGraph()
    points = [g.const(zero, np.uint8) for zero in zeros]
    x = g.op("QuantizeLinear", g.frames(), g.number(0.02), points[0] if points else g.const(0, np.uint8))
    weight = g.const(np.arange(48).reshape(4, 4, 3), np.uint8)
    x = g.op("ConvInteger", x, weight, *points, pads=[2, 1], strides=[stride])
    assert_streams(g.model(g.op("Cast", x, to=TensorProto.FLOAT)), tolerance=0)


def test_names_that_a_stateful_graph_would_use_are_left_alone() -> None:
    g = TinyGraph()
    x = g.input("last", [1, N, "n"])
    x = g.op("Identity", g.conv(x, N, N, 3, pads=[1, 1]))
    model = g.model(g.conv(x, N, N, 3, pads=[1, 1]), names=("state_0",))
    model.graph.node[0].output[0] = model.graph.node[1].input[0] = "next_state_0"
    assert_streams(model)


def test_nodes_without_names_stream() -> None:
    g = TinyGraph()
    model = g.model(residual(g, g.conv(g.frames(), N, N, 3, pads=[1, 1]), 5))
    for node in model.graph.node:
        node.name = ""
    assert_streams(model)


def test_the_trimmed_centre_of_a_transform_costs_no_lag() -> None:
    """What is cut off at the end of the utterance is known before: it isn't held back, whatever the plan."""
    g = TinyGraph()
    y = g.op("ConvTranspose", g.frames(10), g.weight(10, 1, 16), strides=[4])
    y = g.op("Slice", y, g.const([6, 0]), g.const([-6, 1]), g.const([2, 1]))
    for pair in assert_streams(g.model(g.op("Tanh", y))):
        assert pair.spec.outputs[0].lag == 6


def test_a_slice_of_time_and_channels_streams() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), N, N, 3, pads=[1, 2])
    y = g.op("Slice", x, g.const([2, 1]), g.const([-4, 3]), g.const([-1, 1]))
    z = g.op("Slice", g.frames(N, "other"), g.const([0, 0, 3]), g.const([1, 2, -2]))
    assert_streams(g.model(g.op("Add", y, z)))
