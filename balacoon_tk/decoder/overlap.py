"""Overlap streaming: every chunk is decoded with its context, and the context is trimmed off."""

from __future__ import annotations

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.chunking import overlap_window
from balacoon_tk.decoder.full import empty_outputs, join_feeds
from balacoon_tk.decoder.graph import DecoderGraph, Frames, Samples
from balacoon_tk.decoder.overlap_trim import trim
from balacoon_tk.errors import ParameterError, StreamStateError


class OverlapDecoder:
    """Decode new frames together with the frames around them that their samples depend on.

    Exact up to floating point if the context covers the decoder's receptive field; the frames of
    the context are decoded again in every push.

    Parameters
    ----------
    graph : DecoderGraph
        A graph with one output.
    left_context, lookahead : int
        Frames before and after a frame that its samples depend on.
    hop_length : int
        Samples per frame.
    """

    def __init__(self, graph: DecoderGraph, *, left_context: int, lookahead: int, hop_length: int) -> None:
        if len(graph.outputs) != 1:
            raise ParameterError(f"overlap needs a decoder with one output, not {', '.join(graph.outputs)}")
        for name, value in (("left_context", left_context), ("lookahead", lookahead)):
            if value < 0:
                raise ParameterError(f"{name}={value} must be >= 0")
        self.hop_length = hop_length
        self.left_context = left_context
        self.lookahead = lookahead
        self.lag_samples = lookahead * hop_length
        self._graph = graph
        self._held: list[dict[str, AnyArray]] = []
        self._n_frames = 0
        self._done = False

    def push(self, frames: Frames, last: bool = False) -> Samples:
        """Decode what has become complete and return its samples.

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
        held = join_feeds(self._graph, [*self._held, feeds])
        n_before = self._n_frames
        n_after = n_before + self._graph.n_frames(feeds)
        window = overlap_window(
            n_before, n_after, last, left_context=self.left_context, lookahead=self.lookahead
        )
        if window.n_kept:
            first_held = n_after - self._graph.n_frames(held)
            part = self._cut(held, window.start - first_held, window.stop - first_held)
            decoded = self._graph.decode(part)[self._graph.outputs[0]]
            rows = decoded.reshape(-1, decoded.shape[-1])
            kept = [trim(row, window, hop_length=self.hop_length) for row in rows]
            samples: AnyArray = np.stack(kept).reshape(*decoded.shape[:-1], -1)
        else:
            samples = empty_outputs(self._graph)[self._graph.outputs[0]]
        # The next window begins at most so many frames before the newest one.
        n_held = self._graph.n_frames(held)
        n_needed = min(n_held, self.left_context + self.lookahead)
        self._held = [] if last else [self._cut(held, n_held - n_needed, n_held)]
        self._n_frames, self._done = n_after, last
        return samples

    def reset(self) -> None:
        """Forget all frames."""
        self._held = []
        self._n_frames = 0
        self._done = False

    def _cut(self, feeds: dict[str, AnyArray], start: int, stop: int) -> dict[str, AnyArray]:
        n_frames = self._graph.n_frames(feeds)
        return {
            name: array[..., start * (steps := array.shape[-1] // n_frames) : stop * steps]
            if name in self._graph.time_inputs and n_frames
            else array
            for name, array in feeds.items()
        }
