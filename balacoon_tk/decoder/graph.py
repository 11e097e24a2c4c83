"""A decoder graph, loaded once and shared by any number of streams and threads."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.session import GraphSource, Session, Tensor, TensorSpec, to_tensor
from balacoon_tk.runtime.state_ring import StateRing

_MAX_IDLE_RINGS = 32  # streams that have ended; each holds three times a stream's state

Frames = AnyArray | Mapping[str, AnyArray]
"""What a push takes: an array with time on its last axis, or one per input by name."""

Samples = AnyArray | dict[str, AnyArray]
"""What a push gives: an array with time on its last axis, or one per output by name."""


class Decoder(Protocol):
    """One stream from frames to samples."""

    @property
    def hop_length(self) -> float:
        """Samples per frame."""
        ...

    @property
    def lag_samples(self) -> int:
        """How far the output trails the input, until the last push."""
        ...

    def push(self, frames: Frames, last: bool = False) -> Samples:
        """Take the next frames (any number, also none) and return the samples that are ready.

        Over all pushes the samples are those of the whole utterance: ``n_frames * hop_length``.
        """
        ...

    def take(self, feeds: dict[str, AnyArray], last: bool = False) -> Samples:
        """Do what `push` does with frames as `DecoderGraph.check` returns them, which nobody else changes."""
        ...

    def reset(self) -> None:
        """Forget the stream, so that the next push begins a new utterance."""
        ...


@dataclass(frozen=True, slots=True)
class TimeInput:
    """An input of a stateful graph that gets new steps with every push."""

    name: str
    steps_per_frame: int


@dataclass(frozen=True, slots=True)
class TimeOutput:
    """An output of a stateful graph, time on its last axis."""

    name: str
    hop_length: float
    """Steps per frame; below 1 for a graph that goes down in rate."""
    lag: int
    """Largest number of steps by which the output trails the input."""


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One tensor that a stateful graph carries from push to push."""

    input: str
    output: str
    dtype: str
    shape: tuple[int, ...]
    """Shape before the first push."""
    axis: int
    """The axis whose length changes."""
    max_length: int
    """Largest length of that axis."""
    fill: float = 0.0
    """The value that it holds before the first push."""

    @property
    def n_bytes(self) -> int:
        """Largest size in bytes."""
        sizes = [self.max_length if i == self.axis else n for i, n in enumerate(self.shape)]
        return int(np.prod(sizes)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True)
class StreamingSpec:
    """The streaming contract that `make_streaming` writes into a graph's metadata."""

    METADATA_KEY: ClassVar[str] = "balacoon_tk.streaming"
    FORMAT_VERSION: ClassVar[int] = 1

    inputs: tuple[TimeInput, ...]
    outputs: tuple[TimeOutput, ...]
    states: tuple[StateSpec, ...]
    fingerprint: str
    """Says which graph a stream's state belongs to."""
    last_input: str
    """Name of the int64 ``(1,)`` input that is 1 in the last push and 0 before."""
    min_first_frames: int
    """Frames that the first push needs, unless it is the last one too."""
    min_push_frames: int
    """Frames that any later push needs."""
    plan: tuple[str, ...] = ()
    """The plan of cuts, a line each, for a person to read."""
    recomputed_share: float = 0.0
    """Multiply-adds that are done again, as a share of the whole, at the planned chunk size."""
    planned_chunk_frames: int = 0

    @property
    def n_state_bytes(self) -> int:
        """Largest size of one stream's state in bytes."""
        return sum(state.n_bytes for state in self.states)

    def to_json(self) -> str:
        """Return the text that stands in the graph's metadata."""
        return json.dumps({"format_version": self.FORMAT_VERSION} | asdict(self))

    @classmethod
    def from_json(cls, text: str) -> StreamingSpec:
        """Read the metadata of a graph.

        Raises
        ------
        ModelError
            If the text is damaged or of a format that this version doesn't read.
        """
        try:
            data = json.loads(text)
            version = data.pop("format_version")
            if version != cls.FORMAT_VERSION:
                raise ModelError(
                    f"{cls.METADATA_KEY}: format_version={version}, this version reads {cls.FORMAT_VERSION}"
                )
            data["inputs"] = tuple(TimeInput(**item) for item in data["inputs"])
            data["outputs"] = tuple(TimeOutput(**item) for item in data["outputs"])
            data["states"] = tuple(
                StateSpec(**(item | {"shape": tuple(item["shape"])})) for item in data["states"]
            )
            data["plan"] = tuple(data["plan"])
            return cls(**data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"{cls.METADATA_KEY}: the graph's metadata is damaged: {error}") from error


class DecoderGraph:
    """A decoder graph and its session: plain, or stateful if `make_streaming` has rewritten it.

    Parameters
    ----------
    model : path, bytes or ModelProto
        The graph.
    n_threads : int, optional
        Threads that one run may use.

    Raises
    ------
    ModelError
        If it can't be loaded, or no input has a time axis.
    """

    def __init__(self, model: GraphSource, *, n_threads: int | None = None) -> None:
        self.session = Session(model, n_threads=n_threads)
        text = self.session.metadata.get(StreamingSpec.METADATA_KEY)
        self.streaming = None if text is None else StreamingSpec.from_json(text)
        states = () if self.streaming is None else self.streaming.states
        hidden = {state.input for state in states}
        if self.streaming is not None:
            hidden.add(self.streaming.last_input)
        self.inputs = {name: spec for name, spec in self.session.inputs.items() if name not in hidden}
        if self.streaming is not None:
            self.time_inputs = tuple(item.name for item in self.streaming.inputs)
            self.outputs = tuple(item.name for item in self.streaming.outputs)
        else:
            self.time_inputs = _time_inputs(self.inputs)
            self.outputs = tuple(self.session.outputs)
        if not self.time_inputs:
            raise ModelError(f"{self.session.label}: no input has a time axis (a dynamic last axis)")
        self._next_names = [*self.outputs, *(state.output for state in states)]
        self._next_keys = [*self.outputs, *(state.input for state in states)]
        self._last = {flag: to_tensor(np.array([flag], dtype=np.int64)) for flag in (False, True)}
        self.initial_state = {
            state.input: to_tensor(np.full(state.shape, state.fill, dtype=state.dtype)) for state in states
        }
        self._steady_shapes: dict[str, tuple[int, ...]] | None = None
        self._output_steps = self._find_output_steps()
        self._may_ring = len(self._output_steps) == len(self.outputs)
        self.begins_in_ring = True  # until a first push shows that it can't
        self._rings: deque[StateRing] = deque(maxlen=_MAX_IDLE_RINGS)

    def check(self, frames: Frames) -> dict[str, AnyArray]:
        """Check the shapes and dtypes of one push and return copies by input name.

        Copies, because frames may have to wait while the caller fills the same buffer again.

        Raises
        ------
        ParameterError
            If an input is missing, unknown, of a wrong dtype or shape, not finite, or not as long
            as the others.
        """
        if isinstance(frames, Mapping):
            feeds = dict(frames)
        elif len(self.inputs) == 1:
            feeds = {self.time_inputs[0]: frames}
        else:
            raise ParameterError(f"the decoder has the inputs {', '.join(self.inputs)}: push a dict of them")
        if feeds.keys() != self.inputs.keys():
            raise ParameterError(f"inputs {sorted(feeds)} must be {sorted(self.inputs)}")
        for name, array in feeds.items():
            _check_array(name, array, self.inputs[name])
        n_frames = self.n_frames(feeds)
        for item in () if self.streaming is None else self.streaming.inputs:
            n_steps = feeds[item.name].shape[-1]
            if n_steps != n_frames * item.steps_per_frame:
                raise ParameterError(
                    f"{item.name} has {n_steps} steps: must be {n_frames} frames of {item.steps_per_frame}"
                )
        copies = {name: np.array(array, order="C") for name, array in feeds.items()}
        for name, array in copies.items():
            _check_finite(name, array)
        return copies

    def n_frames(self, feeds: Mapping[str, AnyArray]) -> int:
        """Return the number of frames in one push."""
        if self.streaming is None:  # then a frame is a step of the slowest input
            return min(int(feeds[name].shape[-1]) for name in self.time_inputs)
        first = self.streaming.inputs[0]
        return int(feeds[first.name].shape[-1]) // first.steps_per_frame

    def decode(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Decode a whole utterance, or a window as if it were one; `feeds` as `check` returns it."""
        if self.streaming is None:
            return self.session.run(feeds, self.outputs)
        tensors = self.run(
            {name: to_tensor(array) for name, array in feeds.items()}, self.initial_state, last=True
        )
        return {name: tensors[name].numpy() for name in self.outputs}

    def run(
        self,
        feeds: Mapping[str, Tensor],
        state: Mapping[str, Tensor],
        *,
        last: bool,
    ) -> dict[str, Tensor]:
        """Run a stateful graph once; return its outputs, and the new state under the names of the inputs.

        The last run gives no state: a tensor that Python gets takes microseconds, and nobody asks for these.
        """
        if self.streaming is None:
            raise ModelError(f"{self.session.label}: not a stateful graph; make_streaming makes one")
        flag = {self.streaming.last_input: self._last[last]}
        n_wanted = len(self.outputs) if last else len(self._next_names)
        tensors = self.session.run_tensors({**feeds, **state, **flag}, self._next_names[:n_wanted])
        found = dict(zip(self._next_keys[:n_wanted], tensors, strict=True))
        if self._may_ring and self._steady_shapes is None and not last:
            self._look_at_shapes(state, found)
        return found

    def _find_output_steps(self) -> list[tuple[str, tuple[int, ...], int, int]]:
        """Return name, other axes, steps per frame and lag of each output where all of these are fixed."""
        found = []
        for item in () if self.streaming is None else self.streaming.outputs:
            outer = tuple(n for n in self.session.outputs[item.name].shape[:-1] if isinstance(n, int))
            is_fixed = len(outer) == len(self.session.outputs[item.name].shape) - 1
            if is_fixed and item.hop_length == int(item.hop_length):
                found.append((item.name, outer, int(item.hop_length), item.lag))
        return found

    def _look_at_shapes(self, before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> None:
        """Note the shapes of the state once a run has left them as they were."""
        shapes = {name: tuple(after[name].shape()) for name in before}
        if all(tuple(tensor.shape()) == shapes[name] for name, tensor in before.items()):
            self._steady_shapes = shapes

    def borrow_ring(self) -> StateRing | None:
        """Return a place for the state of one stream, to be given back by `return_ring` if it is used up.

        None before a stream has shown what shapes its state has, and for graphs with which it doesn't work.
        """
        shapes = self._steady_shapes
        if self.streaming is None or shapes is None:
            return None
        try:
            return self._rings.pop()
        except IndexError:
            return StateRing(
                self.session,
                self.initial_state,
                {state.input: state.output for state in self.streaming.states},
                shapes,
                {self.streaming.last_input: self._last[False]},
            )

    def return_ring(self, ring: StateRing) -> None:
        """Take a ring back for other streams; nobody may hold its state."""
        ring.restart()
        self._rings.append(ring)

    def give_up_rings(self) -> None:
        """Note that this graph's state changes its shapes at times."""
        self._steady_shapes, self._may_ring = None, False
        self._rings.clear()

    def output_shapes(self, n_frames: int, *, first: bool) -> dict[str, tuple[int, ...]]:
        """Return the shapes of what a run with a ring gives."""
        return {
            name: (*outer, n_frames * hop_length - lag if first else n_frames * hop_length)
            for name, outer, hop_length, lag in self._output_steps
        }

    def shaped(self, arrays: Mapping[str, AnyArray]) -> Samples:
        """Return the outputs as a push does: an array if there is one, else a dict."""
        return arrays[self.outputs[0]] if len(self.outputs) == 1 else dict(arrays)


def _time_inputs(inputs: Mapping[str, TensorSpec]) -> tuple[str, ...]:
    """Return the inputs whose last axis is dynamic, unless that is the batch axis."""
    batches = {spec.shape[0] for spec in inputs.values() if len(spec.shape) > 1} - {None}
    found = []
    for name, spec in inputs.items():
        last = spec.shape[-1] if spec.shape else 1
        if not isinstance(last, int) and last not in batches and "batch" not in str(last).lower():
            found.append(name)
    return tuple(found)


def _check_array(name: str, array: AnyArray, spec: TensorSpec) -> None:
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"{name} must be an ndarray, not {type(array).__name__}")
    if array.dtype != spec.dtype:
        raise ParameterError(f"{name} has dtype {array.dtype}: must be {spec.dtype}")
    fits = array.ndim == len(spec.shape) and all(
        not isinstance(wanted, int) or wanted == n for wanted, n in zip(spec.shape, array.shape, strict=True)
    )
    if not fits:
        shape = ", ".join("n" if not isinstance(n, int) else str(n) for n in spec.shape)
        raise ParameterError(f"{name} has shape {array.shape}: must be ({shape})")


def _check_finite(name: str, array: AnyArray) -> None:
    """Refuse what would spread through a stream's state."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ParameterError(f"{name} holds NaN or infinity")
