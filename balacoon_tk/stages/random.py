"""Normal noise that is a function of its position, not of the order in which it is drawn.

Overlapping windows must see the same noise at the same frame, or every chunk border clicks. So there is
no generator with a state: the value at (seed, stream, frame, channel) comes from encrypting exactly that,
and any window equals the slice of the whole, bit for bit. The cipher is Philox4x32-10 (Salmon et al.,
"Parallel random numbers: as easy as 1, 2, 3", SC 2011), its output made normal by Box and Muller (1958)::

    key     = seed                                                     64 bits
    counter = (channel // 4, frame low, frame high, stream)            4 x 32 bits
    words   = philox4x32(counter, key)                                 4 x 32 bits
    (0, 1)  = box_muller(words[0], words[1])      normals of channels 4 * (channel // 4) + 0 and + 1
    (2, 3)  = box_muller(words[2], words[3])      and + 2 and + 3

    box_muller(a, b) = r cos t, r sin t   with   r = sqrt(-2 log((a // 2 + 1/2) / 2**31)), t = 2 pi b / 2**32

The same seed gives the same bits on every platform with IEEE 754 arithmetic; no value is beyond
``sqrt(64 log 2) = 6.66``, which a normal value is once in 10**10 draws.
"""

from __future__ import annotations

import operator
from typing import Literal

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.stages import _random

NoiseUse = Literal["durations", "frames"]

# In this order for ever: it decides what a seed sounds like.
_USES = ("durations", "frames")
_WORD = 4  # channels that one encryption gives, so rows are drawn in multiples of it and then cut


def noise_stream(sentence: int, use: NoiseUse) -> int:
    """Return the number of the noise stream for one use in one sentence of an utterance.

    Parameters
    ----------
    sentence : int
        Index of the sentence, from 0.
    use : {"durations", "frames"}
        What the noise is for.

    Returns
    -------
    int
        ``2 * sentence``, and one more for frames: no two uses in an utterance share noise.

    Raises
    ------
    ParameterError
        If the sentence is negative or beyond 2**31, or the use is unknown.
    """
    if use not in _USES:
        raise ParameterError(f"use={use!r} must be one of {', '.join(_USES)}")
    if not 0 <= sentence < 2**31:
        raise ParameterError(f"sentence={sentence} must be in [0, 2**31)")
    return 2 * operator.index(sentence) + _USES.index(use)


def check_stream(*, seed: int, stream: int) -> None:
    """Check the two integers that choose the noise: they are the cipher's key and a word of its counter."""
    for name, number, n_bits in (("seed", seed, 64), ("stream", stream, 32)):
        if not 0 <= operator.index(number) < 2**n_bits:
            raise ParameterError(f"{name}={number} must be in [0, 2**{n_bits})")


def frame_noise(start: int, stop: int, *, n_channels: int, seed: int = 0, stream: int = 0) -> FloatArray:
    """Draw standard normal noise (stop - start, n_channels) for frames, or other positions such as phonemes.

    It equals ``frame_noise(0, stop, ...)[start:]``, and more channels leave the first ones as they are.
    """
    check_stream(seed=seed, stream=stream)
    if not 0 <= start <= stop <= 2**63:
        raise ParameterError(f"[start, stop)=[{start}, {stop}) must satisfy 0 <= start <= stop <= 2**63")
    if not 1 <= n_channels <= 2**32:
        raise ParameterError(f"n_channels={n_channels} must be in [1, 2**32]")
    noise = np.empty((stop - start, -(-n_channels // _WORD) * _WORD), np.float32)
    if noise.size:
        _random.fill_normal(noise, start, seed, stream)
    return noise if noise.shape[1] == n_channels else np.ascontiguousarray(noise[:, :n_channels])
