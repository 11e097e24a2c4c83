"""The stages from phonemes to frames: encoder, upsampler, noise, and one sentence of them."""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import find_name as _find_name

if TYPE_CHECKING:
    from balacoon_tk.stages.encoder import Encoder, Encoding
    from balacoon_tk.stages.mel import MelInfo, mel_spectrogram
    from balacoon_tk.stages.random import noise_stream
    from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
    from balacoon_tk.stages.upsampler import Upsampler

__all__ = [
    "DEFAULT_CHUNK_FRAMES",
    "Encoder",
    "Encoding",
    "MelInfo",
    "Upsampler",
    "mel_spectrogram",
    "noise_stream",
]

_HOMES = {
    "DEFAULT_CHUNK_FRAMES": "settings",
    "Encoder": "encoder",
    "Encoding": "encoder",
    "MelInfo": "mel",
    "Upsampler": "upsampler",
    "mel_spectrogram": "mel",
    "noise_stream": "random",
}


def __getattr__(name: str) -> object:
    return _find_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
