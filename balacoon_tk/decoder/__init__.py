"""From frames to samples: three ways to run one decoder graph, behind one protocol.

============  ====================================  ======================================
strategy      what a push does                      cost of an utterance
============  ====================================  ======================================
``full``      waits, decodes all at the last push   the reference
``overlap``   decodes the new frames again with     (chunk + context) / chunk times as much
              their context, trims the context off
``stateful``  decodes the new frames, carries the   the same
              decoder's own past between pushes
============  ====================================  ======================================
"""

from __future__ import annotations

from typing import Literal, get_args

from balacoon_tk.decoder.full import FullDecoder
from balacoon_tk.decoder.graph import Decoder, DecoderGraph, StreamingSpec
from balacoon_tk.decoder.overlap import OverlapDecoder
from balacoon_tk.decoder.stateful import StatefulDecoder, StreamState

__all__ = [
    "STRATEGIES",
    "Decoder",
    "DecoderGraph",
    "FullDecoder",
    "OverlapDecoder",
    "StatefulDecoder",
    "Strategy",
    "StreamState",
    "StreamingSpec",
    "open_decoder",
]

Strategy = Literal["full", "overlap", "stateful"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def open_decoder(
    strategy: Strategy, graph: DecoderGraph, *, left_context: int, lookahead: int, hop_length: int
) -> Decoder:
    """Open one stream over a loaded graph; streams are cheap and independent of each other."""
    if strategy == "full":
        return FullDecoder(graph, hop_length=hop_length)
    if strategy == "overlap":
        return OverlapDecoder(graph, left_context=left_context, lookahead=lookahead, hop_length=hop_length)
    return StatefulDecoder(graph)
