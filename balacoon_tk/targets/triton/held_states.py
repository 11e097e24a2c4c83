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

from typing import NamedTuple

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk.graph.edit import Names, Writer
from balacoon_tk.graph.match import name_of
from balacoon_tk.runtime.stateful_graph import StreamingSpec

END_INPUT = "END"
"""Name of the int32 ``(1,)`` input that is 1 in a stream's last push."""

_PREFIX = "held_"


class HeldState(NamedTuple):
    """A state of fixed size."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    fill: float
    """The value that all of it holds before the first push."""


def hold_states(model: onnx.ModelProto, spec: StreamingSpec) -> tuple[onnx.ModelProto, tuple[HeldState, ...]]:
    """Return a stateful graph with states of fixed sizes, and with the end of a stream as an int32.

    What it gives in a push is what the original gives, which is not changed.
    """
    result = ir.from_proto(model)
    graph = result.graph
    names = Names(graph)
    before, after = (Writer(graph, names, stem) for stem in ("held.before", "held.after"))
    own = {name_of(value): value for value in (*graph.inputs, *graph.outputs)}
    hidden = {spec.last_input, *(state.input for state in spec.states)}
    shown = {output.name for output in spec.outputs}
    inputs = [value for value in graph.inputs if value.name not in hidden]
    outputs = [value for value in graph.outputs if value.name in shown]
    # Triton gives control inputs as int32, the graph reads an int64.
    end = ir.Value(name=END_INPUT, type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape([1]))
    own[spec.last_input].replace_all_uses_with(before.one("Cast", end, to=int(ir.DataType.INT64)))

    # How many steps the states have beyond those that they begin with: it can begin with zeros itself.
    counts = HeldState(f"{_PREFIX}lengths", f"{_PREFIX}next_lengths", "int64", (len(spec.states),), 0.0)
    counted, lengths, held = _input(counts), [], []
    for k, state in enumerate(spec.states):
        axis = state.axis
        sizes = tuple(state.max_length if j == axis else n for j, n in enumerate(state.shape))
        kept = HeldState(_PREFIX + state.input, _PREFIX + state.output, state.dtype, sizes, state.fill)
        stored = _input(kept)
        unused = before.ints(state.max_length - state.shape[axis])
        start = before.one("Sub", unused, before.slice(counted, 0, k, k + 1))
        own[state.input].replace_all_uses_with(before.after(stored, axis, start))
        new = own[state.output]
        # What is held stands in front of the new steps, as something that is there and of this type.
        next_stored = after.after(after.concat([stored, new], axis), axis, -state.max_length)
        lengths.append(after.length(new, axis))
        held.append(kept)
        inputs.append(stored)
        outputs.append(_output(kept, next_stored))
    firsts = after.ints(*(state.shape[state.axis] for state in spec.states))
    outputs.append(_output(counts, after.one("Sub", after.concat(lengths, 0), firsts)))

    graph.inputs[:] = [*inputs, counted, end]
    graph.outputs[:] = outputs
    graph.insert_before(graph[0], before.nodes)
    graph.extend(after.nodes)
    result.metadata_props.clear()  # the streaming contract is no longer this graph's
    return ir.to_proto(result), (*held, counts)


def _input(state: HeldState) -> ir.Value:
    dtype = ir.DataType.from_numpy(np.dtype(state.dtype))
    return ir.Value(name=state.input, type=ir.TensorType(dtype), shape=ir.Shape(state.shape))


def _output(state: HeldState, value: ir.Value) -> ir.Value:
    taken = _input(state)
    value.name, value.type, value.shape = state.output, taken.type, taken.shape
    return value
