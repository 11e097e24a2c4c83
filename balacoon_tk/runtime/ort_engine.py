"""A decoder graph in ONNX Runtime, plain or stateful: the engine that a voice has by default.

A step is run in one of two ways, with the same samples. In a ring (`balacoon_tk.runtime.state_ring`) the
state stays where the last run has left it. Outside, tensors are made anew: for a stream's first steps, for
graphs whose states change their shapes, and whenever a run in a ring has failed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.runtime.engine import DecoderContract, Feeds
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import GraphSource, Session, Tensor, TensorSpec, to_tensor
from balacoon_tk.runtime.state_ring import RingGraph, RingLease, StateRings
from balacoon_tk.runtime.stateful_graph import StateSpec, StreamingSpec


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """A stream's state: tensors, and the ring that they lie in, if they lie in one."""

    tensors: Mapping[str, Tensor]
    lease: RingLease | None = None
    number: int = 0  # which of the ring's states it is, counted from the stream's first


class OrtEngine:
    """A decoder graph and its session: plain, or stateful if `make_streaming` has rewritten it.

    `streaming` are the states of a stateful graph, None for a plain one. See `Engine` for the methods.
    """

    def __init__(self, model: GraphSource, options: RuntimeOptions | None = None) -> None:
        self.session = Session(model, options)
        text = self.session.metadata.get(StreamingSpec.METADATA_KEY)
        self.streaming = None if text is None else StreamingSpec.from_json(text)
        self.contract = _read_contract(self.session, self.streaming)
        states = () if self.streaming is None else self.streaming.states
        self._states = {state.input: state for state in states}
        outputs = tuple(self.contract.outputs)
        self._next_names = [*outputs, *(state.output for state in states)]
        self._next_keys = [*outputs, *self._states]
        self._last = {flag: to_tensor(np.array([flag], dtype=np.int64)) for flag in (False, True)}
        first = {
            state.input: self._state_tensor(np.full(state.shape, state.fill, state.dtype)) for state in states
        }
        self._first = _State(first)
        self._output_steps = self._find_output_steps()
        constant = {} if self.streaming is None else {self.streaming.last_input: self._last[False]}
        following = {state.input: state.output for state in states}
        # A ring's outputs are bound before the run, so that all their shapes must be known then.
        usable = bool(states) and len(self._output_steps) == len(outputs)
        self.rings = StateRings(RingGraph(self.session, first, following, constant), usable=usable)

    def whole(self, feeds: Feeds) -> dict[str, AnyArray]:
        """Decode a whole utterance, or a window as if it were one."""
        if self.streaming is None:
            return self.session.run(feeds, list(self.contract.outputs))
        return self._outputs(self._run(feeds, self._first.tensors, last=True))

    def start(self) -> _State:
        """Return the state before the first push, which all streams share."""
        self._stateful()
        return self._first

    def step(self, state: _State, feeds: Feeds, *, last: bool) -> tuple[dict[str, AnyArray], _State]:
        """Decode the next frames."""
        # A ring writes over what lies two states back: going on from there would give other samples.
        if state.lease is not None and not state.lease.ring.holds(state.number):
            raise StreamStateError("the state is too old: its stream has gone two steps further")
        if last:
            # Nobody asks for the state behind it, and each tensor that Python gets takes microseconds.
            return self._outputs(self._run(feeds, state.tensors, last=True)), self._first
        return self._step_in_ring(state, feeds) or self._step_outside(state, feeds)

    def save(self, state: _State) -> dict[str, AnyArray]:
        """Return a copy of a state as arrays."""
        return {name: np.array(tensor.numpy()) for name, tensor in state.tensors.items()}

    def load(self, arrays: Mapping[str, AnyArray]) -> _State:
        """Return the state of some arrays, if they can be one of this graph."""
        if arrays.keys() != self._states.keys():
            raise ParameterError(f"states {sorted(arrays)} must be {sorted(self._states)}")
        return _State(
            {
                name: self._state_tensor(_checked_state(arrays[name], spec))
                for name, spec in self._states.items()
            }
        )

    def _state_tensor(self, array: AnyArray) -> Tensor:
        # States stay where the graph computes: between two pushes nothing of them is moved.
        return to_tensor(array, self.session.memory)

    def _stateful(self) -> StreamingSpec:
        if self.streaming is None:
            raise ModelError(f"{self.session.label}: not a stateful graph; make_streaming makes one")
        return self.streaming

    def _run(self, feeds: Feeds, state: Mapping[str, Tensor], *, last: bool) -> dict[str, Tensor]:
        # The new state comes under the names of the inputs; behind a last step nobody asks for it.
        flag = {self._stateful().last_input: self._last[last]}
        given = {name: to_tensor(array) for name, array in feeds.items()}
        n_outputs = len(self.contract.outputs)
        names = self._next_names[: n_outputs if last else None]
        tensors = self.session.run_tensors({**given, **state, **flag}, names, kept=names[n_outputs:])
        return dict(zip(self._next_keys[: len(names)], tensors, strict=True))

    def _outputs(self, tensors: Mapping[str, Tensor]) -> dict[str, AnyArray]:
        return {name: tensors[name].numpy() for name in self.contract.outputs}

    def _step_in_ring(self, state: _State, feeds: Feeds) -> tuple[dict[str, AnyArray], _State] | None:
        # None if the state lies in no ring, another step has left it behind, or the run fails.
        first = state is self._first
        lease = self.rings.borrow_for_first() if first else state.lease
        if lease is None or lease.ring.number != state.number:
            return None
        try:
            outputs = lease.ring.run(feeds, self._output_shapes(self.contract.n_frames(feeds), first=first))
        except ModelError:  # what is wrong with the frames, a run elsewhere says as well
            # First pushes may fail where later ones work: these have shapes of their own.
            self.rings.give_up(first_only=first)
            return None
        return outputs, _State(lease.ring.tensors, lease, lease.ring.number)

    def _step_outside(self, state: _State, feeds: Feeds) -> tuple[dict[str, AnyArray], _State]:
        # Moves into a ring as soon as a state has the shapes of one: later steps are run there.
        tensors = self._run(feeds, state.tensors, last=False)
        after = {name: tensors[name] for name in state.tensors}
        self.rings.learn(state.tensors, after)
        lease = self.rings.borrow()
        if lease is not None and lease.ring.enter(after):
            return self._outputs(tensors), _State(lease.ring.tensors, lease, lease.ring.number)
        return self._outputs(tensors), _State(after)

    def _find_output_steps(self) -> list[tuple[str, tuple[int, ...], int, int]]:
        # Name, other axes, steps per frame and lag of each output where all of these are fixed.
        found = []
        for item in () if self.streaming is None else self.streaming.outputs:
            shape = self.session.outputs[item.name].shape
            outer = tuple(n for n in shape[:-1] if isinstance(n, int))
            if len(outer) == len(shape) - 1 and item.hop_length == int(item.hop_length):
                found.append((item.name, outer, int(item.hop_length), item.lag))
        return found

    def _output_shapes(self, n_frames: int, *, first: bool) -> dict[str, tuple[int, ...]]:
        # A stream owes its lag from the first push on, and after that gives as much as it takes.
        return {
            name: (*outer, n_frames * hop_length - (lag if first else 0))
            for name, outer, hop_length, lag in self._output_steps
        }


def _read_contract(session: Session, streaming: StreamingSpec | None) -> DecoderContract:
    if streaming is None:
        inputs, outputs = session.inputs, session.outputs
        time_inputs = _find_time_inputs(inputs)
    else:
        # States and the flag of the last push are the engine's affair.
        hidden = {streaming.last_input, *(state.input for state in streaming.states)}
        inputs = {name: spec for name, spec in session.inputs.items() if name not in hidden}
        outputs = {item.name: session.outputs[item.name] for item in streaming.outputs}
        time_inputs = tuple(item.name for item in streaming.inputs)
    if not time_inputs:
        raise ModelError(f"{session.label}: no input has a time axis (a dynamic last axis)")
    return DecoderContract(session.label, inputs, outputs, time_inputs, streaming)


def _find_time_inputs(inputs: Mapping[str, TensorSpec]) -> tuple[str, ...]:
    # Time is a dynamic last axis; a batch can be one too, where it is the only axis of a tensor.
    batches = {spec.shape[0] for spec in inputs.values() if len(spec.shape) > 1} - {None}
    found = []
    for name, spec in inputs.items():
        last = spec.shape[-1] if spec.shape else 1
        if not isinstance(last, int) and last not in batches and "batch" not in str(last).lower():
            found.append(name)
    return tuple(found)


def _checked_state(array: object, spec: StateSpec) -> AnyArray:
    """Return a copy of a saved tensor, if it can be one of a state."""
    if not isinstance(array, np.ndarray) or array.dtype != spec.dtype:
        raise ParameterError(f"{spec.input} must be an array of {spec.dtype}")
    wanted = spec.longest
    if array.ndim == len(wanted):  # one axis may be shorter: a stream begins with less than it may hold
        wanted[spec.axis] = min(spec.max_length, array.shape[spec.axis])
    if list(array.shape) != wanted:
        raise ParameterError(f"{spec.input} has shape {array.shape}: must be {spec.longest}, or shorter")
    return array.copy()
