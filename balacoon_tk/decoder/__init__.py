"""From frames to samples: three ways to run one decoder, behind one protocol.

============  ====================================  ======================================
strategy      what a push does                      cost of an utterance
============  ====================================  ======================================
``full``      waits, decodes all at the last push   the reference
``overlap``   decodes the new frames again with     (chunk + context) / chunk times as much
              their context, trims the context off
``stateful``  decodes the new frames, carries the   the same
              decoder's own past between pushes
============  ====================================  ======================================

None of them knows what runs the decoder: that is an `Engine`, the seam of `balacoon_tk.runtime.engine`.
"""

from typing import Literal, get_args

from balacoon_tk.decoder.full import FullDecoder
from balacoon_tk.decoder.overlap import OverlapDecoder
from balacoon_tk.decoder.stateful import StatefulDecoder, StreamState
from balacoon_tk.decoder.stream import Decoder
from balacoon_tk.runtime.engine import Engine

__all__ = [
    "STRATEGIES",
    "Decoder",
    "Engine",
    "FullDecoder",
    "OverlapDecoder",
    "StatefulDecoder",
    "Strategy",
    "StreamState",
    "open_decoder",
]

Strategy = Literal["full", "overlap", "stateful"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def open_decoder(
    strategy: Strategy, engine: Engine, *, left_context: int, lookahead: int, hop_length: int
) -> Decoder:
    """Open one stream over an engine; streams are cheap and independent of each other."""
    if strategy == "full":
        return FullDecoder(engine, hop_length=hop_length)
    if strategy == "overlap":
        return OverlapDecoder(engine, left_context=left_context, lookahead=lookahead, hop_length=hop_length)
    return StatefulDecoder(engine)
