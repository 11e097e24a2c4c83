"""The passes that make an encoder faster: the same encodings and durations, of fewer nodes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_ir.passes import InPlacePass

from balacoon_tk.graph.spelled_out.layer_norm import FuseLayerNormPass
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.ort_cpu import optimize
from balacoon_tk.targets.ort_cpu.optimize import optimize_encoder
from balacoon_tk.targets.ort_cpu.passes.channels_last import ChannelsLastPass
from balacoon_tk.targets.ort_cpu.passes.split_sums import SplitSumsPass
from tiny_encoders import LENGTHS, VARIANTS, WHOLE, encoder_of, feeds_of
from tiny_graphs import TinyGraph
from tiny_vits import BOUND, N_BINS, N_FLOWS, TinyVits


@functools.cache
def optimized_of(variant: TinyVits, folder: Path) -> optimize.Optimized:
    return optimize_encoder(encoder_of(variant, folder), phoneme_ids=range(3, 11))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_an_optimized_encoder_says_the_same_at_every_length(variant: TinyVits, folder: Path) -> None:
    model = encoder_of(variant, folder)
    before = model.SerializeToString()
    made = optimized_of(variant, folder)
    assert model.SerializeToString() == before
    onnx.checker.check_model(made.model)
    assert {"fuse_layer_norm", "channels_last"} <= set(made.passes)
    assert ("band_attention" in made.passes) == variant.relative
    assert ("dense_spline" in made.passes) == (variant.splines and variant.stochastic)
    theirs, ours = Session(model), Session(made.model)
    assert (ours.inputs, ours.outputs) == (theirs.inputs, theirs.outputs)
    for length in LENGTHS:
        feeds = feeds_of(theirs, length)
        wanted, got = theirs.run(feeds), ours.run(feeds)
        np.testing.assert_array_equal(got["durations"], wanted["durations"])
        for name in wanted.keys() - {"durations"}:
            np.testing.assert_allclose(got[name], wanted[name], rtol=0, atol=1e-5)


def test_it_leaves_nothing_of_what_exporters_spell_out(folder: Path) -> None:
    model = encoder_of(WHOLE, folder)
    made = count(optimized_of(WHOLE, folder).model)
    assert sum(made.values()) < 0.55 * len(model.graph.node)
    assert made["LayerNormalization"] == 3
    for op_type in ("CumSum", "NonZero", "ReduceMean", "ScatterND"):
        assert made[op_type] == 0, op_type
    assert made["GatherND"] == N_FLOWS  # one for each spline: its bin


@pytest.mark.parametrize("noise", [0.1, 1.0, 3.0, 30.0])
def test_a_spline_is_the_identity_outside_of_its_bounds_and_bends_inside(folder: Path, noise: float) -> None:
    """At 30 nearly all positions lie outside, at 0.1 all of them inside."""
    model = encoder_of(WHOLE, folder)
    theirs, ours = Session(model), Session(optimized_of(WHOLE, folder).model)
    feeds = feeds_of(theirs, 400, noise=noise)
    assert (np.abs(feeds["duration_noise"]) < BOUND).any() or noise > 3
    np.testing.assert_array_equal(ours.run(feeds)["durations"], theirs.run(feeds)["durations"])


def test_an_encoder_that_would_say_something_else_stays_as_it_came(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(InPlacePass):
        def call(self, model: ir.Model) -> ir.passes.PassResult:
            norm = next(node for node in model.graph if node.op_type == "LayerNormalization")
            norm.attributes["epsilon"] = ir.AttrFloat32("epsilon", 10.0)
            return ir.passes.PassResult(model, modified=True)

    model = encoder_of(WHOLE, folder)
    monkeypatch.setattr(
        optimize, "_ENCODER_PASSES", {**optimize._ENCODER_PASSES, "wrong": (lambda seen: Wrong(),)}
    )
    made = optimize_encoder(model, phoneme_ids=range(3, 11))
    assert made.passes == ()
    assert made.model is model


def test_an_encoder_of_an_old_opset_stays_as_it_came(folder: Path) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(encoder_of(TinyVits(), folder))
    model.opset_import[0].version = 12
    assert optimize_encoder(model, phoneme_ids=[3]).passes == ()


def test_what_looks_like_a_spline_but_has_another_least_bin_is_not_taken_for_one(folder: Path) -> None:
    """The numbers decide: the pass assumes VITS's constants, and is not believed where they are others."""
    model = onnx.ModelProto()
    model.CopyFrom(encoder_of(TinyVits(splines=True), folder))
    changed = 0
    for tensor in model.graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and array.size == 1 and np.isclose(array, 1 - 1e-3 * N_BINS):
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(array, 0.5), tensor.name))
            changed += 1
    assert changed
    assert optimize_encoder(model, phoneme_ids=range(3, 11)).passes == ()


# --- pass by pass, on graphs of a few nodes --------------------------------------------------------------


def rewritten(model: onnx.ModelProto, make: Callable[[dict], InPlacePass], shapes: dict | None = None):
    """The rewritten model, whether it was modified, and the largest difference of its outputs."""
    graph = ir.from_proto(model)
    modified = make(shapes or {})(graph).modified
    made = ir.to_proto(graph)
    session = Session(model)
    rng = np.random.default_rng(0)
    feeds = {
        name: rng.standard_normal([n if isinstance(n, int) else 9 for n in spec.shape]).astype("f4")
        for name, spec in session.inputs.items()
    }
    wanted, got = session.run(feeds), Session(made).run(feeds)
    return made, modified, max(float(np.abs(got[n] - wanted[n]).max()) for n in wanted)


def written_out_norm(
    *, square: str = "Pow", axis: int = -1, bias: bool = True, keepdims: int = 1, scale: bool = True
):
    g = TinyGraph(opset=17)
    x = g.op("Transpose", g.frames(6), perm=[0, 2, 1])
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[axis]))
    two = g.number(2.0)
    squared = g.op("Pow", centred, two) if square == "Pow" else g.op("Mul", centred, centred)
    variance = g.op("ReduceMean", squared, axes=[axis], keepdims=keepdims)
    if not keepdims:
        variance = g.op("Unsqueeze", variance, g.const([axis]))
    y = g.op("Div", centred, g.op("Sqrt", g.op("Add", variance, g.number(1e-3))))
    if scale:
        y = g.op("Mul", g.weight(6), y)
    if bias:
        y = g.op("Add", y, g.weight(6))
    return g.model(g.op("Transpose", y, perm=[0, 2, 1]))


@pytest.mark.parametrize("square", ["Pow", "Mul"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_written_out_layer_norm_is_one_node(square: str, bias: bool) -> None:
    made, modified, difference = rewritten(
        written_out_norm(square=square, bias=bias), lambda shapes: FuseLayerNormPass()
    )
    assert modified
    assert count(made) == {"Transpose": 2, "LayerNormalization": 1}
    assert difference <= 1e-6


@pytest.mark.parametrize("options", [{"axis": 1}, {"keepdims": 0}, {"scale": False}])
def test_other_norms_stay_as_they_are(options: dict) -> None:
    _, modified, difference = rewritten(written_out_norm(**options), lambda shapes: FuseLayerNormPass())
    assert not modified
    assert difference == 0.0


@pytest.mark.parametrize(
    ("n_filters", "n_inputs", "splits"),
    [(192, 768, True), (64, 128, True), (128, 512, False), (192, 192, False), (320, 768, False)],
)
def test_sums_are_halved_where_two_threads_share_filters_unevenly(
    n_filters: int, n_inputs: int, splits: bool
) -> None:
    g = TinyGraph(opset=17)
    image = g.op("Unsqueeze", g.frames(n_inputs), g.const([2]))
    y = g.op("Conv", image, g.weight(n_filters, n_inputs, 1, 3), g.weight(n_filters), pads=[0, 1, 0, 1])
    made, modified, difference = rewritten(
        g.model(g.op("Relu", g.op("Transpose", y, perm=[0, 2, 3, 1]))), lambda shapes: SplitSumsPass()
    )
    assert modified == splits
    assert count(made)["Add"] == (1 if splits else 0)
    assert difference <= 1e-4


@pytest.mark.parametrize(("shape", "stays"), [([-1, 6], False), ([-1, 3], True), ([2, -1], True)])
@pytest.mark.parametrize("is_output", [False, True])
def test_what_reshapes_a_turned_tensor_takes_rows(shape: list[int], stays: bool, is_output: bool) -> None:
    g = TinyGraph(opset=17)
    x = g.transpose(g.frames(4), 0, 2, 1)
    x = g.op("LayerNormalization", x, g.weight(4), g.weight(4), axis=-1)
    y = g.transpose(g.conv(g.transpose(x, 0, 2, 1), 4, 6, 1), 0, 2, 1)
    out = g.op("Reshape", y, g.const(shape))
    model = g.model(out if is_output else g.op("Exp", out))
    shapes = {"frames": [(1, 4, 9), (1, 4, 5)], out: [(1,), (1,)]}
    shapes |= {x: [(1, 9, 4), (1, 5, 4)], y: [(1, 9, 6), (1, 5, 6)]}
    made, modified, difference = rewritten(model, ChannelsLastPass, shapes)
    assert modified
    assert difference <= 1e-6
    kinds = count(made)
    assert (kinds["Reshape"], kinds["Gemm"]) == (int(stays or is_output), 1)
    assert kinds["Unsqueeze"] <= 1 and kinds["Transpose"] == 1


def test_a_convolution_of_one_channel_is_a_product_as_well() -> None:
    g = TinyGraph(opset=17)
    y = g.transpose(g.conv(g.frames(1), 1, 6, 1), 0, 2, 1)
    y = g.op("LayerNormalization", y, g.weight(6), g.weight(6), axis=-1)
    shapes = {"frames": [(1, 1, 9), (1, 1, 5)]}
    made, modified, difference = rewritten(g.model(y), ChannelsLastPass, shapes)
    assert modified
    assert difference <= 1e-6
    assert count(made) == {"Reshape": 1, "Gemm": 1, "LayerNormalization": 1, "Unsqueeze": 1}


def test_without_layer_norms_nothing_is_turned_over() -> None:
    g = TinyGraph(opset=17)
    model = g.model(g.op("Conv", g.frames(4), g.weight(4, 4, 1)))
    _, modified, _ = rewritten(model, ChannelsLastPass)
    assert not modified


@pytest.mark.parametrize(
    ("pads", "value", "is_known"),
    [
        ([0, 0, 2, 0, 0, 1], None, True),
        ([0, 0, 2, 0, 0, 1], 1.0, True),
        ([0, 0, -1, 0, 0, 1], None, True),
        ([0, 1, 0, 0, 0, 2], 0.0, True),
        ([1, 0, 0, 0, 0, 0], None, False),
    ],
)
@pytest.mark.parametrize("behind", ["norm", "convolution"])
def test_what_is_padded_is_padded_as_it_stands(
    pads: list[int], value: float | None, is_known: bool, behind: str
) -> None:
    """Behind a norm as rows, between convolutions as an image."""
    g = TinyGraph(opset=17)
    x = g.transpose(g.conv(g.frames(3), 3, 3, 1), 0, 2, 1)
    y = g.transpose(g.op("LayerNormalization", x, g.weight(3), g.weight(3), axis=-1), 0, 2, 1)
    if behind == "convolution":
        y = g.op("Relu", g.conv(y, 3, 3, 3))
    arguments = [] if value is None else [g.number(value)]
    padded = g.op("Pad", y, g.const(pads), *arguments)
    n_channels = 3 + pads[1] + pads[4]
    model = g.model(g.op("Conv", padded, g.weight(2, n_channels, 3), pads=[1, 0]))
    shapes = {"frames": [(1, 3, 9), (1, 3, 5)]}
    made, modified, difference = rewritten(model, ChannelsLastPass, shapes)
    assert modified
    assert difference <= 1e-6
    (pad,) = (node for node in made.graph.node if node.op_type == "Pad")
    amounts = next(onnx.numpy_helper.to_array(i) for i in made.graph.initializer if i.name == pad.input[1])
    rank = 3 if not is_known else 2 if behind == "norm" else 4
    assert len(amounts) == 2 * rank
