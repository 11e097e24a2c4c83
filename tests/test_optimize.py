"""The passes that make a decoder faster: the same samples, and less to do."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from balacoon_tk import graph
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.graph.streaming.plan import plan_cuts
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.ort_cpu import optimize as optimize_module
from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
from balacoon_tk.targets.ort_cpu.halves import Halves
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder
from balacoon_tk.targets.ort_cpu.passes.lift_to_2d import LiftTo2dPass
from balacoon_tk.targets.ort_cpu.passes.split_elu import SplitEluPass
from balacoon_tk.targets.ort_cpu.passes.wavenet.join_residual_and_skip import JoinResidualAndSkipPass
from streaming_laws import Streamed, assert_streams
from tiny_graphs import TinyGraph

N = 16
"""Channels; ONNX Runtime's blocked convolutions need a multiple of 16."""


def optimize(model: onnx.ModelProto, n_frames: int = 23) -> tuple[onnx.ModelProto, tuple[str, ...], float]:
    """The optimized model, what was done, and the largest difference of an output."""
    optimized = optimize_decoder(model)
    if all(value.type.HasField("tensor_type") for value in model.graph.output):
        onnx.checker.check_model(optimized.model)
    rng = np.random.default_rng(0)
    session = Session(model)
    feeds = {
        name: rng.standard_normal([n if isinstance(n, int) else n_frames for n in spec.shape]).astype("f4")
        for name, spec in session.inputs.items()
    }
    wanted, got = session.run(feeds), Session(optimized.model).run(feeds)
    assert {name: array.shape for name, array in got.items()} == {n: a.shape for n, a in wanted.items()}
    return optimized.model, optimized.passes, max(float(np.abs(got[n] - wanted[n]).max()) for n in wanted)


def count(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def transposed(kernel: int, stride: int, pads: tuple[int, int], more: int, *, bias: bool, opset: int = 17):
    g = TinyGraph(opset=opset)
    x = g.frames(3)
    weights = [g.weight(3, 2, kernel)] + ([g.weight(2)] if bias else [])
    attributes = {"output_padding": [more]} if more else {}
    y = g.op("ConvTranspose", x, *weights, strides=[stride], pads=list(pads), **attributes)
    return g.model(g.op("Tanh", y))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("kernel", "stride", "pads", "more"),
    [
        (16, 8, (4, 4), 0),  # HiFi-GAN
        (8, 4, (2, 2), 0),
        (4, 2, (1, 1), 0),
        (11, 5, (3, 3), 0),  # a kernel that is no multiple of the stride
        (10, 5, (3, 3), 1),  # with padding of the output
        (3, 5, (0, 0), 0),  # a kernel shorter than the stride leaves gaps
        (7, 2, (0, 5), 0),
        (6, 3, (4, 0), 0),
        (5, 3, (1, 2), 1),
        (2, 2, (0, 0), 0),
    ],
)  # fmt: skip
def test_a_transposed_convolution_becomes_one_with_phases(kernel, stride, pads, more, bias: bool) -> None:
    for opset in (11, 17):
        model = transposed(kernel, stride, pads, more, bias=bias, opset=opset)
        made, passes, difference = optimize(model)
        assert difference <= 1e-6
        if kernel >= stride:
            assert "polyphase" in passes
            assert "ConvTranspose" not in count(made)
    assert_streams(model, optimize=True)


@pytest.mark.parametrize("attributes", [{"group": 2}, {"dilations": [2]}, {"auto_pad": "SAME_UPPER"}])
def test_other_transposed_convolutions_stay(attributes) -> None:
    g = TinyGraph()
    x = g.frames(4)
    y = g.op("ConvTranspose", x, g.weight(4, 2, 4), strides=[2], **attributes)
    made, passes, difference = optimize(g.model(g.op("Tanh", y)))
    assert count(made)["ConvTranspose"] == 1
    assert "polyphase" not in passes
    assert difference <= 1e-6


def test_more_output_than_windows_give_stays_a_transposed_convolution() -> None:
    made, _, difference = optimize(transposed(4, 2, (0, 0), 1, bias=True))
    assert count(made)["ConvTranspose"] == 1
    assert difference <= 1e-6


LIFTED: dict[str, Callable[[TinyGraph, str], str]] = {
    "a constant of rank 3": lambda g, x: g.op("Mul", x, g.weight(1, N, 1)),
    "a constant of rank 2": lambda g, x: g.op("Add", x, g.weight(N, 1)),
    "a number": lambda g, x: g.op("Sub", x, g.number(0.5)),
    "a slope per channel": lambda g, x: g.op("PRelu", x, g.weight(N, 1)),
    "halves of channels": lambda g, x: g.op("Mul", *g.split(g.op("Concat", x, x, axis=1), N, N)),
    "slices of time": lambda g, x: g.op("Concat", g.slice(x, 0, 3, 2), g.slice(x, 3, 2**31, 2), axis=-1),
    "channels backwards": lambda g, x: g.slice(x, -1, -(2**31), 1, -1),
    "a choice": lambda g, x: g.op("Where", g.op("Greater", x, g.number(0)), x, g.op("Neg", x)),
    "stride and dilation": lambda g, x: g.op(
        "Conv", x, g.weight(N, N, 3), strides=[1], dilations=[3], pads=[3, 3]),
    "automatic padding": lambda g, x: g.op("Conv", x, g.weight(N, N, 3), auto_pad="SAME_UPPER"),
    "groups": lambda g, x: g.op("Conv", x, g.weight(N, 1, 3), group=N, pads=[1, 1]),
    "what is turned over": lambda g, x: g.transpose(
        g.op("LayerNormalization", g.transpose(x, 0, 2, 1), g.weight(N), axis=-1), 0, 2, 1),
}  # fmt: skip


@pytest.mark.parametrize("name", LIFTED)
@pytest.mark.parametrize("opset", [11, 17])
def test_lifting_to_two_dimensions_changes_no_sample(name: str, opset: int) -> None:
    if name == "what is turned over" and opset == 11:
        pytest.skip("LayerNormalization is of opset 17")
    g = TinyGraph(opset=opset)
    x = g.conv(g.frames(4), 4, N, 3)
    y = LIFTED[name](g, x)
    model = g.model(g.conv(g.op("Tanh", y), N, 1, 3))
    made, passes, difference = optimize(model)
    assert passes == (("lift_to_2d", "keep_rows") if name == "what is turned over" else ("lift_to_2d",))
    assert difference <= 1e-6
    weights = {node.input[1] for node in made.graph.node if node.op_type == "Conv"}
    assert {len(t.dims) for t in made.graph.initializer if t.name in weights} == {4}
    lone = [n for n in made.graph.node if n.op_type in ("Squeeze", "Unsqueeze")]
    assert len(lone) == 2
    if name != "slices of time":
        assert_streams(model, optimize=True)


def test_elu_is_the_larger_of_its_two_branches() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3)
    model = g.model(g.conv(g.op("Elu", x), N, 1, 3), g.op("Elu", x))
    made, passes, difference = optimize(model)
    assert passes == ("lift_to_2d", "split_elu")
    assert difference <= 1e-6
    assert "Elu" not in count(made)
    assert_streams(model, optimize=True)


@pytest.mark.parametrize("value", [-np.inf, -100.0, -1e-3, -1e-8, -0.0, 0.0, 1e-8, 3.0, np.inf, np.nan])
def test_elu_is_the_same_at_its_edges(value: float) -> None:
    g = TinyGraph()
    model = g.model(g.op("Elu", g.frames(1)))
    frames = np.full((1, 1, 5), value, np.float32)
    wanted, got = (
        next(iter(Session(each).run({"frames": frames}).values()))
        for each in (model, optimize_decoder(model).model)
    )
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("alpha", "dtype"), [(0.5, np.float32), (2.0, np.float32), (1.0, np.float16)])
def test_an_elu_of_another_slope_or_precision_stays(alpha: float, dtype: type) -> None:
    model = ir.Model(
        ir.Graph(
            [x := ir.Value(name="x", type=ir.TensorType(ir.DataType.from_numpy(np.dtype(dtype))))],
            (elu := ir.node("Elu", [x], {"alpha": alpha})).outputs,
            nodes=[elu],
            opset_imports={"": 17},
        ),
        ir_version=9,
    )
    assert not SplitEluPass()(model).modified
    assert [node.op_type for node in model.graph] == ["Elu"]


def test_nothing_is_lifted_without_a_convolution() -> None:
    g = TinyGraph()
    model = g.model(g.op("Tanh", g.frames()))
    assert optimize_decoder(model).passes == ()


def test_an_output_in_the_middle_keeps_its_name_and_rank() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3)
    _, passes, difference = optimize(g.model(x, g.conv(x, N, 2, 5), names=["hidden", "samples"]))
    assert passes == ("lift_to_2d",)
    assert difference <= 1e-6


def wavenet(n_layers: int = 4, n: int = N) -> onnx.ModelProto:
    """A stack of gated layers, as VITS has them in its flow."""
    g = TinyGraph()
    x, skip = g.conv(g.frames(4), 4, n, 1), ""
    for k in range(n_layers):
        gates = g.conv(x, n, 2 * n, 5, pads=[2, 2])
        acts = g.op(
            "Mul", g.op("Tanh", g.slice(gates, 0, n, 1)), g.op("Sigmoid", g.slice(gates, n, 2**62, 1))
        )
        last = k == n_layers - 1
        both = g.conv(acts, n, n if last else 2 * n, 1)
        if last:
            skip = g.op("Add", skip, both)
            break
        x = g.op("Add", x, g.slice(both, 0, n, 1))
        part = g.slice(both, n, 2**62, 1)
        skip = g.op("Add", skip, part) if skip else part
    return g.model(g.conv(skip, n, 1, 1))


def test_sums_that_are_read_elsewhere_are_still_theirs() -> None:
    """The residual sum of a layer is an output as well."""
    model = wavenet(3)
    add = next(node for node in model.graph.node if node.op_type == "Add")
    model.graph.output.append(onnx.helper.make_tensor_value_info(add.output[0], 1, [1, N, "n_sum"]))
    _, _, difference = optimize(model)
    assert difference <= 1e-6


def test_a_narrow_stack_is_run_in_halves_and_streams_exactly() -> None:
    """Two stages of residual blocks, as HiFi-GAN has them, narrow enough for one thread's work."""
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 7)
    for n_in, n_out in ((N, N), (N, N)):
        x = g.up(g.op("LeakyRelu", x), n_in, n_out, 8, 4, pads=[2, 2])
        branches = []
        for kernel, dilation in ((3, 1), (5, 2)):
            y = x
            for step in (1, dilation):
                inner = g.conv(
                    g.op("LeakyRelu", y), n_out, n_out, kernel,
                    dilations=[step], pads=[step * (kernel - 1) // 2] * 2)  # fmt: skip
                y = g.op("Add", y, inner)
            branches.append(y)
        x = g.op("Div", g.op("Add", *branches), g.number(2))
    model = g.model(g.op("Tanh", g.conv(g.op("LeakyRelu", x), N, 1, 7)))
    made, passes, difference = optimize(model)
    assert passes == ("lift_to_2d", "polyphase", "keep_blocked")
    assert difference <= 1e-6
    assert count(made)["Conv"] == count(model)["Conv"] + 2 + 2 * (1 + 4) + 2
    pair = Streamed(model, "halves", optimize=True)
    assert any(isinstance(step.form, Halves) for step in pair.plan.steps)
    slow = OrtCpuCosts(in_halves=True, per_multiply_add=1e-6)  # then it is worth the copies
    plan = plan_cuts(pair.analysis, chunk_frames=32, costs=slow)
    assert any("run as two halves" in line for line in plan.describe())
    assert len(plan.steps) > 4
    assert not any("blocked" in step.source for step in plan.steps)  # no state just behind an entry
    assert_streams(model, optimize=True)


def test_a_target_decides_whether_halves_pay() -> None:
    """One thread would do the margins twice, and a plan for no target knows nothing of rows."""
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3)
    for _ in range(3):
        x = g.op("Tanh", g.conv(x, N, N, 5))
    model = optimize(g.model(x))[0]
    analysis = analyse_model(model)
    for prices, forms in (
        (OrtCpuCosts(in_halves=True, per_byte=0.0, per_node=0.0), {Halves}),
        (OrtCpuCosts(in_halves=False, per_byte=0.0, per_node=0.0), set()),
        (None, set()),
    ):
        plan = plan_cuts(analysis, chunk_frames=64, costs=prices)
        assert {type(step.form) for step in plan.steps if step.form is not None} == forms
        text = str(streaming_spec(make_streaming(model, chunk_frames=64, costs=prices)).plan)
        assert ("two halves" in text) == bool(forms)


def test_the_rewrite_knows_no_target() -> None:
    """Tricks of one processor's kernels come in through `PlanCosts`."""
    reads_a_target = re.compile(r"^\s*(from|import) balacoon_tk\.targets", re.MULTILINE)
    folder = Path(graph.__file__).parent
    assert not [path for path in folder.rglob("*.py") if reads_a_target.search(path.read_text())]


def test_halves_that_overlap_too_little_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The law is strong enough: a margin of two steps less is an error."""
    g = TinyGraph()
    x = g.conv(g.frames(4), 4, N, 3)
    for _ in range(3):
        x = g.op("Tanh", g.conv(x, N, N, 5))
    model = g.model(x)
    assert_streams(model, optimize=True, plans=["halves"])
    write = Halves.write

    def with_less(self, *arguments):
        return write(replace(self, margin=self.margin - 2), *arguments)

    monkeypatch.setattr(Halves, "write", with_less)
    with pytest.raises((AssertionError, ModelError), match=r"differs by|Invalid input shape"):
        assert_streams(model, optimize=True, plans=["halves"])


def test_residual_and_skip_are_added_in_one_tensor(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("join_residual_and_skip", "lift_to_2d")
    steps = {"join_residual_and_skip": (JoinResidualAndSkipPass,), "lift_to_2d": (LiftTo2dPass,)}
    monkeypatch.setattr(optimize_module, "_DECODER_PASSES", steps)
    model = wavenet()
    made, passes, difference = optimize(model)
    assert passes == names
    assert difference <= 1e-6
    assert count(made)["Add"] == count(model)["Add"] - 2  # layers 2 and 3 add once instead of twice
    plain, joined = (Streamed(model, "states", optimize=flag) for flag in (False, True))
    # The windows of the four layers are left; three tensors no longer wait for others.
    assert len(joined.spec.states) == len(plain.spec.states) - 3 == 4
    assert_streams(model, optimize=True)
