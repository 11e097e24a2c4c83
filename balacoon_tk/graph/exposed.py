"""A graph that gives all of its tensors when it runs, to be looked at once.

In graphs of a gigabyte what is copied and kept takes longer than what is computed. So weights are handed to
the runtime beside the graph, and of tensors that are known to be large only shapes are given: they can be
freed while the graph still runs.
"""

from __future__ import annotations

import hashlib
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
        """Load a graph; tensors that have more than `max_size` elements in the first run are large ones."""
        with weights_apart(model.graph) as weights:
            self._model = ir.to_proto(model)
        self._weights: Mapping[str, bytes] = weights
        self._max_size = max_size
        self._large, self._uncertain = _tensors_above(self._model, max_size)
        # The name of each shape that stands for a tensor, with the tensor's name and type.
        self._shapes: dict[str, tuple[str, np.dtype[np.generic]]] = {}
        self._session: Session | None = None

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, Seen]:
        """Run once and return what was seen of all tensors, of the inputs as well."""
        if self._session is None:
            if self._uncertain:
                self._measure(feeds)
            self._session = self._expose(self._large)
            self._weights = {}  # the session has its own
        seen = {}
        names = [name for name in self._session.outputs if name not in self._large]
        for name, array in (self._session.run(feeds, names) | dict(feeds)).items():
            if name in self._shapes:
                tensor, dtype = self._shapes[name]
                seen[tensor] = Seen(tuple(array.tolist()), dtype, None)
            elif hasattr(array, "dtype"):
                seen[name] = Seen(array.shape, array.dtype, array)
            # A sequence of tensors has no shape; what makes one has no rule either.
        return seen

    def _measure(self, feeds: Mapping[str, AnyArray]) -> None:
        """Add those to the large ones that are large, of those whose shapes nothing says before a run."""
        # Where a graph reshapes by what it computes, that is all that comes behind: hundreds of megabytes.
        session = self._expose(self._uncertain, alone=True)
        for name, shape in session.run(feeds, list(self._shapes)).items():
            tensor, dtype = self._shapes[name]
            if prod(shape.tolist()) > self._max_size:
                self._large[tensor] = dtype

    def _expose(self, measured: Mapping[str, np.dtype[np.generic]], *, alone: bool = False) -> Session:
        """Load the graph with the shapes of some tensors as outputs, and all the others unless `alone`."""
        proto = onnx.ModelProto()
        proto.CopyFrom(self._model)
        graph = proto.graph
        self._shapes = {f"shape of {name}": (name, dtype) for name, dtype in measured.items()}
        given = {value.name for value in graph.output}
        made = [] if alone else [name for node in graph.node for name in node.output if name]
        graph.node.extend(
            onnx.helper.make_node("Shape", [name], [key]) for key, (name, _) in self._shapes.items()
        )
        whole = [name for name in made if name not in given and name not in measured]
        graph.output.extend(onnx.ValueInfoProto(name=name) for name in (*whole, *self._shapes))
        return Session(PackedGraph(proto.SerializeToString(), self._weights), optimize=False)


_Types = dict[str, np.dtype[np.generic]]


def _tensors_above(model: onnx.ModelProto, max_size: int) -> tuple[_Types, _Types]:
    """Return the tensors that are certain to have more elements, and those that may, with their types."""
    try:
        inferred = onnx.shape_inference.infer_shapes(model).graph
    except onnx.shape_inference.InferenceError:
        return {}, {}  # operators of the runtime's own, say: no type is certain, and all is looked at
    certain, possible = {}, {}
    for value in (*inferred.value_info, *inferred.output):
        tensor = value.type.tensor_type
        # A dimension that isn't known counts as 1.
        least = prod(max(1, dim.dim_value) for dim in tensor.shape.dim)
        if not tensor.elem_type:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if least > max_size:
            certain[value.name] = dtype
        elif dtype.kind == "f" and not (
            tensor.HasField("shape") and all(dim.dim_value for dim in tensor.shape.dim)
        ):
            possible[value.name] = dtype
    return certain, possible


def weight_file(name: str) -> str:
    """Return the file that `weights_apart` puts a weight into; its own name may have slashes."""
    return hashlib.sha256(name.encode()).hexdigest()


@contextmanager
def weights_apart(graph: ir.Graph) -> Iterator[dict[str, bytes]]:
    """Let large weights lie in files, whose contents are given by name, while a graph is written."""
    weights = {
        name: tensor
        for name, value in graph.initializers.items()
        if (tensor := value.const_value) is not None
        and tensor.dtype != ir.DataType.STRING
        and tensor.nbytes >= _LARGE_WEIGHT
    }
    contents = {weight_file(name): tensor.tobytes() for name, tensor in weights.items()}
    try:
        for name, tensor in weights.items():
            file, shape = weight_file(name), ir.Shape(tensor.shape.numpy())
            graph.initializers[name].const_value = ir.ExternalTensor(
                file, 0, len(contents[file]), tensor.dtype, shape=shape, name=name
            )
        yield contents
    finally:
        for name, tensor in weights.items():
            graph.initializers[name].const_value = tensor
