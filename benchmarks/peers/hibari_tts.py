"""hibari-tts: its own small voice, for whoever wants speed alone; sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hibari import Hibari

from balacoon_tk._typing import FloatArray


class HibariTTS:
    """`Hibari.stream`, of `n_threads` threads."""

    def __init__(self, n_threads: int) -> None:
        self._tts = Hibari(threads=n_threads)
        self.sample_rate: int = self._tts.sample_rate

    @property
    def settings(self) -> dict[str, Any]:
        """Which voice speaks: another one, at another rate."""
        return {"voice": self._tts.voice, "sample_rate": self.sample_rate}

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Give sentences."""
        return self._tts.stream(text, seed=0)
