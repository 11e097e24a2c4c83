"""Replace an ``If`` whose condition is known by the branch that is always taken.

torch writes one for ``x.squeeze(1)`` where it can't see that the axis has length 1.
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, bypass, remove_unused
from balacoon_tk.graph.known import read_known
from balacoon_tk.graph.shaped import ShapedPass


class FoldBranchesPass(ShapedPass):
    """Inline the branch that is always taken.

    Parameters
    ----------
    shapes : mapping of str to sequence of tuple
        The shape of every tensor at three or more lengths. Those of an inlined branch were not
        seen: look again afterwards.
    """

    def call(self, model: ir.Model) -> PassResult:
        """Inline every such branch."""
        known = read_known(model.graph, self._shapes)
        modified = False
        for node in list(model.graph):
            condition = node.inputs[0] if node.op_type == "If" and node.inputs else None
            if condition is not None and condition in known.uniform:
                taken = "then_branch" if known.uniform[condition] else "else_branch"
                modified |= _inline(model.graph, node, node.attributes[taken].as_graph())
        if modified:
            remove_unused(model)
        return PassResult(model, modified)


def _inline(graph: ir.Graph, node: ir.Node, branch: ir.Graph) -> bool:
    if any(value.is_graph_output() for value in node.outputs):
        return False
    names = Names(graph)
    for value in list(branch.initializers.values()):
        del branch.initializers[value.name or ""]
        value.name = names.take(value.name or "constant")
        graph.register_initializer(value)
    results = list(branch.outputs)
    branch.outputs.clear()
    inner = list(branch)
    branch.remove(inner)
    for moved in inner:
        for value in moved.outputs:
            value.name = names.take(value.name or moved.op_type)
    graph.insert_before(node, inner)
    for value, result in zip(node.outputs, results, strict=True):
        bypass(graph, value, result)
    return True
