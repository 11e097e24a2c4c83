"""The voice that is deployed, and utterances to compare its other forms with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.encoder import Encoder, Encoding
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.targets.choice import find_compiled
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.manifest import Precision
from balacoon_tk.voice.voice import Voice, load_voice

# Largest difference of a sample that is put down to other kernels of the same sums, rounded otherwise.
_MAX_ABS_DIFF: Mapping[Precision, float] = {"fp32": 1e-4, "fp16": 2.0**-8, "int8": 2 / 255}

# From less than a stream's lag to a sentence.
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
    """A voice, its graphs, and utterances that it has spoken, to hold another form of it against."""

    voice: Voice
    plain_encoder: onnx.ModelProto
    plain_decoder: onnx.ModelProto
    encoder: onnx.ModelProto
    """As it was compiled for ONNX Runtime, and has spoken the utterances."""
    decoder: onnx.ModelProto
    utterances: tuple[Utterance, ...]

    def compare_encoder(self, encoder: Encoder) -> float:
        """Encode the utterances again and return the largest difference, relative to the largest value."""
        worst = 0.0
        for utterance in self.utterances:
            theirs = utterance.encoding
            ours = encode(encoder, utterance.phoneme_ids, utterance.speaker_id)
            if not np.array_equal(ours.durations, theirs.durations):
                position = int((ours.durations != theirs.durations).argmax())
                raise ModelError(
                    f"durations[{position}]={ours.durations[position]} must be "
                    f"{theirs.durations[position]}, as the voice's encoder says"
                )
            for a, b in ((ours.encodings, theirs.encodings), (ours.log_scales, theirs.log_scales)):
                if a is not None and b is not None:
                    worst = max(worst, float(np.abs(a - b).max()) / max(1.0, float(np.abs(b).max())))
        return self._accepted(worst, f"encodings differ by {worst:.3g} of the largest")

    def plain_utterances(self) -> tuple[Utterance, ...]:
        """Return the utterances as the plain decoder says them, for forms that are made of it."""
        # A form is compared with its own graph: the compiled one adds up in another order, and in int8 each
        # sum that thus falls to another step makes more of them, until long utterances are far apart. That
        # the two graphs say the same was judged where the voice was compiled, in int8 by `verify_rounding`.
        session = Session(self.plain_decoder, self.voice.options)
        return tuple(
            replace(utterance, samples=session.run(utterance.feeds)["samples"].reshape(-1))
            for utterance in self.utterances
        )

    def compare_samples(self, decode: Callable[[Utterance], FloatArray]) -> float:
        """Decode the utterances in another way and return the largest difference of a sample."""
        worst = 0.0
        for utterance in self.utterances:
            samples, n_samples = decode(utterance), utterance.samples.size
            if samples.size != n_samples:
                raise ModelError(f"{samples.size} samples of {utterance.n_frames} frames must be {n_samples}")
            worst = max(worst, float(np.abs(samples - utterance.samples).max(initial=0.0)))
        return self._accepted(worst, f"samples differ from the voice's by {worst:.3g}")

    def _accepted(self, worst: float, what: str) -> float:
        limit = _MAX_ABS_DIFF[self.voice.manifest.decoder.precision]
        # Not `worst > limit`, which is false of NaN.
        if not worst <= limit:
            raise ModelError(f"{what}: must be <= {limit:g}")
        return worst


@dataclass(frozen=True, slots=True)
class DeployedForm:
    """What a form consists of: files by path, and what was seen when it ran beside the voice."""

    files: Mapping[str, bytes]
    verified: Mapping[str, float]
    not_run_on: str | None
    """What it is made for and was not run on; None if it ran where it will."""


def read_source(path: Path, *, n_threads: int | None = None) -> Source:
    """Load a voice, and let it speak what its other form will have to."""
    # Other forms are made of ONNX Runtime's graphs, and are held against what those say.
    voice = load_voice(path, n_threads=n_threads, backend="onnxruntime")
    manifest, files = voice.manifest, VoiceFiles(path, voice.sha256)
    compiled = find_compiled(files, voice.options)
    rng = np.random.default_rng(_SEED)
    known = np.array(manifest.frontend.known_ids, np.int64)
    spoken = [_speak(voice, rng.choice(known, n)) for n in _N_PHONEMES]
    utterances = tuple(utterance for utterance in spoken if utterance is not None)
    if not utterances:
        raise ModelError(f"{path}: of {_N_PHONEMES[-1]} random phonemes none lasts a frame")
    return Source(
        voice=voice,
        plain_encoder=files.model(manifest.encoder),
        plain_decoder=files.model(manifest.decoder),
        encoder=compiled.files.model(compiled.info.encoder or manifest.encoder),
        decoder=compiled.files.model(compiled.info.decoder),
        utterances=utterances,
    )


def _speak(voice: Voice, phoneme_ids: IntArray) -> Utterance | None:
    """Speak some phonemes; None if they last no frame."""
    speaker_id = voice.speaker_id(None)
    encoding = encode(voice.encoder, phoneme_ids, speaker_id)
    upsampler = Upsampler(
        encoding.encodings,
        encoding.durations,
        log_scales=encoding.log_scales,
        noise_scale=voice.manifest.prosody.noise_scale,
        seed=_SEED,
        gaussian_delta=voice.manifest.gaussian_delta,
    )
    if not upsampler.n_frames:
        return None
    feeds: dict[str, AnyArray] = {"frames": upsampler.window(0, upsampler.n_frames)[np.newaxis]}
    feeds |= voice.timeless_inputs(encoding.speaker_embedding)
    samples = voice.decoder.whole(voice.decoder.contract.check(feeds))["samples"].reshape(-1)
    return Utterance(phoneme_ids, speaker_id, encoding, feeds, samples)


def encode(encoder: Encoder, phoneme_ids: IntArray, speaker_id: int | None) -> Encoding:
    """Encode phonemes as those of the utterances were, with the same noise."""
    # The noise of durations is on, so that what is made of it is compared as well.
    return encoder.encode(phoneme_ids, noise_w=1.0, speaker_id=speaker_id, seed=_SEED)
