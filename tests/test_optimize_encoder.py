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

from balacoon_tk.export import optimize
from balacoon_tk.export.optimize import optimize_encoder
from balacoon_tk.export.passes.channels_last import ChannelsLastPass
from balacoon_tk.export.passes.fold_lookups import FoldLookupsPass
from balacoon_tk.export.passes.fold_pads import FoldPadsPass
from balacoon_tk.export.passes.fuse_layer_norm import FuseLayerNormPass
from balacoon_tk.export.passes.rows_attention import RowsAttentionPass
from balacoon_tk.export.passes.split_sums import SplitSumsPass
from balacoon_tk.export.sources import find_source
from balacoon_tk.session import Session
from tiny_graphs import TinyGraph
from tiny_vits import BOUND, N_BINS, N_FLOWS, TinyVits, write_tiny_vits

WHOLE = TinyVits(relative=True, splines=True)
VARIANTS = {
    "plain": TinyVits(),
    "relative positions": TinyVits(relative=True),
    "splines": TinyVits(splines=True),
    "both": WHOLE,
    "speakers": TinyVits(relative=True, splines=True, n_speakers=3),
    "deterministic": TinyVits(relative=True, stochastic=False),
    "opset 17, constants as nodes": TinyVits(relative=True, splines=True, opset=17, constants="nodes"),
    "opset 13": TinyVits(relative=True, splines=True, opset=13),
}
LENGTHS = (1, 2, 3, 4, 7, 30)  # below, at and above the window


@functools.cache
def encoder_of(variant: TinyVits, folder: Path) -> onnx.ModelProto:
    source = write_tiny_vits(folder, variant)
    return find_source(source).read(source, config=None, progress=lambda stage, share: None).encoder


@functools.cache
def optimized_of(variant: TinyVits, folder: Path) -> optimize.Optimized:
    return optimize_encoder(encoder_of(variant, folder), phoneme_ids=range(3, 11))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


def feeds_of(session: Session, length: int, *, noise: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(length)
    feeds = {
        "phoneme_ids": rng.integers(3, 11, (1, length)),
        "length_scale": np.array([1.3], np.float32),
        "duration_noise": noise * rng.standard_normal((1, 2, length)).astype(np.float32),
        "speaker_id": np.array([2]),
    }
    return {name: feeds[name] for name in session.inputs}


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_an_optimized_encoder_says_the_same_at_every_length(variant: TinyVits, folder: Path) -> None:
    model = encoder_of(variant, folder)
    before = model.SerializeToString()
    made = optimized_of(variant, folder)
    assert model.SerializeToString() == before
    onnx.checker.check_model(made.model)
    assert {
        "fuse_layer_norm",
        "fold_pads",
        "channels_last",
        "rows_attention",
        "fold_lookups",
    } <= set(made.passes)
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
    for op_type in ("CumSum", "NonZero", "Pad", "ReduceMean", "ScatterND"):
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
        optimize, "_ENCODER_PASSES", {**optimize._ENCODER_PASSES, "wrong": lambda seen: Wrong()}
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
    ("pads", "value", "folds"),
    [
        ([0, 0, 2, 0, 0, 1], None, True),
        ([0, 0, 2, 0, 0, 1], 0.0, True),
        ([0, 0, 2, 0, 0, 1], 1.0, False),
        ([0, 0, -1, 0, 0, 1], None, False),
        ([0, 1, 0, 0, 0, 0], None, False),
    ],
)
def test_a_convolution_pads_its_own_input(pads: list[int], value: float | None, folds: bool) -> None:
    g = TinyGraph(opset=17)
    arguments = [g.const(pads)]
    arguments += [] if value is None else [g.number(value)]
    padded = g.op("Pad", g.frames(3), *arguments)
    n_channels = 3 + pads[1] + pads[4]
    model = g.model(g.op("Conv", padded, g.weight(2, n_channels, 3), pads=[1, 0]))
    made, modified, difference = rewritten(model, lambda shapes: FoldPadsPass())
    assert modified == folds
    assert count(made)["Pad"] == (0 if folds else 1)
    assert difference <= 1e-6


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


N_HEADS, PER_HEAD, N_PHONEMES = 2, 3, 9


def attention_of_rows(
    *,
    band: bool = False,
    embeddings: int = 1,
    scale: str = "Div",
    alpha: float = 1.0,
    axis: int = -1,
    reduction: str = "add",
    same_band: bool = True,
) -> onnx.ModelProto:
    """Attention between heads that are turned over, as `ChannelsLastPass` leaves it."""
    g = TinyGraph(opset=17)
    n_channels = N_HEADS * PER_HEAD
    x = g.op("Squeeze", g.transpose(g.frames(n_channels), 0, 2, 1), g.const([0]))

    def heads() -> str:
        rows = g.op("Gemm", x, g.weight(n_channels, n_channels, scale=1.0), g.weight(n_channels, scale=2.0))
        return g.transpose(g.op("Reshape", rows, g.const([1, -1, N_HEADS, PER_HEAD])), 0, 2, 1, 3)

    q = g.op(scale, heads(), g.number(1.7))
    scores = g.op("MatMul", q, g.transpose(heads(), 0, 1, 3, 2))
    columns = np.arange(N_PHONEMES)[:, None] + np.arange(-1, 2)
    inside = (columns >= 0) & (columns < N_PHONEMES)
    indices, mask = g.const(np.tile(columns * inside, (1, N_HEADS, 1, 1))), g.const(inside, np.float32)
    if band:
        by_distance = g.op("MatMul", q, g.weight(embeddings, PER_HEAD, 3))
        update = g.op("Mul", by_distance, mask)
        scores = g.op("ScatterElements", scores, indices, update, axis=3, reduction=reduction)
    p = g.op("Softmax", scores, axis=axis)
    y = g.op("MatMul", p, heads())
    if band:
        near = g.op("GatherElements", p, indices, axis=3)
        near = g.op("Mul", near, mask if same_band else g.const(inside * 2, np.float32))
        y = g.op("Add", y, g.op("MatMul", near, g.weight(embeddings, 3, PER_HEAD)))
    rows = g.op("Reshape", g.transpose(y, 0, 2, 1, 3), g.const([-1, n_channels]))
    y = g.op("Gemm", rows, g.weight(n_channels, 4, scale=1.0), g.weight(4), alpha=alpha)
    return g.model(g.op("Unsqueeze", g.op("Transpose", y, perm=[1, 0]), g.const([0])))


@pytest.mark.parametrize(
    "options",
    [{}, {"scale": "Mul"}, {"axis": 3}, {"band": True}, {"band": True, "embeddings": N_HEADS}],
    ids=str,
)
def test_an_attention_reads_its_heads_from_rows_and_leaves_biases_to_the_output(options: dict) -> None:
    model = attention_of_rows(**options)
    made, modified, difference = rewritten(model, lambda shapes: RowsAttentionPass())
    assert modified
    assert difference <= 1e-5
    assert all(
        list(node.attribute[0].ints) in ([0, 2, 1], [1, 0], [1, 0, 2], [1, 2, 0])
        for node in made.graph.node
        if node.op_type == "Transpose"
    )
    kinds = count(made)
    assert kinds["Div"] == kinds["Add"] - options.get("band", False) == 0
    assert kinds["Mul"] == 2 * options.get("band", False)
    assert sorted(len(node.input) for node in made.graph.node if node.op_type == "Gemm") == [2, 2, 3, 3]
    assert kinds["Gemm"] == 4 and kinds["Transpose"] == 6


@pytest.mark.parametrize(
    "options",
    [
        {"scale": "Add"},
        {"alpha": 2.0},
        {"axis": 2},
        {"band": True, "reduction": "none"},
        {"band": True, "same_band": False},
    ],
    ids=str,
)
def test_another_attention_stays_as_it_is(options: dict) -> None:
    model = attention_of_rows(**options)
    _, modified, difference = rewritten(model, lambda shapes: RowsAttentionPass())
    assert not modified
    assert difference == 0.0


N_SYMBOLS, N_CHANNELS = 16, 8


def products_of_embeddings(
    *,
    n_symbols: int = N_SYMBOLS,
    scale: str = "Mul",
    bias: bool = True,
    alpha: float = 1.0,
    axis: int = 0,
    is_output: bool = False,
) -> onnx.ModelProto:
    """Two products of looked up rows, which something else reads as well."""
    g = TinyGraph(opset=17)
    ids = g.op("Cast", g.op("Abs", g.squeeze(g.frames(1), 1)), to=onnx.TensorProto.INT64)
    x = g.op("Gather", g.weight(n_symbols, N_CHANNELS, scale=1.0), ids, axis=0)
    x = g.squeeze(g.op(scale, x, g.number(2.5)), axis)
    biases = [g.weight(5)] if bias else []
    products = [g.op("Gemm", x, g.weight(N_CHANNELS, 5), *biases, alpha=alpha) for _ in range(2)]
    return g.model(*products, x if is_output else g.op("Tanh", x))


@pytest.mark.parametrize("options", [{}, {"scale": "Div"}, {"bias": False}, {"is_output": True}], ids=str)
def test_products_of_embeddings_are_looked_up(options: dict) -> None:
    model = products_of_embeddings(**options)
    made, modified, difference = rewritten(model, lambda shapes: FoldLookupsPass())
    assert modified
    assert difference <= 1e-6
    assert [value.name for value in made.graph.output] == [value.name for value in model.graph.output]
    kinds = count(made)
    assert (kinds["Gather"], kinds["Gemm"], kinds["Mul"], kinds["Div"]) == (3, 0, 0, 0)


@pytest.mark.parametrize("options", [{"n_symbols": 17}, {"alpha": 2.0}, {"scale": "Add"}], ids=str)
def test_products_that_a_table_would_not_give_or_is_too_large_for_stay(options: dict) -> None:
    made, modified, difference = rewritten(
        products_of_embeddings(**options), lambda shapes: FoldLookupsPass()
    )
    assert not modified
    assert difference == 0.0
    assert count(made)["Gemm"] == 2


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
