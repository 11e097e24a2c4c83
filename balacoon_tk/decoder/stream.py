"""What the three strategies have in common: the protocol of a decoder, and pushes that are checked."""

from __future__ import annotations

from typing import Protocol

from balacoon_tk.errors import StreamStateError
from balacoon_tk.runtime.engine import Engine, Feeds, Frames, Samples


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

    def take(self, feeds: Feeds, last: bool = False) -> Samples:
        """Do what `push` does with frames as `DecoderContract.check` returns them, which nobody changes."""
        ...

    def reset(self) -> None:
        """Forget the stream, so that the next push begins a new utterance."""
        ...


class CheckedPushes:
    """Takes pushes until the last one, each checked against the contract of an engine's decoder.

    Parameters
    ----------
    engine : Engine
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._contract = engine.contract
        self._done = False

    def push(self, frames: Frames, last: bool = False) -> Samples:
        """Take the next frames and return the samples that have become known.

        Parameters
        ----------
        frames : ndarray or dict of str to ndarray
            Time on the last axis, any number of frames, also none. A decoder with several inputs
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
            If the frames don't fit the decoder.
        StreamStateError
            If the last push has been.
        """
        return self.take(self._contract.check(frames), last)

    def take(self, feeds: Feeds, last: bool = False) -> Samples:
        """Do what `push` does with frames that are checked; see `Decoder`."""
        raise NotImplementedError

    def _check_open(self) -> None:
        if self._done:
            raise StreamStateError("push after the last push: call reset() to begin a new utterance")
