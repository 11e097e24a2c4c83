"""Engines that speak the same texts, each behind the same small protocol.

=================  ================================================================================
file               engine
=================  ================================================================================
``balacoon.py``    this package, with either frontend
``piper_tts.py``   piper-tts: the voice's own runtime, sentence by sentence
``sherpa.py``      sherpa-onnx: a C++ runtime, sentence by sentence
``svits.py``       streaming-vits: overlapping windows of frames
``torch_vits.py``  torch: the same voice as transformers' `VitsModel`, whole, sentence by sentence
``hibari_tts.py``  hibari-tts: a small model of its own, for whoever wants speed alone
=================  ================================================================================

All but the last speak the default voice, with the noise of the frames as it was trained and none in the
durations, so that an utterance is equally long in every engine and every round.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType

from peers.protocol import Peer

__all__ = [
    *("JUDGED", "OWN_VOICES", "PEERS", "TABLE", "TWO_SPEAKERS", "VARIANTS", "Peer", "create_peer"),
    "missing_packages",
]

PEERS: MappingProxyType[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "balacoon_tk": ("balacoon", "Balacoon", ("espeak", "auto", "default")),
        "balacoon_tk, gruut": ("balacoon", "Balacoon", ("gruut", "auto", "default")),
        "streaming-vits": ("svits", "StreamingVits", ("default",)),
        "piper-tts": ("piper_tts", "PiperTTS", ()),
        "sherpa-onnx": ("sherpa", "SherpaOnnx", ()),
        "hibari-tts": ("hibari_tts", "HibariTTS", ()),
    }
)
"""Engines that a notebook may ask for: file, class, and what that takes before the number of threads."""

VARIANTS: MappingProxyType[str, tuple[str, str, tuple[str, ...]]] = MappingProxyType(
    {
        "balacoon_tk, int8": ("balacoon", "Balacoon", ("espeak", "native", "int8")),
        "torch": ("torch_vits", "TorchVits", ()),
        "balacoon_tk, native": ("balacoon", "Balacoon", ("espeak", "native", "default")),
        "balacoon_tk, onnxruntime": ("balacoon", "Balacoon", ("espeak", "onnxruntime", "default")),
        "balacoon_tk, two speakers": ("balacoon", "Balacoon", ("espeak", "native", "two speakers")),
        "streaming-vits, two speakers": ("svits", "StreamingVits", ("two speakers",)),
    }
)
"""The others, in the same form: some of those in other settings, and some that take long to be ready."""

TWO_SPEAKERS = ("balacoon_tk, two speakers", "streaming-vits, two speakers")
"""Each exports that voice when it is first opened; only so streaming-vits has its cached decoder."""

JUDGED = (
    *("balacoon_tk", "balacoon_tk, gruut", "balacoon_tk, int8"),
    *("streaming-vits", "piper-tts", "sherpa-onnx", "torch", "hibari-tts"),
)
"""Engines of the public table whose voice was trained, in its order."""

TABLE = (*JUDGED, *TWO_SPEAKERS)
"""All of the public table."""

OWN_VOICES = ("hibari-tts",)
"""Those of them that speak another voice than the default one."""

_PACKAGES = {
    "balacoon_tk": ("piper",),
    "balacoon_tk, gruut": ("gruut",),
    "balacoon_tk, int8": ("piper",),
    "balacoon_tk, two speakers": ("piper",),
    "streaming-vits": ("streaming_vits", "piper"),
    "streaming-vits, two speakers": ("streaming_vits", "piper", "torch"),
    "piper-tts": ("piper",),
    "sherpa-onnx": ("sherpa_onnx", "piper"),
    "torch": ("torch", "transformers", "safetensors", "piper"),
    "hibari-tts": ("hibari",),
}
"""What each imports beyond this package; piper-tts also lends its espeak-ng."""


def missing_packages(name: str) -> tuple[str, ...]:
    """Return what an engine needs and isn't installed; nothing is imported."""
    return tuple(package for package in _PACKAGES[name] if find_spec(package) is None)


def create_peer(name: str, n_threads: int) -> Peer:
    """Load an engine; only its own package is imported."""
    module, class_name, arguments = (PEERS | VARIANTS)[name]
    peer: Peer = getattr(import_module(f"peers.{module}"), class_name)(*arguments, n_threads)
    return peer
