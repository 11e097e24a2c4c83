"""What stands in a graph in ONNX Runtime's own format, as `guard.onnx_reader` says it of ONNX.

The format is a FlatBuffer: tables, whose fields are found by offsets. Every offset is held against the end of
the file, and a bounded number of tables is read. The numbers of fields are those of ort.fbs, version 6.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from balacoon_tk.errors import ModelError
from balacoon_tk.voice.guard.onnx_reader import MOST_DEPTH, MOST_READ, READABLE, Graph, Model, Node, Tensor
from balacoon_tk.voice.guard.wire import decode

_MOST_TABLES = 1_000_000


def read_ort_model(data: bytes) -> Model:
    """Read a graph in ONNX Runtime's own format; `ModelError` says that it is none."""
    try:
        return _Reader(data).model()
    except struct.error as error:
        raise ModelError(f"not in ONNX Runtime's format: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._left = _MOST_TABLES

    def model(self) -> Model:
        session = self._number("<I", 0)
        model = self._table(session, 1)
        graph = None if model is None else self._table(model, 7)
        if graph is None:
            raise ModelError("not in ONNX Runtime's format: there is no graph")
        entries = () if model is None else self._tables(model, 8)
        metadata = {self._text(entry, 0): self._text(entry, 1) for entry in entries}
        return Model(self._graph(graph, 0), metadata=metadata)

    def _graph(self, table: int, depth: int) -> Graph:
        if depth > MOST_DEPTH:
            raise ModelError(f"its graphs lie more than {MOST_DEPTH} deep in each other")
        return Graph(
            nodes=[self._node(each, depth) for each in self._tables(table, 2)],
            constants=[self._tensor(each) for each in self._tables(table, 0)],
            inputs=self._texts(table, 5),
            outputs=self._texts(table, 6),
            sparse=any(True for _ in self._tables(table, 7)),
        )

    def _node(self, table: int, depth: int) -> Node:
        node = Node(
            op_type=self._text(table, 5),
            domain=self._text(table, 2),
            name=self._text(table, 0),
            inputs=self._texts(table, 8),
            outputs=self._texts(table, 9),
        )
        for each in self._tables(table, 10):
            name = self._text(each, 0)
            numbers: list[float] = []
            for key, kind in ((3, "<f"), (4, "<q")):
                if (place := self._field(each, key)) is not None:
                    numbers.append(self._number(kind, place))
            numbers += self._vector(each, 8, "f4")
            numbers += self._vector(each, 9, "i8")
            node.numbers[name] = tuple(numbers)
            tensors = [self._table(each, 6), *self._tables(each, 11)]
            graphs = [self._table(each, 7), *self._tables(each, 12)]
            node.graphs += [self._graph(inner, depth + 1) for inner in graphs if inner is not None]
            for tensor in tensors:
                if tensor is not None:
                    node.tensors[name] = self._tensor(tensor)
        return node

    def _tensor(self, table: int) -> Tensor:
        place = self._field(table, 3)
        tensor = Tensor(
            name=self._text(table, 0),
            dims=[int(n) for n in self._vector(table, 2, "i8")],
            dtype=0 if place is None else self._number("<i", place),
        )
        start, tensor.n_bytes = self._span(table, 4)
        if tensor.n_bytes <= 8 * MOST_READ and tensor.dtype in READABLE:
            tensor.values = tuple(decode(self._data, start, tensor.n_bytes, READABLE[tensor.dtype]))
        if (offset := self._field(table, 6)) is not None and self._number("<q", offset) >= 0:
            tensor.is_external = True  # in a file of its own, which no voice has
        return tensor

    def _number(self, kind: str, place: int) -> int:
        found: int = struct.unpack_from(kind, self._data, place)[0]
        return found

    def _field(self, table: int, key: int) -> int | None:
        """Return where a field of a table lies, None if it isn't there."""
        layout = table - self._number("<i", table)
        if not 0 <= layout <= len(self._data):
            raise ModelError("not in ONNX Runtime's format: a table's layout lies outside of it")
        if 4 + 2 * key >= self._number("<H", layout):
            return None
        offset = self._number("<H", layout + 4 + 2 * key)
        return table + offset if offset else None

    def _table(self, table: int, key: int) -> int | None:
        place = self._field(table, key)
        return None if place is None else self._followed(place)

    def _followed(self, place: int) -> int:
        self._left -= 1
        if self._left < 0:
            raise ModelError(f"it has more than {_MOST_TABLES} tables, and no voice has")
        return place + self._number("<I", place)

    def _span(self, table: int, key: int, item: int = 1) -> tuple[int, int]:
        """Return where the items of a vector begin, and how many there are."""
        place = self._table(table, key)
        if place is None:
            return 0, 0
        count = self._number("<I", place)
        if place + 4 + count * item > len(self._data):
            raise ModelError("not in ONNX Runtime's format: a list reaches beyond its end")
        return place + 4, count

    def _tables(self, table: int, key: int) -> Iterator[int]:
        start, count = self._span(table, key, 4)
        for k in range(count):
            yield self._followed(start + 4 * k)

    def _vector(self, table: int, key: int, dtype: str) -> list[float]:
        n_bytes = int(dtype[1:])
        start, count = self._span(table, key, n_bytes)
        if count > _MOST_TABLES:
            raise ModelError(f"a list of {count} numbers: must be <= {_MOST_TABLES}")
        return decode(self._data, start, count * n_bytes, f"<{dtype}")

    def _text(self, table: int, key: int) -> str:
        start, count = self._span(table, key)
        return self._decoded(start, count)

    def _texts(self, table: int, key: int) -> list[str]:
        # A list of texts is one of offsets, as that of tables is.
        return [self._decoded(place + 4, self._length(place)) for place in self._tables(table, key)]

    def _length(self, place: int) -> int:
        count = self._number("<I", place)
        if place + 4 + count > len(self._data):
            raise ModelError("not in ONNX Runtime's format: a text reaches beyond its end")
        return count

    def _decoded(self, start: int, count: int) -> str:
        try:
            return self._data[start : start + count].decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelError(f"not in ONNX Runtime's format: a name is not UTF-8: {error}") from error
