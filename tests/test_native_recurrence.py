"""Recurrences and running sums in the native engine: by hand, and as exporters write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.native import _kernels
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.kernels import KERNELS_VARIABLE
from balacoon_tk.runtime.native.program import Call, Program, Stage
from balacoon_tk.targets.native import NotNativeError, compile_native
from native_laws import ONE_THREAD, assert_native
from native_programs import assert_damage_is_harmless, assert_lawful, damages, made, random, store
from tiny_graphs import TinyGraph

N_GATES = {"sum": 1, "elman_tanh": 1, "elman_relu": 1, "gru": 3, "gru_reset_first": 3, "lstm": 4}


def recurrence(cell: str, n_units: int, **options: object) -> Program:
    """A recurrence whose gates are the input, and a stage that reads its output alone."""
    n_channels = n_units * (2 if cell == "lstm" else 1)
    arrays = {}
    if cell != "sum":
        arrays["weights"] = random(N_GATES[cell] * n_units, n_units) / n_units**0.5
    if cell == "gru":
        arrays["bias"] = random(n_units)
    fields = {"cell": cell, "own": 1, "chain": (store(1),), **{name: name for name in arrays}, **options}
    stage = Stage("recur", "recurrence", 0, n_channels, **fields)
    reader = Stage("pointwise", "output", None, n_units, (Call("load", out=1, edge=1), store(2, a=1)))
    return made(N_GATES[cell] * n_units, stage, reader, arrays=arrays)


@pytest.mark.parametrize("n_units", [1, 5, 32, 70])
@pytest.mark.parametrize("cell", N_GATES)
def test_a_recurrence_is_the_oracles_in_any_pushes(cell: str, n_units: int) -> None:
    assert_lawful(recurrence(cell, n_units))


@pytest.mark.parametrize("kernels", _kernels.names())
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_a_recurrence_is_the_oracles_with_all_kernels(
    cell: str, kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KERNELS_VARIABLE, kernels)
    assert_lawful(recurrence(cell, 40), (1, 14))


def test_a_chain_works_on_what_a_recurrence_gives() -> None:
    chain = (store(1), Call("load", out=1, edge=0), Call("add", out=2, a=0, b=1), store(2, a=2))
    stage = replace(recurrence("elman_tanh", 33).stages[0], chain=chain)
    program = recurrence("elman_tanh", 33)
    assert_lawful(replace(program, stages=(stage,)))


def test_a_state_is_the_step_before() -> None:
    engine = NativeEngine(recurrence("lstm", 16), ONE_THREAD)
    state = engine.start()
    for n_steps in (1, 30, 2):
        _, state = engine.step(state, {"frames": random(1, 64, n_steps)}, last=False)
        assert engine.save(state)["rows"].nbytes == 32 * 4


RECURRENT = recurrence("lstm", 6)
OF_STEPS = NativeEngine(RECURRENT, ONE_THREAD)


@damages
@given(st.data())
def test_a_damaged_state_is_refused_or_harmless(data: st.DataObject) -> None:
    assert_damage_is_harmless(OF_STEPS, RECURRENT, data)


def test_a_state_without_the_step_before_is_refused() -> None:
    engine = NativeEngine(recurrence("gru", 8), ONE_THREAD)
    _, state = engine.step(engine.start(), {"frames": random(1, 24, 5)}, last=False)
    saved = engine.save(state)
    saved["positions"][2] += 1  # the recurrence's own edge begins one step later
    with pytest.raises(ParameterError, match="don't fit"):
        engine.load({**saved, "rows": saved["rows"][32:]})


@pytest.mark.parametrize(
    ("cell", "change", "reason"),
    [
        ("lstm", {"cell": "peephole"}, "isn't known"),
        ("lstm", {"cell": None}, "isn't known"),
        ("lstm", {"own": None}, "must begin by storing own=None"),
        ("lstm", {"chain": (Call("tanh"), store(1))}, "must begin by storing"),
        ("lstm", {"chain": (Call("store", edge=1, channel=1),)}, "must begin by storing"),
        ("lstm", {"n_channels": 20}, "its weights have the shape"),
        ("lstm", {"weights": None}, "the array None"),
        ("gru", {"weights": "bias"}, "its weights have the shape"),
        ("elman_tanh", {"bias": "weights"}, "its bias isn't that"),
        ("sum", {"weights": "weights"}, "is a sum and has weights"),
        ("sum", {"pad_left": 1}, "has a window"),
        ("sum", {"kind": "normalise"}, "is no recurrence"),
    ],
)
def test_what_a_recurrence_says_wrong_is_named(cell: str, change: dict[str, object], reason: str) -> None:
    program = recurrence(cell, 8)
    stage = replace(program.stages[0], **change)
    with pytest.raises(ModelError, match=reason):
        NativeEngine(replace(program, stages=(stage, program.stages[1])), ONE_THREAD)


# --- as exporters write them


def decoder(
    op_type: str, *, n_units: int = 5, biased: bool = True, first: str = "", **attributes: object
) -> onnx.ModelProto:
    n_gates = {"RNN": 1, "GRU": 3, "LSTM": 4}[op_type]
    g = TinyGraph(opset=20)
    x = g.transpose(g.conv(g.frames(4), 4, 4, 3, pads=[1, 1]), 2, 0, 1)
    weights = [g.weight(1, n_gates * n_units, 4), g.weight(1, n_gates * n_units, n_units)]
    if biased or first:
        weights.append(g.weight(1, 2 * n_gates * n_units) if biased else "")
    if first:
        value = np.full((1, 1, n_units), float(first), np.float32)
        weights += ["", *[g.const(value, np.float32)] * (1 + (op_type == "LSTM"))]
    y = g.op(op_type, x, *weights, n_outputs=2, hidden_size=n_units, **attributes)[0]
    return g.model(g.conv(g.transpose(g.squeeze(y, 1), 1, 2, 0), n_units, 2, 5, pads=[2, 2]))


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("LSTM", {}),
        ("LSTM", {"first": "0"}),
        ("GRU", {}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
        ("RNN", {"activations": ["Relu"]}),
    ],
)
def test_a_recurrence_runs_natively(op_type: str, attributes: dict[str, object], biased: bool) -> None:
    assert_native(decoder(op_type, biased=biased, **attributes))


def test_two_threads_run_recurrences_above_each_other() -> None:
    assert_native(decoder("LSTM", n_units=40), n_threads=2)


@pytest.mark.parametrize("exclusive", [0, 1])
def test_a_running_sum_runs_natively(exclusive: int) -> None:
    g = TinyGraph()
    x = g.op("Mul", g.conv(g.frames(), 4, 4, 3, pads=[1, 1]), g.number(0.1))
    y = g.op("CumSum", x, g.const(2), exclusive=exclusive)
    assert_native(g.model(g.op("Concat", x, y, axis=1)))


@pytest.mark.parametrize(
    ("op_type", "attributes", "reason"),
    [
        ("LSTM", {"first": "0.5"}, "its first state isn't zeros"),
        ("LSTM", {"activations": ["Sigmoid", "Tanh", "Relu"]}, "its activations are"),
        ("LSTM", {"clip": 1.0}, "it clips"),
        ("LSTM", {"input_forget": 1}, "it clips"),
    ],
)
def test_a_recurrence_of_another_form_is_refused(
    op_type: str, attributes: dict[str, object], reason: str
) -> None:
    with pytest.raises(NotNativeError, match=reason):
        compile_native(decoder(op_type, **attributes))


def test_a_sum_over_channels_is_refused() -> None:
    g = TinyGraph()
    x = g.conv(g.frames(), 4, 4, 3, pads=[1, 1])
    with pytest.raises(NotNativeError, match="it sums over channels"):
        compile_native(g.model(g.op("CumSum", x, g.const(1))))
