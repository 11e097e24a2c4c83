"""Exact streaming: the decoder carries its own past, nothing is computed twice."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.engines import open_engine
from balacoon_tk.decoder.stream import Decoder
from balacoon_tk.errors import ModelError, ParameterError, StreamStateError
from balacoon_tk.runtime.engine import Engine, Feeds, Samples, State
from balacoon_tk.runtime.options import Backend, RuntimeOptions, choose_options
from balacoon_tk.runtime.session import GraphSource

# The state before the newest step, the frames of that step, and how much it gave.
_Before = tuple[State, Feeds, dict[str, int]]


@dataclass(frozen=True, slots=True)
class StreamState:
    """All that a stream knows, as plain arrays that can be pickled, stored and moved."""

    fingerprint: str  # says which decoder it belongs to
    tensors: Mapping[str, AnyArray]
    waiting: Feeds | None  # frames that were pushed and are not decoded yet
    # The state before the newest step, its frames, and how much it gave.
    before: tuple[Mapping[str, AnyArray], Feeds, Mapping[str, int]] | None
    done: bool


class StatefulDecoder(Decoder):
    """Push frames as they come and get the samples of the whole-utterance run as they become known.

    Parameters
    ----------
    model : Engine, ModelProto, bytes or path
        An engine whose decoder can be streamed, or a graph that `balacoon_tk.export.make_streaming` has
        rewritten; for the native engine the plain graph. Streams that share an engine share its weights.
    options : RuntimeOptions, optional
        How a graph is run; an engine brings its own.
    backend : {"auto", "native", "onnxruntime"}, optional
        What runs a graph; short for `options`. ``native`` compiles it first; else ONNX Runtime runs it.

    Attributes
    ----------
    hop_length : int
        Samples per frame (a float below 1 if the decoder goes down in rate).
    lag_samples : int
        How far the output trails the input, until the last push.

    Raises
    ------
    ModelError
        If the decoder can only be run whole, or the native engine can't run it; then with the node and why.
    ParameterError
        If an engine is given with a backend, or options as well as a backend.
    """

    # A stream moves from state to state, and no state is ever written to: a push that fails leaves the stream
    # as it was, and a last push that brings too few frames to run on (none, often) runs the newest frames
    # again, with these behind them, from the state before.

    def __init__(
        self,
        model: Engine | GraphSource,
        options: RuntimeOptions | None = None,
        *,
        backend: Backend | None = None,
    ) -> None:
        # By one attribute: to look for all of the protocol's is as long as all else that begins a stream.
        if not hasattr(model, "contract"):
            engine = open_engine(model, choose_options(None, backend, options))
        elif backend is not None:
            raise ParameterError(f"backend={backend!r} must be None for an engine")
        else:
            engine = cast(Engine, model)
        super().__init__(engine)
        streaming = self._contract.streaming
        if streaming is None:
            raise ModelError(f"{self._contract.label}: not a stateful graph; make_streaming makes one")
        self._streaming = streaming
        self.hop_length = streaming.outputs[0].hop_length
        self.lag_samples = streaming.outputs[0].lag
        self._state = self._engine.start()
        self._waiting: Feeds | None = None
        self._before: _Before | None = None

    def take(self, feeds: Feeds, last: bool = False) -> Samples:
        """Do what `push` does with frames that are checked."""
        self._check_open()
        contract, before = self._contract, self._before
        if self._waiting is not None:
            feeds = contract.join([self._waiting, feeds])
        n_frames = contract.n_frames(feeds)
        needed = self._streaming.min_first_frames if before is None else self._streaming.min_push_frames
        # A graph of convolutions can't be run on fewer steps than its kernels span: such frames wait.
        if n_frames < needed and not last:
            self._waiting = feeds
            return contract.shaped(contract.empty_outputs())
        if n_frames < needed and before is not None:
            state, earlier, n_given = before
            outputs = self._step(state, contract.join([earlier, feeds]), last=True)
            # What the newest step has given is given away already.
            outputs = {name: array[..., n_given[name] :] for name, array in outputs.items()}
        elif n_frames or before is not None:
            outputs = self._step(self._state, feeds, last=last)
        else:  # nothing was ever pushed
            outputs = contract.empty_outputs()
        self._waiting = None
        if last:
            self._end()
        return contract.shaped(outputs)

    def reset(self) -> None:
        """Forget the stream."""
        self._end()
        self._waiting = None
        self._done = False

    def snapshot(self) -> StreamState:
        """Return a copy of the stream's state, to be restored here or in another process."""
        before = None
        if self._before is not None:
            state, feeds, n_given = self._before
            before = (self._engine.save(state), _copies(feeds), dict(n_given))
        return StreamState(
            fingerprint=self._streaming.fingerprint,
            tensors=self._engine.save(self._state),
            waiting=None if self._waiting is None else _copies(self._waiting),
            before=before,
            done=self._done,
        )

    def restore(self, state: StreamState) -> None:
        """Go on from a snapshot.

        `StreamStateError` says that it is of another decoder, or damaged; the stream is left as it was.
        """
        if not isinstance(state, StreamState):
            raise StreamStateError(f"a state must be a StreamState, not {type(state).__name__}")
        if state.fingerprint != self._streaming.fingerprint:
            raise StreamStateError("the state was taken from a stream over another graph")
        # All is read before anything is taken over. A snapshot may come from a file, hence all these errors.
        try:
            newest = self._engine.load(state.tensors)
            waiting = None if state.waiting is None else self._contract.check(state.waiting)
            before = None
            if state.before is not None:
                earlier, feeds, n_given = state.before
                counts = self._checked_counts(n_given)
                before = (self._engine.load(earlier), self._contract.check(feeds), counts)
        except (AttributeError, ParameterError, TypeError, ValueError) as error:
            raise StreamStateError(f"the state is damaged: {error}") from error
        if not isinstance(state.done, bool):
            raise StreamStateError(f"the state is damaged: done={state.done!r} must be a bool")
        self._state, self._before, self._waiting, self._done = newest, before, waiting, state.done

    def _checked_counts(self, counts: Mapping[str, int]) -> dict[str, int]:
        outputs = self._contract.outputs
        if counts.keys() != outputs.keys():
            raise ParameterError(f"outputs {sorted(counts)} must be {sorted(outputs)}")
        for name, count in counts.items():
            if operator.index(count) < 0:
                raise ParameterError(f"{name}={count!r} must be an int >= 0")
        return dict(counts)

    def _end(self) -> None:
        self._done = True
        # Let go of the stream's states, whose place other streams may have.
        self._state, self._before = self._engine.start(), None

    def _step(self, state: State, feeds: Feeds, *, last: bool) -> dict[str, AnyArray]:
        outputs, following = self._engine.step(state, feeds, last=last)
        self._before = (state, feeds, {name: array.shape[-1] for name, array in outputs.items()})
        self._state = following
        return outputs


def _copies(feeds: Feeds) -> dict[str, AnyArray]:
    return {name: array.copy() for name, array in feeds.items()}
