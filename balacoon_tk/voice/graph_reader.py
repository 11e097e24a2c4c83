"""What stands in an ONNX file, read without running or allocating anything: nodes, sizes and names.

ONNX's own reader is a package that a voice is loaded without, and makes objects of gigabytes before anything
can be asked. This one looks at what `balacoon_tk.voice.graph_check` judges, skips the rest by its length, and
reads a bounded number of fields. The numbers of fields are those of onnx.proto, version 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from balacoon_tk.errors import ModelError

_MOST_FIELDS = 3_000_000  # seconds of reading; the largest voice has a hundredth of it
MOST_DEPTH = 4  # of graphs in nodes in graphs
MOST_READ = 64  # numbers of a constant that are read: sizes are few
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10  # bytes
_IS_VARINT, _IS_FIXED32, _IS_FIXED64 = -1, -2, -3
_IS_FIXED = {4: _IS_FIXED32, 8: _IS_FIXED64}

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
        self._data = data
        self._left = _MOST_FIELDS

    def model(self) -> Model:
        model = Model(Graph())
        graph = model.graph
        for number, start, stop in self._fields(0, len(self._data)):
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
        for number, a, b in self._fields(start, stop):
            if b < 0:
                continue
            if number == 1:
                graph.nodes.append(self._node(a, b, depth))
            elif number == 5:
                graph.constants.append(self._tensor(a, b))
            elif number in (11, 12):
                names = graph.inputs if number == 11 else graph.outputs
                names += [self._text(c, d) for key, c, d in self._fields(a, b) if key == 1 and d >= 0]
            elif number == 15:
                graph.sparse = True

    def _node(self, start: int, stop: int, depth: int) -> Node:
        node = Node()
        for number, a, b in self._fields(start, stop):
            if b < 0:
                continue
            if number == 1:
                node.inputs.append(self._text(a, b))
            elif number == 2:
                node.outputs.append(self._text(a, b))
            elif number == 3:
                node.name = self._text(a, b)
            elif number == 4:
                node.op_type = self._text(a, b)
            elif number == 5:
                self._attribute(node, a, b, depth)
            elif number == 7:
                node.domain = self._text(a, b)
        return node

    def _attribute(self, node: Node, start: int, stop: int, depth: int) -> None:
        name = ""
        numbers: list[float] = []
        tensors: list[Tensor] = []
        for number, a, b in self._fields(start, stop):
            if number == 1 and b >= 0:
                name = self._text(a, b)
            elif number == 2 and b == _IS_FIXED32:
                numbers += self._packed(a, b, "<f4")
            elif number == 3 and b == _IS_VARINT:
                numbers.append(_signed(a))
            elif number == 7:
                numbers += self._packed(a, b, "<f4")
            elif number == 8:
                numbers += self._varints(a, b)
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
        for number, a, b in self._fields(start, stop):
            if number == 1:
                tensor.dims += self._varints(a, b)
            elif number == 2 and b == _IS_VARINT:
                tensor.dtype = a
            elif number in _TYPED:
                typed.append((number, a, b))
            elif number == 14 and b == _IS_VARINT:
                tensor.is_external = a == 1
            elif b < 0:
                continue
            elif number == 8:
                tensor.name = self._text(a, b)
            elif number == 9:
                raw = (a, b)
            elif number == 13:
                external |= self._entry(a, b)
        tensor.external = external
        if raw is not None:
            tensor.n_bytes = raw[1] - raw[0]
            if tensor.dtype in READABLE and tensor.n_bytes <= 8 * MOST_READ:
                tensor.values = tuple(self._packed(*raw, READABLE[tensor.dtype]))
        elif typed:
            # A number of eight bytes may be written as one.
            tensor.n_bytes = 8 * sum(b - a if b >= 0 else 1 for _, a, b in typed)
            if tensor.n_bytes <= 64 * MOST_READ:
                tensor.values = tuple(x for number, a, b in typed for x in self._typed(number, a, b))
        return tensor

    def _typed(self, number: int, start: int, stop: int) -> Iterable[float]:
        dtype = _TYPED[number]
        return self._varints(start, stop) if dtype is None else self._packed(start, stop, dtype)

    def _entry(self, start: int, stop: int) -> dict[str, str]:
        key = value = ""
        for number, a, b in self._fields(start, stop):
            if number == 1 and b >= 0:
                key = self._text(a, b)
            elif number == 2 and b >= 0:
                value = self._text(a, b)
        return {key: value}

    def _fields(self, start: int, stop: int) -> list[tuple[int, int, int]]:
        """Return number, start and stop of each field that has a length.

        Of one that is a number the third is below 0 and says which kind: the second is the value of a varint,
        or where a number of a fixed length begins.
        """
        data, left = self._data, self._left
        fields: list[tuple[int, int, int]] = []
        while start < stop and len(fields) <= left:
            key = data[start]
            start += 1
            if key > 127:
                key, start = self._varint(start - 1, stop)
            kind = key & 7
            if kind == _BYTES:
                if start >= stop:
                    raise ModelError("not an ONNX file: it ends within a field")
                length = data[start]
                start += 1
                if length > 127:  # most are short, and calls take most of the time
                    length, start = self._varint(start - 1, stop)
                end = start + length
                if end > stop:
                    raise ModelError("not an ONNX file: a field reaches beyond its end")
                fields.append((key >> 3, start, end))
                start = end
            elif kind == _VARINT:
                if start < stop and data[start] < 128:
                    value, start = data[start], start + 1
                else:
                    value, start = self._varint(start, stop)
                fields.append((key >> 3, value, _IS_VARINT))
            elif kind in (_FIXED32, _FIXED64):
                end = start + (4 if kind == _FIXED32 else 8)
                if end > stop:
                    raise ModelError("not an ONNX file: it ends within a number")
                fields.append((key >> 3, start, _IS_FIXED32 if kind == _FIXED32 else _IS_FIXED64))
                start = end
            else:
                raise ModelError(f"not an ONNX file: a field of the unknown kind {kind}")
        self._spend(len(fields))
        return fields

    def _varint(self, start: int, stop: int) -> tuple[int, int]:
        value = 0
        for k in range(_LONGEST_VARINT):
            if start >= stop:
                break
            byte = self._data[start]
            start += 1
            value |= (byte & 127) << 7 * k
            if byte < 128:
                return value, start
        raise ModelError("not an ONNX file: a number that doesn't end")

    def _varints(self, start: int, stop: int) -> list[int]:
        # A field of several numbers is written as one, or each by itself.
        if stop < 0:
            return [_signed(start)] if stop == _IS_VARINT else []
        self._spend(stop - start)
        packed = self._data[start:stop]
        if packed.isascii():  # numbers of one byte
            return list(packed)
        values: list[int] = []
        while start < stop:
            value, start = self._varint(start, stop)
            values.append(_signed(value))
        return values

    def _packed(self, start: int, stop: int, dtype: str) -> list[float]:
        n_bytes = np.dtype(dtype).itemsize
        if stop < 0:
            stop = start + n_bytes if stop == _IS_FIXED[n_bytes] else start
        count = (stop - start) // n_bytes
        self._spend(count)
        return decode(self._data, start, count * n_bytes, dtype)

    def _spend(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise ModelError(f"it has more than {_MOST_FIELDS} fields and numbers, and no voice has")

    def _text(self, start: int, stop: int) -> str:
        try:
            return self._data[start:stop].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"not an ONNX file: a name is not UTF-8: {error}") from error


def decode(data: bytes, start: int, n_bytes: int, dtype: str) -> list[float]:
    """Return the numbers that lie in a file from some byte on."""
    count = n_bytes // np.dtype(dtype).itemsize
    found: list[float] = np.frombuffer(data, dtype, count, start).tolist() if count else []
    return found


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value
