"""Research toolkit for streaming neural text-to-speech on ONNX Runtime."""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names as _lazy_names
from balacoon_tk._moved import install as _install

if TYPE_CHECKING:
    from balacoon_tk.audio import AudioChunk
    from balacoon_tk.errors import BalacoonError
    from balacoon_tk.frontend import FLUSH
    from balacoon_tk.tts import TTS, SpeechUtterance
    from balacoon_tk.voice.voice import load_voice

    __version__: str

__all__ = ["FLUSH", "TTS", "AudioChunk", "BalacoonError", "SpeechUtterance", "load_voice"]

_find, _names = _lazy_names(
    __name__,
    {
        "audio": ("AudioChunk",),
        "errors": ("BalacoonError",),
        "frontend": ("FLUSH",),
        "tts": ("TTS", "SpeechUtterance"),
        "voice": ("load_voice",),
    },
)
_install()


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("balacoon_tk")
    return _find(name)


def __dir__() -> list[str]:
    return [*_names(), "__version__"]
