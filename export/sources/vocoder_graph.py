"""Any vocoder's graph as a decoder: ``frames`` (1, n_channels, n_frames) to ``samples`` (1, 1, n_samples)."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph.edit import Names, add_constant
from balacoon_tk.graph.probe import graph_inputs
from balacoon_tk.runtime.session import Session

_PROBE_FRAMES = 32


class FrameLayout:
    """How a vocoder's graph takes its frames, and how it is run as it came.

    Parameters
    ----------
    session : Session
        The graph.
    input : str
        Name of its only input.
    channel_axis : int
        1, or 2 where time comes first.
    n_channels : int
    """

    def __init__(self, session: Session, *, input: str, channel_axis: int, n_channels: int) -> None:
        self.input = input
        self.channel_axis = channel_axis
        self.n_channels = n_channels
        self._session = session

    def order(self, frames: FloatArray) -> FloatArray:
        """Return frames (1, n_channels, n_frames) in the graph's own order of axes."""
        return frames if self.channel_axis == 1 else np.ascontiguousarray(frames.transpose(0, 2, 1))

    def run(self, frames: FloatArray) -> FloatArray:
        """Turn frames (1, n_channels, n_frames) into samples (n_samples,), by the graph as it came."""
        (samples,) = self._session.run({self.input: self.order(frames)}).values()
        if samples.dtype != np.float32 or samples.size != samples.shape[-1]:
            raise ModelError(
                f"the output of shape {samples.shape}, {samples.dtype} must be one channel, float32"
            )
        return samples.reshape(-1)


def find_layout(model: onnx.ModelProto, *, n_channels: int | None) -> FrameLayout:
    """Find out how a graph takes its frames.

    Parameters
    ----------
    model : ModelProto
    n_channels : int, optional
        Channels of a frame; the fixed axis of the input if None.

    Raises
    ------
    ModelError
        If the graph has several inputs or outputs, or none of its axes fits.
    """
    session = Session(model)
    for kind, specs in (("input", session.inputs), ("output", session.outputs)):
        if len(specs) != 1:
            raise ModelError(f"a vocoder has one {kind}, and this graph has {', '.join(specs) or 'none'}")
    (spec,) = session.inputs.values()
    if spec.dtype != np.float32 or len(spec.shape) != 3:
        raise ModelError(
            f"input {spec.name!r} of {spec.dtype}, rank {len(spec.shape)} must be of float32, rank 3"
        )
    fixed = {axis: n for axis in (1, 2) if isinstance(n := spec.shape[axis], int)}
    if len(fixed) == 2:
        raise ModelError(f"input {spec.name!r} of shape {list(spec.shape)} has no dynamic axis: no time")
    if n_channels is None:
        if not fixed:
            raise ModelError(
                f"input {spec.name!r} has no fixed axis: its JSON must say how many n_mels there are"
            )
        n_channels = next(iter(fixed.values()))
    axes = [axis for axis in (1, 2) if fixed.get(axis) == n_channels or not fixed]
    reason = f"none of its axes is n_mels={n_channels}"
    for axis in axes:
        layout = FrameLayout(session, input=spec.name, channel_axis=axis, n_channels=n_channels)
        try:
            layout.run(np.zeros((1, n_channels, _PROBE_FRAMES), np.float32))
        except ModelError as error:
            reason = str(error)
        else:
            return layout
    raise ModelError(f"input {spec.name!r} of shape {list(spec.shape)}: {reason}")


def to_decoder(model: onnx.ModelProto, layout: FrameLayout) -> onnx.ModelProto:
    """Give a vocoder's graph the names, the batch and the order of axes that a voice's decoder has.

    Raises
    ------
    ModelError
        If the graph is empty.
    """
    decoder = ir.from_proto(onnx.ModelProto.FromString(model.SerializeToString()))
    graph = decoder.graph
    names = Names(graph)
    old = graph_inputs(decoder)[layout.input]
    samples = graph.outputs[0]
    if samples.producer() is None:
        raise ModelError("the graph gives nothing but its input")
    for value in _values(graph):
        if value.name in ("frames", "samples"):
            value.name = names.take(f"{value.name}.inner")
    frames = ir.Value(
        name="frames",
        shape=ir.Shape([1, layout.n_channels, "n_frames"]),
        type=ir.TensorType(ir.DataType.FLOAT),
    )
    first = next(iter(graph))
    taken = frames
    if layout.channel_axis == 2:
        turn = ir.node("Transpose", [frames], {"perm": [0, 2, 1]})
        taken = turn.outputs[0]
        taken.name = turn.name = names.take("time_first")
        graph.insert_before(first, turn)
    old.replace_all_uses_with(taken)
    graph.inputs[graph.inputs.index(old)] = frames
    shape = add_constant(graph, np.array([1, 1, -1], np.int64), names.take("one_channel"))
    reshape = ir.node("Reshape", [samples, shape], name=names.take("to_samples"))
    graph.append(reshape)
    given = reshape.outputs[0]
    given.name = "samples"
    given.shape, given.type = ir.Shape([1, 1, "n_samples"]), ir.TensorType(ir.DataType.FLOAT)
    graph.outputs[0] = given
    for value in _values(graph):
        if value.producer() is not None and value is not given:
            value.shape = None  # what was declared may be for another batch
    decoder.producer_name, decoder.producer_version = "balacoon_tk", None
    graph.name = "decoder"
    proto: onnx.ModelProto = ir.to_proto(decoder)
    return proto


def _values(graph: ir.Graph) -> list[ir.Value]:
    nodes = ir.traversal.RecursiveGraphIterator(graph)
    return [*graph.inputs, *graph.initializers.values(), *(value for node in nodes for value in node.outputs)]
