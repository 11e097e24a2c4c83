"""The reference of every comparison: the whole utterance in one call."""

from balacoon_tk.decoder.stream import Decoder
from balacoon_tk.runtime.engine import Engine, Feeds, Samples


class FullDecoder(Decoder):
    """Collect frames until the last push, then decode them in one run.

    Parameters
    ----------
    engine : Engine
    hop_length : int
        Samples per frame.
    """

    # What is decoded is complete. That nothing comes before the last push is what the others are for.
    lag_samples = 0

    def __init__(self, engine: Engine, *, hop_length: int) -> None:
        super().__init__(engine)
        self.hop_length = hop_length
        self._pushes: list[Feeds] = []

    def take(self, feeds: Feeds, last: bool = False) -> Samples:
        """Do what `push` does with frames that are checked."""
        self._check_open()
        pushes = [*self._pushes, feeds]
        if not last:
            self._pushes = pushes
            return self._contract.shaped(self._contract.empty_outputs())
        joined = self._contract.join(pushes)
        is_empty = not self._contract.n_frames(joined)
        outputs = self._contract.empty_outputs() if is_empty else self._engine.whole(joined)
        self._pushes, self._done = [], True
        return self._contract.shaped(outputs)

    def reset(self) -> None:
        """Forget the stream."""
        self._pushes = []
        self._done = False
