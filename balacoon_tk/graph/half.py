"""Half precision in a plain graph: weights that take half the room, each behind a Cast.

ONNX Runtime runs such a Cast once, when it loads the graph, so on a CPU nothing gets faster by it, and
nothing slower.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import add_constant, constant_of, remove_unused
from balacoon_tk.graph.walk import descendants

MAX_HALF = float(np.finfo(np.float16).max)

_LEAST = 256  # numbers that a tensor must have to be worth a node of its own


def halve_weights(model: onnx.ModelProto, *, exact: bool = False) -> onnx.ModelProto:
    """Return a copy with weights in half precision; it computes in float32 as before.

    Each is off by at most 2**-11 of itself (2**-25 where it is below 2**-14). Small tensors, and those with
    numbers that half precision doesn't reach, stay as they are. With `exact` only those are halved that half
    precision holds exactly, as weights that were halved before; without it none to halve is a ModelError.
    """
    halved = onnx.ModelProto()
    halved.CopyFrom(model)
    graph, casts = halved.graph, list[onnx.NodeProto]()
    declared = {value.name for value in (*graph.input, *graph.output)}
    for tensor in graph.initializer:
        # One that is an input or an output as well has its type declared there.
        if tensor.data_type != TensorProto.FLOAT or tensor.name in declared:
            continue
        array = numpy_helper.to_array(tensor)
        if array.size < _LEAST or not np.abs(array).max() <= MAX_HALF:
            continue
        if exact and not np.array_equal(array.astype(np.float16).astype(np.float32), array):
            continue
        # The Cast takes the weight's name, so that whoever reads it reads the Cast.
        name, stored = tensor.name, f"{tensor.name}.half"
        tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT, name=f"{stored}.cast"))
    if not casts and not exact:
        raise ModelError(f"no weight of {_LEAST} numbers or more is in float32: there is nothing to halve")
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return halved


def fold_weight_casts(model: ir.Model) -> None:
    """Make weights that stand behind a Cast float32 again, in place, so that passes can read them."""
    for node in list(model.graph):
        stored = constant_of(node, 0) if node.op_type == "Cast" else None
        to_float = node.attributes.get_int("to", 0) == int(ir.DataType.FLOAT)
        if stored is not None and stored.dtype == np.float16 and to_float:
            weight = add_constant(model.graph, stored.astype(np.float32), f"{node.outputs[0].name}.folded")
            node.outputs[0].replace_all_uses_with(weight)
    remove_unused(model)


def computes_in_half(model: onnx.ModelProto) -> str | None:
    """Return the first node, as ``Conv node 'name'``, that computes in float16; None if weights alone are."""
    # Exporters needn't say of which type a value is.
    inferred = ir.from_proto(onnx.shape_inference.infer_shapes(model))
    of_inputs = descendants(inferred.graph, inferred.graph.inputs)
    for node in inferred.graph:
        half = any(value in of_inputs and value.dtype == ir.DataType.FLOAT16 for value in node.inputs)
        if half and node.op_type != "Cast":
            return f"{node.op_type} node {node.name!r}"
    return None
