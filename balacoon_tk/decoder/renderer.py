"""A decoder of a voice and the ways in which it can be run: from frames to chunks of samples."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.decoder import Decoder, Strategy, open_decoder
from balacoon_tk.decoder.chunking import push_schedule
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime._checks import all_finite
from balacoon_tk.runtime.engine import Engine

if TYPE_CHECKING:
    from balacoon_tk.voice.manifest import DecoderInfo


class FrameSource(Protocol):
    """What has the frames of an utterance, or makes them when they are asked for."""

    @property
    def n_frames(self) -> int:
        """Frames in all."""
        ...

    def window(self, start: int, stop: int) -> FloatArray:
        """Return the frames [start, stop), of shape (n_channels, stop - start), float32."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Renderer:
    """A decoder and what its voice's manifest says of it."""

    name: str
    """Of the voice, for messages."""
    info: DecoderInfo
    engine: Engine
    hop_length: int
    """Samples per frame."""

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The ways in which the decoder can be run."""
        always: tuple[Strategy, ...] = ("full", "overlap")
        return always if self.info.streaming is None else (*always, "stateful")

    def choose_strategy(self, strategy: str | None) -> Strategy:
        """Return the strategy asked for, or the best one that the decoder can do.

        Raises
        ------
        ParameterError
            If there is no such strategy, or the decoder can't do it.
        """
        if strategy in self.strategies:
            return strategy
        reason = self.info.not_streamable or "the voice was exported without it"
        if strategy == "stateful":
            raise ParameterError(
                f"strategy='stateful': the decoder of {self.name} can't be streamed "
                f"exactly: {reason}; 'overlap' and 'full' work"
            )
        if strategy is not None:
            raise ParameterError(f"strategy={strategy!r} must be one of {', '.join(self.strategies)}")
        if "stateful" in self.strategies:
            return "stateful"
        warnings.warn(
            f"{self.name} is streamed with strategy='overlap': its decoder can't be streamed "
            f"exactly: {reason}",
            stacklevel=4,  # whoever called the voice
        )
        return "overlap"

    def open(self, strategy: Strategy) -> Decoder:
        """Open a decoder for one utterance; it holds the stream's state and none of the weights."""
        return open_decoder(
            strategy,
            self.engine,
            left_context=self.info.left_context,
            lookahead=self.info.lookahead,
            hop_length=self.hop_length,
        )

    def render(
        self,
        source: FrameSource,
        strategy: Strategy,
        chunk_frames: Sequence[int],
        *,
        constant: Mapping[str, AnyArray] | None = None,
    ) -> Iterator[FloatArray]:
        """Turn the frames of one utterance into samples, chunk by chunk.

        Parameters
        ----------
        source : FrameSource
        strategy : {"full", "overlap", "stateful"}
        chunk_frames : sequence of int
            Frames of audio in a chunk; the last number repeats.
        constant : mapping of str to ndarray, optional
            Inputs without time, which come with every push.

        Yields
        ------
        ndarray of shape (n_samples,), float32
            Never empty; in all ``n_frames * hop_length`` samples.

        Raises
        ------
        ModelError
            If the decoder fails or gives samples that are not finite.
        """
        decoder = self.open(strategy)
        lag_frames = math.ceil(decoder.lag_samples / decoder.hop_length)
        for push in push_schedule(source.n_frames, chunk_frames, lag_frames=lag_frames):
            frames = source.window(push.start, push.stop)[np.newaxis]
            feeds = {"frames": frames, **(constant or {})}
            samples = cast(FloatArray, decoder.take(feeds, push.last)).reshape(-1)
            if not all_finite(samples):
                raise ModelError(f"the decoder made NaN or infinity of the frames to {push.stop}")
            if samples.size:
                yield samples
