"""Exact streaming: the graph carries its own past, nothing is computed twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.full import empty_outputs, join_feeds
from balacoon_tk.decoder.graph import DecoderGraph, Frames, Samples
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.runtime.session import GraphSource, Tensor, to_tensor
from balacoon_tk.runtime.state_ring import StateRing

_State = Mapping[str, Tensor]
_Before = tuple[_State, dict[str, AnyArray], dict[str, int]]
"""The state before the newest run, the frames of that run, and the steps that it gave."""


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that a stream knows, as plain arrays that can be pickled, stored and moved."""

    fingerprint: str
    """Says which graph it belongs to."""
    tensors: Mapping[str, AnyArray]
    waiting: Mapping[str, AnyArray] | None
    """Frames that were pushed and are not decoded yet."""
    before: tuple[Mapping[str, AnyArray], Mapping[str, AnyArray], Mapping[str, int]] | None
    """State before the newest run, its frames, and the steps that it gave."""
    done: bool


class StatefulDecoder:
    """Push frames as they come and get the samples of the whole-utterance run as they become known.

    Parameters
    ----------
    model : DecoderGraph, ModelProto, bytes or path
        A graph that `balacoon_tk.export.make_streaming` has rewritten. Streams that share one
        `DecoderGraph` share its session and weights.
    n_threads : int, optional
        Threads that one run may use; only where `model` isn't a `DecoderGraph`.

    Attributes
    ----------
    hop_length : int
        Samples per frame (a float below 1 if the graph goes down in rate).
    lag_samples : int
        How far the output trails the input, until the last push.

    Raises
    ------
    ModelError
        If the graph isn't stateful.

    Notes
    -----
    A stream moves from state to state, and no state is ever written to: a push that fails leaves
    the stream as it was, and a last push that brings too few frames to run on (none, often) runs
    the newest frames again from the state before them.
    """

    def __init__(self, model: DecoderGraph | GraphSource, *, n_threads: int | None = None) -> None:
        graph = model if isinstance(model, DecoderGraph) else DecoderGraph(model, n_threads=n_threads)
        if graph.streaming is None:
            raise ModelError(f"{graph.session.label}: not a stateful graph; make_streaming makes one")
        self._graph = graph
        self._spec = graph.streaming
        output = self._spec.outputs[0]
        self.hop_length = output.hop_length
        self.lag_samples = output.lag
        self._state: _State = graph.initial_state
        self._waiting: dict[str, AnyArray] | None = None
        self._before: _Before | None = None
        self._ring: StateRing | None = None
        self._done = False

    def push(self, frames: Frames, last: bool = False) -> Samples:
        """Take the next frames and return the samples that have become known.

        Parameters
        ----------
        frames : ndarray or dict of str to ndarray
            Time on the last axis, any number of frames, also none. A graph with several inputs
            takes a dict; inputs at r times the frame rate get r times the steps, inputs without
            time come with every push.
        last : bool
            Whether the utterance ends with these frames.

        Returns
        -------
        ndarray or dict of str to ndarray
            Time on the last axis. Over all pushes: exactly the outputs of the whole run.

        Raises
        ------
        ParameterError
            If the frames don't fit the graph.
        StreamStateError
            If the last push has been.
        """
        return self.take(self._graph.check(frames), last)

    def take(self, feeds: dict[str, AnyArray], last: bool = False) -> Samples:
        """Do what `push` does with frames that are checked; see `Decoder`."""
        if self._done:
            raise StreamStateError("push after the last push: call reset() to begin a new utterance")
        if self._waiting is not None:
            feeds = join_feeds(self._graph, [self._waiting, feeds])
        n_frames = self._graph.n_frames(feeds)
        before = self._before
        needed = self._spec.min_first_frames if before is None else self._spec.min_push_frames
        if n_frames < needed and not last:
            self._waiting = feeds
            return self._graph.shaped(empty_outputs(self._graph))
        if n_frames < needed and before is not None:
            outputs = self._finish_again(before, feeds)
        elif n_frames:
            outputs = self._run(self._state, feeds, last)
        else:
            outputs = empty_outputs(self._graph)
        self._waiting = None
        if last:
            self._end()
        return self._graph.shaped(outputs)

    def reset(self) -> None:
        """Forget the stream, so that the next push begins a new utterance."""
        self._end()
        self._waiting = None
        self._done = False

    def snapshot(self) -> StreamState:
        """Return a copy of the stream's state, to be restored here or in another process."""
        before = None
        if self._before is not None:
            state, feeds, n_given = self._before
            before = (_to_arrays(state), _copies(feeds), dict(n_given))
        return StreamState(
            fingerprint=self._spec.fingerprint,
            tensors=_to_arrays(self._state),
            waiting=None if self._waiting is None else _copies(self._waiting),
            before=before,
            done=self._done,
        )

    def restore(self, state: StreamState) -> None:
        """Go on from a snapshot.

        Raises
        ------
        StreamStateError
            If the snapshot is of another graph, or damaged; the stream is left as it was.
        """
        if not isinstance(state, StreamState):
            raise StreamStateError(f"a state must be a StreamState, not {type(state).__name__}")
        if state.fingerprint != self._spec.fingerprint:
            raise StreamStateError("the state was taken from a stream over another graph")
        try:
            tensors = self._checked(state.tensors)
            waiting = None if state.waiting is None else self._graph.check(state.waiting)
            before = None
            if state.before is not None:
                earlier, feeds, n_given = state.before
                before = (self._checked(earlier), self._graph.check(feeds), self._checked_counts(n_given))
        except (AttributeError, ParameterError, TypeError, ValueError) as error:
            raise StreamStateError(f"the state is damaged: {error}") from error
        if not isinstance(state.done, bool):
            raise StreamStateError(f"the state is damaged: done={state.done!r} must be a bool")
        self._state, self._before, self._waiting, self._done = tensors, before, waiting, state.done

    def _checked(self, arrays: Mapping[str, object]) -> dict[str, Tensor]:
        """Return copies of a snapshot's tensors, if they can be a state of this graph."""
        specs = {spec.input: spec for spec in self._spec.states}
        if arrays.keys() != specs.keys():
            raise ParameterError(f"states {sorted(arrays)} must be {sorted(specs)}")
        tensors = {}
        for name, spec in specs.items():
            array = arrays[name]
            if not isinstance(array, np.ndarray) or array.dtype != spec.dtype:
                raise ParameterError(f"{name} must be an array of {spec.dtype}")
            longest = [spec.max_length if k == spec.axis else n for k, n in enumerate(spec.shape)]
            fits = array.ndim == len(longest) and all(
                n == most or (k == spec.axis and n < most)
                for k, (n, most) in enumerate(zip(array.shape, longest, strict=True))
            )
            if not fits:
                raise ParameterError(f"{name} has shape {array.shape}: must be {longest}, or shorter")
            tensors[name] = to_tensor(array.copy())
        return tensors

    def _checked_counts(self, counts: Mapping[str, object]) -> dict[str, int]:
        if counts.keys() != set(self._graph.outputs):
            raise ParameterError(f"outputs {sorted(counts)} must be {sorted(self._graph.outputs)}")
        checked = {}
        for name, count in counts.items():
            if not isinstance(count, int) or count < 0:
                raise ParameterError(f"{name}={count!r} must be an int >= 0")
            checked[name] = count
        return checked

    def _end(self) -> None:
        """Leave the state's place to other streams."""
        self._done = True
        self._state, self._before = self._graph.initial_state, None
        if self._ring is not None:
            self._graph.return_ring(self._ring)
            self._ring = None

    def _run(self, state: _State, feeds: dict[str, AnyArray], last: bool) -> dict[str, AnyArray]:
        outputs = None if last else self._go_round(state, feeds)
        if outputs is None:
            tensors = self._graph.run(
                {name: to_tensor(array) for name, array in feeds.items()}, state, last=last
            )
            outputs = {name: tensors.pop(name).numpy() for name in self._graph.outputs}
            if not last:
                self._state = self._into_ring(tensors)
        self._before = (state, feeds, {name: array.shape[-1] for name, array in outputs.items()})
        return outputs

    def _go_round(self, state: _State, feeds: dict[str, AnyArray]) -> dict[str, AnyArray] | None:
        """Run with the state in a ring, if it is there; None if that doesn't work, nothing having changed."""
        first = state is self._graph.initial_state
        if first and not self._graph.begins_in_ring:
            return None
        if first and self._ring is None:
            self._ring = self._graph.borrow_ring()
        ring = self._ring
        if ring is None or state is not ring.state:
            return None
        try:
            outputs = ring.run(feeds, self._graph.output_shapes(self._graph.n_frames(feeds), first=first))
        except ModelError:  # what is wrong with the frames, a run elsewhere says as well
            if first:
                self._graph.begins_in_ring = False
            else:
                self._graph.give_up_rings()
                self._ring = None
            return None
        self._state = ring.state
        return outputs

    def _into_ring(self, state: _State) -> _State:
        """Return the place of a state in a ring, or the state itself if there is none for it."""
        self._ring = self._ring or self._graph.borrow_ring()
        return self._ring.state if self._ring is not None and self._ring.enter(state) else state

    def _finish_again(self, before: _Before, feeds: dict[str, AnyArray]) -> dict[str, AnyArray]:
        """End the stream from the state before the newest run, and return only what is new."""
        state, earlier, n_given = before
        outputs = self._run(state, join_feeds(self._graph, [earlier, feeds]), last=True)
        return {name: array[..., n_given[name] :] for name, array in outputs.items()}


def _to_arrays(state: _State) -> dict[str, AnyArray]:
    return {name: np.array(tensor.numpy()) for name, tensor in state.items()}


def _copies(feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    return {name: array.copy() for name, array in feeds.items()}
