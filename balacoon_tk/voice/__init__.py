"""Voices: what lies in a folder or an .addon file, loaded and checked.

The names are imported when they are asked for: reading a manifest needs no ONNX Runtime.
"""

from typing import TYPE_CHECKING

from balacoon_tk._lazy import lazy_names

if TYPE_CHECKING:
    from balacoon_tk.voice.backends import BackendChoice, BackendWarning
    from balacoon_tk.voice.files import MANIFEST_FILE
    from balacoon_tk.voice.manifest import FrontendInfo, ProsodyDefaults
    from balacoon_tk.voice.precisions import precision_folder
    from balacoon_tk.voice.voice import Voice, load_vocoder, load_voice, read_manifest

__all__ = [
    "MANIFEST_FILE",
    "BackendChoice",
    "BackendWarning",
    "FrontendInfo",
    "ProsodyDefaults",
    "Voice",
    "load_vocoder",
    "load_voice",
    "precision_folder",
    "read_manifest",
]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "backends": ("BackendChoice", "BackendWarning"),
        "files": ("MANIFEST_FILE",),
        "manifest": ("FrontendInfo", "ProsodyDefaults"),
        "precisions": ("precision_folder",),
        "voice": ("Voice", "load_vocoder", "load_voice", "read_manifest"),
    },
)
