"""What ONNX Runtime itself says about a graph: the shape of every tensor at several lengths.

Trained graphs compute shapes in many ways (``Shape``, ``Gather``, ``Concat``, ``Reshape`` chains).
Instead of interpreting them, the graph is run at a few lengths with every tensor exposed. What the
operators do with time is then decided by rules; the probe only tells which numbers vary with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.session import Session

_MAX_VALUE_SIZE = 64
"""Tensors up to this size are kept with their values: shapes, paddings, slice bounds, scales."""

_LENGTHS = ((41, 48, 72), (48, 72, 120), (240, 360, 480), (720, 1440, 2160))
"""Numbers of frames to try: the first set also sees odd lengths; later ones suit graphs that fold
time by a factor or need many frames."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Shapes, and values of small tensors, at each of several lengths."""

    n_frames: tuple[int, ...]
    shapes: Mapping[str, tuple[tuple[int, ...], ...]]
    values: Mapping[str, tuple[AnyArray, ...]]
    dtypes: Mapping[str, np.dtype[np.generic]]

    def varies(self, name: str) -> bool:
        """Whether the shape of a tensor depends on the number of frames."""
        return len(set(self.shapes[name])) > 1


def probe(
    model: ir.Model,
    time_axes: Mapping[str, int],
    steps_per_frame: Mapping[str, int],
    *,
    lengths: Sequence[Sequence[int]] = _LENGTHS,
) -> Probe:
    """Run a graph at several lengths and record every tensor.

    Parameters
    ----------
    model : ir.Model
        The graph; it is not changed.
    time_axes : mapping of str to int
        The time axis of every input that has one.
    steps_per_frame : mapping of str to int
        How many steps each of these inputs has for one frame.

    Raises
    ------
    ModelError
        If the graph runs at none of the sets of lengths.
    """
    proto = ir.to_proto(model)
    outputs = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name and name not in outputs]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = Session(proto, optimize=False)
    inputs = graph_inputs(model)
    error: ModelError | None = None
    for candidate in lengths:
        try:
            runs: list[_Run] = []
            for n_frames in candidate:
                arrays = session.run(make_feeds(inputs, time_axes, steps_per_frame, n_frames))
                runs.append(_Run.of(arrays, runs[0].values if runs else _small(arrays)))
                del arrays  # every tensor of the graph: gigabytes, for a large one
        except ModelError as failed:
            error = failed
            continue
        return _record(runs, tuple(candidate), inputs, time_axes, steps_per_frame)
    raise ModelError(f"the graph runs at none of the lengths tried: {error}") from error


def graph_inputs(model: ir.Model) -> dict[str, ir.Value]:
    """Return the inputs of a graph by name, without those that are initializers."""
    return {
        value.name: value
        for value in model.graph.inputs
        if value.name is not None and value.name not in model.graph.initializers
    }


def make_feeds(
    inputs: Mapping[str, ir.Value],
    time_axes: Mapping[str, int],
    steps_per_frame: Mapping[str, int],
    n_frames: int,
    *,
    seed: int = 0,
) -> dict[str, AnyArray]:
    """Make random inputs of a number of frames; axes that are dynamic and not time get length 1."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, AnyArray] = {}
    for name, value in inputs.items():
        if value.shape is None or value.dtype is None:
            raise ModelError(f"input {name!r} has no declared shape or type")
        shape = [n if isinstance(n, int) else 1 for n in value.shape]
        if name in time_axes:
            shape[time_axes[name]] = n_frames * steps_per_frame[name]
        dtype = value.dtype.numpy()
        if np.issubdtype(dtype, np.floating):
            feeds[name] = rng.standard_normal(shape).astype(dtype)
        else:
            feeds[name] = np.zeros(shape, dtype)
    return feeds


@dataclass(frozen=True, slots=True)
class _Run:
    """What is kept of one run."""

    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, np.dtype[np.generic]]
    values: Mapping[str, AnyArray]

    @classmethod
    def of(cls, arrays: Mapping[str, AnyArray], kept: Iterable[str]) -> _Run:
        """Take the shapes, and copies of the arrays that are kept."""
        return cls(
            {name: array.shape for name, array in arrays.items()},
            {name: array.dtype for name, array in arrays.items()},
            {name: arrays[name].copy() for name in kept},
        )


def _small(arrays: Mapping[str, AnyArray]) -> list[str]:
    """Return the names of the tensors that are kept with their values."""
    return [
        name for name, array in arrays.items() if array.dtype.kind in "iubf" and array.size <= _MAX_VALUE_SIZE
    ]


def _record(
    runs: Sequence[_Run],
    n_frames: tuple[int, ...],
    inputs: Mapping[str, ir.Value],
    time_axes: Mapping[str, int],
    steps_per_frame: Mapping[str, int],
) -> Probe:
    shapes = {name: tuple(run.shapes[name] for run in runs) for name in runs[0].shapes}
    values = {name: tuple(run.values[name] for run in runs) for name in runs[0].values}
    dtypes = dict(runs[0].dtypes)
    for n in n_frames:
        for name, array in make_feeds(inputs, time_axes, steps_per_frame, n).items():
            shapes[name] = (*shapes.get(name, ()), array.shape)
            dtypes[name] = array.dtype
    return Probe(n_frames, shapes, values, dtypes)
