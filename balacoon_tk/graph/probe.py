"""What ONNX Runtime itself says about a graph: the shape of every tensor at several lengths.

Trained graphs compute shapes in many ways (``Shape``, ``Gather``, ``Concat``, ``Reshape`` chains).
Instead of interpreting them, the graph is run at a few lengths with every tensor exposed (`exposed`). What
the operators do with time is then decided by rules; the probe only tells which numbers vary with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.exposed import ExposedGraph
from balacoon_tk.graph.match import name_of
from balacoon_tk.runtime.process import give_back_memory

_T = TypeVar("_T")
_Lengths = TypeVar("_Lengths")

_MAX_VALUE_SIZE = 64  # elements; shapes, paddings, slice bounds and scales are kept with their values

# Numbers of frames to try. All tensors of a run are kept, so they begin short, also with an odd one; later
# ones suit graphs that need more frames, or fold time by a factor.
_LENGTHS = ((11, 12, 18), (41, 48, 72), (48, 72, 120), (240, 360, 480), (720, 1440, 2160))


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

    def varying_axis(self, value: ir.Value | None) -> int | None:
        """Return the one axis of a tensor whose length depends on the number of frames, if it is one."""
        columns = zip(*self.shapes.get(name_of(value), ()), strict=True)
        axes = [axis for axis, sizes in enumerate(columns) if len(set(sizes)) > 1]
        return axes[0] if len(axes) == 1 else None

    def shape_of(self, value: ir.Value | None, k: int = 0) -> tuple[int, ...]:
        """Return the shape of a tensor at one of the lengths; an empty one if it is left out."""
        # A constant isn't made by a node, so the runs haven't shown it.
        if value is not None and value.const_value is not None:
            return tuple(value.const_value.shape.numpy())
        seen = self.shapes.get(name_of(value))
        return () if seen is None else seen[k]


def probe(
    model: ir.Model,
    time_axes: Mapping[str, int],
    steps_per_frame: Mapping[str, int],
    *,
    lengths: Sequence[Sequence[int]] = _LENGTHS,
) -> Probe:
    """Run a graph at the first set of lengths that it runs at, and record every tensor.

    The inputs with time are given with the axis it is on, and with their steps for one frame.
    """
    try:
        return _probed(
            ExposedGraph(model, max_size=_MAX_VALUE_SIZE),
            graph_inputs(model),
            time_axes,
            steps_per_frame,
            lengths,
        )
    finally:
        give_back_memory()  # before as much is taken again


def _probed(
    graph: ExposedGraph,
    inputs: Mapping[str, ir.Value],
    time_axes: Mapping[str, int],
    steps_per_frame: Mapping[str, int],
    lengths: Sequence[Sequence[int]],
) -> Probe:

    def look(n_frames: Sequence[int]) -> Probe:
        shapes: dict[str, tuple[tuple[int, ...], ...]] = {}
        values: dict[str, tuple[AnyArray, ...]] = {}
        dtypes: dict[str, np.dtype[np.generic]] = {}
        for k, n in enumerate(n_frames):
            feeds = make_feeds(inputs, time_axes, steps_per_frame, n)
            seen = graph.run(feeds)
            arrays = {name: tensor.array for name, tensor in seen.items() if tensor.array is not None}
            # A tensor that is small at the first length is kept at all of them.
            for name in values if k else [name for name, array in arrays.items() if _is_small(array)]:
                values[name] = (*values.get(name, ()), arrays[name].copy())
            for name, tensor in seen.items():
                shapes[name] = (*shapes.get(name, ()), tensor.shape)
                dtypes[name] = tensor.dtype
            del seen, arrays, tensor  # megabytes, before there are as many again
        return Probe(tuple(n_frames), shapes, values, dtypes)

    try:
        return at_first_that_runs(lengths, look)
    except ModelError as error:
        axes = " and ".join(f"axis {axis} of {name!r}" for name, axis in time_axes.items())
        raise ModelError(
            f"the graph runs at none of the lengths tried on {axes}: if its export froze a length that is "
            f"declared dynamic, export it again without lengths in Python code ({error.__cause__})"
        ) from error


def _is_small(array: AnyArray) -> bool:
    return array.dtype.kind in "iubf" and array.size <= _MAX_VALUE_SIZE


def at_first_that_runs(candidates: Sequence[_Lengths], run: Callable[[_Lengths], _T]) -> _T:
    """Run a graph at one length, or set of lengths, after the other, until it doesn't fail."""
    error: ModelError | None = None
    for candidate in candidates:
        try:
            return run(candidate)
        except ModelError as failed:
            # Its frames hold the graph and what it ran on, and would hold each other with this one's.
            error = failed.with_traceback(None)
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
            # Ids and flags: a number that every table has, whatever it is looked up in.
            feeds[name] = np.zeros(shape, dtype)
    return feeds
