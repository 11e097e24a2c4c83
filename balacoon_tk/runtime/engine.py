"""The seam between streams and whatever runs a decoder: its contract, and the protocol of an engine.

```
StatefulDecoder, FullDecoder, OverlapDecoder          know frames, samples and the contract
        │  whole, start, step, save, load
     Engine                                           knows kernels, tensors, threads and where state lies
        ├── OrtEngine (`balacoon_tk.runtime.ort_engine`): an ONNX graph in ONNX Runtime
        └── an engine of one's own: `tests/numpy_engine.py` is one on a page
```

A stream's state is opaque: only the engine that made it looks into it. So a state may be tensors that are
bound to a graph, rings in memory of the engine's own, or arrays, and nobody else has to change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime._checks import all_finite
from balacoon_tk.runtime.session import TensorSpec

# What a push takes and gives: an array with time on its last axis, or one per input or output by name.
Frames = AnyArray | Mapping[str, AnyArray]
Samples = AnyArray | dict[str, AnyArray]

Feeds: TypeAlias = Mapping[str, AnyArray]
"""Inputs by name, as `DecoderContract.check` returns them."""

State: TypeAlias = Any
"""What a stream carries from push to push; only the engine that made it knows what it is."""


@dataclass(frozen=True, slots=True)
class TimeInput:
    """An input of a stateful graph that gets new steps with every push."""

    name: str
    steps_per_frame: int


@dataclass(frozen=True, slots=True)
class TimeOutput:
    """An output of a stateful graph, time on its last axis."""

    name: str
    hop_length: float  # steps per frame; below 1 for a graph that goes down in rate
    lag: int  # largest number of steps by which the output trails the input


@dataclass(frozen=True, slots=True)
class StreamingContract:
    """What a stream of a decoder has to know: rates, lag, and how few frames a push may bring."""

    inputs: tuple[TimeInput, ...]
    outputs: tuple[TimeOutput, ...]
    fingerprint: str  # says which decoder a stream's saved state belongs to
    min_first_frames: int  # that the first push needs, unless it is the last one too
    min_push_frames: int  # that any later push needs


@dataclass(frozen=True, slots=True)
class DecoderContract:
    """What a decoder takes and gives, whatever runs it."""

    label: str  # what messages call it: a file, as a rule
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    time_inputs: tuple[str, ...]  # those that bring new steps with every push, time on the last axis
    streaming: StreamingContract | None  # None if it can only be run whole

    def check(self, frames: Frames) -> dict[str, AnyArray]:
        """Check the shapes and dtypes of one push and return copies by input name."""
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
        # Copies, because frames may have to wait while the caller fills the same buffer again. What is looked
        # at is the copy: NaN that came in between would spread through the stream's state and stay there.
        copies = {name: np.array(array, order="C") for name, array in feeds.items()}
        for name, array in copies.items():
            if not _is_finite(array):
                raise ParameterError(f"{name} holds NaN or infinity")
        return copies

    def n_frames(self, feeds: Feeds) -> int:
        """Return the number of frames in one push."""
        if self.streaming is None:  # then a frame is a step of the slowest input
            return min(int(feeds[name].shape[-1]) for name in self.time_inputs)
        first = self.streaming.inputs[0]
        return int(feeds[first.name].shape[-1]) // first.steps_per_frame

    def join(self, pushes: Sequence[Feeds]) -> Feeds:
        """Join pushes along time; inputs without time are those of the newest push."""
        if len(pushes) == 1:
            return pushes[0]
        return {
            name: np.concatenate([push[name] for push in pushes], axis=-1)
            if name in self.time_inputs
            else pushes[-1][name]
            for name in pushes[-1]
        }

    def cut(self, feeds: Feeds, start: int, stop: int) -> dict[str, AnyArray]:
        """Return the frames [start, stop) of a push; inputs without time as they are."""
        n_frames = self.n_frames(feeds)
        return {
            name: array[..., start * (steps := array.shape[-1] // n_frames) : stop * steps]
            if name in self.time_inputs and n_frames
            else array
            for name, array in feeds.items()
        }

    def empty_outputs(self) -> dict[str, AnyArray]:
        """Return every output with a time axis of length 0."""
        return {
            name: np.empty([*(n if isinstance(n, int) else 1 for n in spec.shape[:-1]), 0], dtype=spec.dtype)
            for name, spec in self.outputs.items()
        }

    def shaped(self, arrays: Mapping[str, AnyArray]) -> Samples:
        """Return outputs as a push does: an array if there is one, else a dict."""
        return next(iter(arrays.values())) if len(self.outputs) == 1 else dict(arrays)


@runtime_checkable
class Engine(Protocol):
    """Runs one decoder, for any number of streams and threads at once; `ModelError` says that it fails.

    No call changes a state that it is given, so that a step which fails leaves its stream as it was. A state
    can be stepped from until two further steps have been taken behind it: the newest state of a stream and
    the one before it, no more.
    """

    @property
    def contract(self) -> DecoderContract:
        """What the decoder takes and gives."""
        ...

    def whole(self, feeds: Feeds) -> dict[str, AnyArray]:
        """Decode a whole utterance, or a window as if it were one."""
        ...

    def start(self) -> State:
        """Return the state of a stream before its first push; `ModelError` if there are no streams."""
        ...

    def step(self, state: State, feeds: Feeds, *, last: bool) -> tuple[dict[str, AnyArray], State]:
        """Decode the next frames; return the outputs that have become known, and the state behind them.

        At least as many frames as the contract asks for, unless it is the stream's only step. Behind the
        last step there is no state worth having: it may be any. A state that is too old is an error.
        """
        ...

    def save(self, state: State) -> dict[str, AnyArray]:
        """Return a copy of a state as plain arrays, to be loaded here or in another process."""
        ...

    def load(self, arrays: Mapping[str, AnyArray]) -> State:
        """Return the state that `save` gave these arrays for; `ParameterError` if they can't be one."""
        ...


def _is_finite(array: AnyArray) -> bool:
    # Called between two runs of a decoder, where the functions of NumPy have left the caches.
    if array.dtype == np.float32:
        return all_finite(array)
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _check_array(name: str, array: AnyArray, spec: TensorSpec) -> None:
    if not isinstance(array, np.ndarray):
        raise ParameterError(f"{name} must be an ndarray, not {type(array).__name__}")
    if array.dtype != spec.dtype:
        raise ParameterError(f"{name} has dtype {array.dtype}: must be {spec.dtype}")
    fits = array.ndim == len(spec.shape)
    for wanted, n in zip(spec.shape, array.shape, strict=False):
        fits = fits and (wanted == n or not isinstance(wanted, int))
    if not fits:
        shape = ", ".join("n" if not isinstance(n, int) else str(n) for n in spec.shape)
        raise ParameterError(f"{name} has shape {array.shape}: must be ({shape})")
