"""Give a Squeeze that drops whatever has length 1 the axes that it drops.

Without axes it would also drop time where a push brings a single step. An utterance of one frame is such a
push to the original as well, so this is done only where time has two steps or more for the first frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import add_constant, bypass
from balacoon_tk.graph.match import input_of, is_standard, name_of
from balacoon_tk.graph.probe import Probe


def name_squeezed_axes(graph: ir.Graph, probe: Probe) -> None:
    """Write the axes into every Squeeze of a tensor with time that has none, where they are certain."""
    for node in list(graph):
        given = "axes" in node.attributes or input_of(node, 1) is not None
        source = node.inputs[0] if node.inputs else None
        if node.op_type != "Squeeze" or not is_standard(node) or given or source is None:
            continue
        columns = list(zip(*probe.shapes.get(name_of(source), ()), strict=True))
        varying = [sizes for sizes in columns if len(set(sizes)) > 1]
        if len(varying) != 1 or _at_one_frame(varying[0], probe.n_frames) < 2:
            continue
        axes = [axis for axis, sizes in enumerate(columns) if set(sizes) == {1}]
        if not axes:
            if bypass(graph, node.outputs[0], source):
                graph.remove(node, safe=True)
        elif graph.opset_imports.get("", 0) < 13:
            node.attributes["axes"] = ir.AttrInt64s("axes", axes)
        else:
            named = add_constant(graph, np.array(axes, np.int64), f"{node.outputs[0].name}.axes")
            node.resize_inputs(2)
            node.replace_input_with(1, named)


def _at_one_frame(sizes: Sequence[int], n_frames: Sequence[int]) -> Fraction:
    """Return a length for a single frame, 0 if it isn't on a line."""
    slope = Fraction(sizes[1] - sizes[0], n_frames[1] - n_frames[0])
    line = [sizes[0] + slope * (n - n_frames[0]) for n in (*n_frames, 1)]
    return line[-1] if line[:-1] == list(sizes) else Fraction(0)
