"""Overlap streaming: every chunk is decoded with its context, and the context is trimmed off."""

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.decoder.chunking import check_at_least, overlap_window
from balacoon_tk.decoder.overlap_trim import trim
from balacoon_tk.decoder.stream import Decoder
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.engine import Engine, Feeds, Samples


class OverlapDecoder(Decoder):
    """Decode new frames together with the frames around them that their samples depend on.

    Exact up to floating point if the context covers the decoder's receptive field; the frames of
    the context are decoded again in every push.

    Parameters
    ----------
    engine : Engine
        Of a decoder with one output.
    left_context, lookahead : int
        Frames before and after a frame that its samples depend on.
    hop_length : int
        Samples per frame.
    """

    def __init__(self, engine: Engine, *, left_context: int, lookahead: int, hop_length: int) -> None:
        super().__init__(engine)
        # One hop length and one lookahead stand for one output.
        if len(self._contract.outputs) != 1:
            raise ParameterError(
                f"overlap needs a decoder with one output, not {', '.join(self._contract.outputs)}"
            )
        check_at_least(0, left_context=left_context, lookahead=lookahead)
        self.hop_length: int = hop_length
        self.left_context = left_context
        self.lookahead = lookahead
        self.lag_samples = lookahead * hop_length
        (self._output,) = self._contract.outputs
        self._held: list[Feeds] = []
        self._n_frames = 0

    def take(self, feeds: Feeds, last: bool = False) -> Samples:
        """Do what `push` does with frames that are checked."""
        self._check_open()
        contract = self._contract
        held = contract.join([*self._held, feeds])
        n_before, n_held = self._n_frames, contract.n_frames(held)
        n_after = n_before + contract.n_frames(feeds)
        window = overlap_window(
            n_before, n_after, last, left_context=self.left_context, lookahead=self.lookahead
        )
        if window.n_kept:
            first_held = n_after - n_held
            part = contract.cut(held, window.start - first_held, window.stop - first_held)
            decoded = self._engine.whole(part)[self._output]
            # Time is the last axis; whatever stands before it, the kernel sees rows.
            rows = decoded.reshape(-1, decoded.shape[-1])
            kept = [trim(row, window, hop_length=self.hop_length) for row in rows]
            samples: AnyArray = np.stack(kept).reshape(*decoded.shape[:-1], -1)
        else:
            samples = contract.empty_outputs()[self._output]
        # The next window begins at most so many frames before the newest one.
        n_needed = min(n_held, self.left_context + self.lookahead)
        self._held = [] if last else [contract.cut(held, n_held - n_needed, n_held)]
        self._n_frames, self._done = n_after, last
        return samples

    def reset(self) -> None:
        """Forget the stream."""
        self._held = []
        self._n_frames = 0
        self._done = False
