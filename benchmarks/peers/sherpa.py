"""sherpa-onnx, a runtime in C++: it calls back with each sentence.

Since 2.0 it has no espeak-ng; its own example for Piper voices gives it the phonemes, as is done here.
It splits what is longer than 200 of them at a space, which sounds sooner and breaks the prosody.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import sherpa_onnx

from balacoon_tk._typing import FloatArray
from peers.files import cache_folder, model_path, voice_config
from peers.phonemes import espeak_sentences
from peers.protocol import NOISE_SCALE, NOISE_W


class SherpaOnnx:
    """`OfflineTts` with a callback, of `n_threads` threads."""

    def __init__(self, n_threads: int) -> None:
        config = voice_config()
        folder = cache_folder("sherpa-onnx")
        tokens = folder / "tokens.txt"
        if not tokens.is_file():
            _write_model(folder / "model.onnx", config)
            lines = (f"{symbol} {ids[0]}\n" for symbol, ids in config["phoneme_id_map"].items())
            tokens.write_text("".join(lines), encoding="utf-8")
        vits = sherpa_onnx.OfflineTtsVitsModelConfig(
            model=str(folder / "model.onnx"),
            tokens=str(tokens),
            noise_scale=NOISE_SCALE,
            noise_scale_w=NOISE_W,
            length_scale=1.0,
        )
        model = sherpa_onnx.OfflineTtsModelConfig(vits=vits, num_threads=n_threads)
        self._tts = sherpa_onnx.OfflineTts(sherpa_onnx.OfflineTtsConfig(model=model, max_num_sentences=1))
        self._voice: str = config["espeak"]["voice"]
        self.sample_rate: int = self._tts.sample_rate

    @property
    def settings(self) -> dict[str, Any]:
        """How it gets its phonemes."""
        return {"phonemes": "by the espeak-ng of piper-tts, in the time that is measured"}

    def speak(self, text: str) -> Iterator[FloatArray]:
        """Give what the callback gets; it is called by another thread, so that samples come as they are."""
        config = sherpa_onnx.GenerationConfig()
        config.phoneme_codepoints = [
            [ord(phoneme) for phoneme in sentence] for sentence in espeak_sentences(text, self._voice)
        ]
        ready: queue.SimpleQueue[FloatArray | None] = queue.SimpleQueue()

        def take(samples: FloatArray, progress: float) -> int:
            ready.put(samples.copy())
            return 1

        def generate() -> None:
            try:
                self._tts.generate("", config, take)
            finally:
                ready.put(None)

        thread = threading.Thread(target=generate)
        thread.start()
        while (samples := ready.get()) is not None:
            yield samples
        thread.join()


def _write_model(path: Path, config: dict[str, Any]) -> None:
    """Copy the voice with the metadata that sherpa-onnx reads."""
    model = onnx.load(model_path())
    metadata = {
        "model_type": "vits",
        "comment": "piper",
        "language": config["language"]["name_english"],
        "voice": config["espeak"]["voice"],
        "has_espeak": 1,
        "n_speakers": config["num_speakers"],
        "sample_rate": config["audio"]["sample_rate"],
    }
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=str(value))
    onnx.save(model, path)
