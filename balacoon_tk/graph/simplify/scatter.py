"""Frames that are added up at computed places, as the transposed convolution that this is.

Without an operator for it, overlap-add is written as a ``ScatterND`` or ``ScatterElements`` that adds the
elements of all frames to zeros, at ``hop * t + j``. The places are computed from nothing but constants and
``Range``, so that they follow from the number of frames; they are computed here as well, and it is looked
whether every frame's are the same but for a constant step. If they are anything else, it is left as it is.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk._typing import AnyArray, IntArray
from balacoon_tk.graph.edit import Names, Writer, bypass
from balacoon_tk.graph.lengths import read_lengths
from balacoon_tk.graph.match import constant_of, is_standard, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.simplify.spectra import steps_behind

_KEEP_ORDER = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_OF_TWO = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract}


def write_scattered_frames(model: ir.Model, probe: Probe) -> bool:
    """Write frames that are added up at computed places as transposed convolutions; say whether any were.

    The probe is of the graph; of what is new nothing has been seen: probe the graph again.
    """
    names, modified = Names(model.graph), False
    for node in list(model.graph):
        is_scatter = is_standard(node) and node.op_type in ("ScatterElements", "ScatterND")
        if is_scatter and node.attributes.get_string("reduction", "none") == "add":
            write = Writer(model.graph, names, f"{node.name or node.op_type}.frames")
            out = _write(node, model.graph, probe, write)
            if out is not None:
                model.graph.insert_before(node, write.nodes)
                modified |= bypass(model.graph, node.outputs[0], out)
    if modified:
        RemoveUnusedNodesPass()(model)
    return modified


def _write(node: ir.Node, graph: ir.Graph, probe: Probe, write: Writer) -> ir.Value | None:
    data, places, updates = node.inputs
    shapes = probe.shapes.get(name_of(node.outputs[0]), ())
    axes = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
    # A single signal: then a place is a number, whatever axes of length 1 there are.
    if len(axes) != 1 or prod(shapes[0]) != shapes[0][axes[0]]:
        return None
    if node.op_type == "ScatterElements":
        is_along_time = node.attributes.get_int("axis", 0) % len(shapes[0]) == axes[0]
    else:  # each index is a single number, so it is one into the first axis
        is_along_time = axes[0] == 0 and probe.shape_of(places)[-1:] == (1,)
    size = None if data is None else _shape_of_zeros(data)
    sizes = None if size is None else read_lengths(graph, probe).get(size)
    if not is_along_time or sizes is None:
        return None
    frames = _frames_of(updates, probe)
    if frames is None:
        return None
    value, axis = frames
    found = [_placement(places, value, axis, probe, k) for k in range(len(probe.n_frames))]
    first = found[0]
    if first is None or any(each is None or not _equal(each, first) for each in found):
        return None
    hop, offsets = first
    length = int(offsets.max()) + 1
    # Aligned at the end, as what is expanded is.
    whole = sizes.values.reshape(-1)[axes[0] - len(shapes[0])]
    rest = steps_behind(whole, sizes.n, probe.shapes[name_of(value)], axis, hop, length)
    if rest is None:
        return None
    shape = probe.shape_of(value)
    kernels = np.zeros((offsets.size, 1, length), probe.dtypes[name_of(value)])
    kernels[np.arange(offsets.size), 0, offsets.reshape(-1)] = 1
    order = [*(k for k in range(len(shape)) if k != axis), axis]
    channels = write.one(
        "Reshape", write.one("Transpose", value, perm=order), write.ints(1, offsets.size, -1)
    )
    form = {"strides": [hop], "kernel_shape": [length], "output_padding": [rest]}
    added = write.one("ConvTranspose", channels, write.constant(kernels), **form)
    target = [-1 if k == axes[0] else 1 for k in range(len(shapes[0]))]
    return write.one("Reshape", added, write.ints(*target))


def _shape_of_zeros(value: ir.Value) -> ir.Value | None:
    """Return the shape that zeros are made to."""
    node = value.producer()
    if node is None or node.op_type not in ("ConstantOfShape", "Expand"):
        return None
    if node.op_type == "Expand":
        filling = constant_of(node, 0)
        return node.inputs[1] if filling is not None and not filling.any() else None
    given = node.attributes.get("value")
    return node.inputs[0] if given is None or not given.as_tensor().numpy().any() else None


def _frames_of(value: ir.Value | None, probe: Probe) -> tuple[ir.Value, int] | None:
    """Return the tensor of frames whose elements these are, in its order, and its time axis."""
    while value is not None:
        shapes = probe.shapes.get(name_of(value), ())
        axes = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if len(set(sizes)) > 1]
        # As long as time has all elements to itself, frames are not told apart.
        if len(axes) == 1 and prod(shapes[0]) > shapes[0][axes[0]]:
            return value, axes[0]
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in _KEEP_ORDER else None
    return None


def _placement(
    places: ir.Value | None, frames: ir.Value, axis: int, probe: Probe, k: int
) -> tuple[int, IntArray] | None:
    """Return the steps from frame to frame, and where each element of a frame goes, at one of the lengths."""
    shape = probe.shapes[name_of(frames)][k]
    found = _compute(places, probe, k)
    if found is None or found.size != prod(shape):
        return None
    by_frame = np.moveaxis(found.reshape(shape), axis, 0).reshape(shape[axis], -1)
    steps = np.diff(by_frame, axis=0)
    if steps.min() < 1 or steps.min() != steps.max() or by_frame.min() < 0:
        return None
    return int(steps[0, 0]), by_frame[0]


def _equal(a: tuple[int, IntArray], b: tuple[int, IntArray]) -> bool:
    return a[0] == b[0] and np.array_equal(a[1], b[1])


def _compute(value: ir.Value | None, probe: Probe, k: int) -> AnyArray | None:
    """Return a value that is made of constants and ramps alone, at one of the lengths; else None.

    Sums and products keep every element a polynomial in its place, whose degree is far below the number of
    frames that were seen: what holds of all of these holds of any number.
    """
    node = None if value is None else value.producer()
    if value is None or (node is None and value.const_value is None):
        return None
    if node is None:
        return None if value.is_graph_input() or value.const_value is None else value.const_value.numpy()
    shape = probe.shapes.get(name_of(value), [()] * (k + 1))[k]
    if node.op_type == "Range":
        start, step = constant_of(node, 0), constant_of(node, 2)
        return None if start is None or step is None else start + step * np.arange(shape[0])
    parts = [_compute(each, probe, k) for each in node.inputs[: 2 if node.op_type in _OF_TWO else 1]]
    if not parts or parts[0] is None:
        return None
    if node.op_type in _OF_TWO:
        return None if parts[1] is None else _OF_TWO[node.op_type](parts[0], parts[1])
    if node.op_type in _KEEP_ORDER:
        return parts[0].reshape(shape)
    if node.op_type == "Expand":
        return np.broadcast_to(parts[0], shape)
    if node.op_type == "Transpose":
        return parts[0].transpose(node.attributes.get_ints("perm", None))
    # To bytes it would wrap round.
    is_wide = node.op_type == "Cast" and node.attributes["to"].as_int() in (
        ir.DataType.INT32,
        ir.DataType.INT64,
    )
    return parts[0] if is_wide else None
