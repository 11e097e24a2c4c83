"""Give a stateful decoder states of fixed sizes, for servers that hold them between the pushes of a stream.

Triton's sequence batcher hands a stream's states back to the graph. It begins with states whose variable
axes have length 1 (`SequenceStates::Initialize` in triton-inference-server/core), where a decoder's begin
with other lengths, also none. So each state is held at its largest length, its steps at the end, and one
more state holds how many steps each has beyond those that it begins with:

    held:  . . . . x x x x      steps = first length + lengths[k]
           '--------------'
            largest length
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from balacoon_tk.runtime.stateful_graph import StateSpec, StreamingSpec

END_INPUT = "END"
"""Name of the int32 ``(1,)`` input that is 1 in a stream's last push."""

_FAR = 2**31 - 1
_PREFIX = "held_"
_LENGTHS = "held_lengths"


@dataclass(frozen=True, slots=True)
class HeldState:
    """A state of fixed size."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    fill: float
    """The value that all of it holds before the first push."""


def hold_states(model: onnx.ModelProto, spec: StreamingSpec) -> tuple[onnx.ModelProto, tuple[HeldState, ...]]:
    """Return the graph with states of fixed sizes, and with the end of a stream as an int32.

    Parameters
    ----------
    model : ModelProto
        As `balacoon_tk.export.make_streaming` gives it; it is not changed.
    spec : StreamingSpec
        Its streaming contract.

    Returns
    -------
    ModelProto, tuple of HeldState
        What it gives in a push is what the original gives.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph, writer = result.graph, _Writer()
    hidden = {spec.last_input, *(state.input for state in spec.states)}
    inputs = [value for value in graph.input if value.name not in hidden]
    shown = {output.name for output in spec.outputs}
    outputs = [value for value in graph.output if value.name in shown]
    ends = helper.make_tensor_value_info(END_INPUT, TensorProto.INT32, [1])
    writer.before.append(
        helper.make_node("Cast", [END_INPUT], [spec.last_input], to=TensorProto.INT64, name="end_of_stream")
    )
    held = [writer.hold(k, state) for k, state in enumerate(spec.states)]
    held.append(writer.count(spec.states))
    for name, shape, dtype in ((each.input, each.shape, each.dtype) for each in held):
        inputs.append(_info(name, dtype, shape))
    for name, shape, dtype in ((each.output, each.shape, each.dtype) for each in held):
        outputs.append(_info(name, dtype, shape))
    nodes = [*writer.before, *graph.node, *writer.after]
    graph.initializer.extend(writer.constants)
    for field, values in ((graph.input, [*inputs, ends]), (graph.output, outputs), (graph.node, nodes)):
        del field[:]
        field.extend(values)
    del result.metadata_props[:]  # the streaming contract is no longer this graph's
    return result, tuple(held)


class _Writer:
    """The nodes in front of a decoder and behind it."""

    def __init__(self) -> None:
        self.before: list[onnx.NodeProto] = []
        self.after: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._lengths: list[str] = []

    def hold(self, k: int, state: StateSpec) -> HeldState:
        """Cut a state out of what is held, and put what comes of it at the end of that again."""
        name, next_name = f"{_PREFIX}{state.input}", f"{_PREFIX}{state.output}"
        axis, far = self._ints(f"{name}.axis", state.axis), self._ints(f"{name}.far", _FAR)
        own, after_it = self._ints(f"{name}.k", k), self._ints(f"{name}.k1", k + 1)
        first = self._ints(f"{name}.unused", state.max_length - state.shape[state.axis])
        zero = self._ints(f"{name}.zero", 0)
        self.before += [
            helper.make_node("Slice", [_LENGTHS, own, after_it, zero], [f"{name}.more"]),
            helper.make_node("Sub", [first, f"{name}.more"], [f"{name}.start"]),
            helper.make_node("Slice", [name, f"{name}.start", far, axis], [state.input]),
        ]
        length, from_end = f"{name}.length", self._ints(f"{name}.most", -state.max_length)
        self.after += [
            # What is held stands in front of the new steps, as something that is there and of this type.
            helper.make_node("Concat", [name, state.output], [f"{name}.longer"], axis=state.axis),
            helper.make_node("Slice", [f"{name}.longer", from_end, far, axis], [next_name]),
            helper.make_node("Shape", [state.output], [f"{name}.shape"]),
            helper.make_node("Gather", [f"{name}.shape", axis], [length], axis=0),
        ]
        self._lengths.append(length)
        sizes = [state.max_length if j == state.axis else n for j, n in enumerate(state.shape)]
        return HeldState(name, next_name, state.dtype, tuple(sizes), state.fill)

    def count(self, states: tuple[StateSpec, ...]) -> HeldState:
        """Hold how many steps the states have beyond those that they begin with."""
        firsts = self._ints(f"{_LENGTHS}.first", *(state.shape[state.axis] for state in states))
        held = HeldState(_LENGTHS, f"{_PREFIX}next_lengths", "int64", (len(states),), 0.0)
        self.after += [
            helper.make_node("Concat", self._lengths, [f"{_LENGTHS}.all"], axis=0),
            helper.make_node("Sub", [f"{_LENGTHS}.all", firsts], [held.output]),
        ]
        return held

    def _ints(self, name: str, *values: int) -> str:
        self.constants.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name


def _info(name: str, dtype: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape)
