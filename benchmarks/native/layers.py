"""Convolutions of one shape in both engines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.graph import int8
from balacoon_tk.graph.edit import Names
from balacoon_tk.graph.int8 import Range
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import Session
from balacoon_tk.targets.native import compile_native
from speed.measure import in_turn, show_progress

N_LAYERS = 8
"""Convolutions behind each other, so that reading the frames and writing the samples counts little."""
_WORK = 4e8
"""Multiply-adds of all layers, about; some hundredths of a second."""
_SLOPE = 0.1
_OPSET = 17


@dataclass(frozen=True, slots=True)
class Shape:
    """A convolution from as many channels to as many, with a leaky ReLU behind."""

    n_channels: int
    n_taps: int
    dilation: int = 1

    @property
    def label(self) -> str:
        """As a table names it."""
        dilated = f", dilation {self.dilation}" if self.dilation > 1 else ""
        return f"{self.n_channels} channels, {self.n_taps} taps{dilated}"

    @property
    def multiply_adds(self) -> int:
        """Of all layers, in one step."""
        return N_LAYERS * self.n_channels**2 * self.n_taps


SHAPES = (
    Shape(256, 3),
    Shape(128, 3),
    Shape(128, 7, 12),
    *(Shape(n_channels, n_taps) for n_channels in (64, 32) for n_taps in (3, 5, 7)),
)


def measure(*, n_rounds: int) -> dict[str, Any]:
    """Time each shape on one thread.

    Returns
    -------
    dict
        By shape ``multiply_adds`` and ``seconds``: of ``native`` and ``onnxruntime`` in fp32 and of ``int8``,
        the native engine's; a value a round.
    """
    found = {}
    for k, shape in enumerate(SHAPES):
        n_steps = round(_WORK / shape.multiply_adds)
        feeds = {"x": np.random.default_rng(0).standard_normal((1, shape.n_channels, n_steps), np.float32)}
        model, options = chain_of(shape), RuntimeOptions(n_threads=1)
        engine = NativeEngine(compile_native(model), options)
        rounded = NativeEngine(compile_native(rounded_chain_of(shape)), options)
        runs = {
            "native": partial(engine.whole, feeds),
            "onnxruntime": partial(Session(model, options).run, feeds),
            "int8": partial(rounded.whole, feeds),
        }
        seconds = in_turn(runs, n_rounds=n_rounds)
        found[shape.label] = {"multiply_adds": shape.multiply_adds * n_steps, "seconds": seconds}
        show_progress("layers", (k + 1) / len(SHAPES))
    return found


def chain_of(shape: Shape) -> onnx.ModelProto:
    """Return a graph of `N_LAYERS` convolutions, each with a bias and a leaky ReLU."""
    rng, n, pad = np.random.default_rng(0), shape.n_channels, shape.dilation * (shape.n_taps - 1) // 2
    weights, nodes, name = [], [], "x"
    for k in range(N_LAYERS):
        # What comes out is about as large as what goes in: denormal numbers would take ten times as long.
        kernel = rng.standard_normal((n, n, shape.n_taps)).astype(np.float32) * np.sqrt(
            2 / (n * shape.n_taps)
        )
        bias = rng.standard_normal(n).astype(np.float32) * 0.1
        weights += [
            numpy_helper.from_array(kernel.astype(np.float32), f"w{k}"),
            numpy_helper.from_array(bias.astype(np.float32), f"b{k}"),
        ]
        nodes += [
            helper.make_node(
                *("Conv", [name, f"w{k}", f"b{k}"], [f"c{k}"], f"conv{k}"),
                dilations=[shape.dilation],
                pads=[pad, pad],
            ),
            helper.make_node("LeakyRelu", [f"c{k}"], [f"y{k}"], f"relu{k}", alpha=_SLOPE),
        ]
        name = f"y{k}"
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, [1, n, "n_steps"]) for end in ("x", name)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], weights)
    # The newest that ONNX Runtime of any supported version reads.
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)


def rounded_chain_of(shape: Shape) -> onnx.ModelProto:
    """Return the same graph with its layers in int8, each tensor between them rounded."""
    model = ir.from_proto(chain_of(shape))
    graph, names = model.graph, Names(model.graph)
    layers = [node for node in graph if node.op_type == "Conv"]
    readers = {str(node.inputs[0].name): [node] for node in layers if node.inputs[0] is not None}
    int8.write_weights(graph, names, layers)
    int8.write_steps(graph, names, dict.fromkeys(readers, Range(-4.0, 4.0).step), readers)
    graph.sort()
    return ir.to_proto(model)
