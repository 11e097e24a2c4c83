"""Write ELU in four operators that are fast, in place of one that isn't.

ONNX Runtime's ``Elu`` takes 2 ns an element, its ``Exp`` 0.3 and each comparison or sum as much. As
``exp(x) - 1 >= x``, with equality at 0 alone, ELU is the larger of both wherever x is negative::

    Elu(x) = Max(x, Exp(Min(x, 0)) - 1)
"""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes import PassResult

from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.shaped import RewritePass

_OTHER_FLOATS = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


class SplitEluPass(RewritePass):
    """Rewrite every Elu whose slope at 0 is 1 from both sides, in a graph of float32."""

    def call(self, model: ir.Model) -> PassResult:
        """Rewrite, unless some numbers may be of another precision: the constants would not fit."""
        values = (*model.graph.inputs, *model.graph.initializers.values())
        is_float32 = not any(value.dtype in _OTHER_FLOATS for value in values)
        return super().call(model) if is_float32 else PassResult(model, modified=False)

    def _rewrite(self, node: ir.Node, graph: ir.Graph, names: Names) -> bool:
        source = node.inputs[0] if node.op_type == "Elu" else None
        if source is None or node.attributes.get_float("alpha", 1.0) != 1.0:
            return False
        old = node.outputs[0]
        write = Writer(graph, names, node.name or str(old.name))
        falling = write.one("Exp", write.one("Min", source, write.floats(0)))
        y = write.one("Max", source, write.one("Sub", falling, write.floats(1)))
        graph.insert_before(node, write.nodes)
        y.shape, y.type = old.shape, old.type
        old.replace_all_uses_with(y, replace_graph_outputs=True)
        name = old.name
        old.name, y.name = names.take(f"{name}.old"), name
        return True
