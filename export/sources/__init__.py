"""Kinds of trained models that a voice can be made of."""

from __future__ import annotations

from pathlib import Path

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.piper_onnx import PiperOnnx
from balacoon_tk.export.sources.source import Progress, Reference, Source, SourceVoice, VoiceFacts

__all__ = ["SOURCES", "Progress", "Reference", "Source", "SourceVoice", "VoiceFacts", "find_source"]

SOURCES: tuple[Source, ...] = (PiperOnnx(),)
"""Every kind; the first that claims a path reads it."""


def find_source(path: Path) -> Source:
    """Return what reads a path.

    Raises
    ------
    ModelError
        If there is nothing at the path, or no kind claims it.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    for source in SOURCES:
        if source.claims(path):
            return source
    raise ModelError(
        f"{path}: not a kind of trained voice that can be exported (a Piper voice ends in .onnx)"
    )
