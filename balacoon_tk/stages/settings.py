"""What a caller sets for an utterance, checked in one place before the first sound."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from balacoon_tk.decoder import Strategy
from balacoon_tk.errors import ParameterError
from balacoon_tk.stages.random import check_stream
from balacoon_tk.voice.manifest import ProsodyDefaults

DEFAULT_CHUNK_FRAMES = (5, 8, 14, 28, 56, 64)
"""Frames of audio in each chunk of a sentence where no calibration says better; the last number repeats.

The first one is longer where a text begins with more silence, as the durations tell; most do with three to
six frames. Each is at most twice the one before, so that playback never waits, with a factor of safety of 2,
where a push takes up to 17 ms and 2.1 ms for each frame: half the speed of one thread of a server of 2023. 64
frames are three quarters of a second, where the work of each push no longer matters.
"""

# Beyond these limits nothing is said that anybody understands, and a slip (150 for 1.5) is more likely.
_SPEEDS = (0.1, 10.0)
_VOLUMES = (0.0, 10.0)
_NOISES = (0.0, 10.0)  # in trained standard deviations; far below this limit speech has become noise
# Durations are exponentials of this noise. At 2 a text takes twice as long or more, at 3 twenty times, and at
# 5 a phoneme takes hours.
_RHYTHM_NOISES = (0.0, 2.0)
_PAUSES = (0.0, 10.0)  # seconds
_LENGTH_SCALES = (0.01, 20.0)  # the voice's own over the speed


@dataclass(frozen=True, slots=True)
class Prosody:
    """Settings of one utterance, checked."""

    length_scale: float
    """Factor on every duration."""
    noise_scale: float
    """Standard deviation of the prior's noise, relative to the trained one."""
    noise_w: float
    """Standard deviation of the duration predictor's noise."""
    volume: float
    """Factor on every sample."""

    def at_rate(self, rate: float) -> Self:
        """Return these settings for a part of the text that is spoken faster, or slower below 1.

        Durations stay within what the encoder takes: what was accepted at the call doesn't fail later.
        """
        if rate == 1.0:
            return self
        low, high = _LENGTH_SCALES
        return replace(self, length_scale=min(max(self.length_scale / rate, low), high))

    @classmethod
    def choose(
        cls,
        defaults: ProsodyDefaults,
        *,
        speed: float = 1.0,
        volume: float = 1.0,
        noise_scale: float | None = None,
        noise_w: float | None = None,
    ) -> Self:
        """Take what the caller gave, and the voice's own settings where that is None.

        Raises
        ------
        ParameterError
            If a number is outside its range. What is in range never fails later: see `Encoder.encode`.
        """
        noise_scale = _own_or("noise_scale", noise_scale, defaults.noise_scale, _NOISES)
        noise_w = _own_or("noise_w", noise_w, defaults.noise_w, _RHYTHM_NOISES)
        length_scale = defaults.length_scale / _within("speed", speed, _SPEEDS)
        low, high = _LENGTH_SCALES
        if not low <= length_scale <= high:
            raise ParameterError(
                f"speed={speed!r} with the voice's own length_scale={defaults.length_scale:g} makes "
                f"durations {length_scale:g} times as long; it must be {low:g} to {high:g} times"
            )
        return cls(
            length_scale=length_scale,
            noise_scale=noise_scale,
            noise_w=noise_w,
            volume=_within("volume", volume, _VOLUMES),
        )


@dataclass(frozen=True, slots=True)
class Pauses:
    """Silence between sentences, checked: what is heard from one's last sound to the next one's first."""

    sentence_s: float | None = None
    """Between two sentences, in seconds; None leaves what the voice does."""
    paragraph_s: float | None = None
    """Between two paragraphs; as between sentences if None."""

    @classmethod
    def choose(cls, sentence_pause: float | None = None, paragraph_pause: float | None = None) -> Self:
        """Take what the caller gave; `ParameterError` if a number is outside its range."""
        return cls(
            None if sentence_pause is None else _within("sentence_pause", sentence_pause, _PAUSES),
            None if paragraph_pause is None else _within("paragraph_pause", paragraph_pause, _PAUSES),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """What an utterance sounds like but for its text, checked."""

    strategy: Strategy
    seed: int
    speaker_id: int | None
    prosody: Prosody
    pauses: Pauses = Pauses()


def choose_seed(seed: int | None) -> int:
    """Return the seed that was given, or a new one."""
    if seed is None:
        # A number that can be kept and given again, rather than a generator's hidden state.
        return int.from_bytes(os.urandom(8), "little")
    number = _integer("seed", seed)
    check_stream(seed=number, stream=0)
    return number


def choose_chunk_frames(chunk_frames: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """Return the chunk sizes that were given; None leaves them to the stream."""
    if chunk_frames is None:
        return None
    sizes = chunk_frames if isinstance(chunk_frames, Sequence) else (chunk_frames,)
    numbers = tuple(_integer("chunk_frames", size) for size in sizes)
    if not numbers or min(numbers) < 1:
        raise ParameterError(f"chunk_frames={chunk_frames!r} must be one or more numbers >= 1")
    return numbers


def _own_or(name: str, given: float | None, own: float, limits: tuple[float, float]) -> float:
    """Return what was given, else the voice's own number, which an error then is about."""
    return _within(f"the voice's own {name}", own, limits) if given is None else _within(name, given, limits)


def _within(name: str, value: float, limits: tuple[float, float]) -> float:
    low, high = limits
    # NumPy's numbers are taken; texts, which `float` reads, are not, nor True for 1. NaN fails to compare.
    try:
        number = math.nan if isinstance(value, (str, bool)) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not low <= number <= high:
        raise ParameterError(f"{name}={value!r} must be a number in [{low:g}, {high:g}]")
    return number


def _integer(name: str, value: object) -> int:
    try:
        if not isinstance(value, bool):
            return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        pass
    raise ParameterError(f"{name}={value!r} must be an integer")
