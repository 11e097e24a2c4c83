"""What an engine offers to be measured."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

from balacoon_tk._typing import FloatArray

NOISE_SCALE = 0.667
"""The trained one, of frames."""
NOISE_W = 0.0
"""No noise in durations: it would make utterances of different lengths, which nobody can compare."""


class Peer(Protocol):
    """One engine, loaded; made by a callable that takes the number of threads."""

    sample_rate: int
    """Hz"""

    @property
    def settings(self) -> dict[str, Any]:
        """What was set for it, for the report."""
        ...

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Speak a text and give the samples in [-1, 1] as early as the engine does."""
        ...


@runtime_checkable
class SpeaksBothWays(Protocol):
    """An engine that cuts sentences into chunks, and can also speak one at once with the same noise."""

    def speak_both_ways(self, text: str) -> tuple[list[FloatArray], FloatArray]:
        """Return the chunks of a stream, and the samples of the same utterance that was never cut."""
        ...
