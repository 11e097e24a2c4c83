"""Exact streaming: make a decoder stateful by rewriting its graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming.plan import DEFAULT_CHUNK_FRAMES, Plan, make_plan
from balacoon_tk.graph.streaming.rewrite import Rewritten, rewrite
from balacoon_tk.runtime.engine import TimeInput, TimeOutput
from balacoon_tk.runtime.stateful_graph import StreamingSpec

__all__ = ["make_streaming", "streaming_spec"]


def make_streaming(
    model: onnx.ModelProto,
    *,
    time_inputs: Mapping[str, int] | None = None,
    chunk_frames: int = DEFAULT_CHUNK_FRAMES,
) -> onnx.ModelProto:
    """Rewrite a decoder so that it takes frames a few at a time and carries its own state.

    The samples are those of the whole-utterance run, whatever the pushes: each step of each tensor
    is computed once, when all that it depends on is there.

    Parameters
    ----------
    model : ModelProto
        Any decoder whose operators have a bounded view of time; it is not changed.
    time_inputs : mapping of str to int, optional
        The time axis of each input that has one, where it can't be found from the graph.
    chunk_frames : int
        Frames per push that the plan of cuts is made for; the result takes any number.

    Returns
    -------
    ModelProto
        The stateful graph. Its inputs and outputs have time on the last axis; its metadata hold the
        `StreamingSpec`: lag, hop, states with their first shapes, and the plan. It is run through
        `balacoon_tk.decoder.StatefulDecoder`.

    Raises
    ------
    NotStreamableError
        If a node looks at the whole time axis, or isn't known: `node`, `op_type` and `reason` say more.
    ModelError
        If the graph can't be run, has no time axis or several candidates for it, or is stateful
        already.
    ParameterError
        If `model` is no ModelProto, or `time_inputs` or `chunk_frames` don't fit.
    """
    _check_arguments(model, time_inputs, chunk_frames)
    analysis = analyse_model(model, time_inputs=None if time_inputs is None else dict(time_inputs))
    plan = make_plan(analysis, chunk_frames=chunk_frames)
    return _assemble(model, analysis, plan, rewrite(analysis, plan))


def streaming_spec(model: onnx.ModelProto) -> StreamingSpec:
    """Return the streaming contract of a stateful graph.

    Raises
    ------
    ModelError
        If the graph isn't stateful.
    """
    for item in model.metadata_props:
        if item.key == StreamingSpec.METADATA_KEY:
            return StreamingSpec.from_json(item.value)
    raise ModelError("not a stateful graph; make_streaming makes one")


def _check_arguments(model: object, time_inputs: object, chunk_frames: object) -> None:
    if not isinstance(model, onnx.ModelProto):
        raise ParameterError(f"model must be an onnx.ModelProto, not {type(model).__name__}")
    if any(item.key == StreamingSpec.METADATA_KEY for item in model.metadata_props):
        raise ModelError("the graph is stateful already")
    if not isinstance(chunk_frames, int) or chunk_frames < 1:
        raise ParameterError(f"chunk_frames={chunk_frames!r} must be an int >= 1")
    if time_inputs is not None and not isinstance(time_inputs, Mapping):
        raise ParameterError(f"time_inputs={time_inputs!r} must be a mapping of names to axes")
    for name, axis in (time_inputs or {}).items():
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise ParameterError(f"time_inputs[{name!r}]={axis!r} must be an int")


def _assemble(
    model: onnx.ModelProto, analysis: Analysis, plan: Plan, rewritten: Rewritten
) -> onnx.ModelProto:
    builder, source = rewritten.builder, analysis.model.graph
    inputs = [
        _time_last_input(name, analysis, rewritten)
        if name in analysis.inputs.axes
        else _timeless_input(rewritten.values[name])
        for value in source.inputs
        if (name := str(value.name)) not in source.initializers
    ]
    outputs = [_time_last_output(name, analysis, rewritten) for name in analysis.outputs]
    spec = StreamingSpec(
        inputs=tuple(TimeInput(name, steps) for name, steps in analysis.inputs.steps_per_frame.items()),
        outputs=tuple(_time_output(name, analysis, rewritten) for name in analysis.outputs),
        states=tuple(builder.states),
        fingerprint=_fingerprint(model, plan, rewritten),
        last_input=str(builder.last.name),
        min_first_frames=rewritten.min_first_frames,
        min_push_frames=rewritten.min_push_frames,
        plan=plan.describe(),
        recomputed_share=plan.recomputed_share,
        planned_chunk_frames=plan.chunk_frames,
    )
    shapes = {state.output: (state.axis, state.shape) for state in builder.states}
    for value in builder.state_outputs:
        axis, sizes = shapes[str(value.name)]
        value.shape = ir.Shape([f"n_{value.name}" if k == axis else n for k, n in enumerate(sizes)])
    graph = ir.Graph(
        [*inputs, builder.last, *builder.state_inputs],
        [*outputs, *builder.state_outputs],
        nodes=builder.nodes,
        initializers=[
            *(rewritten.values[name] for name in source.initializers),
            *builder.initializers.values(),
        ],
        opset_imports=dict(source.opset_imports),
        name=source.name or "decoder",
    )
    result = ir.Model(graph, ir_version=analysis.model.ir_version, producer_name="balacoon_tk")
    result.metadata_props.update({item.key: item.value for item in model.metadata_props})
    result.metadata_props[StreamingSpec.METADATA_KEY] = spec.to_json()
    RemoveUnusedNodesPass()(result)
    graph.sort()
    return ir.to_proto(result)


def _fingerprint(model: onnx.ModelProto, plan: Plan, rewritten: Rewritten) -> str:
    """Tell graphs apart whose states can't be exchanged: other weights, or another plan."""
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    digest.update(repr((plan.describe(), rewritten.builder.states)).encode())
    return digest.hexdigest()


def _timeless_input(value: ir.Value) -> ir.Value:
    """Return an input without time; its dynamic axes are the batch, which is 1."""
    if value.shape is not None:
        value.shape = ir.Shape([n if isinstance(n, int) else 1 for n in value.shape])
    return value


def _time_last_input(name: str, analysis: Analysis, rewritten: Rewritten) -> ir.Value:
    """Return the graph's input with time on its last axis; a transpose brings it back to where it was."""
    value = rewritten.values[name]
    axis, rank = analysis.inputs.axes[name], len(value.shape or ())
    dims = [1 if not isinstance(n, int) else n for n in value.shape or ()]
    order = [*(k for k in range(rank) if k != axis), axis]
    shape = ir.Shape([*(dims[k] for k in order[:-1]), f"n_{name}"])
    if axis == rank - 1:
        value.shape = shape
        return value
    outer = ir.Value(name=name, type=value.type, shape=shape)
    value.name = rewritten.builder.fresh(f"{name}_inner")
    back = ir.node("Transpose", [outer], {"perm": [order.index(k) for k in range(rank)]}, outputs=[value])
    rewritten.builder.nodes.insert(0, back)
    return outer


def _time_last_output(name: str, analysis: Analysis, rewritten: Rewritten) -> ir.Value:
    """Return the graph's output, under its old name, with time on its last axis."""
    builder, timeline = rewritten.builder, analysis.timelines[name]
    value = rewritten.values[name]
    shape = analysis.inputs.probe.shapes[name][0]
    order = [*(k for k in range(len(shape)) if k != timeline.axis), timeline.axis]
    for node in builder.nodes:
        for other in node.outputs:
            if other.name == name:
                other.name = builder.fresh(f"{name}_inner")
    # An output of its own: the value may also feed other nodes, or be an output or state already.
    if order == sorted(order):
        out = builder.op("Identity", [value])
    else:
        out = builder.op("Transpose", [value], {"perm": order})
    out.name = name
    out.type = ir.TensorType(ir.DataType.from_numpy(analysis.inputs.probe.dtypes[name]))
    out.shape = ir.Shape([*(shape[k] for k in order[:-1]), f"n_{name}"])
    return out


def _time_output(name: str, analysis: Analysis, rewritten: Rewritten) -> TimeOutput:
    rate = analysis.timelines[name].rate
    hop_length = int(rate) if rate.denominator == 1 else float(rate)
    return TimeOutput(name, hop_length, rewritten.lags[name])
