"""Products of weights that the native compiler makes, so that a run has fewer of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest

from balacoon_tk.export.quantize.equalize import equalize
from balacoon_tk.graph.half import halve_weights
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Program, Stage
from balacoon_tk.runtime.session import Session
from native_laws import ONE_THREAD, NativePair, assert_native
from tiny_graphs import TinyGraph
from wavenet_flows import HALF, HIDDEN, flow

OUT = 64


def folded(program: Program) -> list[Stage]:
    return [stage for stage in program.stages if stage.padding_biases is not None]


@pytest.mark.parametrize("speaker", [False, True])
@pytest.mark.parametrize("n", [HIDDEN, 64])
def test_a_flow_gives_the_same_with_fewer_products(n, speaker) -> None:
    program = assert_native(flow(2, speaker=speaker, n=n), tolerance=2e-5).program
    # The first layer of each coupling, or each half of its gate where these are made apart.
    assert len(folded(program)) == 2 * (1 + (n == 64))
    assert all(program.arrays[stage.weights or ""].shape[1] == HALF for stage in folded(program))
    # No matrix stands behind a stack: each layer's skip signal has as many channels as leave the coupling.
    weights = [program.arrays[stage.weights] for stage in program.stages if stage.weights is not None]
    assert sum(len(each) for each in weights if each.shape[1:] == (n, 1)) == 2 * (2 * n + 3 * HALF)


def projected(case: str = "") -> onnx.ModelProto:
    """A projection and a convolution of it, which is the output."""
    g = TinyGraph(opset=17)
    x = g.frames(HALF)
    n = 20 if case == "a narrow projection" else HIDDEN
    options = {"groups": 2} if case == "a projection in groups" else {}
    x = g.conv(x, HALF, n, 1, bias=case != "no bias", **options)
    if case == "a function between":
        x = g.op("Relu", x)
    if case == "padded before":
        x = g.pad(x, 2, 0)
    taps = 1 if case == "one step" else 5
    options = {"dilations": [3]} if case == "dilated" else {"strides": [2]} if case == "strided" else {}
    span = (taps - 1) * options.get("dilations", [1])[0]
    groups = 4 if case == "groups" else 1
    y = g.conv(x, n, OUT, taps, pads=[span // 2, span - span // 2], groups=groups, **options)
    outputs = [y, g.op("Tanh", x)] if case == "read twice" else [y]
    return g.model(*outputs, names=["samples", "others"][: len(outputs)])


@pytest.mark.parametrize("case", ["", "read twice", "dilated", "strided", "no bias"])
def test_a_convolution_reads_what_its_input_is_projected_from(case) -> None:
    program = assert_native(projected(case), tolerance=2e-5).program
    widths = [array.shape[1] for array in program.arrays.values() if array.ndim == 3 and array.shape[2] > 1]
    assert set(widths) == {HALF}
    assert len(folded(program)) == (case != "no bias")
    # The projection itself is only made where somebody else needs it.
    assert len(program.stages) == 1 + (case == "read twice")


@pytest.mark.parametrize(
    "case",
    [
        "a narrow projection",
        "a projection in groups",
        "a function between",
        "padded before",
        "one step",
        "groups",
    ],
)
def test_a_projection_that_is_more_than_that_stays(case) -> None:
    program = assert_native(projected(case), tolerance=2e-5).program
    assert not folded(program)
    assert len(program.stages) >= 2


def test_without_the_biases_of_its_padding_the_edges_would_be_wrong() -> None:
    """The law is strong enough: with the bias as that of the convolution it fails, at both ends."""
    pair = NativePair(projected())
    program = replace(
        pair.program, stages=tuple(replace(s, padding_biases=None) for s in pair.program.stages)
    )
    feeds = pair.feeds(20)
    off = NativeEngine(program, ONE_THREAD).whole(feeds)["samples"] - pair.reference(feeds)["samples"]
    wrong = np.abs(off).max((0, 1)) > 1e-3
    assert wrong.tolist() == [True] * 2 + [False] * 16 + [True] * 2


def test_weights_in_half_precision_are_folded_as_well() -> None:
    program = assert_native(halve_weights(flow(1)), tolerance=2e-5).program
    assert len(folded(program)) == 1


def test_what_is_quantized_is_folded_before() -> None:
    """The matrix behind a stack is no layer of its own, with steps and a rounding that would cost."""
    model = flow(1)
    feeds = {"frames": np.random.default_rng(0).standard_normal((1, 2 * HALF, 40)).astype(np.float32)}
    made = equalize(model, [feeds])
    n_layers = [sum(node.op_type == "Conv" for node in each.graph.node) for each in (model, made)]
    assert n_layers[1] == n_layers[0] - 1
    (wanted,), (got,) = (Session(each).run(feeds).values() for each in (model, made))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
