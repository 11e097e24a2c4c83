"""What every kind of trained model is turned into before it is verified and packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import onnx

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice.manifest import FrontendInfo, ProsodyDefaults

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of the whole that is done, from 0 to 1."""


class SourceWarning(UserWarning):
    """Something of a trained model is not in the voice that is made of it, or there in another form."""


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
    default_speaker_id: int = 0
    """Who speaks where nobody is asked for."""
    lone_speaker: str | None = None
    """Name of the one that speaks alone, if it has one."""


@dataclass(frozen=True, slots=True)
class VocoderFacts:
    """What is known of a vocoder apart from its graph."""

    name: str
    license: str
    sample_rate: int
    """Hz"""
    mel: MelInfo | None
    """What its frames are; None if they are no mel spectrogram, or nobody has said which."""
    provenance: Mapping[str, str]
    codebook_size: int | None = None
    """Of a codec, whose frames are int64 codes below it; None if frames are float32."""


# Verification asks for two things: that the cut voice says the same without noise as the model untouched, and
# the same with noise if both get it. The first needs nothing of a model but that it runs.
class Reference(Protocol):
    """The trained model as it came, to compare with what is made of it."""

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise; return samples of shape (n_samples,)."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class GivenNoise:
    """What a model draws for itself, drawn by somebody else."""

    durations: FloatArray
    """Shape (1, 2, n_phonemes), float32, scaled already; not used by a deterministic duration predictor."""
    frames: FloatArray | None = None
    """Shape (1, n_channels, n_frames), float32; None where durations alone are asked for."""
    frame_scale: float = 0.0
    """Factor on `frames`."""


# Checkable at run time: a reference of one's own need not derive from anything here.
@runtime_checkable
class NoisyReference(Reference, Protocol):
    """The trained model as it came, where it draws noise: a model that samples needs this as well."""

    def run_with_noise(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, noise: GivenNoise
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given.

        Parameters
        ----------
        phoneme_ids : ndarray of shape (n_phonemes,), int64
        speaker_id : int
            Not used by a voice with one speaker.
        length_scale : float
            Factor on the durations.
        noise : GivenNoise

        Returns
        -------
        samples : ndarray of shape (n_samples,), float32
            Of no meaning without `noise.frames`.
        exact_durations : ndarray of shape (n_phonemes,)
            The durations before they were rounded up.

        Raises
        ------
        ModelError
            If the durations are not for as many frames as there is noise for.
        """
        ...


@dataclass(frozen=True, slots=True)
class SourceVoice:
    """A trained voice, cut in two."""

    facts: VoiceFacts
    encoder: onnx.ModelProto
    """Inputs and outputs as in `balacoon_tk.voice.contract`; which of the optional ones it has says what it
    is."""
    decoder: onnx.ModelProto
    """``frames`` (1, n_channels, n_frames), and ``speaker_embedding`` if it needs one, to ``samples``."""
    n_channels: int
    reference: Reference
    n_bytes: int
    """Size of the trained model as it came."""
    gaussian_delta: float | None = None
    """Sharpness of Gaussian upsampling; None if each encoding is repeated for its duration."""

    @property
    def n_speakers(self) -> int:
        """How many speak; the one that speaks alone has no name."""
        return len(self.facts.speakers) or 1


@dataclass(frozen=True, slots=True)
class SourceVocoder:
    """A trained vocoder."""

    facts: VocoderFacts
    decoder: onnx.ModelProto
    """``frames`` (1, n_channels, n_frames), float32 or codes in int64, to ``samples`` (1, 1, n_samples)."""
    n_channels: int
    # Callables, since a vocoder comes from a file, a script or a module, and nothing else is asked of it.
    reference: Callable[[AnyArray], FloatArray]
    """The trained model as it came: frames (1, n_channels, n_frames) to samples (n_samples,)."""
    draw_frames: Callable[[int, int], AnyArray]
    """Frames such as it was trained on: their number and a seed to (1, n_channels, n_frames)."""
    n_bytes: int
    """Size of the trained model as it came."""
    analyzer: onnx.ModelProto | None = None
    """Of a codec: ``samples`` (1, 1, n_frames * hop_length) to ``frames``, so that recordings can be
    resynthesized."""


class Source(Protocol):
    """Reads one kind of trained model."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is of this kind; never by running what is there."""
        ...

    def read(
        self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False
    ) -> SourceVoice | SourceVocoder:
        """Read a trained model and turn it into what a voice consists of.

        Without `trust` no code in it is run: what is a program, or can run one when it is read, is refused.

        Raises
        ------
        MissingExtraError
            If a package that this kind needs isn't installed.
        ModelError
            If it can't be read, isn't what its name says, or must be trusted and isn't; the message names
            what is missing.
        VoiceError
            If its JSON is missing or damaged, or doesn't fit it.
        """
        ...
