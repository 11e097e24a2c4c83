"""Research toolkit for streaming neural text-to-speech on ONNX Runtime."""

from importlib.metadata import version as _version

from balacoon_tk.audio import AudioChunk
from balacoon_tk.errors import BalacoonError
from balacoon_tk.tts import TTS, SpeechUtterance
from balacoon_tk.voice import load_voice

__all__ = ["TTS", "AudioChunk", "BalacoonError", "SpeechUtterance", "load_voice"]

__version__ = _version("balacoon_tk")
