"""Kinds of trained models that a voice can be made of."""

from __future__ import annotations

from pathlib import Path

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.codec import Codec
from balacoon_tk.export.sources.hf_vits import HfVits
from balacoon_tk.export.sources.kokoro import Kokoro
from balacoon_tk.export.sources.onnx_vocoder import OnnxVocoder
from balacoon_tk.export.sources.piper_onnx import PiperOnnx
from balacoon_tk.export.sources.source import (
    GivenNoise,
    NoisyReference,
    Progress,
    Reference,
    Source,
    SourceVocoder,
    SourceVoice,
    SourceWarning,
    VocoderFacts,
    VoiceFacts,
)
from balacoon_tk.export.sources.torchscript import TorchScript

__all__ = [
    "SOURCES",
    "Codec",
    "GivenNoise",
    "HfVits",
    "Kokoro",
    "NoisyReference",
    "OnnxVocoder",
    "PiperOnnx",
    "Progress",
    "Reference",
    "Source",
    "SourceVocoder",
    "SourceVoice",
    "SourceWarning",
    "TorchScript",
    "VocoderFacts",
    "VoiceFacts",
    "find_source",
]

# Codec knows its folders, and HfVits takes any other. Kokoro and OnnxVocoder look into a graph; PiperOnnx,
# which takes any ONNX file, comes after them and says of one that nobody knows which part is missing.
SOURCES: tuple[Source, ...] = (Codec(), HfVits(), Kokoro(), OnnxVocoder(), PiperOnnx(), TorchScript())
"""Every kind; the first that claims a path reads it."""


def check_exists(path: Path) -> None:
    """Refuse a path at which there is nothing; a `ModelError` names it."""
    if not path.exists():
        raise ModelError(f"{path}: no such file")


def find_source(path: Path) -> Source:
    """Return what reads a path.

    Raises
    ------
    ModelError
        If there is nothing at the path, or no kind claims it.
    """
    check_exists(path)
    for source in SOURCES:
        if source.claims(path):
            return source
    raise ModelError(
        f"{path}: not a kind of trained model that can be exported; `balacoon-tk export --list` names them"
    )
