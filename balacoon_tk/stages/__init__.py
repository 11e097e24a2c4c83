"""The stages from phonemes to frames: encoder, upsampler, noise, and one sentence of them."""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "encoder": ("Encoder", "Encoding"),
        "mel": ("MelInfo", "mel_spectrogram"),
        "random": ("noise_stream",),
        "settings": ("DEFAULT_CHUNK_FRAMES",),
        "upsampler": ("Upsampler",),
    },
)
