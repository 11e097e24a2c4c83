"""Replace what is computed from shapes, but is the same for every length, by constants.

``Shape`` and ``Gather`` of the batch size, and the shapes that are put together from it, are the usual ones.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, add_constant, remove_unused
from balacoon_tk.graph.known import read_known
from balacoon_tk.graph.shaped import ShapedPass


class FoldLengthsPass(ShapedPass):
    """Make counts constant that don't vary with the length.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor at three or more lengths.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Replace every such value."""
        known = read_known(model.graph, self._shapes)
        names = Names(model.graph)
        modified = False
        for value, arrays in known.counts.items():
            if value.producer() is None or value.is_graph_output() or not value.uses():
                continue
            if all(np.array_equal(array, arrays[0]) for array in arrays):
                # not ascontiguousarray: that would give a scalar an axis
                constant = add_constant(model.graph, arrays[0].copy(), names.take(f"{value.name}.fixed"))
                value.replace_all_uses_with(constant)
                modified = True
        if modified:
            remove_unused(model)
        return PassResult(model, modified)
