"""Frames that are added up at computed places, as the transposed convolution that this is.

Without an operator for it, overlap-add is written as a ``ScatterND`` or ``ScatterElements`` that adds the
elements of all frames to zeros, at ``hop * t + j``. If the places are anything else, or aren't known, it is
left as it is.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import Writer
from balacoon_tk.graph.lengths import read_lengths
from balacoon_tk.graph.match import constant_of, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.simplify.places import KEEP_ORDER, find_placement
from balacoon_tk.graph.simplify.replace_nodes import replace_nodes
from balacoon_tk.graph.simplify.spectra import steps_behind


def write_scattered_frames(model: ir.Model, probe: Probe) -> bool:
    """Write frames that are added up at computed places as transposed convolutions; as `replace_nodes`."""
    return replace_nodes(model, probe, dict.fromkeys(("ScatterElements", "ScatterND"), _write))


def _write(node: ir.Node, graph: ir.Graph, probe: Probe, write: Writer) -> ir.Value | None:
    if node.attributes.get_string("reduction", "none") != "add":
        return None
    data, places, updates = node.inputs
    shapes = probe.shapes.get(name_of(node.outputs[0]), ())
    time_axis = probe.varying_axis(node.outputs[0])
    # A single signal: then a place is a number, whatever axes of length 1 there are.
    if time_axis is None or prod(shapes[0]) != shapes[0][time_axis]:
        return None
    if node.op_type == "ScatterElements":
        is_along_time = node.attributes.get_int("axis", 0) % len(shapes[0]) == time_axis
    else:  # each index is a single number, so it is one into the first axis
        is_along_time = time_axis == 0 and probe.shape_of(places)[-1:] == (1,)
    size = None if data is None else _shape_of_zeros(data)
    sizes = None if size is None else read_lengths(graph, probe).get(size)
    if not is_along_time or sizes is None:
        return None
    frames = _frames_of(updates, probe)
    if frames is None:
        return None
    value, axis = frames
    placement = find_placement(places, probe.shapes[name_of(value)], axis, probe)
    if placement is None:
        return None
    hop, offsets = placement
    length = int(offsets.max()) + 1
    # Aligned at the end, as what is expanded is.
    whole = sizes.values.reshape(-1)[time_axis - len(shapes[0])]
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
    target = [-1 if k == time_axis else 1 for k in range(len(shapes[0]))]
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
        axis, shape = probe.varying_axis(value), probe.shape_of(value)
        # As long as time has all elements to itself, frames are not told apart.
        if axis is not None and prod(shape) > shape[axis]:
            return value, axis
        node = value.producer()
        value = node.inputs[0] if node is not None and node.op_type in KEEP_ORDER else None
    return None
