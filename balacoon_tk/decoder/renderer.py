"""A decoder of a voice and the ways in which it can be run: from frames to chunks of samples."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.decoder import Decoder, StatefulDecoder, Strategy, open_decoder
from balacoon_tk.decoder.chunking import push_schedule
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime._checks import all_finite
from balacoon_tk.runtime.engine import Engine


class FrameSource(Protocol):
    """What has the frames of an utterance, or makes them when they are asked for."""

    @property
    def n_frames(self) -> int:
        """Frames in all."""
        ...

    def window(self, start: int, stop: int) -> AnyArray:
        """Return the frames [start, stop), of shape (n_channels, stop - start)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class FrameArray:
    """Frames that are all there, of shape (n_channels, n_frames)."""

    frames: AnyArray

    @property
    def n_frames(self) -> int:
        """Frames in all."""
        return int(self.frames.shape[1])

    def window(self, start: int, stop: int) -> AnyArray:
        """Return the frames [start, stop)."""
        return np.ascontiguousarray(self.frames[:, start:stop])


@dataclass(frozen=True, slots=True, eq=False)
class Renderer:
    """A decoder and what is known of it."""

    name: str  # of the voice, for messages
    engine: Engine
    hop_length: int  # samples per frame
    left_context: int  # frames before a frame that its samples depend on
    lookahead: int  # frames after it
    not_streamable: str | None = None  # the reason, if the decoder can't be streamed exactly

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The ways in which the decoder can be run."""
        always: tuple[Strategy, ...] = ("full", "overlap")
        return always if self.not_streamable is not None else (*always, "stateful")

    def choose_strategy(self, strategy: str | None) -> Strategy:
        """Return the strategy asked for, if the decoder can do it, or the best one that it can."""
        if strategy in self.strategies:
            return strategy
        if strategy == "stateful":
            raise ParameterError(
                f"strategy='stateful': the decoder of {self.name} can't be streamed "
                f"exactly: {self.not_streamable}; 'overlap' and 'full' work"
            )
        if strategy is not None:
            raise ParameterError(f"strategy={strategy!r} must be one of {', '.join(self.strategies)}")
        if "stateful" in self.strategies:
            return "stateful"
        warnings.warn(
            f"{self.name} is streamed with strategy='overlap': its decoder can't be streamed "
            f"exactly: {self.not_streamable}",
            stacklevel=4,  # whoever called the voice
        )
        return "overlap"

    def open(self, strategy: Strategy) -> Decoder:
        """Open a decoder for one utterance; it holds the stream's state and none of the weights."""
        context = {"left_context": self.left_context, "lookahead": self.lookahead}
        return open_decoder(strategy, self.engine, **context, hop_length=self.hop_length)

    def render(
        self,
        source: FrameSource,
        strategy: Strategy,
        chunk_frames: Sequence[int],
        *,
        constant: Mapping[str, AnyArray] | None = None,
    ) -> Iterator[FloatArray]:
        """Turn the frames of one utterance into samples, chunk by chunk.

        `constant` are inputs without time, which come with every push. Yields float32 arrays of shape
        (n_samples,), none empty, in all ``n_frames * hop_length`` samples; `ModelError` if the decoder fails.
        """
        decoder = self.open(strategy)
        lag_frames = math.ceil(decoder.lag_samples / decoder.hop_length)
        for push in push_schedule(source.n_frames, chunk_frames, lag_frames=lag_frames):
            frames = source.window(push.start, push.stop)[np.newaxis]
            feeds = {"frames": frames, **(constant or {})}
            samples = cast(FloatArray, decoder.take(feeds, push.last)).reshape(-1)
            # Frames are checked before: it is the decoder, whose state would hold it until the end.
            if not all_finite(samples):
                raise ModelError(f"the decoder made NaN or infinity of the frames to {push.stop}")
            if samples.size:
                yield samples


def decode_in_chunks(engine: Engine, feeds: Mapping[str, AnyArray], *, chunk_frames: int = 16) -> FloatArray:
    """Return the samples of an utterance, streamed through an engine in chunks of one size.

    The decoder has one output; one that can't be streamed decodes all at once.
    """
    contract = engine.contract
    if contract.streaming is None:
        return cast(FloatArray, contract.shaped(engine.whole(contract.check(feeds)))).reshape(-1)
    decoder, n_frames = StatefulDecoder(engine), contract.n_frames(feeds)
    pieces = []
    for start in range(0, n_frames, chunk_frames):
        stop = start + chunk_frames
        part = contract.cut(feeds, start, min(stop, n_frames))
        pieces.append(cast(FloatArray, decoder.push(part, last=stop >= n_frames)).reshape(-1))
    return np.concatenate(pieces)
