"""What every kind of trained model is turned into before it is verified and packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import onnx

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.manifest import FrontendInfo, ProsodyDefaults

__all__ = ["Progress", "Reference", "Source", "SourceVoice", "VoiceFacts"]

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of the whole that is done, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class VoiceFacts:
    """What is known of a voice apart from its graphs."""

    name: str
    language: str
    license: str
    sample_rate: int
    """Hz"""
    frontend: FrontendInfo
    prosody: ProsodyDefaults
    speakers: tuple[str, ...]
    """Names in the order of their ids; empty for one speaker."""
    provenance: Mapping[str, str]


class Reference(Protocol):
    """The trained model as it came, to compare with what is made of it."""

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise; return samples of shape (n_samples,)."""
        ...

    def run_with_noise(
        self,
        phoneme_ids: IntArray,
        *,
        speaker_id: int,
        length_scale: float,
        duration_noise: FloatArray,
        frame_noise: FloatArray,
        noise_scale: float,
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given.

        Parameters
        ----------
        phoneme_ids : ndarray of shape (n_phonemes,), int64
        speaker_id : int
            Not used by a voice with one speaker.
        length_scale : float
            Factor on the durations.
        duration_noise : ndarray of shape (1, 2, n_phonemes), float32
            Scaled already; not used by a deterministic duration predictor.
        frame_noise : ndarray of shape (1, n_channels, n_frames), float32
        noise_scale : float
            Factor on `frame_noise`.

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
        exact_durations : ndarray of shape (n_phonemes,)
            The durations before they were rounded up.

        Raises
        ------
        ModelError
            If the durations are not for `n_frames` frames.
        """
        ...

    def exact_durations(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, duration_noise: FloatArray
    ) -> AnyArray:
        """Return the durations before they are rounded up, of shape (n_phonemes,)."""
        ...


@dataclass(frozen=True, slots=True)
class SourceVoice:
    """A trained voice, cut in two."""

    facts: VoiceFacts
    encoder: onnx.ModelProto
    decoder: onnx.ModelProto
    n_channels: int
    n_speakers: int
    reference: Reference


class Source(Protocol):
    """Reads one kind of trained model."""

    def claims(self, path: Path) -> bool:
        """Say whether a path looks like this kind, by its name."""
        ...

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> SourceVoice:
        """Read a trained model and cut it.

        Raises
        ------
        ModelError
            If it can't be read, or is no voice; the message says which part is missing.
        """
        ...
