"""Checks that a voice is still the trained one after it was cut, before anybody gets to see it.

A voice is compared from phonemes to samples, a vocoder from frames to samples; of both the receptive field is
put to the test. Refused is what differs by more than floating point explains.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.source import (
    GivenNoise,
    NoisyReference,
    Reference,
    SourceVocoder,
    SourceVoice,
)
from balacoon_tk.graph.receptive_field import ReceptiveField
from balacoon_tk.runtime.session import Session

MAX_ABS_DIFF = 1e-4
"""Largest difference of samples to the trained model's that is put down to floating point."""

# From a single phoneme, which fills no window of attention, to several sentences.
_SIZES, _SIZES_WITH_NOISE, _SIZE_FOR_OTHERS = (1, 2, 13, 50, 200), (1, 13, 50), 13
_VOCODER_SIZES = (5, 13, 50, 200)
_NOISE = 0.7
_MAX_SPEAKERS = 4
_SLOW = 1.3  # a length scale that isn't 1 shows one that was lost in the cut
_TIE = 1e-4  # frames; closer than this to a whole number, rounding up depends on floating point
_N_DRAWS = 5
_MARGIN = 8  # frames beyond the receptive field that must stay as they are


@dataclass(frozen=True, slots=True)
class _Case:
    n_phonemes: int
    speaker_id: int
    length_scale: float
    noise: float
    """Standard deviation of both noises."""


def verify_split(
    voice: SourceVoice, *, seed: int = 0, progress: Callable[[float], None] = lambda share: None
) -> dict[str, float]:
    """Compare a cut voice to the trained model; return the largest difference that each check saw."""
    # The two ways tell different faults: without noise nothing of the trained model is touched, so it is the
    # model that people know; with noise the scales and the sampling are seen as well.
    split, rng = Split(voice), np.random.default_rng(seed)
    # A duration is right or an error, so its difference is 0 wherever there is a report.
    worst = {"durations": 0.0}
    cases = [case for case in _cases(voice.n_speakers) if split.draws_noise or not case.noise]
    for k, case in enumerate(cases):
        progress(k / len(cases))
        name = "samples_with_noise" if case.noise else "samples_without_noise"
        worst[name] = max(worst.get(name, 0.0), _verify_case(case, voice, split, rng))
    return worst


def _some_speakers(n_speakers: int) -> list[int]:
    return [int(k) for k in np.unique(np.linspace(0, n_speakers - 1, _MAX_SPEAKERS).astype(int))]


def _cases(n_speakers: int) -> list[_Case]:
    first, *others = _some_speakers(n_speakers)
    cases = [_Case(size, first, 1.0, 0.0) for size in _SIZES]
    cases += [_Case(size, first, 1.0, _NOISE) for size in _SIZES_WITH_NOISE]
    cases.append(_Case(_SIZE_FOR_OTHERS, first, _SLOW, 0.0))
    return cases + [_Case(_SIZE_FOR_OTHERS, k, 1.0, noise) for k in others for noise in (0.0, _NOISE)]


def _draw(
    case: _Case, voice: SourceVoice, split: Split, rng: np.random.Generator
) -> tuple[IntArray, FloatArray, dict[str, AnyArray], FloatArray]:
    """Draw ids and the noise of their durations, encode them, and draw the unscaled noise of their frames."""
    ids = draw_phoneme_ids(voice, case.n_phonemes, rng)
    noise = rng.standard_normal((1, 2, len(ids))).astype(np.float32) * np.float32(case.noise)
    outputs = split.encode(ids, case, noise)
    shape = (1, voice.n_channels, int(outputs["durations"].sum()))
    return ids, noise, outputs, rng.standard_normal(shape).astype(np.float32)


def _verify_case(case: _Case, voice: SourceVoice, split: Split, rng: np.random.Generator) -> float:
    """Compare on what is drawn; draw again where a duration is on the edge of two numbers."""
    reference = voice.reference
    for _ in range(_N_DRAWS):
        ids, noise, outputs, frame_noise = _draw(case, voice, split, rng)
        given = GivenNoise(noise, frame_noise, case.noise)
        try:
            theirs = _reference_samples(case, reference, ids, outputs["durations"][0], given)
            frames = split.frames(outputs, frame_noise * np.float32(case.noise))
            return _difference(split.decode(frames), theirs)
        except ModelError as error:
            # Floating point may round an exact duration either way. Where none is near the edge, or nobody
            # can say, the difference is one of the cut.
            if isinstance(reference, NoisyReference):
                _, exact = reference.run_with_noise(
                    ids, speaker_id=case.speaker_id, length_scale=case.length_scale, noise=GivenNoise(noise)
                )
                if (np.abs(exact - np.round(exact)) <= _TIE).any():
                    continue
            raise ModelError(f"the split voice differs from the trained one: {error} ({case})") from error
    raise ModelError(
        f"the durations of {_N_DRAWS} random sequences are all on the edge of two numbers ({case})"
    )


def _reference_samples(
    case: _Case, reference: Reference, ids: IntArray, durations: IntArray, noise: GivenNoise
) -> FloatArray:
    if not case.noise:
        return reference.run(ids, speaker_id=case.speaker_id, length_scale=case.length_scale)
    if not isinstance(reference, NoisyReference):
        raise ModelError("the encoder draws noise, and the reference has no run_with_noise")
    samples, exact = reference.run_with_noise(
        ids, speaker_id=case.speaker_id, length_scale=case.length_scale, noise=noise
    )
    wanted = np.ceil(exact).astype(np.int64)
    if not np.array_equal(durations, wanted):
        position = int(np.argmax(durations != wanted))
        raise ModelError(f"durations[{position}]={durations[position]} must be {wanted[position]}")
    return samples


def _difference(ours: FloatArray, theirs: FloatArray) -> float:
    if ours.shape != theirs.shape:
        raise ModelError(f"{ours.size} samples must be {theirs.size}")
    difference = float(np.abs(ours - theirs).max(initial=0.0))
    if not difference <= MAX_ABS_DIFF:  # not NaN either
        raise ModelError(f"a sample differs by {difference:.2g}, which must be <= {MAX_ABS_DIFF:g}")
    return difference


def draw_phoneme_ids(voice: SourceVoice, n_phonemes: int, rng: np.random.Generator) -> IntArray:
    """Return ids of symbols that the voice has, any of them after any other."""
    symbols = [np.array(ids, np.int64) for ids in voice.facts.frontend.phoneme_ids.values()]
    chosen = rng.integers(len(symbols), size=n_phonemes)
    return np.concatenate([symbols[k] for k in chosen])[:n_phonemes]


class Split:
    """The two graphs of a voice, and the expansion between them in its plainest form."""

    # Not by `Upsampler`: whoever checks must not share a mistake with what is checked.
    def __init__(self, voice: SourceVoice) -> None:
        self._encoder, self._decoder = Session(voice.encoder), Session(voice.decoder)
        self._gaussian_delta = voice.gaussian_delta
        self.draws_noise = "duration_noise" in self._encoder.inputs or "log_scales" in self._encoder.outputs

    def encode(self, ids: IntArray, case: _Case, duration_noise: FloatArray) -> dict[str, AnyArray]:
        """Return the encoder's outputs."""
        feeds: dict[str, AnyArray] = {
            "phoneme_ids": ids[None],
            "length_scale": np.array([case.length_scale], np.float32),
            "duration_noise": duration_noise,
            "speaker_id": np.array([case.speaker_id], np.int64),
        }
        return self._encoder.run({name: feeds[name] for name in self._encoder.inputs})

    def frames(self, outputs: Mapping[str, AnyArray], noise: FloatArray) -> dict[str, AnyArray]:
        """Return the decoder's inputs; `noise` is (1, n_channels, n_frames), scaled already."""
        encodings, durations = outputs["encodings"][0], outputs["durations"][0]
        if self._gaussian_delta is None:
            frames = np.repeat(encodings, durations, axis=0)
        else:
            frames = _gaussian(encodings, durations, self._gaussian_delta)
        if "log_scales" in outputs:
            frames = frames + noise[0].T * np.exp(np.repeat(outputs["log_scales"][0], durations, axis=0))
        feeds = {"frames": np.ascontiguousarray(frames.T[None])}
        if "speaker_embedding" in self._decoder.inputs:
            feeds["speaker_embedding"] = outputs["speaker_embedding"]
        return feeds

    def quiet_frames(self, ids: IntArray) -> dict[str, AnyArray]:
        """Return the decoder's inputs for a sequence said by the first speaker, without noise."""
        outputs = self.encode(ids, _Case(len(ids), 0, 1.0, 0.0), np.zeros((1, 2, len(ids)), np.float32))
        return self.frames(outputs, np.zeros((1, 1, 1), np.float32))

    def decode(self, feeds: Mapping[str, AnyArray]) -> FloatArray:
        """Return the samples of the decoder's inputs."""
        return _samples(self._decoder, feeds)


def _samples(decoder: Session, feeds: Mapping[str, AnyArray]) -> FloatArray:
    samples: FloatArray = decoder.run(feeds)["samples"].reshape(-1)
    return samples


def _gaussian(encodings: FloatArray, durations: IntArray, delta: float) -> FloatArray:
    """Mix encodings by the full softmax of ``-delta * (frame - centre)**2``, as it is trained."""
    centres = np.cumsum(durations) - durations / 2
    energies = -delta * (np.arange(durations.sum())[:, None] - centres) ** 2
    weights = np.exp(energies - energies.max(axis=1, keepdims=True, initial=-np.inf))
    mixed: FloatArray = ((weights / weights.sum(axis=1, keepdims=True)) @ encodings).astype(np.float32)
    return mixed


def trained_frames(voice: SourceVoice, *, seed: int = 0) -> list[dict[str, AnyArray]]:
    """Return a decoder's inputs as the voice's own encoder makes them, for some speakers in turn."""
    split, rng = Split(voice), np.random.default_rng(seed)
    utterances = []
    for speaker_id in _some_speakers(voice.n_speakers):
        case = _Case(_SIZE_FOR_OTHERS, speaker_id, 1.0, _NOISE)
        _, _, outputs, frame_noise = _draw(case, voice, split, rng)
        utterances.append(split.frames(outputs, frame_noise * np.float32(case.noise)))
    return utterances


def verify_vocoder(
    vocoder: SourceVocoder, field: ReceptiveField, *, progress: Callable[[float], None]
) -> dict[str, float]:
    """Compare a vocoder's graph to the trained model; return the largest difference that the check saw."""
    decoder = Session(vocoder.decoder)
    worst = 0.0
    # Each number of frames is its own seed as well: the same export verifies on the same frames.
    for k, n_frames in enumerate(_VOCODER_SIZES):
        progress(k / len(_VOCODER_SIZES))
        frames = vocoder.draw_frames(n_frames, n_frames)
        theirs = vocoder.reference(frames)
        if theirs.size != n_frames * field.hop_length:
            raise ModelError(
                f"{n_frames} frames give {theirs.size} samples: must be {field.hop_length} for each"
            )
        worst = max(worst, _difference(_samples(decoder, {"frames": frames}), theirs))
    return {"samples": worst}


def perturb(
    decoder: Session,
    *,
    n_frames: int,
    frame: int,
    hop_length: int,
    codebook_size: int | None = None,
    by: float = math.nan,
    seed: int = 0,
) -> range:
    """Add a number to one frame of `n_frames`; return which samples change, from its own first one.

    Of codes, below `codebook_size`, another one is taken.
    """
    # NaN spreads to all that depends on the frame; a number's influence may be less than floating point
    # resolves.
    rng = np.random.default_rng(seed)
    feeds: dict[str, AnyArray] = {}
    for name, spec in decoder.inputs.items():
        shape = [n if isinstance(n, int) else n_frames for n in spec.shape]
        is_codes = codebook_size is not None and name == "frames"
        drawn = rng.integers(0, codebook_size or 1, shape) if is_codes else rng.standard_normal(shape)
        feeds[name] = drawn.astype(spec.dtype)
    before = _samples(decoder, feeds)
    if codebook_size is None:
        feeds["frames"][:, :, frame] += np.float32(by)
    else:
        feeds["frames"][:, :, frame] = (feeds["frames"][:, :, frame] + 1) % codebook_size
    moved = np.flatnonzero(before != _samples(decoder, feeds))
    own = frame * hop_length
    return range(int(moved[0]) - own, int(moved[-1]) + 1 - own) if moved.size else range(0)


def verify_receptive_field(
    model: onnx.ModelProto, field: ReceptiveField, *, codebook_size: int | None = None
) -> dict[str, float]:
    """Change one frame; return the largest change outside the receptive field, where there must be none."""
    decoder = Session(model)
    frame = field.lookahead + _MARGIN
    n_frames = frame + 1 + field.left_context + _MARGIN
    start = -field.lookahead * field.hop_length
    stop = (field.left_context + 1) * field.hop_length
    for by in (math.nan, 1.0):  # on some processors tanh makes a number of NaN
        moved = perturb(
            decoder,
            n_frames=n_frames,
            frame=frame,
            hop_length=field.hop_length,
            codebook_size=codebook_size,
            by=by,
        )
        if not moved:
            raise ModelError("the decoder's samples don't depend on its frames")
        if moved.start < start or moved.stop > stop:
            raise ModelError(
                f"a change of one frame moves samples {moved.start} to {moved.stop} from its first, "
                f"outside the receptive field, which allows {start} to {stop}"
            )
    return {"beyond_receptive_field": 0.0}
