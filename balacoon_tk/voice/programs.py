"""A program of the native engine as a file of a voice, with its arrays among the weights of the graphs.

A program's arrays are mostly weights of the plain graph, as they lie there or in another order. So the file
says of each array where it begins in ``weights.bin`` and how it is read from there; NumPy alone can do that.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.voice.guard.programs import check_program_records
from balacoon_tk.voice.rearranged import View
from balacoon_tk.voice.weights import WeightsWriter

if TYPE_CHECKING:
    from balacoon_tk.voice.files import VoiceFiles
    from balacoon_tk.voice.manifest import FileInfo, StreamingInfo

_DTYPES = ("float32", "float16", "int8", "uint8", "int32", "int64")
_LEAST_HALVED = 256  # numbers; as graphs of half precision have it


def pack_program(program: Program, writer: WeightsWriter) -> bytes:
    """Give a program's arrays to the weights of a voice, and return the rest as the bytes of a file.

    `ModelError` says that an array is of a dtype that the file has no name for, or holds NaN or infinity.
    """
    places = {name: _place(name, array, writer) for name, array in program.arrays.items()}
    data = {"program": json.loads(program.to_json()), "arrays": places}
    return (json.dumps(data, indent=1) + "\n").encode()


def read_program(data: bytes, weights: NDArray[np.uint8]) -> Program:
    """Return the program of a file, its arrays views of the weights where they lie as they are read.

    Parameters
    ----------
    data : bytes
        What `pack_program` has returned.
    weights : ndarray of shape (n_bytes,), uint8
        Content of ``weights.bin``.

    Raises
    ------
    ModelError
        If there is no such program in it, or an array lies outside of the weights.
    """
    try:
        content = json.loads(data)
        check_program_records(content["program"])
        arrays = {name: _read(name, place, weights) for name, place in content["arrays"].items()}
        text = json.dumps(content["program"])
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"not a native program: {error}") from error
    return Program.from_json(text, arrays)


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    """What the native engine runs of a voice."""

    file: str
    n_bytes: int
    """Of the file, without the weights, which are the graphs' as well."""
    n_stages: int
    kinds: Mapping[str, int]
    """Stages by their kind, the most frequent first."""
    n_parameters: int
    max_abs_diff: float | None
    """Of a decoder's program: the largest difference seen to the plain decoder's samples."""


def describe_program(
    files: VoiceFiles, info: FileInfo, streaming: StreamingInfo | None = None
) -> ProgramInfo:
    """Say what a program of a voice is, and how it streams, if it is the decoder's."""
    program = files.program(info)
    return ProgramInfo(
        file=info.file,
        n_bytes=len(files.member(info.file)),
        n_stages=len(program.stages),
        kinds=dict(Counter(stage.kind for stage in program.stages).most_common()),
        n_parameters=sum(array.size for array in program.arrays.values()),
        max_abs_diff=None if streaming is None else streaming.max_abs_diff,
    )


def _place(name: str, array: AnyArray, writer: WeightsWriter) -> dict[str, Any]:
    if array.dtype.name not in _DTYPES:
        raise ModelError(f"arrays[{name!r}] is of {array.dtype}: must be one of {', '.join(_DTYPES)}")
    _check_finite(name, array)
    stored = _halved(array)
    offset, view = writer.place(stored.tobytes())
    place: dict[str, Any] = {"dtype": array.dtype.name, "shape": list(array.shape), "offset": offset}
    if stored.dtype != array.dtype:
        place["stored"] = stored.dtype.name
    return place if view is None else {**place, "view": asdict(view)}


def _halved(array: AnyArray) -> AnyArray:
    """Return an array in half precision if that holds it exactly, and else as it is."""
    # A voice in fp16 computes in float32: in full its weights would lie there again, at twice the size.
    if array.dtype != np.float32 or array.size < _LEAST_HALVED:
        return array
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    return half if np.array_equal(half, array) else array


def _read(name: str, place: dict[str, Any], weights: NDArray[np.uint8]) -> AnyArray:
    shape, offset = tuple(place["shape"]), place["offset"]
    dtype, stored = place["dtype"], place.get("stored", place["dtype"])
    if dtype not in _DTYPES or stored not in _DTYPES:
        raise ModelError(f"arrays[{name!r}].dtype={dtype!r} must be one of {', '.join(_DTYPES)}")
    stop = offset + math.prod(shape) * np.dtype(stored).itemsize
    if not 0 <= offset <= stop <= len(weights):
        raise ModelError(f"arrays[{name!r}] ends at byte {stop}: must be <= {len(weights)}")
    lying = weights[offset:stop]
    if "view" in place:
        view = View(**{key: tuple(numbers) for key, numbers in place["view"].items()})
        lying = np.ascontiguousarray(view.of(lying.view(np.uint32))).view(np.uint8)
    array: AnyArray = lying.view(stored).reshape(shape).astype(dtype, copy=False)
    _check_finite(name, array)
    return array


def _check_finite(name: str, array: AnyArray) -> None:
    # NaN is its own smallest and largest number; the two are found faster than each is looked at.
    if array.dtype.kind == "f" and array.size and not np.isfinite([array.min(), array.max()]).all():
        raise ModelError(f"arrays[{name!r}] holds NaN or infinity")
