"""What the three strategies have in common: their calls, and pushes that are checked."""

from abc import ABC, abstractmethod

from balacoon_tk.errors import StreamStateError
from balacoon_tk.runtime.engine import Engine, Feeds, Frames, Samples


class Decoder(ABC):
    """One stream from frames to samples: pushes until the last one, each checked by the engine's contract."""

    hop_length: float
    """Samples per frame."""
    lag_samples: int
    """How far the output trails the input, until the last push."""

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

    @abstractmethod
    def take(self, feeds: Feeds, last: bool = False) -> Samples:
        """Do what `push` does with frames as `DecoderContract.check` returns them, which nobody changes."""

    @abstractmethod
    def reset(self) -> None:
        """Forget the stream, so that the next push begins a new utterance."""

    def _check_open(self) -> None:
        if self._done:
            raise StreamStateError("push after the last push: call reset() to begin a new utterance")
