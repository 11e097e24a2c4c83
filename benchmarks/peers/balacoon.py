"""The toolkit itself, as its users have it: every default but the noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from balacoon_tk import TTS
from balacoon_tk._typing import FloatArray
from balacoon_tk.decoder import Strategy
from balacoon_tk.runtime.options import Backend
from peers.protocol import NOISE_SCALE, NOISE_W


class Balacoon:
    """The default voice by the strategy and the chunks that `TTS.stream` chooses.

    Parameters
    ----------
    frontend : str
        ``"espeak"`` or ``"gruut"``.
    backend : {"auto", "native", "onnxruntime"}
    voice : {"default", "int8", "two speakers"}
    n_threads : int
    """

    def __init__(self, frontend: str, backend: Backend, voice: str, n_threads: int) -> None:
        path = None
        if voice == "two speakers":
            # Only now: what exports a voice would count as memory of those that only speak one.
            from peers.two_speakers import two_speakers_voice

            path = two_speakers_voice()
        elif voice == "int8":
            from peers.int8_voice import int8_voice

            path = int8_voice()
        self._tts = TTS(path, frontend=frontend, n_threads=n_threads, backend=backend)
        self.sample_rate = self._tts.get_sampling_rate()

    @property
    def settings(self) -> dict[str, Any]:
        """The strategy and the engine that were chosen, and the chunks of a text that sounds at once."""
        return {
            "backend": self._tts.voice.backend.name,
            "strategy": self._tts.voice.choose_strategy(None),
            "chunk_frames": list(self._tts.get_chunk_frames()),
            "calibrated": self._tts.calibration is not None,
        }

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Give the chunks of a stream."""
        return self._stream(text, None)

    def speak_both_ways(self, text: str) -> tuple[list[FloatArray], FloatArray]:
        """Return what `speak` gives, and the same by the strategy that decodes sentences at once."""
        return list(self._stream(text, None)), np.concatenate(list(self._stream(text, "full")))

    def _stream(self, text: str, strategy: Strategy | None) -> Iterator[FloatArray]:
        chunks = self._tts.stream(text, strategy=strategy, seed=0, noise_scale=NOISE_SCALE, noise_w=NOISE_W)
        return (chunk.samples for chunk in chunks)
