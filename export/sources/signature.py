"""What an ONNX file takes, read without running it: enough to tell kinds of trained models apart."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import onnx

from balacoon_tk.errors import ModelError

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True, slots=True)
class Signature:
    """Names, types and ranks of a graph's inputs."""

    names: tuple[str, ...]
    is_float: tuple[bool, ...]
    ranks: tuple[int, ...]

    @property
    def is_one_float_tensor(self) -> bool:
        """Whether all that goes in are floats, the first of them frames: a batch, channels and time."""
        return bool(self.names) and all(self.is_float) and self.ranks[0] == 3


def read_signature(path: Path) -> Signature | None:
    """Return what a graph takes; None if the path is no ONNX file that can be read."""
    if path.suffix.lower() != ".onnx" or not path.is_file():
        return None
    try:
        graph = load_onnx(path).graph
    except ModelError:
        return None
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    return Signature(
        names=tuple(value.name for value in inputs),
        is_float=tuple(value.type.tensor_type.elem_type in _FLOATS for value in inputs),
        ranks=tuple(len(value.type.tensor_type.shape.dim) for value in inputs),
    )


def load_onnx(path: Path) -> onnx.ModelProto:
    """Read an ONNX file, with the weights that may lie beside it.

    Raises
    ------
    ModelError
        If it is none, or damaged; the message doesn't name the path.
    """
    if not path.is_file():
        raise ModelError("no such file")
    try:
        model = onnx.load(path)
    except Exception as error:  # protobuf's errors have a module of their own in every version
        raise ModelError(f"not an ONNX file, or a damaged one: {error}") from error
    if not model.graph.node:
        raise ModelError("not an ONNX file, or a damaged one: there is no graph in it")
    return model
