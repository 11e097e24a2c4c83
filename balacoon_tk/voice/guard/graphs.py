"""Whether a graph may be run at all: looked at before ONNX Runtime reads it.

A voice's graph is a program that may come from anywhere. It is refused if it has operators that aren't
arithmetic, names another file than the voice's weights, says that a constant has more numbers than there are,
or would make tensors of gigabytes of constant sizes. What a graph computes from a text is bounded where it
is run; a size that it computes itself is not known here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.session import is_ort_format
from balacoon_tk.runtime.stateful_graph import StreamingSpec
from balacoon_tk.voice.guard.onnx_reader import Graph, Node, Tensor, read_model
from balacoon_tk.voice.guard.operators import ALLOWED
from balacoon_tk.voice.guard.ort_reader import read_ort_model
from balacoon_tk.voice.guard.recurrences import GUARDED
from balacoon_tk.voice.guard.sizes import known_values, made_by
from balacoon_tk.voice.guard.streams import check_streaming_spec

_MOST_NODES = 50_000
_MOST_ELEMENTS = 1 << 40  # of a constant: products of axes stay far within what C counts with
_MOST_MADE = 1 << 25
_STRING = 8
# Of an element, by onnx.TensorProto.DataType; half a byte where two lie in one.
_ITEM_BYTES: Mapping[int, float] = {
    **dict.fromkeys((2, 3, 9, 17, 18, 19, 20, 24), 1),
    **dict.fromkeys((4, 5, 10, 16), 2),
    **dict.fromkeys((1, 6, 12), 4),
    **dict.fromkeys((7, 11, 13, 14), 8),
    15: 16,
    **dict.fromkeys((21, 22, 23), 0.5),
    **dict.fromkeys((25, 26), 0.25),
}


@dataclass(frozen=True, slots=True)
class ExternalFile:
    """The one file beside a graph that it may name."""

    name: str
    n_bytes: int


def check_graph(data: bytes, beside: ExternalFile | None, *, is_ort: bool = False) -> frozenset[str]:
    """Refuse a graph that may not be run, with a `ModelError` that names the node.

    Parameters
    ----------
    data : bytes
        The file, in ONNX or in ONNX Runtime's own format.
    beside : ExternalFile or None
        The voice's weights.
    is_ort : bool
        Whether its name says that it is in ONNX Runtime's own format.

    Returns
    -------
    frozenset of str
        The operators of the graph, without those within branches and loops.
    """
    # ONNX Runtime goes by the name or by the content, and must not read another graph than was looked at.
    if is_ort != is_ort_format(data):
        raise ModelError(
            "the name of the file must end in .ort if it is in ONNX Runtime's own format, and only then"
        )
    model = read_ort_model(data) if is_ort else read_model(data)
    if model.n_functions:
        raise ModelError(
            f"it has {model.n_functions} functions: must have none, as an exported voice; "
            "they are written out by `balacoon-tk export`"
        )
    _Check(beside).graph(model.graph, {})
    text = model.metadata.get(StreamingSpec.METADATA_KEY)
    if text is not None:
        check_streaming_spec(text, model.graph)
    found = frozenset(node.op_type for node in model.graph.nodes)
    if is_ort and found & GUARDED:
        raise ModelError(f"it has {_listed(found & GUARDED)}: may have none in ONNX Runtime's own format")
    return found


class _Check:
    def __init__(self, beside: ExternalFile | None) -> None:
        self._beside = beside
        self._n_nodes = 0
        self._n_made = 0.0  # numbers of the tensors that are made of constant sizes

    def graph(self, graph: Graph, outer: Mapping[str, Tensor], inside: str = "") -> None:
        """Check a graph; `outer` are the constants of those around it, `inside` says of which loop it is."""
        if graph.sparse:
            raise ModelError("a constant is sparse: must be written in full")
        self._n_nodes += len(graph.nodes)
        if self._n_nodes > _MOST_NODES:
            raise ModelError(f"it has {self._n_nodes} nodes or more: must be <= {_MOST_NODES}")
        constants = dict(outer)
        for tensor in graph.constants:
            self._tensor(tensor)
            constants[tensor.name] = tensor
        for name in graph.inputs if inside else ():
            constants.pop(name, None)  # a name of its own, which hides that of a constant outside
        for node in graph.nodes:
            self._node(node, constants, inside)

    def _node(self, node: Node, constants: dict[str, Tensor], inside: str) -> None:
        if node.op_type not in ALLOWED.get(node.domain, ()):
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ModelError(f"{name} node {node.name!r}: a voice's graph may not have this operator")
        if inside and node.op_type in GUARDED:
            raise ModelError(f"{node.op_type} node {node.name!r}: it may not stand within a branch or a loop")
        for tensor in node.tensors.values():
            self._tensor(tensor)
        if node.domain in ("", "ai.onnx"):
            self._n_made += made_by(node, constants)
            if self._n_made > _MOST_MADE:
                raise ModelError(
                    f"its nodes make {self._n_made:g} numbers of nothing: must be <= {_MOST_MADE}"
                )
            found = known_values(node, constants)
            if found is not None:
                constants[node.outputs[0]] = found
        if not node.graphs:
            return
        if node.op_type not in ("If", "Scan"):
            raise ModelError(f"{node.op_type} node {node.name!r}: it may not hold a graph")
        # Loops in loops would multiply their steps; each step of one is a step of a tensor that is there.
        if node.op_type == "Scan" and inside == "Scan":
            raise ModelError(f"Scan node {node.name!r}: it may not stand within another")
        for each in node.graphs:
            self.graph(each, constants, "Scan" if "Scan" in (inside, node.op_type) else node.op_type)

    def _tensor(self, tensor: Tensor) -> None:
        """Refuse a constant that has more numbers than there are, or that lies in another file."""
        what = f"the constant {tensor.name!r} of shape {tuple(tensor.dims)}"
        item = _ITEM_BYTES.get(tensor.dtype)
        if item is None or len(tensor.dims) > 16:
            rule = "texts" if tensor.dtype == _STRING else f"the dtype {tensor.dtype}"
            raise ModelError(f"{what}: must be of numbers and at most 16 axes, and is of {rule}")
        if min(tensor.dims, default=0) < 0 or (n_elements := math.prod(tensor.dims)) > _MOST_ELEMENTS:
            raise ModelError(f"{what}: its axes must be >= 0, and at most {_MOST_ELEMENTS} numbers in all")
        n_bytes = math.ceil(n_elements * item)
        if tensor.is_external:
            self._external(tensor, what, n_bytes)
        elif n_bytes > tensor.n_bytes:
            raise ModelError(f"{what} needs {n_bytes} bytes, and the file has {tensor.n_bytes} for it")

    def _external(self, tensor: Tensor, what: str, n_bytes: int) -> None:
        location, beside = tensor.external.get("location", ""), self._beside
        if beside is None or location != beside.name:
            allowed = "in no other file" if beside is None else f"in {beside.name}"
            raise ModelError(f"{what} lies in the file {location!r}: must lie {allowed}")
        try:
            offset, length = (
                int(tensor.external.get(key, default))
                for key, default in (("offset", "0"), ("length", str(n_bytes)))
            )
        except ValueError:
            raise ModelError(f"{what}: its offset and length must be whole numbers") from None
        if offset < 0 or length != n_bytes or offset + length > beside.n_bytes:
            raise ModelError(
                f"{what} lies at byte {offset}, {length} bytes long: must be {n_bytes} bytes within "
                f"the {beside.n_bytes} of {beside.name}"
            )


def _listed(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
