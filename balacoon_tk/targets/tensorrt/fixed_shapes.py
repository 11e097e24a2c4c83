"""Graphs for runtimes that want shapes to be known: parts of a stream as graphs of their own.

A stateful decoder takes any number of frames, and its states are shorter in the first push. Cut into four
graphs, only those at the ends of a sentence have an axis left whose length isn't known:

    first    from nothing, a fixed number of frames after which all states have the lengths that they keep
    steady   a fixed number of frames; all of its shapes are known
    last     as many frames as are left; the sentence ends with them
    whole    a sentence too short for the three others
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import onnx
import onnx_ir as ir
from onnx import helper, numpy_helper

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import constant_of, remove_unused
from balacoon_tk.runtime.session import fold_constants


def fix_inputs(
    model: onnx.ModelProto,
    constants: Mapping[str, AnyArray],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    outputs: Collection[str],
) -> onnx.ModelProto:
    """Return a graph with some inputs as constants and others of known shapes, and what follows computed.

    Parameters
    ----------
    model : ModelProto
        It is not changed.
    constants : mapping of str to ndarray
        Inputs that always have the same value.
    shapes : mapping of str to tuple of int
        Inputs that always have the same shape.
    outputs : collection of str
        Those that are kept.

    Raises
    ------
    ModelError
        If the graph can't have these shapes.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in constants.items())
    inputs = [value for value in graph.input if value.name not in constants]
    for value in inputs:
        if value.name in shapes:
            kind = value.type.tensor_type.elem_type
            value.CopyFrom(helper.make_tensor_value_info(value.name, kind, shapes[value.name]))
    kept = [value for value in graph.output if value.name in outputs]
    for field, values in ((graph.input, inputs), (graph.output, kept)):
        del field[:]
        field.extend(values)
    del graph.value_info[:], fixed.metadata_props[:]
    folded = ir.from_proto(onnx.load_model_from_string(fold_constants(fixed.SerializeToString())))
    _drop_empty(folded)
    for domain in {domain for domain in folded.graph.opset_imports if domain}:
        del folded.graph.opset_imports[domain]
    for value in folded.graph.outputs:
        value.shape = None
    return ir.to_proto(folded)


def check_shapes(model: onnx.ModelProto, *, static: bool) -> onnx.ModelProto:
    """Infer all shapes and return the graph with those of its outputs.

    Parameters
    ----------
    model : ModelProto
    static : bool
        Whether every tensor must have a known shape.

    Raises
    ------
    ModelError
        If shapes contradict each other, or aren't known.
    """
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
        onnx.checker.check_model(inferred)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ModelError(f"the graph isn't sound: {error}") from error
    known = {value.name: value for value in (*inferred.graph.value_info, *inferred.graph.output)}
    for name in (name for node in inferred.graph.node for name in node.output) if static else ():
        dims = known[name].type.tensor_type.shape.dim if name in known else None
        if dims is None or not all(dim.HasField("dim_value") for dim in dims):
            raise ModelError(f"the shape of {name!r} must be known from those of the inputs")
    result = onnx.ModelProto()
    result.CopyFrom(model)
    del result.graph.output[:]
    result.graph.output.extend(inferred.graph.output)
    return result


def _drop_empty(model: ir.Model) -> None:
    """Take states without steps out of what is joined."""
    for node in model.graph:
        if node.op_type != "Concat":
            continue
        kept = [value for k, value in enumerate(node.inputs) if (c := constant_of(node, k)) is None or c.size]
        if len(kept) < len(node.inputs):
            for k, value in enumerate(kept):
                node.replace_input_with(k, value)
            node.resize_inputs(len(kept))
    remove_unused(model)
