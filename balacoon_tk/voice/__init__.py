"""Voices: what lies in a folder or an .addon file, loaded and checked.

The names are imported when they are asked for: reading a manifest needs no ONNX Runtime.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import find_name as _find_name

if TYPE_CHECKING:
    from balacoon_tk.voice.files import MANIFEST_FILE
    from balacoon_tk.voice.vocoder import Vocoder, load_vocoder
    from balacoon_tk.voice.voice import Voice, load_voice, read_manifest

__all__ = ["MANIFEST_FILE", "Vocoder", "Voice", "load_vocoder", "load_voice", "read_manifest"]

_HOMES = {
    "MANIFEST_FILE": "files",
    "Vocoder": "vocoder",
    "Voice": "voice",
    "load_vocoder": "vocoder",
    "load_voice": "voice",
    "read_manifest": "voice",
}


def __getattr__(name: str) -> object:
    return _find_name(__name__, _HOMES, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
