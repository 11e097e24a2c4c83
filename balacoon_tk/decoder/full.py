"""The reference of every comparison: the whole utterance in one call."""

from __future__ import annotations

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.graph import DecoderGraph, Frames, Samples
from balacoon_tk.errors import StreamStateError


class FullDecoder:
    """Collect frames until the last push, then decode them in one run.

    Parameters
    ----------
    graph : DecoderGraph
    hop_length : int
        Samples per frame.

    Notes
    -----
    `lag_samples` is 0: what is decoded is complete. That nothing comes before the last push is
    what the other strategies are for.
    """

    lag_samples = 0

    def __init__(self, graph: DecoderGraph, *, hop_length: int) -> None:
        self.hop_length = hop_length
        self._graph = graph
        self._pushes: list[dict[str, AnyArray]] = []
        self._done = False

    def push(self, frames: Frames, last: bool = False) -> Samples:
        """Keep the frames; at the last push return all samples.

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
        pushes = [*self._pushes, feeds]
        if not last:
            self._pushes = pushes
            return self._graph.shaped(empty_outputs(self._graph))
        joined = join_feeds(self._graph, pushes)
        outputs = self._graph.decode(joined) if self._graph.n_frames(joined) else empty_outputs(self._graph)
        self._pushes, self._done = [], True
        return self._graph.shaped(outputs)

    def reset(self) -> None:
        """Forget all frames."""
        self._pushes = []
        self._done = False


def join_feeds(graph: DecoderGraph, pushes: list[dict[str, AnyArray]]) -> dict[str, AnyArray]:
    """Join pushes along time; inputs without time are those of the newest push."""
    if len(pushes) == 1:
        return pushes[0]
    return {
        name: np.concatenate([push[name] for push in pushes], axis=-1)
        if name in graph.time_inputs
        else pushes[-1][name]
        for name in pushes[-1]
    }


def empty_outputs(graph: DecoderGraph) -> dict[str, AnyArray]:
    """Return every output with a time axis of length 0."""
    specs = graph.session.outputs
    return {
        name: np.empty(
            [*(n if isinstance(n, int) else 1 for n in specs[name].shape[:-1]), 0], dtype=specs[name].dtype
        )
        for name in graph.outputs
    }
