"""``Squeeze`` without axes drops whatever has length 1, in a push of one step also time: name the axes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import Names, Writer, bypass
from balacoon_tk.graph.match import input_of, is_standard, name_of
from balacoon_tk.graph.probe import Probe


def name_squeezed_axes(model: ir.Model, probe: Probe) -> bool:
    """Write out which axes each ``Squeeze`` drops, if these are the same at every length; say whether any.

    They are where time has more than one step even for a single frame. The probe is of the graph, and
    what is known of shapes stays true.
    """
    names, modified = Names(model.graph), False
    for node in list(model.graph):
        value = node.inputs[0] if node.op_type == "Squeeze" and is_standard(node) else None
        if value is None or input_of(node, 1) is not None or "axes" in node.attributes:
            continue
        columns = list(zip(*probe.shapes.get(name_of(value), ()), strict=True))
        dropped = [axis for axis, sizes in enumerate(columns) if set(sizes) == {1}]
        varying = [sizes for sizes in columns if len(set(sizes)) > 1]
        if not dropped or not all(_is_long(sizes, probe) for sizes in varying):
            continue
        write = Writer(model.graph, names, f"{node.name or 'Squeeze'}.named")
        out = write.over_axes("Squeeze", value, *dropped)
        model.graph.insert_before(node, write.nodes)
        if bypass(model.graph, node.outputs[0], out):
            model.graph.remove(node, safe=True)
            modified = True
    return modified


def _is_long(sizes: tuple[int, ...], probe: Probe) -> bool:
    # A length grows by a whole number of steps for each frame, or for several: on a line, more than one step
    # at one frame is more than one at all.
    n = np.array(probe.n_frames)
    slope = (sizes[-1] - sizes[0]) / (n[-1] - n[0])
    on_line = np.allclose(sizes[0] + slope * (n - n[0]), sizes)
    return bool(on_line and slope > 0 and sizes[0] + slope * (1 - n[0]) > 1)
