"""A graph that gives all of its tensors when it runs, to be looked at once.

In graphs of a gigabyte what is copied and kept takes longer than what is computed. So weights are handed to
the runtime beside the graph, and of tensors that are known to be large only shapes are given: they can be
freed while the graph still runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.session import PackedGraph, Session

_LARGE_WEIGHT = 1 << 16  # bytes; smaller ones may be shapes, which the runtime wants to read early


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of a tensor in a run."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    array: AnyArray | None
    """None of a large one, of which nobody asks for more than the shape."""


class ExposedGraph:
    """A graph in ONNX Runtime, unoptimized: what the optimizer folds or fuses would have no shape to see."""

    def __init__(self, model: ir.Model, *, max_size: int) -> None:
        """Load a graph; tensors that have more than `max_size` elements at any length may be large ones."""
        with _weights_apart(model.graph) as weights:
            proto = ir.to_proto(model)
        large = _tensors_above(proto, max_size)
        # The name of each shape that stands for a tensor, with the tensor's name and type.
        self._shapes = {f"shape of {name}": (name, dtype) for name, dtype in large.items()}
        given = {value.name for value in proto.graph.output}
        made = [name for node in proto.graph.node for name in node.output if name]
        measures = [onnx.helper.make_node("Shape", [name], [key]) for key, (name, _) in self._shapes.items()]
        proto.graph.node.extend(measures)
        whole = [name for name in made if name not in given and name not in large]
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*whole, *self._shapes))
        self._session = Session(PackedGraph(proto.SerializeToString(), weights), optimize=False)
        self._names = [name for name in self._session.outputs if name not in large]

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, Seen]:
        """Run once and return what was seen of all tensors, of the inputs as well."""
        seen = {}
        for name, array in (self._session.run(feeds, self._names) | dict(feeds)).items():
            if name in self._shapes:
                tensor, dtype = self._shapes[name]
                seen[tensor] = Seen(tuple(array.tolist()), dtype, None)
            elif hasattr(array, "dtype"):
                seen[name] = Seen(array.shape, array.dtype, array)
            # A sequence of tensors has no shape; what makes one has no rule either.
        return seen


def _tensors_above(model: onnx.ModelProto, max_size: int) -> dict[str, np.dtype[np.generic]]:
    """Return tensors that are certain to have more elements, with their types."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        return {}  # operators of the runtime's own, say: nothing is certain, and all is looked at
    found = {}
    for value in (*inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        # A dimension that isn't known counts as 1.
        least = prod(max(1, dim.dim_value) for dim in tensor.shape.dim)
        if tensor.elem_type and least > max_size:
            found[value.name] = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    return found


@contextmanager
def _weights_apart(graph: ir.Graph) -> Iterator[dict[str, bytes]]:
    """Let large weights lie in files of their names, whose contents are given, while a graph is written."""
    weights = {
        name: tensor
        for name, value in graph.initializers.items()
        if (tensor := value.const_value) is not None
        and tensor.dtype != ir.DataType.STRING
        and tensor.nbytes >= _LARGE_WEIGHT
    }
    contents = {name: tensor.tobytes() for name, tensor in weights.items()}
    try:
        for name, tensor in weights.items():
            graph.initializers[name].const_value = ir.ExternalTensor(
                name, 0, len(contents[name]), tensor.dtype, shape=ir.Shape(tensor.shape.numpy()), name=name
            )
        yield contents
    finally:
        for name, tensor in weights.items():
            graph.initializers[name].const_value = tensor
