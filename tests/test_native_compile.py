"""The compiler of the native engine: what it knows gives ONNX Runtime's numbers, what it doesn't is named."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError
from balacoon_tk.targets.native import NotNativeError, compile_native
from decoder_streams import down_and_up, two_rates, vocoder
from native_laws import NativePair, assert_native, assert_same_bits, push_native
from tiny_graphs import TO_THE_END, TinyGraph


def conv(g: TinyGraph, x: str, n_in: int = 4, n_out: int = 4, kernel: int = 3, **attributes) -> str:
    span = (kernel - 1) * attributes.get("dilations", [1])[0]
    return g.conv(x, n_in, n_out, kernel, **{"pads": [span // 2, span - span // 2]} | attributes)


def refusal(model: onnx.ModelProto, reason: str) -> NotNativeError:
    with pytest.raises(NotNativeError, match=reason) as caught:
        compile_native(model)
    assert caught.value.node
    assert caught.value.op_type in str(caught.value)
    return caught.value


@pytest.mark.parametrize("build", [vocoder, down_and_up, two_rates])
def test_a_decoder_runs_natively(build) -> None:
    assert_native(build())


def test_two_threads_give_the_bits_of_one() -> None:
    one, two = NativePair(vocoder()), NativePair(vocoder(), n_threads=2)
    feeds = one.feeds(400)
    whole = one.engine.whole(feeds)
    assert_same_bits(two.engine.whole(feeds), whole)
    assert_same_bits(push_native(two.engine, feeds, [100, 1, 0, 299]), whole)


# --------------------------------------------------------------------------------- one test for each operator

UNARY = ["Abs", "Cos", "Erf", "Exp", "Neg", "Relu", "Sigmoid", "Sin", "Softplus", "Tanh", "LeakyRelu", "Elu",
         "Identity", "Reciprocal", "Sqrt", "Log"]  # fmt: skip


@pytest.mark.parametrize("op_type", UNARY)
def test_functions_of_one_number(op_type) -> None:
    g = TinyGraph(opset=17)
    x = conv(g, g.frames())
    if op_type in ("Reciprocal", "Sqrt", "Log"):
        x = g.op("Add", g.op("Abs", x), g.number(0.5))
    assert_native(g.model(conv(g, g.op(op_type, x))))


@pytest.mark.parametrize("op_type", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum"])
@pytest.mark.parametrize("second", ["number", "channels", "tensor", "one channel", "constant first"])
def test_functions_of_two_numbers(op_type, second) -> None:
    g = TinyGraph(opset=17)
    x = g.frames()
    y = conv(g, x)
    if second == "number":
        operands = [y, g.number(0.7)]
    elif second == "channels":
        operands = [y, g.const([[[0.5], [-2], [3], [1]]], np.float32)]
    elif second == "constant first":
        operands = [g.const([[[0.5], [-2], [3], [1]]], np.float32), g.op("Exp", y)]
    else:
        other = g.op("Exp", conv(g, x, n_out=4 if second == "tensor" else 1))
        operands = [y, other]
    assert_native(g.model(g.op("Tanh", g.op(op_type, *operands))), tolerance=2e-5)


def test_constants_are_computed_once() -> None:
    """As of Snake: a large model's graph has them written out."""
    g = TinyGraph()
    alpha = g.op("Reciprocal", g.op("Add", g.op("Exp", g.weight(1, 4, 1)), g.number(1e-9)))
    assert_native(g.model(g.op("Mul", conv(g, g.frames()), alpha)))


def test_constants_are_computed_by_the_opset_of_their_graph() -> None:
    """Before 13, softmax took its own axis and all behind it for one."""
    g = TinyGraph(opset=11)
    weights = g.op("Softmax", g.weight(1, 4, 1), axis=0)
    assert_native(g.model(g.op("Mul", conv(g, g.frames()), weights)))


def test_sums_of_several_tensors() -> None:
    g = TinyGraph()
    x = g.frames()
    assert_native(g.model(g.op("Sum", x, conv(g, x), conv(g, x, kernel=5))))


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0])
def test_powers(exponent) -> None:
    g = TinyGraph()
    x = g.op("Sigmoid", conv(g, g.frames()))
    assert_native(g.model(g.op("Pow", x, g.number(exponent))))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_gelu(approximate) -> None:
    g = TinyGraph(opset=20)
    assert_native(g.model(g.op("Gelu", conv(g, g.frames()), approximate=approximate)))


def test_prelu_clip_and_cast() -> None:
    g = TinyGraph()
    x = g.op("PRelu", conv(g, g.frames()), g.weight(4, 1))
    x = g.op("Clip", x, g.number(-0.5), g.number(0.5))
    x = g.op("Clip", x, "", g.number(0.4))
    assert_native(g.model(g.op("Cast", x, to=onnx.TensorProto.FLOAT)))
    g = TinyGraph()
    refusal(g.model(g.op("Cast", g.op("Cast", g.frames(), to=7), to=1)), "casts to something else")


def test_a_chain_of_more_values_than_registers() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    kept = [g.op("Sin", g.op("Mul", x, g.number(k))) for k in range(1, 13)]
    joined = kept[0]
    for value in [*kept[1:], *kept[::-1]]:
        joined = g.op("Add", g.op("Mul", joined, g.number(0.5)), value)
    pair = assert_native(g.model(joined))
    assert all(call.out < 8 for stage in pair.program.stages for call in stage.chain)


@pytest.mark.parametrize(
    ("kernel", "attributes"),
    [
        (1, {}),
        (4, {"strides": [2]}),
        (3, {"dilations": [4]}),
        (3, {"group": 2}),
        (5, {"group": 4}),
        (3, {"auto_pad": "SAME_UPPER", "pads": None}),
        (4, {"auto_pad": "SAME_LOWER", "pads": None}),
        (3, {"auto_pad": "VALID", "pads": None}),
        (3, {"pads": [5, 0]}),
    ],
)
def test_convolutions(kernel, attributes) -> None:
    g = TinyGraph()
    n_groups = attributes.pop("group", 1)
    kept = {"pads": [kernel // 2] * 2} | attributes
    x = g.conv(g.frames(), 4, 4, kernel, groups=n_groups, **{k: v for k, v in kept.items() if v is not None})
    assert_native(g.model(g.op("Tanh", x)))


def test_same_padding_with_a_stride_depends_on_the_length() -> None:
    g = TinyGraph()
    model = g.model(g.conv(g.frames(), 4, 4, 3, strides=[2], auto_pad="SAME_UPPER"))
    with pytest.raises((NotNativeError, NotStreamableError)):
        compile_native(model)


@pytest.mark.parametrize(
    ("kernel", "stride", "attributes"),
    [
        (4, 2, {"pads": [1, 1]}),
        (2, 4, {}),
        (2, 4, {"output_padding": [2]}),
        (7, 3, {"pads": [2, 3], "output_padding": [1]}),
        (3, 1, {"pads": [1, 1]}),
        (3, 1, {"pads": [0, 2]}),
        (3, 2, {"dilations": [2], "pads": [1, 1]}),
        (6, 3, {"pads": [0, 5]}),
        (6, 3, {"pads": [5, 0]}),
    ],
)
@pytest.mark.parametrize("n_groups", [1, 2, 4])
def test_transposed_convolutions(kernel, stride, attributes, n_groups) -> None:
    g = TinyGraph()
    assert_native(g.model(g.up(conv(g, g.frames()), 4, 4, kernel, stride, groups=n_groups, **attributes)))


@pytest.mark.parametrize("n_channels", [1, 5, 16, 24, 48])
@pytest.mark.parametrize(
    ("kernel", "stride", "attributes"),
    [(14, 7, {"pads": [3, 4]}), (9, 4, {"output_padding": [3]}), (2, 3, {})],
)
def test_phases_of_few_channels_share_a_tile(n_channels, kernel, stride, attributes) -> None:
    g = TinyGraph()
    first, second = (
        g.up(conv(g, g.frames(4, f"x{k}")), 4, n_channels, kernel, stride, **attributes) for k in range(2)
    )
    y = g.op("LeakyRelu", g.op("Add", g.op("Tanh", second), first), alpha=0.1)
    model = g.model(
        y, g.op("Mul", first, g.const(np.linspace(0.5, 2, n_channels).reshape(1, -1, 1), np.float32))
    )
    for n_threads in (1, 2):
        assert_native(model, n_threads=n_threads)


@pytest.mark.parametrize("n_channels", [2, 8, 40])
@pytest.mark.parametrize(
    ("kernel", "stride", "attributes"),
    [(12, 2, {"pads": [5, 5]}), (3, 1, {}), (7, 3, {"output_padding": [1]}), (3, 2, {"dilations": [2]})],
)
def test_each_channel_is_spread_by_itself(n_channels, kernel, stride, attributes) -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), 4, n_channels, 1)
    program = assert_native(
        g.model(g.up(x, n_channels, n_channels, kernel, stride, groups=n_channels, **attributes))
    ).program
    assert [stage.kind for stage in program.stages] == ["convolve", "depthwise"]


def test_a_transposed_convolution_is_cropped_where_it_is_stored() -> None:
    g = TinyGraph()
    x = g.slice(g.up(g.frames(), 4, 4, 8, 4), 3, -2, 2)
    assert len(assert_native(g.model(g.op("Tanh", x))).program.stages) == 1


@pytest.mark.parametrize("read", ["beside", "through a view", "output"])
def test_what_is_cropped_for_one_reader_is_whole_for_another(read) -> None:
    g = TinyGraph()
    up = g.up(g.frames(), 4, 4, 8, 4)
    seen = g.squeeze(g.unsqueeze(up, 0), 0) if read == "through a view" else up
    cropped = g.slice(seen, 4, -4, 2)
    whole = conv(g, up, kernel=9, pads=[0, 0])
    outputs = [cropped, up] if read == "output" else [g.op("Add", whole, cropped)]
    assert_native(g.model(*outputs, names=[f"out_{k}" for k in range(len(outputs))]))


@pytest.mark.parametrize("mode", ["constant", "reflect", "edge"])
@pytest.mark.parametrize(("left", "right"), [(2, 3), (0, 2), (3, 0), (-2, 1), (0, -2)])
def test_padding(mode, left, right) -> None:
    if min(left, right) < 0 and mode != "constant":
        pytest.skip("what is cropped isn't reflected as well")
    g = TinyGraph()
    x = g.pad(conv(g, g.frames()), left, right, mode=mode)
    assert_native(g.model(g.conv(x, 4, 4, 3, pads=[1, 1])))


def test_one_tensor_is_padded_in_several_ways() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    parts = [
        g.conv(g.pad(x, 4, 0), 4, 4, 5),
        g.conv(g.pad(x, 1, 3), 4, 4, 5),
        g.conv(g.pad(x, 2, 2, mode="reflect"), 4, 4, 5),
        g.conv(g.pad(x, 2, 2, mode="edge"), 4, 4, 5),
        g.conv(g.pad(x, 2, 2, value=0.5), 4, 4, 5),
        g.conv(x, 4, 4, 9, pads=[4, 4]),
        g.op("Tanh", x),
    ]
    assert_native(g.model(g.op("Sum", *parts)))


def test_what_is_padded_for_a_convolution_may_be_an_output_too() -> None:
    g = TinyGraph()
    padded = g.pad(g.frames(), 2, 1)
    assert_native(g.model(g.conv(padded, 4, 4, 4), padded, names=["a", "b"]))


def test_flips_of_channels_are_padded_as_well() -> None:
    g = TinyGraph()
    x = g.slice(conv(g, g.frames()), -1, -(2**62), 1, -1)
    assert_native(g.model(g.conv(g.pad(x, 2, 2), 4, 4, 5, groups=2)))


def test_slices_of_time() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    ahead = g.slice(g.pad(x, 0, 2), 2, TO_THE_END, 2)
    behind = g.slice(g.pad(x, 3, 0), 0, -3, 2)
    assert_native(g.model(g.op("Add", ahead, behind)))
    for bounds in ((0, 5), (-3, TO_THE_END)):
        g = TinyGraph()
        with pytest.raises((NotNativeError, NotStreamableError)):
            compile_native(g.model(g.slice(g.frames(), *bounds, 2)))
    g = TinyGraph()
    refusal(g.model(g.slice(g.frames(), 0, TO_THE_END, 2, 2)), "every other step")


def test_channels_are_split_sliced_gathered_and_joined() -> None:
    g = TinyGraph()
    x = conv(g, g.frames(), n_out=6)
    a, b, c = g.split(x, 1, 2, 3)
    flipped = g.op("Gather", c, g.const([2, 0, 1]), axis=1)
    joined = g.op("Concat", flipped, b, a, g.slice(x, 1, 5, 1, 2), axis=1)
    assert_native(g.model(g.op("Tanh", joined), g.conv(joined, 8, 3, 3), names=["a", "b"]))


def test_what_is_joined_is_read_in_several_ways() -> None:
    g = TinyGraph(opset=17)
    x = g.conv(g.frames(), 4, 4, 3, pads=[1, 1])
    y = g.op("Add", x, g.op("Tanh", x))
    joined = g.op("Concat", y, x, axis=1)
    flipped = g.op("Concat", y, g.op("Gather", x, g.const([3, 2, 1, 0], np.int64), axis=1), axis=1)
    assert_native(
        g.model(g.op("Tanh", joined), g.op("Tanh", flipped), g.conv(joined, 8, 3, 1), names=["a", "b", "c"])
    )


def test_a_constant_of_which_the_length_alone_is_asked_for_is_no_stage() -> None:
    g = TinyGraph(opset=17)
    x = g.conv(g.frames(), 4, 4, 3, pads=[1, 1])

    def as_long_as(y: str, value: float) -> str:
        length = g.op("Gather", g.op("Shape", y), g.const([2], np.int64), axis=0)
        shape = g.op("Concat", g.const([1, 1], np.int64), length, axis=0)
        return g.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.array([value], np.float32)))

    joined = g.op("Concat", x, as_long_as(x, 0.5), axis=1)
    pair = assert_native(g.model(as_long_as(joined, 0.25)))
    assert [stage.kind for stage in pair.program.stages] == ["convolve", "pointwise"]


def test_an_utterance_has_the_steps_that_are_cut_off() -> None:
    g = TinyGraph(opset=17)
    pair = NativePair(g.model(g.pad(g.frames(), 0, -2)))
    for n_frames, n_left in ((2, 0), (3, 1)):
        feeds = pair.time_last(pair.feeds(n_frames))
        assert next(iter(pair.engine.whole(feeds).values())).shape[-1] == n_left
    with pytest.raises(ModelError, match="too short"):
        pair.engine.whole(pair.time_last(pair.feeds(1)))


def test_norms_of_some_of_the_channels() -> None:
    g = TinyGraph(opset=17)
    _, b = g.split(g.transpose(conv(g, g.frames(), n_out=9), 0, 2, 1), 4, 5, axis=2)
    x = g.op("LayerNormalization", b, g.weight(5), g.weight(5), axis=-1)
    assert_native(g.model(g.transpose(x, 0, 2, 1)))


def test_gates() -> None:
    g = TinyGraph()
    a, b = g.split(conv(g, g.frames(), n_out=8), 4, 4)
    assert_native(g.model(conv(g, g.op("Mul", g.op("Tanh", a), g.op("Sigmoid", b)))))


@pytest.mark.parametrize("speaker", [False, True])
@pytest.mark.parametrize("form", ["Split", "Slice"])
def test_what_is_read_apart_of_a_convolution_is_made_apart(form, speaker) -> None:
    def halves(x: str) -> list[str]:
        if form == "Split":
            return list(g.split(x, 32, 32))
        return [g.slice(x, 0, 32, 1), g.slice(x, 32, TO_THE_END, 1)]

    g = TinyGraph(opset=17)
    x = conv(g, g.frames(), n_out=32)
    y = conv(g, x, n_in=32, n_out=64, kernel=5)
    if speaker:
        y = g.op("Add", y, g.unsqueeze(g.op("Gemm", g.input("speaker", [1, 3]), g.weight(3, 64)), 2))
    a, b = halves(y)
    c, d = halves(conv(g, g.op("Mul", g.op("Tanh", a), g.op("Sigmoid", b)), n_in=32, n_out=64, kernel=1))
    pair = assert_native(g.model(conv(g, g.op("Add", x, c), n_in=32), g.op("Add", d, x), names=["a", "b"]))
    timed = [stage for stage in pair.program.stages if not pair.program.edges[stage.source or 0].timeless]
    assert [stage.kind for stage in timed if stage.source is not None] == ["convolve"] * 6
    assert {stage.n_channels for stage in timed} <= {4, 32, 64 if speaker else 32}
    # Their weights stay those of the graph, so that a voice holds them once.
    assert len({stage.weights for stage in timed if stage.weights is not None}) == 4


@pytest.mark.parametrize(
    ("n_out", "read"),
    [(48, [(0, 24), (24, 48)]), (96, [(0, 64), (32, 96)]), (64, [(0, 64)]), (64, [(0, 32), (63, 31)])],
)
def test_what_is_no_whole_blocks_or_read_together_is_made_together(n_out, read) -> None:
    g = TinyGraph(opset=17)
    x = conv(g, g.frames(), n_out=n_out)
    parts = [
        g.slice(x, start, stop, 1) if start < stop else g.slice(x, start, stop, 1, -1) for start, stop in read
    ]
    outputs = [g.op("Tanh", part) for part in parts]
    pair = assert_native(g.model(*outputs, names=list("ab"[: len(outputs)])))
    assert [stage.n_channels for stage in pair.program.stages if stage.kind == "convolve"] == [n_out]


def test_many_ways_through_sums_are_walked_once() -> None:
    g = TinyGraph(opset=17)
    x = conv(g, g.frames(), n_out=64)
    for _ in range(60):
        x = g.op("Mul", g.op("Add", x, x), g.number(0.5))
    pair = assert_native(g.model(*(g.op("Tanh", part) for part in g.split(x, 32, 32)), names=["a", "b"]))
    assert [stage.kind for stage in pair.program.stages] == ["convolve"] * 2


def test_channels_become_steps() -> None:
    g = TinyGraph()
    x = conv(g, g.frames(), n_out=6)
    x = g.op(
        "Reshape", g.transpose(g.op("Reshape", x, g.const([1, 2, 3, -1])), 0, 1, 3, 2), g.const([1, 2, -1])
    )
    assert_native(g.model(g.op("Tanh", x)))


def test_steps_become_channels_and_are_refused() -> None:
    g = TinyGraph()
    x = g.op("Reshape", g.frames(2), g.const([1, 2, -1, 2]))
    x = g.op("Reshape", g.transpose(x, 0, 1, 3, 2), g.const([1, 4, -1]))
    refusal(g.model(x), "moves")


@pytest.mark.parametrize(
    "form", [("asymmetric", "floor"), ("half_pixel", "round_prefer_floor"), ("asymmetric", "ceil")]
)
def test_nearest_upsampling(form) -> None:
    g = TinyGraph()
    x = g.op("Resize", conv(g, g.frames()), "", g.const([1, 1, 3], np.float32), mode="nearest",
             coordinate_transformation_mode=form[0], nearest_mode=form[1])  # fmt: skip
    model = g.model(conv(g, x))
    if form[1] == "ceil":
        with pytest.raises((NotNativeError, NotStreamableError)):
            compile_native(model)
    else:
        assert_native(model)


@pytest.mark.parametrize("transform", ["half_pixel", "pytorch_half_pixel", "asymmetric"])
@pytest.mark.parametrize("rate", [2, 3, 4, 3 / 2, 5 / 2, 8 / 5])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_interpolation(mode, rate, transform) -> None:
    g = TinyGraph(opset=19)
    x = conv(g, g.frames())
    form = {"mode": mode, "coordinate_transformation_mode": transform}
    if mode == "cubic":  # it is of images
        x = g.squeeze(g.op("Resize", g.unsqueeze(x, 2), "", g.const([1, 1, 1, rate], np.float32), **form), 2)
    else:
        x = g.op("Resize", x, "", g.const([1, 1, rate], np.float32), **form)
    assert_native(g.model(conv(g, x, kernel=5)))


def test_interpolation_of_opset_10() -> None:
    g = TinyGraph(opset=10)
    x = g.op("Resize", conv(g, g.frames()), g.const([1, 1, 3], np.float32), mode="linear")
    assert_native(g.model(g.op("Resize", x, g.const([1, 1, 2], np.float32), mode="nearest")))


@pytest.mark.parametrize(
    ("rate", "form", "reason"),
    [
        (5 / 4, {}, "not by 3/2 to 64"),
        (1 / 2, {}, "not by 3/2 to 64"),
        (2, {"coordinate_transformation_mode": "half_pixel_symmetric"}, "half_pixel_symmetric"),
        (65, {}, "not by 3/2 to 64"),
    ],
)
def test_interpolation_that_nobody_knows_is_refused(rate, form, reason) -> None:
    g = TinyGraph(opset=19)
    x = g.up(g.frames(), 4, 4, 4, 4)
    refusal(g.model(g.op("Resize", x, "", g.const([1, 1, rate], np.float32), mode="linear", **form)), reason)


@pytest.mark.parametrize(("kernel", "stride", "pads"), [(3, 1, [1, 1]), (4, 2, [0, 0]), (2, 1, [0, 0])])
def test_average_pools(kernel, stride, pads) -> None:
    g = TinyGraph()
    attributes = {"kernel_shape": [kernel], "strides": [stride], "pads": pads}
    x = g.op("AveragePool", conv(g, g.frames()), count_include_pad=1, **attributes)
    assert_native(g.model(g.op("Tanh", x)))
    if any(pads):
        g = TinyGraph()
        refusal(g.model(g.op("AveragePool", conv(g, g.frames()), **attributes)), "out of the mean")


@pytest.mark.parametrize("axes", ["all", "last"])
def test_layer_norms(axes) -> None:
    g = TinyGraph(opset=17)
    x = g.transpose(conv(g, g.frames(), n_out=6), 0, 2, 1)
    if axes == "all":
        x = g.op("LayerNormalization", x, g.weight(6), g.weight(6), axis=-1, epsilon=1e-3)
        assert_native(g.model(g.transpose(x, 0, 2, 1)))
        return
    x = g.op("LayerNormalization", g.op("Reshape", x, g.const([1, -1, 2, 3])), g.weight(3), axis=-1)
    refusal(g.model(g.transpose(g.op("Reshape", x, g.const([1, -1, 6])), 0, 2, 1)), "groups of channels")


def test_means_and_sums_over_channels() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    centred = g.op("Sub", x, g.reduce("ReduceMean", x, 1))
    power = g.reduce("ReduceSum", g.op("Mul", centred, centred), 1)
    assert_native(g.model(g.op("Div", centred, g.op("Sqrt", g.op("Add", power, g.number(1e-3))))))


def test_products_with_a_matrix() -> None:
    g = TinyGraph()
    x = g.op("MatMul", g.transpose(conv(g, g.frames()), 0, 2, 1), g.weight(4, 6))
    assert_native(g.model(g.transpose(g.op("Add", x, g.weight(6)), 0, 2, 1)))
    g = TinyGraph()
    rows = g.squeeze(g.transpose(g.frames(), 0, 2, 1), 0)
    x = g.op("Gemm", rows, g.weight(5, 4), g.weight(5), transB=1)
    assert_native(g.model(g.transpose(g.unsqueeze(x, 0), 0, 2, 1)))


def test_rows_of_tables() -> None:
    g = TinyGraph()
    codes = g.input("codes", [1, "n"], np.int64)
    x = g.transpose(g.op("Gather", g.weight(7, 5), codes), 0, 2, 1)
    assert_native(g.model(g.conv(x, 5, 4, 3, pads=[1, 1])), n_tokens=7)


def test_channels_are_repeated() -> None:
    g = TinyGraph()
    x = g.op("Tile", conv(g, g.frames(), n_out=2), g.const([1, 3, 1]))
    assert_native(g.model(g.op("Tanh", x)))


N_IN, N_OUT, N_TAPS = 4, 6, 3


def located(
    g: TinyGraph, x: str, kernels: str, bias: str | None, *, hop: int, equation: str = "bilsk,biokl->bols"
) -> str:
    """Convolve x (1, N_IN, hop * n) with kernels of n frames, as `Tensor.unfold` and a product do."""
    rows = g.op("Reshape", g.pad(x, 1, 1), g.const([N_IN, 1, -1]))
    places = g.const(np.eye(hop + 2)[:, np.newaxis], np.float32)
    windows = g.transpose(g.op("Conv", rows, places, strides=[hop]), 0, 2, 1)
    windows = g.op("Reshape", windows, g.const([1, N_IN, -1, hop + 2]))
    taps = [g.unsqueeze(g.slice(windows, k, k - 2 or TO_THE_END, 3), 4) for k in range(N_TAPS)]
    y = g.op("Einsum", g.op("Concat", *taps, axis=4), kernels, equation=equation)
    return str(y if bias is None else g.op("Add", y, bias))


def kernels_of(g: TinyGraph, x: str, *shape: int) -> str:
    return str(g.op("Reshape", conv(g, x, n_out=int(np.prod(shape))), g.const([1, *shape, -1])))


@pytest.mark.parametrize("hop", [1, 4])
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("read_elsewhere", [False, True])
def test_kernels_that_are_predicted_for_each_frame(hop, n_layers, read_elsewhere) -> None:
    g = TinyGraph()
    frames = g.frames()
    kernels = kernels_of(g, frames, n_layers, N_IN, N_OUT, N_TAPS)
    biases = kernels_of(g, frames, n_layers, N_OUT)
    elsewhere = [g.op("Tanh", g.op("Reshape", kernels, g.const([1, n_layers * N_IN * N_OUT * N_TAPS, -1])))]
    x = conv(g, g.up(frames, 4, N_IN, hop, hop))
    for layer in range(n_layers):
        own, bias = (g.op("Gather", each, g.const(layer), axis=1) for each in (kernels, biases))
        y = located(g, x, own, g.unsqueeze(bias, 3) if layer == 0 else None, hop=hop)
        y = g.op("Reshape", y, g.const([1, N_OUT, -1]))
        x = g.op("Add", x, g.op("Mul", g.op("Sigmoid", g.slice(y, 0, 4, 1)), g.slice(y, 2, 6, 1)))
    outputs = [x, *(elsewhere if read_elsewhere else [])]
    program = assert_native(g.model(*outputs, names=["a", "b"][: len(outputs)])).program
    assert [stage.kind for stage in program.stages].count("predicted") == n_layers
    # What makes kernels alone makes them in the order in which they are read; from others they are copied.
    copies = [stage for stage in program.stages if stage.kind == "pointwise" and stage.n_channels > N_OUT]
    assert bool(copies) == read_elsewhere


@pytest.mark.parametrize(
    ("equation", "bias", "reason"),
    [
        ("bilsk,bikl->bils", (), "in groups"),
        ("bilsk,biokl->bols", (N_OUT, 4), "varies within a frame"),
    ],
)
def test_products_of_windows_that_are_no_convolution_are_refused(equation, bias, reason) -> None:
    g = TinyGraph()
    frames = g.frames()
    shape = (N_IN, N_OUT, N_TAPS) if "o" in equation else (N_IN, N_TAPS)
    added = g.transpose(kernels_of(g, frames, *bias), 0, 1, 3, 2) if bias else None
    y = located(
        g, g.up(frames, 4, N_IN, 4, 4), kernels_of(g, frames, *shape), added, hop=4, equation=equation
    )
    refusal(g.model(g.op("Reshape", y, g.const([1, N_OUT if "o" in equation else N_IN, -1]))), reason)


def test_windows_of_time_are_read_by_products_alone() -> None:
    g = TinyGraph()
    frames = g.frames()
    x = g.op("Reshape", g.up(frames, 4, N_IN, 4, 4), g.const([N_IN, 1, -1]))
    windows = g.op("Conv", x, g.const(np.eye(4)[:, np.newaxis], np.float32), strides=[4])
    windows = g.op("Reshape", g.op("Tanh", windows), g.const([1, 4 * N_IN, -1]))
    assert refusal(g.model(windows), "isn't").op_type == "Conv"


def test_constants_as_long_as_a_tensor() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    assert_native(g.model(g.op("Add", g.op("Tanh", x), conv(g, g.filled(x, 0.5)))))


def test_inputs_without_time() -> None:
    g = TinyGraph()
    x, speaker = conv(g, g.frames()), g.input("speaker", [1, 3])
    emb = g.unsqueeze(g.op("Gemm", speaker, g.weight(4, 3), g.weight(4), transB=1), 2)
    assert_native(g.model(g.op("Mul", g.op("Add", x, emb), g.op("Tanh", emb))))


def test_channels_are_repeated_for_those_that_they_meet() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    a, b = g.op("Reshape", x, g.const([1, 4, 1, -1])), g.op("Reshape", x, g.const([1, 1, 4, -1]))
    assert_native(g.model(g.op("Reshape", g.op("Sub", a, b), g.const([1, 16, -1]))))


@pytest.mark.parametrize("op_type", ["MaxPool", "Softmax", "Gather of time"])
def test_an_operator_that_nobody_knows_is_named(op_type) -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    if op_type == "MaxPool":
        x = g.op("MaxPool", x, kernel_shape=[2])
    elif op_type == "Softmax":
        x = g.op("Softmax", x, axis=1)
    else:
        with pytest.raises((NotNativeError, NotStreamableError)):
            compile_native(g.model(g.op("Gather", x, g.const([0, 1]), axis=2)))
        return
    assert refusal(g.model(x), "doesn't know this operator").op_type == op_type


def test_inputs_of_another_type_are_refused() -> None:
    g = TinyGraph(dtype=np.float64)
    with pytest.raises(NotNativeError, match="not float32"):
        compile_native(g.model(g.op("Tanh", g.frames())))


# ------------------------------------------------------------------------------------------------- outputs


def test_an_input_may_be_an_output() -> None:
    g = TinyGraph()
    x = g.frames()
    assert_native(g.model(x, conv(g, x), names=["same", "made"]))


def test_an_output_may_be_read_and_given_twice() -> None:
    g = TinyGraph()
    x = conv(g, g.frames())
    flipped = g.op("Gather", x, g.const([3, 2, 1, 0]), axis=1)
    assert_native(g.model(x, conv(g, x), x, flipped, flipped, names=list("abcde")))


def test_outputs_of_several_rates_have_lags_of_their_own() -> None:
    g = TinyGraph()
    x = conv(g, g.frames(), kernel=9)
    y = g.up(x, 4, 4, 8, 4, pads=[2, 2])
    z = g.conv(x, 4, 4, 4, strides=[2], pads=[1, 1])
    pair = assert_native(g.model(x, y, z, names=["same", "up", "down"]))
    assert pair.program.outputs[0].lag == 4
    assert [port.rate for port in pair.program.outputs] == [(1, 1), (4, 1), (1, 2)]


def test_arrays_are_kept_once() -> None:
    g = TinyGraph()
    weights = numpy_helper.to_array(g.initializers[g.weight(4, 4, 3)])
    x = g.frames()
    for _ in range(3):
        x = g.op("Conv", x, g.const(weights.copy(), np.float32), pads=[1, 1])
    assert len(assert_native(g.model(x)).program.arrays) == 1
