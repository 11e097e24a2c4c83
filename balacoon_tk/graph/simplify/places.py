"""Where frames lie in a signal, as graphs compute it that gather or scatter them: ``hop * t + j``.

Places are computed from nothing but constants and ``Range``, so that they follow from the number of frames.
They are computed here as well, and it is looked whether every frame's are the same but for a constant step.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray, IntArray
from balacoon_tk.graph.match import constant_of, name_of
from balacoon_tk.graph.probe import Probe

KEEP_ORDER = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""Operators that move no element, and change a shape alone."""

_OF_TWO = {"Add": np.add, "Mul": np.multiply, "Sub": np.subtract}


def find_placement(
    places: ir.Value | None, shapes: Sequence[tuple[int, ...]], axis: int, probe: Probe
) -> tuple[int, IntArray] | None:
    """Return the steps from frame to frame, and where each element of the first frame lies.

    The `shapes` are those of the frames at the probe's lengths, whose time is on an axis; their elements are
    in the order of the places. None if these aren't known, or are anything else.
    """
    found: tuple[int, IntArray] | None = None
    for k, shape in enumerate(shapes):
        numbers = _compute(places, probe, k)
        if numbers is None or numbers.size != prod(shape):
            return None
        by_frame = np.moveaxis(numbers.reshape(shape), axis, 0).reshape(shape[axis], -1)
        steps = np.diff(by_frame, axis=0)
        if not steps.size or steps.min() < 1 or steps.min() != steps.max() or by_frame.min() < 0:
            return None
        hop, offsets = int(steps[0, 0]), by_frame[0]
        if found is not None and (hop != found[0] or not np.array_equal(offsets, found[1])):
            return None
        found = hop, offsets
    return found


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
    if node.op_type in KEEP_ORDER:
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
