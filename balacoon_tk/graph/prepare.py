"""From a model as it was exported to a graph that the rules can read."""

from __future__ import annotations

from dataclasses import replace

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.analysis import Analysis, analyse
from balacoon_tk.graph.attention.fuse import fuse_attention
from balacoon_tk.graph.attention.operator import attention_written_out
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.opset import check_readable
from balacoon_tk.graph.probe import probe
from balacoon_tk.graph.simplify.definitions import write_definitions
from balacoon_tk.graph.simplify.fix_shapes import FixShapesPass
from balacoon_tk.graph.simplify.gather import write_gathered_frames
from balacoon_tk.graph.simplify.overlap_add import merge_overlap_add
from balacoon_tk.graph.simplify.scatter import write_scattered_frames
from balacoon_tk.graph.simplify.spectra import simplify_spectra
from balacoon_tk.graph.simplify.squeezes import name_squeezed_axes
from balacoon_tk.graph.simplify.tidy import fold_branches, fold_masks, lift_constants
from balacoon_tk.graph.time_inputs import TimeInputs, find_time_inputs


def prepare(
    model: onnx.ModelProto | ir.Model, *, time_inputs: dict[str, int] | None = None
) -> tuple[ir.Model, TimeInputs]:
    """Return a copy with constants lifted, shapes fixed, masks folded, spectra as convolutions; its inputs.

    A ModelError says that its opset isn't known, that it lacks its weights or is damaged, can't be run,
    or has no time.
    """
    try:
        return _prepared(model, time_inputs)
    except ir.serde.SerdeError as error:
        raise ModelError(f"the graph is damaged: {error}") from error


def _prepared(
    model: onnx.ModelProto | ir.Model, time_inputs: dict[str, int] | None
) -> tuple[ir.Model, TimeInputs]:
    # Through the protocol buffer, so that the passes change nothing of the original.
    proto = model if isinstance(model, onnx.ModelProto) else ir.to_proto(model)
    check_readable(proto)
    _check_complete(proto)
    copy = ir.from_proto(proto)
    lift_constants(copy)
    write_definitions(copy)
    # Not onnx_ir's own pass: of an output that is there twice it makes one name.
    for node in list(copy.graph):
        source = node.inputs[0] if node.op_type == "Identity" else None
        if source is not None and not node.outputs[0].is_graph_output():
            node.outputs[0].replace_all_uses_with(source)
    RemoveUnusedNodesPass()(copy)
    try:
        inputs = find_time_inputs(copy, time_inputs)
    except ModelError as error:
        doubles = [value.name for value in copy.graph.inputs if value.dtype == ir.DataType.DOUBLE]
        if doubles:
            rule = "for which ONNX Runtime lacks kernels: export the graph in float32"
            raise ModelError(f"input {doubles[0]!r} is float64, {rule} ({error})") from error
        raise
    # The rules follow no branches; most of them are decided by shapes alone.
    if fold_branches(copy, inputs.probe.shapes):
        inputs = find_time_inputs(copy, time_inputs)
    name_squeezed_axes(copy.graph, inputs.probe)
    FixShapesPass(inputs.probe)(copy)
    fold_masks(copy, inputs.probe.shapes)
    # What a pass has written hasn't been seen by the probe.
    for simplify in (simplify_spectra, write_gathered_frames, write_scattered_frames, merge_overlap_add):
        if simplify(copy, inputs.probe):
            inputs = replace(inputs, probe=probe(copy, inputs.axes, inputs.steps_per_frame))
    return copy, inputs


def _check_complete(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = next((item.value for item in tensor.external_data if item.key == "location"), "a file")
            raise ModelError(
                f"the weight {tensor.name!r} lies in {place!r} beside the graph's file and wasn't read: load "
                "the graph with onnx.load(path)"
            )


def analyse_model(
    model: onnx.ModelProto | ir.Model,
    *,
    time_inputs: dict[str, int] | None = None,
    max_frames: int | None = None,
    refused: list[NotStreamableError] | None = None,
    timeless_outputs: bool = False,
) -> Analysis:
    """Prepare a copy of a model and follow time through it; the last two are as for `analyse`.

    A NotStreamableError names a node that has no bounded view of time, or isn't known; a ModelError says
    that the graph can't be run, or that it or one of its outputs has no time axis.

    An attention that looks back without end needs `max_frames`, the frames of the longest utterance.
    """
    prepared, inputs = prepare(attention_written_out(model), time_inputs=time_inputs)
    fuse_attention(prepared, inputs, max_frames=max_frames)
    try:
        return analyse(prepared, inputs, refused=refused, timeless_outputs=timeless_outputs)
    except NotStreamableError as error:
        symbols = [name for name in inputs.axes if inputs.probe.dtypes[name].kind in "iu"]
        if symbols:
            error.advise(
                f"The input {symbols[0]!r} holds symbols, not frames: if it is text and not a codec's codes, "
                "cut out what comes after the frames and stream that."
            )
        raise
