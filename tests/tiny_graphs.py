"""Decoders of a few nodes, put together by hand: one for every way in which an operator may treat time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["TO_THE_END", "TinyGraph"]

TO_THE_END = 2**63 - 1


class TinyGraph:
    """Appends nodes one by one; tensors are named by strings.

    Weights are random, but the same in every run. `positive` weights can't cancel each other, so that
    whatever may depend on a frame does.
    """

    def __init__(self, *, opset: int = 17, seed: int = 0, positive: bool = False, dtype: Any = np.float32):
        self.opset = opset
        self.dtype = np.dtype(dtype)
        self.functions: list[onnx.FunctionProto] = []
        self.domains: dict[str, int] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: dict[str, onnx.TensorProto] = {}
        self.inputs: list[onnx.ValueInfoProto] = []
        self._rng = np.random.default_rng(seed)
        self._positive = positive

    def input(self, name: str, shape: Sequence[int | str | None], dtype: Any = None) -> str:
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype or self.dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def frames(self, n_channels: int = 4, name: str = "frames") -> str:
        return self.input(name, [1, n_channels, f"n_{name}"])

    def op(self, op_type: str, *inputs: str, n_outputs: int = 1, domain: str = "", **attributes: Any) -> Any:
        """Add a node; return its output, or a list of them if there are several."""
        name = f"{op_type}_{len(self.nodes)}"
        outputs = [f"{name}_{k}" if k else name for k in range(n_outputs)]
        self.nodes.append(
            helper.make_node(op_type, list(inputs), outputs, name=name, domain=domain, **attributes)
        )
        return outputs[0] if n_outputs == 1 else outputs

    def const(self, value: Any, dtype: Any = np.int64, *, as_node: bool = False) -> str:
        array = np.asarray(value, dtype)
        if as_node:
            return str(self.op("Constant", value=numpy_helper.from_array(array)))
        name = f"const_{len(self.initializers)}"
        self.initializers[name] = numpy_helper.from_array(array, name)
        return name

    def number(self, value: float) -> str:
        return self.const(value, self.dtype)

    def weight(self, *shape: int, scale: float | None = None) -> str:
        array = self._rng.standard_normal(shape)
        array *= 1 / math.sqrt(math.prod(shape[1:]) or 1) if scale is None else scale
        return self.const(np.abs(array) + 0.01 if self._positive else array, self.dtype)

    def conv(self, x: str, n_in: int, n_out: int, kernel: int, *, bias: bool = True, groups: int = 1,
             **attributes: Any) -> str:  # fmt: skip
        weights = [self.weight(n_out, n_in // groups, kernel), *([self.weight(n_out)] if bias else [])]
        return str(self.op("Conv", x, *weights, group=groups, **attributes))

    def up(self, x: str, n_in: int, n_out: int, kernel: int, stride: int, *, bias: bool = True,
           groups: int = 1, **attributes: Any) -> str:  # fmt: skip
        weights = [self.weight(n_in, n_out // groups, kernel), *([self.weight(n_out)] if bias else [])]
        return str(self.op("ConvTranspose", x, *weights, strides=[stride], group=groups, **attributes))

    def slice(self, x: str, start: int, end: int, axis: int, step: int = 1) -> str:
        return str(self.op("Slice", x, *(self.const([v]) for v in (start, end, axis, step))))

    def pad(self, x: str, left: int, right: int, *, axis: int = 2, rank: int = 3, value: float | None = None,
            mode: str = "constant") -> str:  # fmt: skip
        pads = [0] * 2 * rank
        pads[axis], pads[axis + rank] = left, right
        more = [] if value is None else [self.number(value)]
        return str(self.op("Pad", x, self.const(pads), *more, mode=mode))

    def transpose(self, x: str, *perm: int) -> str:
        return str(self.op("Transpose", x, perm=perm))

    def unsqueeze(self, x: str, *axes: int) -> str:
        return self._with_axes("Unsqueeze", x, axes, 13)

    def squeeze(self, x: str, *axes: int) -> str:
        return self._with_axes("Squeeze", x, axes, 13)

    def reduce(self, op_type: str, x: str, *axes: int, keepdims: int = 1) -> str:
        return self._with_axes(op_type, x, axes, 13 if op_type == "ReduceSum" else 18, keepdims=keepdims)

    def split(self, x: str, *sizes: int, axis: int = 1) -> Any:
        if self.opset < 13:
            return self.op("Split", x, n_outputs=len(sizes), axis=axis, split=sizes)
        return self.op("Split", x, self.const(sizes), n_outputs=len(sizes), axis=axis)

    def length(self, x: str, axis: int = 2) -> str:
        """The number of steps as a vector of one element, as exporters compute it."""
        return str(self.op("Gather", self.op("Shape", x), self.const([axis]), axis=0))

    def filled(self, x: str, value: float) -> str:
        """zeros_like, ones_like: a constant of the shape of a tensor."""
        one = numpy_helper.from_array(np.array([value], self.dtype))
        return str(self.op("ConstantOfShape", self.op("Shape", x), value=one))

    def model(self, *outputs: str, names: Sequence[str] = ()) -> onnx.ModelProto:
        """Return the model; its outputs are called `names`, else as they are."""
        for k, name in enumerate(names):
            self.nodes.append(helper.make_node("Identity", [outputs[k]], [name], name=f"name_{name}"))
        graph = helper.make_graph(
            self.nodes,
            "tiny",
            self.inputs,
            [onnx.ValueInfoProto(name=name) for name in (names or outputs)],
            list(self.initializers.values()),
        )
        opsets = [helper.make_opsetid("", self.opset)]
        opsets += [helper.make_opsetid(domain, version) for domain, version in self.domains.items()]
        model = helper.make_model(graph, opset_imports=opsets, functions=self.functions, ir_version=8)
        return _with_output_types(model)

    def _with_axes(
        self, op_type: str, x: str, axes: Sequence[int], as_input_from: int, **attributes: Any
    ) -> str:
        if self.opset >= as_input_from:
            return str(self.op(op_type, x, self.const(list(axes)), **attributes))
        return str(self.op(op_type, x, axes=list(axes), **attributes))


def _with_output_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """Declare the outputs as far as onnx can infer them; what it can't is left to the runtime."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # a graph that is meant to be wrong
        return model
    del model.graph.output[:]
    model.graph.output.extend(inferred.graph.output)
    return model


FLOAT = TensorProto.FLOAT
