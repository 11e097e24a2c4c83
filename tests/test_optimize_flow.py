"""The passes that make a flow of WaveNets faster: weights are folded, channels stand last."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from balacoon_tk.graph.edit import add_constant
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.fold_products import FoldProductsPass
from balacoon_tk.targets.ort_cpu import optimize
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import LiftTo2dPass
from balacoon_tk.targets.ort_cpu.passes.wavenet import fold_projections
from balacoon_tk.targets.ort_cpu.passes.wavenet.fold_projections import FoldProjectionsPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.join_residual_and_skip import JoinResidualAndSkipPass
from streaming_laws import Streamed, assert_same, assert_streams, stream
from tiny_graphs import TinyGraph
from wavenet_flows import HALF, HIDDEN, flow


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


STEPS = {
    "fold_products": lambda shapes: FoldProductsPass(),
    "join_residual_and_skip": JoinResidualAndSkipPass,
    "lift_to_2d": LiftTo2dPass,
    "fold_projections": FoldProjectionsPass,
}


def only(monkeypatch: pytest.MonkeyPatch, names: Iterable[str]) -> None:
    passes = {name: (STEPS[name],) for name in names}
    monkeypatch.setattr(optimize, "_DECODER_PASSES", passes)


def check(model: onnx.ModelProto, *, tolerance: float = 1e-5) -> onnx.ModelProto:
    """Optimize a model, and see that it gives the same at lengths at which it is all edges, too."""
    made = optimize_decoder(model).model
    before, after = Session(model), Session(made)
    for n_frames in (1, 2, 5, 40):
        rng = np.random.default_rng(n_frames)
        feeds = {
            name: rng.standard_normal([n if isinstance(n, int) else n_frames for n in spec.shape]).astype(
                "f4"
            )
            for name, spec in before.inputs.items()
        }
        wanted, got = before.run(feeds), after.run(feeds)
        for name, array in wanted.items():
            assert got[name].shape == array.shape
            assert np.abs(got[name] - array).max() <= tolerance * max(1, np.abs(array).max())
    return made


def test_the_last_projection_is_made_by_the_layers(monkeypatch) -> None:
    only(monkeypatch, ["fold_products"])
    model = flow(1)
    made = check(model)
    assert count(made)["Conv"] == count(model)["Conv"] - 1
    shapes = [tuple(t.dims) for t in made.graph.initializer if t.dims[1:] == [HIDDEN, 1]]
    assert sorted(shapes) == sorted([(HIDDEN + HALF, HIDDEN, 1)] * 2 + [(HALF, HIDDEN, 1)])


@pytest.mark.parametrize("case", ["read twice", "an output", "overlapping", "more channels", "several steps"])
def test_a_projection_stays_where_its_input_is_needed(case: str, monkeypatch) -> None:
    only(monkeypatch, ["fold_products"])
    g = TinyGraph()
    x = g.frames(4)
    first = g.conv(x, 4, 12, 1)
    a = g.slice(first, 4, 2**62, 1)
    b = g.conv(g.op("Tanh", x), 4, 8, 1)
    total = g.op("Add", a, b)
    others = {
        "read twice": lambda: [g.op("Tanh", total)],
        "an output": lambda: [first],
        "overlapping": lambda: [g.slice(first, 0, 6, 1)],
    }.get(case, list)()
    n_out, kernel = 9 if case == "more channels" else 3, 3 if case == "several steps" else 1
    model = g.model(
        g.conv(total, 8, n_out, kernel, pads=[kernel // 2] * 2), *others, names=["a", "b"][: 1 + len(others)]
    )
    assert optimize_decoder(model).passes == ()
    check(model)


def test_a_first_convolution_reads_what_its_input_is_projected_from(monkeypatch) -> None:
    only(monkeypatch, ["join_residual_and_skip", "lift_to_2d", "fold_projections"])
    model = flow(1)
    made = check(model)
    assert count(made)["Pad"] == 1
    assert count(made)["Conv"] == count(model)["Conv"] - 1
    assert any(t.dims == [2 * HIDDEN, 32, 1, 3] for t in made.graph.initializer)


def test_without_its_channel_of_ones_the_edges_would_be_wrong(monkeypatch) -> None:
    """The law is strong enough: with the bias as that of the convolution it fails."""
    only(monkeypatch, ["lift_to_2d", "fold_projections"])
    g = TinyGraph()
    x = g.conv(g.frames(HALF), HALF, HIDDEN, 1)
    model = g.model(g.op("Tanh", g.conv(x, HIDDEN, 4, 3, pads=[1, 1])))
    check(model)

    made = fold_projections._fold

    def with_ones_everywhere(graph, node, *rest):
        made(graph, node, *rest)
        pads = node.attributes["pads"].as_ints()
        pad = next(n for n in graph if n.op_type == "Pad")
        wider = np.array([0, 0, 0, pads[1], 0, 16, 0, pads[3]])
        pad.replace_input_with(1, add_constant(graph, wider, "wider"))
        node.attributes["pads"] = ir.AttrInt64s("pads", [0, 0, 0, 0])

    monkeypatch.setattr(fold_projections, "_fold", with_ones_everywhere)
    with pytest.raises(AssertionError):
        check(model)


@pytest.mark.parametrize("case", ["a narrow convolution", "no bias", "groups"])
def test_a_projection_that_saves_nothing_stays(case: str, monkeypatch) -> None:
    only(monkeypatch, ["lift_to_2d", "fold_projections"])
    g = TinyGraph()
    n = 32 if case == "a narrow convolution" else HIDDEN
    x = g.conv(g.frames(HALF), HALF, n, 1, bias=case != "no bias")
    model = g.model(g.conv(x, n, n, 3, groups=n if case == "groups" else 1))
    assert optimize_decoder(model).passes == ("lift_to_2d",)


def test_a_push_of_any_size_gives_the_bits_of_the_whole_run() -> None:
    model = flow(2)
    pair = Streamed(model, optimize=True)
    feeds = pair.feeds(70)
    whole = pair.graph.whole(feeds)
    for size in (1, 3, 16, 69):
        pushes = [size] * (70 // size) + ([70 % size] if 70 % size else [])
        assert_same(stream(pair, feeds, pushes), whole, tolerance=0, note=size)


@pytest.mark.parametrize("speaker", [False, True])
def test_frames_lie_as_rows_from_gate_to_gate(speaker: bool) -> None:
    model = flow(2, speaker=speaker)
    optimized = optimize_decoder(model)
    assert optimized.passes[-1] == "wavenet"
    made = check(model)
    convolutions = {node.output[0] for node in made.graph.node if node.op_type == "Conv"}
    turned = [node for node in made.graph.node if node.op_type == "Transpose"]
    read = {name for node in made.graph.node if node.op_type == "Conv" for name in node.input}
    at_convolutions = [t for t in turned if t.input[0] in convolutions or t.output[0] in read]
    assert len(turned) - len(at_convolutions) <= 1 + speaker  # what comes in
    assert {t.dims[3] for t in made.graph.initializer if len(t.dims) == 4} == {3, 5}  # no product is left


@pytest.mark.parametrize("speaker", [False, True])
def test_rows_stream_exactly_and_so_do_their_states(speaker: bool) -> None:
    model = flow(2, speaker=speaker)
    pairs = assert_streams(model, optimize=True, tolerance=3e-6)
    states = next(pair for pair in pairs if pair.kind == "states").spec.states
    assert {state.axis for state in states if len(state.shape) == 4} == {2}
    # One of each layer, whose middles are the residual sums; what waits for a coupling; the last one's.
    assert len(states) == 2 * 3 + 2 + 1


def test_what_is_read_outside_comes_as_it_was() -> None:
    """Sums, gates and pieces of time, cut out and padded, that are outputs of the graph."""
    g = TinyGraph()
    x = g.conv(g.frames(8), 8, 16, 1)
    gates = g.conv(x, 16, 32, 3, pads=[1, 1])
    a, b = g.split(gates, 16, 16)
    acts = g.op("Mul", g.op("Tanh", a), g.op("Sigmoid", b))
    scaled = g.op("Add", g.op("Mul", acts, g.weight(1, 16, 1)), g.weight(16, 1))
    later = g.slice(scaled, 2, 2**31, 2)
    both = g.op("Concat", acts, x, axis=1)
    model = g.model(
        acts, later, g.op("LeakyRelu", both), g.op("Softmax", both, axis=1), names=["a", "b", "c", "d"]
    )
    feeds = {"frames": np.random.default_rng(0).standard_normal((1, 8, 9)).astype("f4")}
    made = optimize_decoder(model)
    assert "wavenet" in made.passes
    wanted, got = Session(model).run(feeds), Session(made.model).run(feeds)
    for name, array in wanted.items():
        np.testing.assert_allclose(got[name], array, rtol=0, atol=1e-6)


def test_a_graph_without_gates_keeps_its_layout() -> None:
    g = TinyGraph()
    x = g.frames(16)
    a, b = g.split(g.conv(x, 16, 32, 3), 16, 16)
    model = g.model(g.op("Mul", g.op("Tanh", a), g.op("Relu", b)))
    assert optimize_decoder(model).passes == ("lift_to_2d",)
