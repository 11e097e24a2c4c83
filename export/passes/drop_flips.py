"""Take channels in another order where a flow turns all of them round.

Between VITS's coupling layers the two channels of the duration predictor's flow change places: what has
just been joined is flipped and cut in two again. Two cases, in which nothing needs to be computed:

1. ``Split(Flip(x))`` is ``Split(x)`` with its parts in the other order, if they are of one channel each.
2. ``Split(Concat(a, b))`` is a and b, if it cuts where they were joined.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.export.passes.edit import constant_of, remove_unused
from balacoon_tk.export.passes.shaped import ShapedPass

__all__ = ["DropFlipsPass", "is_flip"]

_CHANNELS = 1


class DropFlipsPass(ShapedPass):
    """Drop flips and joins in front of a split of channels."""

    def call(self, model: ir.Model) -> PassResult:
        """Go through the graph in its order, so that what one case leaves is seen by the other."""
        modified = False
        for node in list(model.graph):
            if node.op_type != "Split" or _axis(node) != _CHANNELS:
                continue
            modified |= self._skip_flip(node)
            modified |= self._skip_join(node)
        if modified:
            remove_unused(model)
        return PassResult(model, modified)

    def _skip_flip(self, node: ir.Node) -> bool:
        """Case 1: read what is flipped, and swap the parts."""
        flip = None if node.inputs[0] is None else node.inputs[0].producer()
        outputs = list(node.outputs)
        if flip is None or not is_flip(flip) or any(value.is_graph_output() for value in outputs):
            return False
        if any(size != 1 for size in self._sizes(outputs)):
            return False
        node.replace_input_with(0, flip.inputs[0])
        uses = [list(value.uses()) for value in outputs]
        for value, readers in zip(reversed(outputs), uses, strict=True):
            for user, index in readers:
                user.replace_input_with(index, value)
        return True

    def _skip_join(self, node: ir.Node) -> bool:
        """Case 2: let whoever reads the parts read what was joined."""
        join = None if node.inputs[0] is None else node.inputs[0].producer()
        if join is None or join.op_type != "Concat" or _axis(join) != _CHANNELS:
            return False
        outputs = list(node.outputs)
        joined = [value for value in join.inputs if value is not None]
        if any(value.is_graph_output() for value in outputs) or self._sizes(joined) != self._sizes(outputs):
            return False
        for value, source in zip(outputs, joined, strict=True):
            value.replace_all_uses_with(source)
        return True

    def _sizes(self, values: Sequence[ir.Value]) -> list[int]:
        """Return the number of channels of each value, 0 where it isn't known."""
        return [self._shapes.get(value.name or "", [(0, 0)])[0][_CHANNELS] for value in values]


def _axis(node: ir.Node) -> int:
    return node.attributes["axis"].as_int() if "axis" in node.attributes else 0


def is_flip(node: ir.Node) -> bool:
    """Return whether a node turns round all of the channels."""
    starts, axes, steps = (constant_of(node, index) for index in (1, 3, 4))
    return (
        node.op_type == "Slice"
        and starts is not None
        and axes is not None
        and steps is not None
        and (starts.tolist(), axes.tolist(), steps.tolist()) == ([-1], [_CHANNELS], [-1])
    )
