"""From a model as it was exported to a graph that the rules can read."""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.analysis import Analysis, analyse
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.probe import probe
from balacoon_tk.graph.simplify.fix_shapes import FixShapesPass
from balacoon_tk.graph.simplify.gather import write_gathered_frames
from balacoon_tk.graph.simplify.overlap_add import merge_overlap_add
from balacoon_tk.graph.simplify.scatter import write_scattered_frames
from balacoon_tk.graph.simplify.spectra import simplify_spectra
from balacoon_tk.graph.simplify.squeezes import name_squeezed_axes
from balacoon_tk.graph.simplify.tidy import fold_masks, lift_constants
from balacoon_tk.graph.time_inputs import TimeInputs, find_time_inputs


def prepare(
    model: onnx.ModelProto | ir.Model, *, time_inputs: dict[str, int] | None = None
) -> tuple[ir.Model, TimeInputs]:
    """Return a copy with constants lifted, shapes fixed, masks folded, spectra as convolutions; its inputs.

    A ModelError says that it is of an opset before 10, can't be run, or has no time axis.
    """
    # Through the protocol buffer, so that the passes change nothing of the original.
    copy = ir.from_proto(model if isinstance(model, onnx.ModelProto) else ir.to_proto(model))
    opset = copy.graph.opset_imports.get("", 0)
    if opset < 10:
        raise ModelError(f"the graph is of opset {opset}: 10 or newer is needed, export it again")
    lift_constants(copy)
    # Not onnx_ir's own pass: of an output that is there twice it makes one name.
    for node in list(copy.graph):
        source = node.inputs[0] if node.op_type == "Identity" else None
        if source is not None and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(source)
    RemoveUnusedNodesPass()(copy)
    inputs = find_time_inputs(copy, time_inputs)
    name_squeezed_axes(copy.graph, inputs.probe)
    FixShapesPass(inputs.probe)(copy)
    fold_masks(copy, inputs.probe.shapes)
    # What a pass has written hasn't been seen by the probe.
    for simplify in (simplify_spectra, write_gathered_frames, write_scattered_frames, merge_overlap_add):
        if simplify(copy, inputs.probe):
            inputs = replace(inputs, probe=probe(copy, inputs.axes, inputs.steps_per_frame))
    return copy, inputs


def analyse_model(
    model: onnx.ModelProto | ir.Model, *, time_inputs: dict[str, int] | None = None
) -> Analysis:
    """Prepare a copy of a model and follow time through it.

    A NotStreamableError names a node that has no bounded view of time, or isn't known; a ModelError says
    that the graph can't be run, or that it or one of its outputs has no time axis.
    """
    prepared, inputs = prepare(model, time_inputs=time_inputs)
    try:
        return analyse(prepared, inputs)
    except NotStreamableError as error:
        symbols = [name for name in inputs.axes if inputs.probe.dtypes[name].kind in "iu"]
        if symbols:
            error.advise(
                f"The input {symbols[0]!r} holds symbols, not frames: if the graph goes from text to "
                "samples, cut out what comes after the frames and stream that."
            )
        raise
