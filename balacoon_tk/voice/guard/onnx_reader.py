"""What stands in an ONNX file, read without running or allocating anything: nodes, sizes and names.

ONNX's own reader is a package that a voice is loaded without, and makes objects of gigabytes before anything
can be asked. This one looks at what `balacoon_tk.voice.guard.graphs` judges, skips the rest by its length,
and reads a bounded number of fields. The numbers of fields are those of onnx.proto, version 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from balacoon_tk.errors import ModelError
from balacoon_tk.voice.guard.wire import IS_FIXED32, IS_VARINT, Wire, signed

MOST_DEPTH = 4
"""Of graphs in nodes in graphs."""
MOST_READ = 64
"""Numbers of a constant that are read: sizes are few."""

_FLOAT, _INT32, _INT64, _DOUBLE = 1, 6, 7, 11
READABLE = {_FLOAT: "<f4", _INT32: "<i4", _INT64: "<i8", _DOUBLE: "<f8"}
_TYPED = {
    4: "<f4",
    5: None,
    7: None,
    10: "<f8",
    11: None,
}  # fields of numbers by their type; None for varints


@dataclass(slots=True)
class Tensor:
    """A constant of a graph."""

    name: str = ""
    dims: list[int] = field(default_factory=list)
    dtype: int = 0
    """As onnx.TensorProto.DataType has it."""
    n_bytes: int = 0
    """Of the numbers in the file itself."""
    is_external: bool = False
    """Whether they lie in another file."""
    external: dict[str, str] = field(default_factory=dict)
    """Where."""
    values: tuple[float, ...] | None = None
    """Its numbers, if they are few and lie in the file itself."""


@dataclass(slots=True)
class Node:
    """An operator of a graph."""

    op_type: str = ""
    domain: str = ""
    name: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    numbers: dict[str, tuple[float, ...]] = field(default_factory=dict)
    """Attributes that are numbers or a few of them."""
    tensors: dict[str, Tensor] = field(default_factory=dict)
    graphs: list[Graph] = field(default_factory=list)


@dataclass(slots=True)
class Graph:
    """Nodes and constants; `sparse` says whether some constants are written as few numbers and many zeros."""

    nodes: list[Node] = field(default_factory=list)
    constants: list[Tensor] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    sparse: bool = False


@dataclass(slots=True)
class Model:
    """All of a file."""

    graph: Graph
    n_functions: int = 0
    metadata: dict[str, str] = field(default_factory=dict)


def read_model(data: bytes) -> Model:
    """Read an ONNX file; `ModelError` says that it is none, or has more in it than any voice."""
    return _Reader(data).model()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._wire = Wire(data)

    def model(self) -> Model:
        model = Model(Graph())
        graph = model.graph
        for number, start, stop in self._wire.fields(0, len(self._wire.data)):
            # A field of another kind than it should be is unknown to whoever reads the file, here and below.
            if stop < 0:
                continue
            if number == 7:
                # A message that stands there twice is one, of both.
                self._graph(graph, start, stop, 0)
            elif number == 14:
                model.metadata |= self._entry(start, stop)
            elif number == 25:
                model.n_functions += 1
        return model

    def _graph(self, graph: Graph, start: int, stop: int, depth: int) -> None:
        if depth > MOST_DEPTH:
            raise ModelError(f"its graphs lie more than {MOST_DEPTH} deep in each other")
        for number, a, b in self._wire.fields(start, stop):
            if b < 0:
                continue
            if number == 1:
                graph.nodes.append(self._node(a, b, depth))
            elif number == 5:
                graph.constants.append(self._tensor(a, b))
            elif number in (11, 12):
                names = graph.inputs if number == 11 else graph.outputs
                names += [
                    self._wire.text(c, d) for key, c, d in self._wire.fields(a, b) if key == 1 and d >= 0
                ]
            elif number == 15:
                graph.sparse = True

    def _node(self, start: int, stop: int, depth: int) -> Node:
        node = Node()
        for number, a, b in self._wire.fields(start, stop):
            if b < 0:
                continue
            if number == 1:
                node.inputs.append(self._wire.text(a, b))
            elif number == 2:
                node.outputs.append(self._wire.text(a, b))
            elif number == 3:
                node.name = self._wire.text(a, b)
            elif number == 4:
                node.op_type = self._wire.text(a, b)
            elif number == 5:
                self._attribute(node, a, b, depth)
            elif number == 7:
                node.domain = self._wire.text(a, b)
        return node

    def _attribute(self, node: Node, start: int, stop: int, depth: int) -> None:
        name = ""
        numbers: list[float] = []
        tensors: list[Tensor] = []
        for number, a, b in self._wire.fields(start, stop):
            if number == 1 and b >= 0:
                name = self._wire.text(a, b)
            elif number == 2 and b == IS_FIXED32:
                numbers += self._wire.packed(a, b, "<f4")
            elif number == 3 and b == IS_VARINT:
                numbers.append(signed(a))
            elif number == 7:
                numbers += self._wire.packed(a, b, "<f4")
            elif number == 8:
                numbers += self._wire.varints(a, b)
            elif b < 0:
                continue
            elif number in (5, 10):
                tensors.append(self._tensor(a, b))
            elif number in (6, 11):
                inner = Graph()
                self._graph(inner, a, b, depth + 1)
                node.graphs.append(inner)
            elif number in (22, 23):
                raise ModelError(f"{node.op_type} node {node.name!r}: its attribute {name!r} is sparse")
        if len(tensors) > 1:
            raise ModelError(f"{node.op_type} node {node.name!r}: its attribute {name!r} has several tensors")
        if tensors:
            node.tensors[name] = tensors[0]
        node.numbers[name] = tuple(numbers)

    def _tensor(self, start: int, stop: int) -> Tensor:
        tensor, raw = Tensor(), None
        external: dict[str, str] = {}
        typed: list[tuple[int, int, int]] = []
        for number, a, b in self._wire.fields(start, stop):
            if number == 1:
                tensor.dims += self._wire.varints(a, b)
            elif number == 2 and b == IS_VARINT:
                tensor.dtype = a
            elif number in _TYPED:
                typed.append((number, a, b))
            elif number == 14 and b == IS_VARINT:
                tensor.is_external = a == 1
            elif b < 0:
                continue
            elif number == 8:
                tensor.name = self._wire.text(a, b)
            elif number == 9:
                raw = (a, b)
            elif number == 13:
                external |= self._entry(a, b)
        tensor.external = external
        if raw is not None:
            tensor.n_bytes = raw[1] - raw[0]
            if tensor.dtype in READABLE and tensor.n_bytes <= 8 * MOST_READ:
                tensor.values = tuple(self._wire.packed(*raw, READABLE[tensor.dtype]))
        elif typed:
            # A number of eight bytes may be written as one.
            tensor.n_bytes = 8 * sum(b - a if b >= 0 else 1 for _, a, b in typed)
            if tensor.n_bytes <= 64 * MOST_READ:
                tensor.values = tuple(x for number, a, b in typed for x in self._typed(number, a, b))
        return tensor

    def _typed(self, number: int, start: int, stop: int) -> Iterable[float]:
        dtype = _TYPED[number]
        return self._wire.varints(start, stop) if dtype is None else self._wire.packed(start, stop, dtype)

    def _entry(self, start: int, stop: int) -> dict[str, str]:
        key = value = ""
        for number, a, b in self._wire.fields(start, stop):
            if number == 1 and b >= 0:
                key = self._wire.text(a, b)
            elif number == 2 and b >= 0:
                value = self._wire.text(a, b)
        return {key: value}
