"""One file for the weights of all graphs of a voice, each weight once.

A compiled graph differs from the plain one in its operators and shares most of its weights, so graphs leave
out what is large, and name where it lies in ``weights.bin``, as ONNX's external data does. Any program that
reads ONNX reads such a graph where it lies. Tensors with the same bytes have the same place, whatever their
shapes: a kernel with one axis more is the same kernel. One that is another in a different order of its axes
is made of that by a few constant nodes, which a runtime computes once, when it loads the graph.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.voice.rearranged import View, find_view

if TYPE_CHECKING:
    import onnx

WEIGHTS_FILE = "weights.bin"

_LEAST_BYTES = 1024  # smaller tensors stay in their graph
_LEAST_VIEWED = 16384  # bytes; nobody looks for a smaller tensor in another order
_ALIGNMENT = 64  # a cache line; ONNX asks for no more where nothing is mapped
_PREFIX = "weights.bin:"  # of the names of nodes that put weights in order


class WeightsWriter:
    """Collects the weights of graphs."""

    def __init__(self) -> None:
        self._data = bytearray()
        self._places: dict[bytes, tuple[int, View | None]] = {}
        self._of_content: dict[tuple[int, int], list[int]] = {}

    @property
    def data(self) -> bytes:
        """The content of the file; empty if no graph has given anything."""
        return bytes(self._data)

    def take(self, model: onnx.ModelProto) -> bytes:
        """Take the weights out of a copy of a graph, and return that as bytes."""
        import onnx
        from onnx import numpy_helper

        lighter = onnx.ModelProto()
        lighter.CopyFrom(model)
        ordering: list[onnx.NodeProto] = []
        for tensor in list(lighter.graph.initializer):
            data = tensor.raw_data
            if not data and tensor.data_type != onnx.TensorProto.STRING:
                data = numpy_helper.to_array(tensor).tobytes()
            if len(data) < _LEAST_BYTES:
                continue
            offset, view = self.place(data)
            name, dims, kind = tensor.name, list(tensor.dims), tensor.data_type
            if view is not None:
                ordering += _order(lighter.graph, name, dims, view)
                name, dims = _PREFIX + name, list(view.shape)
            tensor.Clear()
            tensor.name, tensor.data_type = name, kind
            tensor.dims.extend(dims)
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", WEIGHTS_FILE), ("offset", offset), ("length", len(data))):
                tensor.external_data.add(key=key, value=str(value))
        nodes = [*ordering, *lighter.graph.node]
        lighter.graph.ClearField("node")
        lighter.graph.node.extend(nodes)
        graph: bytes = lighter.SerializeToString(deterministic=True)
        return graph

    def place(self, data: bytes) -> tuple[int, View | None]:
        """Take some weights; return where they begin, and in which order they lie there, if it is another."""
        digest = hashlib.sha256(data).digest()
        if digest in self._places:
            return self._places[digest]
        viewable = len(data) >= _LEAST_VIEWED and len(data) % 4 == 0
        numbers = np.frombuffer(data, np.uint32) if viewable else np.empty(0, np.uint32)
        content = len(data), int(numbers.sum(dtype=np.uint64))  # the same in any order
        for offset in self._of_content.get(content, ()) if viewable else ():
            source = np.frombuffer(bytes(self._data[offset : offset + len(data)]), np.uint32)
            view = find_view(source, numbers)
            if view is not None:
                self._places[digest] = offset, view
                return offset, view
        self._data.extend(bytes(-len(self._data) % _ALIGNMENT))
        self._places[digest] = len(self._data), None
        self._of_content.setdefault(content, []).append(len(self._data))
        self._data.extend(data)
        return self._places[digest]


def _order(graph: onnx.GraphProto, name: str, dims: list[int], view: View) -> list[onnx.NodeProto]:
    """Return nodes that make a tensor of the one that lies in the file, and add their small operands."""
    from onnx import helper, numpy_helper

    source = _PREFIX + name
    nodes: list[onnx.NodeProto] = []

    def add(op_type: str, *operands: list[int], **attributes: Any) -> None:
        names = [f"{source}.{len(nodes)}.{k}" for k in range(len(operands))]
        graph.initializer.extend(
            numpy_helper.from_array(np.array(numbers, np.int64), operand)
            for operand, numbers in zip(names, operands, strict=True)
        )
        before = nodes[-1].output[0] if nodes else source
        out = f"{source}.{len(nodes)}"
        nodes.append(helper.make_node(op_type, [before, *names], [out], name=out, **attributes))

    if view.flipped:
        n = len(view.flipped)
        add("Slice", [-1] * n, [-(2**63)] * n, list(view.flipped), [-1] * n)
    add("Transpose", perm=list(view.order))
    add("Reshape", dims)
    nodes[-1].output[0] = name
    return nodes


def put_back(model: onnx.ModelProto, weights: bytes) -> onnx.ModelProto:
    """Return a graph that holds its weights again, in the order in which they are read; it is changed."""
    from onnx import numpy_helper
    from onnx.reference import ReferenceEvaluator

    graph = model.graph
    for tensor in graph.initializer:
        places = {entry.key: entry.value for entry in tensor.external_data}
        if places:
            offset = int(places["offset"])
            tensor.raw_data = weights[offset : offset + int(places["length"])]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    ordering = [node for node in graph.node if node.name.startswith(_PREFIX)]
    if not ordering:
        return model
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    operands = {str(name) for node in ordering for name in node.input}
    arrays: dict[str, AnyArray] = {
        name: numpy_helper.to_array(tensors[name]) for name in operands if name in tensors
    }
    for node in ordering:
        name = str(node.output[0])
        made = ReferenceEvaluator(node).run(None, {str(x): arrays[x] for x in node.input})
        arrays[name] = cast("list[AnyArray]", made)[0]
        if not name.startswith(_PREFIX):
            tensors[name] = numpy_helper.from_array(arrays[name], name)
    kept = [node for node in graph.node if not node.name.startswith(_PREFIX)]
    graph.ClearField("node")
    graph.node.extend(kept)
    graph.ClearField("initializer")
    graph.initializer.extend(tensor for name, tensor in tensors.items() if name not in operands)
    return model
