"""piper-tts, the voice's own runtime: it streams sentence by sentence."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnxruntime
from piper import PiperVoice, SynthesisConfig

from balacoon_tk._typing import FloatArray
from peers.files import model_path
from peers.protocol import NOISE_SCALE, NOISE_W


def load_piper(n_threads: int) -> PiperVoice:
    """Load the voice; piper-tts lets ONNX Runtime choose the threads, so its session is made anew."""
    voice = PiperVoice.load(model_path())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    voice.session = onnxruntime.InferenceSession(
        str(model_path()), options, providers=["CPUExecutionProvider"]
    )
    return voice


class PiperTTS:
    """`PiperVoice.synthesize`, of `n_threads` threads."""

    def __init__(self, n_threads: int) -> None:
        self._voice = load_piper(n_threads)
        self._config = SynthesisConfig(length_scale=1.0, noise_scale=NOISE_SCALE, noise_w_scale=NOISE_W)
        self.sample_rate: int = self._voice.config.sample_rate

    @property
    def settings(self) -> dict[str, Any]:
        """How its threads were set."""
        return {"threads": "its session, made anew with intra_op_num_threads"}

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Give sentences."""
        return (chunk.audio_float_array for chunk in self._voice.synthesize(text, self._config))
