"""What is said of a graph that ONNX Runtime refuses, or fails in: in its reader's words, on one line."""

import numpy as np
import onnx
import pytest

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from tiny_graphs import TinyGraph

N = 4


def said(act) -> str:
    with pytest.raises(ModelError) as caught:
        act()
    assert caught.value.__cause__ is not None  # with all that was said
    return str(caught.value)


def graph(build, **options) -> bytes:
    g = TinyGraph(**options)
    return g.model(build(g, g.frames(N))).SerializeToString()


def frozen(g, x):
    return g.op("Reshape", x, g.const([1, N, 50]))


UNKNOWN_DOMAIN = graph(lambda g, x: (g.domains.update(tiny=1), g.op("Act", x, domain="tiny"))[1])

REFUSED = {
    "types without a kernel": (
        graph(lambda g, x: g.conv(x, N, N, 3, pads=[1, 1]), dtype=np.float64),
        "no kernel has the types of Conv node 'Conv_0': export it in float32",
    ),
    "a domain": (
        UNKNOWN_DOMAIN,
        "operator Act of domain 'tiny' is unknown to it",
    ),
    "an operator": (
        graph(lambda g, x: g.op("Nothing", x)),
        "operator Nothing of opset 17 is unknown to it",
    ),
    "no graph": (b"no graph", "the file is damaged, or holds no ONNX graph"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_graph_that_cant_be_loaded_says_why(name, tmp_path):
    data, message = REFUSED[name]
    message = f"ONNX Runtime can't load it: {message}"
    assert said(lambda: Session(data)) == f"<{len(data)} bytes>: {message}"
    path = tmp_path / "tiny.onnx"
    path.write_bytes(data)
    assert said(lambda: Session(path)) == f"{path}: {message}"


def run(model, shape):
    session = Session(onnx.load_model_from_string(model), RuntimeOptions(n_threads=1))
    session.run({"frames": np.zeros(shape, np.float32)})


def fixed(shape):
    g = TinyGraph()
    return g.model(g.op("Tanh", g.input("frames", shape))).SerializeToString()


FAILED = {
    "one axis": (fixed([1, N, 50]), (1, N, 7), "input 'frames' has 7 on axis 2, where 50 is needed"),
    "two axes": (
        fixed([1, N, 50]),
        (1, 3, 7),
        "input 'frames' has 3 on axis 1, where 4 is needed and 7 on axis 2, where 50 is needed",
    ),
    "axes": (fixed([1, N, 50]), (N, 50), "input 'frames' has 2 axes, where 3 are needed"),
    "a node": (
        graph(frozen),
        (1, N, 7),
        "Reshape node 'Reshape_0': The input tensor cannot be reshaped to the requested shape. "
        "Input shape:{1,4,7}, requested shape:{1,4,50}",
    ),
}


@pytest.mark.parametrize("name", FAILED)
def test_a_run_that_fails_says_why(name):
    model, shape, message = FAILED[name]
    assert said(lambda: run(model, shape)) == f"<model>: the run failed: {message}"


def test_what_isnt_known_is_said_in_its_own_words_without_codes():
    session = Session(fixed([1, N, 50]))
    failure = session.failure(RuntimeError("[ONNXRuntimeError] : 1 : FAIL : something\n  else"))
    assert str(failure).endswith(": the run failed: something else")
