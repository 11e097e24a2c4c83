"""Exact streaming: make a decoder stateful by rewriting its graph."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming.costs import PlanCosts
from balacoon_tk.graph.streaming.plan import DEFAULT_CHUNK_FRAMES, CutPlan, plan_cuts
from balacoon_tk.graph.streaming.rewrite import rewrite
from balacoon_tk.graph.streaming.writer import StreamWriter
from balacoon_tk.runtime.engine import TimeInput, TimeOutput
from balacoon_tk.runtime.stateful_graph import StreamingSpec

__all__ = ["make_streaming", "plan_cuts", "streaming_spec"]


def make_streaming(
    model: onnx.ModelProto,
    *,
    time_inputs: Mapping[str, int] | None = None,
    chunk_frames: int = DEFAULT_CHUNK_FRAMES,
    costs: PlanCosts | None = None,
    max_frames: int | None = None,
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
    costs : PlanCosts, optional
        What the plan is chosen by: those of the target that the graph is meant for, such as
        `balacoon_tk.targets.ort_cpu.costs.OrtCpuCosts`; general ones if None.
    max_frames : int, optional
        Frames of the longest utterance, which a graph must be told whose attention looks back to the
        utterance's start: keys and values of so many are kept, and a longer utterance fails. Not needed
        where an attention has a window.

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
        If `model` is no ModelProto, or `time_inputs`, `chunk_frames`, `costs` or `max_frames` don't fit.
    """
    _check_arguments(model, time_inputs, chunk_frames, costs, max_frames)
    given = None if time_inputs is None else dict(time_inputs)
    analysis = analyse_model(model, time_inputs=given, max_frames=max_frames)
    plan = plan_cuts(analysis, chunk_frames=chunk_frames, costs=costs)
    return _assemble(model, plan, rewrite(analysis, plan))


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


def _check_arguments(
    model: object, time_inputs: object, chunk_frames: object, costs: object, max_frames: object
) -> None:
    if not isinstance(model, onnx.ModelProto):
        raise ParameterError(f"model must be an onnx.ModelProto, not {type(model).__name__}")
    if any(item.key == StreamingSpec.METADATA_KEY for item in model.metadata_props):
        raise ModelError("the graph is stateful already")
    if not isinstance(chunk_frames, int) or chunk_frames < 1:
        raise ParameterError(f"chunk_frames={chunk_frames!r} must be an int >= 1")
    if max_frames is not None and (not isinstance(max_frames, int) or max_frames < 1):
        raise ParameterError(f"max_frames={max_frames!r} must be an int >= 1, or None")
    if costs is not None and not isinstance(costs, PlanCosts):
        raise ParameterError(f"costs={costs!r} must be PlanCosts")
    if time_inputs is not None and not isinstance(time_inputs, Mapping):
        raise ParameterError(f"time_inputs={time_inputs!r} must be a mapping of names to axes")
    for name, axis in (time_inputs or {}).items():
        if not isinstance(axis, int) or isinstance(axis, bool):
            raise ParameterError(f"time_inputs[{name!r}]={axis!r} must be an int")


def _assemble(model: onnx.ModelProto, plan: CutPlan, written: StreamWriter) -> onnx.ModelProto:
    analysis, builder = written.analysis, written.builder
    source = analysis.model.graph
    names = [str(value.name) for value in source.inputs if value.name not in source.initializers]
    inputs = [_time_last_input(name, written) for name in names]
    outputs = [_time_last_output(name, written) for name in analysis.outputs]
    # Tells graphs apart whose states can't be exchanged: other weights, or another plan.
    fingerprint = _fingerprint(model, plan.describe(), tuple(builder.states))
    min_first, min_push = written.frontiers.pushes()
    spec = StreamingSpec(
        inputs=tuple(TimeInput(name, steps) for name, steps in analysis.inputs.steps_per_frame.items()),
        outputs=tuple(_time_output(name, written, min_first) for name in analysis.outputs),
        states=tuple(builder.states),
        fingerprint=fingerprint,
        last_input=str(builder.last.name),
        min_first_frames=min_first,
        min_push_frames=min_push,
        plan=plan.describe(),
        recomputed_share=plan.recomputed_share,
        planned_chunk_frames=plan.chunk_frames,
    )
    graph = builder.graph
    graph.inputs.extend([*inputs, builder.last, *builder.state_inputs])
    graph.outputs.extend([*outputs, *builder.state_outputs])
    graph.extend(builder.nodes)
    for name in source.initializers:
        graph.register_initializer(written.values[name])
    result = ir.Model(graph, ir_version=analysis.model.ir_version, producer_name="balacoon_tk")
    result.metadata_props.update({item.key: item.value for item in model.metadata_props})
    result.metadata_props[StreamingSpec.METADATA_KEY] = spec.to_json()
    RemoveUnusedNodesPass()(result)
    graph.sort()
    return ir.to_proto(result)


def _fingerprint(model: onnx.ModelProto, *more: object) -> str:
    digest, graph = hashlib.sha256(repr(more).encode()), model.graph
    # Part by part: a gigabyte as a whole would be copied several times while it grows.
    for parts in (model.opset_import, graph.input, graph.output, graph.node, graph.initializer):
        for part in parts:
            digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _time_last_input(name: str, written: StreamWriter) -> ir.Value:
    """Return the graph's input with time on its last axis; a transpose brings it back to where it was."""
    value, axis = written.values[name], written.analysis.inputs.axes.get(name)
    # Dynamic axes beside time are the batch, which is 1.
    dims: list[int | str] = [n if isinstance(n, int) else 1 for n in value.shape or ()]
    if axis is None:
        value.shape = ir.Shape(dims)
        return value
    rank = len(dims)
    order = [*(k for k in range(rank) if k != axis), axis]
    shape = ir.Shape([*(dims[k] for k in order[:-1]), f"n_{name}"])
    if axis == rank - 1:
        value.shape = shape
        return value
    outer = ir.Value(name=name, type=value.type, shape=shape)
    value.name = written.builder.names.take(f"{name}_inner")
    back = ir.node("Transpose", [outer], {"perm": [order.index(k) for k in range(rank)]}, outputs=[value])
    written.builder.nodes.insert(0, back)
    return outer


def _time_last_output(name: str, written: StreamWriter) -> ir.Value:
    """Return the graph's output, under its old name, with time on its last axis."""
    builder, axis = written.builder, written.axis(name)
    value, shape = written.values[name], written.shape(name)
    order = [*(k for k in range(len(shape)) if k != axis), axis]
    for other in (other for node in builder.nodes for other in node.outputs if other.name == name):
        other.name = builder.names.take(f"{name}_inner")
    # An output of its own: the value may also feed other nodes, or be an output or state already.
    moved = order != sorted(order)
    out = builder.one("Transpose", value, perm=order) if moved else builder.one("Identity", value)
    out.name = name
    out.type = ir.TensorType(ir.DataType.from_numpy(written.dtype(name)))
    out.shape = ir.Shape([*(shape[k] for k in order[:-1]), f"n_{name}"])
    return out


def _time_output(name: str, written: StreamWriter, min_first_frames: int) -> TimeOutput:
    rate = written.analysis.timelines[name].rate
    hop_length = int(rate) if rate.denominator == 1 else float(rate)
    return TimeOutput(name, hop_length, written.frontiers.trailing(name, min_first_frames))
