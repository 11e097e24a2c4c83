"""The voice that is deployed, and utterances to compare its other forms with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.stages.encoder import Encoder, Encoding
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.voice.files import read_member
from balacoon_tk.voice.manifest import Precision
from balacoon_tk.voice.voice import Voice, load_voice

_MAX_ABS_DIFF: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 2.0**-8, "int8": 2 / 255}
"""Largest difference of a sample that is put down to other kernels of the same sums, rounded otherwise."""

_N_PHONEMES = (1, 7, 31, 71)
_SEED = 1


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """Random phonemes, what the encoder says of them, and their whole audio."""

    phoneme_ids: IntArray
    speaker_id: int | None
    encoding: Encoding
    feeds: Mapping[str, AnyArray]
    """The decoder's inputs; ``frames`` are of shape (1, n_channels, n_frames)."""
    samples: FloatArray

    @property
    def n_frames(self) -> int:
        """Frames of the utterance."""
        return int(self.feeds["frames"].shape[-1])

    def part(self, start: int, stop: int) -> dict[str, AnyArray]:
        """Return the decoder's inputs of some frames."""
        return {**self.feeds, "frames": np.ascontiguousarray(self.feeds["frames"][..., start:stop])}


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A voice, its graphs as they lie in it, and utterances that it has spoken."""

    voice: Voice
    encoder: bytes
    decoder: bytes
    utterances: tuple[Utterance, ...]

    @property
    def max_abs_diff(self) -> float:
        """Largest difference to its samples that another form may have."""
        return _MAX_ABS_DIFF[self.voice.manifest.decoder.precision]


@dataclass(frozen=True, slots=True)
class DeployedForm:
    """What a form consists of: files by path, and what was seen when it ran beside the voice."""

    files: Mapping[str, bytes]
    verified: Mapping[str, float]
    not_run_on: str | None
    """What it is made for and was not run on; None if it ran where it will."""


def read_source(path: Path, *, n_threads: int | None = None) -> Source:
    """Load a voice, and let it speak what its other form will have to.

    Raises
    ------
    VoiceError
        If the voice can't be loaded.
    ModelError
        If nothing that it says lasts a frame.
    """
    voice = load_voice(path, n_threads=n_threads)
    manifest = voice.manifest
    known = sorted({number for ids in manifest.frontend.phoneme_ids.values() for number in ids})
    rng = np.random.default_rng(_SEED)
    spoken = [_speak(voice, rng.choice(np.array(known, np.int64), n)) for n in _N_PHONEMES]
    utterances = tuple(utterance for utterance in spoken if utterance is not None)
    if not utterances:
        raise ModelError(f"{path}: of {_N_PHONEMES[-1]} random phonemes none lasts a frame")
    return Source(
        voice=voice,
        encoder=read_member(path, manifest.encoder.file),
        decoder=read_member(path, manifest.decoder.file),
        utterances=utterances,
    )


def _speak(voice: Voice, phoneme_ids: IntArray) -> Utterance | None:
    """Speak some phonemes; None if they last no frame."""
    manifest = voice.manifest
    speaker_id = voice.speaker_id(None)
    encoding = encode(voice.encoder, phoneme_ids, speaker_id)
    upsampler = Upsampler(
        encoding.encodings,
        encoding.durations,
        log_scales=encoding.log_scales,
        noise_scale=manifest.prosody.noise_scale,
        seed=_SEED,
        gaussian_delta=manifest.gaussian_delta,
    )
    if not upsampler.n_frames:
        return None
    feeds: dict[str, AnyArray] = {"frames": upsampler.window(0, upsampler.n_frames)[np.newaxis]}
    if "speaker_embedding" in voice.decoder.contract.inputs and encoding.speaker_embedding is not None:
        feeds["speaker_embedding"] = encoding.speaker_embedding
    samples = voice.decoder.whole(voice.decoder.contract.check(feeds))["samples"].reshape(-1)
    return Utterance(phoneme_ids, speaker_id, encoding, feeds, samples)


def encode(encoder: Encoder, phoneme_ids: IntArray, speaker_id: int | None) -> Encoding:
    """Encode phonemes as those of the utterances were, with the same noise."""
    return encoder.encode(phoneme_ids, noise_w=1.0, speaker_id=speaker_id, seed=_SEED)


def compare_encoder(encoder: Encoder, utterances: Sequence[Utterance], *, tolerance: float) -> float:
    """Encode the utterances again and return the largest difference, relative to the largest value.

    Raises
    ------
    ModelError
        If a duration differs, or an encoding by more than `tolerance`.
    """
    worst = 0.0
    for utterance in utterances:
        ours, theirs = encode(encoder, utterance.phoneme_ids, utterance.speaker_id), utterance.encoding
        if not np.array_equal(ours.durations, theirs.durations):
            position = int((ours.durations != theirs.durations).argmax())
            raise ModelError(
                f"durations[{position}]={ours.durations[position]} must be "
                f"{theirs.durations[position]}, as the voice's encoder says"
            )
        for a, b in ((ours.encodings, theirs.encodings), (ours.log_scales, theirs.log_scales)):
            if a is not None and b is not None:
                worst = max(worst, float(np.abs(a - b).max()) / max(1.0, float(np.abs(b).max())))
    if not worst <= tolerance:
        raise ModelError(f"encodings differ by {worst:.3g} of the largest: must be <= {tolerance:g}")
    return worst


def compare_samples(
    decode: Callable[[Utterance], FloatArray], utterances: Sequence[Utterance], *, tolerance: float
) -> float:
    """Decode the utterances in another way and return the largest difference of a sample.

    Raises
    ------
    ModelError
        If there are more samples or fewer, or one differs by more than `tolerance`.
    """
    worst = 0.0
    for utterance in utterances:
        samples = decode(utterance)
        if samples.shape != utterance.samples.shape:
            raise ModelError(
                f"{samples.size} samples of {utterance.n_frames} frames must be {utterance.samples.size}"
            )
        worst = max(worst, float(np.abs(samples - utterance.samples).max(initial=0.0)))
    if not worst <= tolerance:
        raise ModelError(f"samples differ from the voice's by {worst:.3g}: must be <= {tolerance:g}")
    return worst
