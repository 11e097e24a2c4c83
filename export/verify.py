"""Checks that a voice is still the trained one after it was cut, before anybody gets to see it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.source import NoisyReference, Reference, SourceVocoder, SourceVoice
from balacoon_tk.graph.receptive_field import ReceptiveField
from balacoon_tk.runtime.session import Session

MAX_ABS_DIFF = 1e-4
"""Largest difference of samples to the trained model's that is put down to floating point."""

_VOCODER_SIZES = (5, 13, 50, 200)
_SIZES = (1, 2, 13, 50, 200)
_SIZES_WITH_NOISE = (1, 13, 50)
_SIZE_FOR_OTHERS = 13
_NOISE = 0.7
_MAX_SPEAKERS = 4
_SLOW = 1.3
_TIE = 1e-4  # frames; closer than this to a whole number, rounding up depends on floating point
_N_DRAWS = 5
_MARGIN = 8  # frames beyond the receptive field that must stay as they are


@dataclass(frozen=True, slots=True)
class _Case:
    """One utterance to compare."""

    n_phonemes: int
    speaker_id: int
    length_scale: float
    noise: float
    """Standard deviation of both noises."""


def verify_split(
    voice: SourceVoice, *, seed: int = 0, progress: Callable[[float], None] | None = None
) -> dict[str, float]:
    """Compare encoder, expansion and decoder to the trained model.

    Random sequences of the voice's own phonemes, from one to 200 of them, are synthesized by both:
    without noise by the trained model untouched, and, if it draws noise, by the trained model with the
    same noise given to it.

    Parameters
    ----------
    voice : SourceVoice
    seed : int
        Chooses the sequences and the noise.
    progress : callable, optional
        Called with the share of the comparisons that is done.

    Returns
    -------
    dict of str to float
        The name of each check and the largest difference that it saw.

    Raises
    ------
    ModelError
        If durations differ, or samples differ by more than `MAX_ABS_DIFF`.
    """
    split = Split(voice)
    rng = np.random.default_rng(seed)
    worst = {"durations": 0.0, "samples_without_noise": 0.0}
    if split.draws_noise:
        worst["samples_with_noise"] = 0.0
    cases = [case for case in _cases(voice.n_speakers) if split.draws_noise or not case.noise]
    for k, case in enumerate(cases):
        if progress is not None:
            progress(k / len(cases))
        name = "samples_with_noise" if case.noise else "samples_without_noise"
        worst[name] = max(worst[name], _verify_case(case, voice, split, rng))
    return worst


def _some_speakers(n_speakers: int) -> list[int]:
    return [int(k) for k in np.unique(np.linspace(0, n_speakers - 1, _MAX_SPEAKERS).astype(int))]


def _cases(n_speakers: int) -> list[_Case]:
    first, *others = _some_speakers(n_speakers)
    cases = [_Case(size, first, 1.0, 0.0) for size in _SIZES]
    cases += [_Case(size, first, 1.0, _NOISE) for size in _SIZES_WITH_NOISE]
    cases.append(_Case(_SIZE_FOR_OTHERS, first, _SLOW, 0.0))
    return cases + [_Case(_SIZE_FOR_OTHERS, k, 1.0, noise) for k in others for noise in (0.0, _NOISE)]


def _verify_case(case: _Case, voice: SourceVoice, split: Split, rng: np.random.Generator) -> float:
    """Draw phonemes and noise, and compare; draw again where a duration is on the edge of two numbers."""
    for _ in range(_N_DRAWS):
        ids = draw_phoneme_ids(voice, case.n_phonemes, rng)
        noise = rng.standard_normal((1, 2, len(ids))).astype(np.float32) * np.float32(case.noise)
        outputs = split.encode(ids, case, noise)
        shape = (1, voice.n_channels, int(outputs["durations"].sum()))
        frame_noise = rng.standard_normal(shape).astype(np.float32)
        try:
            theirs = _reference_samples(
                case, voice.reference, ids, outputs["durations"][0], noise, frame_noise
            )
            return _difference(split.decode(outputs, frame_noise * np.float32(case.noise)), theirs)
        except ModelError as error:
            if not isinstance(voice.reference, NoisyReference):
                raise ModelError(f"the split voice differs from the trained one: {error} ({case})") from error
            exact = voice.reference.exact_durations(
                ids, speaker_id=case.speaker_id, length_scale=case.length_scale, duration_noise=noise
            )
            if (np.abs(exact - np.round(exact)) > _TIE).all():
                raise ModelError(f"the split voice differs from the trained one: {error} ({case})") from error
    raise ModelError(
        f"the durations of {_N_DRAWS} random sequences are all on the edge of two numbers ({case})"
    )


def _reference_samples(
    case: _Case,
    reference: Reference,
    ids: IntArray,
    durations: IntArray,
    noise: FloatArray,
    frame_noise: FloatArray,
) -> FloatArray:
    if not case.noise:
        return reference.run(ids, speaker_id=case.speaker_id, length_scale=case.length_scale)
    if not isinstance(reference, NoisyReference):
        raise ModelError("the encoder draws noise, and the reference has no run_with_noise")
    samples, exact = reference.run_with_noise(
        ids,
        speaker_id=case.speaker_id,
        length_scale=case.length_scale,
        duration_noise=noise,
        frame_noise=frame_noise,
        noise_scale=case.noise,
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
    """The two graphs of a voice, and the expansion between them in its plainest form.

    Parameters
    ----------
    voice : SourceVoice

    Attributes
    ----------
    draws_noise : bool
        Whether the durations or the frames depend on noise.
    """

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

    def decode(self, outputs: Mapping[str, AnyArray], noise: FloatArray) -> FloatArray:
        """Return the samples of what the encoder gave."""
        return self.decode_frames(self.frames(outputs, noise))

    def decode_frames(self, feeds: Mapping[str, AnyArray]) -> FloatArray:
        """Run the decoder on its inputs."""
        samples: FloatArray = self._decoder.run(feeds)["samples"].reshape(-1)
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
    split = Split(voice)
    rng = np.random.default_rng(seed)
    utterances = []
    for speaker_id in _some_speakers(voice.n_speakers):
        case = _Case(_SIZE_FOR_OTHERS, speaker_id, 1.0, _NOISE)
        ids = draw_phoneme_ids(voice, case.n_phonemes, rng)
        noise = rng.standard_normal((1, 2, len(ids))).astype(np.float32) * np.float32(case.noise)
        outputs = split.encode(ids, case, noise)
        shape = (1, voice.n_channels, int(outputs["durations"].sum()))
        frame_noise = rng.standard_normal(shape).astype(np.float32) * np.float32(case.noise)
        utterances.append(split.frames(outputs, frame_noise))
    return utterances


def verify_vocoder(
    vocoder: SourceVocoder, field: ReceptiveField, *, progress: Callable[[float], None] | None = None
) -> dict[str, float]:
    """Compare a vocoder's graph to the trained model, on frames such as it was trained on.

    Returns
    -------
    dict of str to float
        The name of the check and the largest difference that it saw.

    Raises
    ------
    ModelError
        If the trained model fails, or samples differ by more than `MAX_ABS_DIFF` or in their number.
    """
    decoder = Session(vocoder.decoder)
    worst = 0.0
    for k, n_frames in enumerate(_VOCODER_SIZES):
        if progress is not None:
            progress(k / len(_VOCODER_SIZES))
        frames = vocoder.draw_frames(n_frames, n_frames)
        theirs = vocoder.reference(frames)
        if theirs.size != n_frames * field.hop_length:
            raise ModelError(
                f"{n_frames} frames give {theirs.size} samples: must be {field.hop_length} for each"
            )
        worst = max(worst, _difference(decoder.run({"frames": frames})["samples"].reshape(-1), theirs))
    return {"samples": worst}


@dataclass(frozen=True, slots=True)
class Moved:
    """What moved when one frame was changed, in samples relative to that frame's own first sample."""

    start: int
    stop: int


def perturb(
    decoder: Session, *, n_frames: int, frame: int, hop_length: int, by: float = math.nan, seed: int = 0
) -> Moved:
    """Change one frame of a decoder's input and say which samples change.

    Parameters
    ----------
    decoder : Session
        With the input ``frames`` of shape (1, n_channels, n_frames).
    n_frames : int
        Frames to decode.
    frame : int
        The one to change.
    hop_length : int
        Samples per frame.
    by : float
        What is added to every channel. NaN spreads to all that depends on the frame, where a
        number's influence may be less than floating point resolves.
    seed : int
        Chooses the frames.
    """
    rng = np.random.default_rng(seed)
    feeds: dict[str, AnyArray] = {}
    for name, spec in decoder.inputs.items():
        shape = [n if isinstance(n, int) else n_frames for n in spec.shape]
        feeds[name] = rng.standard_normal(shape).astype(np.float32)
    before = decoder.run(feeds)["samples"].reshape(-1)
    feeds["frames"][:, :, frame] += np.float32(by)
    after = decoder.run(feeds)["samples"].reshape(-1)
    moved = np.flatnonzero(before != after)
    if not moved.size:
        return Moved(0, 0)
    return Moved(int(moved[0]) - frame * hop_length, int(moved[-1]) + 1 - frame * hop_length)


def verify_receptive_field(model: onnx.ModelProto, field: ReceptiveField) -> dict[str, float]:
    """Change one frame and check that no sample moves outside the receptive field.

    Returns
    -------
    dict of str to float
        The name of the check and the largest change that it saw where there must be none.

    Raises
    ------
    ModelError
        If a sample outside the receptive field moves, or none at all.
    """
    decoder = Session(model)
    frame = field.lookahead + _MARGIN
    n_frames = frame + 1 + field.left_context + _MARGIN
    start = -field.lookahead * field.hop_length
    stop = (field.left_context + 1) * field.hop_length
    for by in (math.nan, 1.0):  # on some processors tanh makes a number of NaN
        moved = perturb(decoder, n_frames=n_frames, frame=frame, hop_length=field.hop_length, by=by)
        if moved.start >= moved.stop:
            raise ModelError("the decoder's samples don't depend on its frames")
        if moved.start < start or moved.stop > stop:
            raise ModelError(
                f"a change of one frame moves samples {moved.start} to {moved.stop} from its first, "
                f"outside the receptive field, which allows {start} to {stop}"
            )
    return {"beyond_receptive_field": 0.0}
