"""From phonemes to encodings and durations: the graph that sees the whole sentence, once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime._checks import all_finite, sum_within
from balacoon_tk.runtime.native.opening import open_session
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.session import GraphSource, Session
from balacoon_tk.stages.random import frame_noise
from balacoon_tk.stages.upsampler import MAX_FRAMES
from balacoon_tk.voice.contract import ENCODER_INPUTS, ENCODER_OUTPUTS, check_tensors

if TYPE_CHECKING:
    from balacoon_tk.runtime.native.session import NativeSession

MAX_PHONEME_FRAMES = 2_000
"""Most frames of one id, about 23 s at 86 frames a second, whatever text, speed and noise.

A voice that gives more by itself is broken. What a slow speed or much noise stretches beyond is cut off here.
"""

_DURATION_NOISE_CHANNELS = 2  # the duration predictor's flow is over pairs (VITS, appendix B)


@dataclass(frozen=True, slots=True, eq=False)
class Encoding:
    """What the encoder says of one sentence, phoneme by phoneme."""

    encodings: FloatArray
    """Shape (n_phonemes, n_channels), float32; for VITS the prior's mean."""
    durations: IntArray
    """Shape (n_phonemes,), int64: frames per phoneme."""
    log_scales: FloatArray | None = None
    """Like `encodings`: the prior's log standard deviation; None in models without sampling."""
    speaker_embedding: FloatArray | None = None
    """Shape (1, n_speaker_channels, 1), float32, for the decoder of a voice with several speakers."""

    @property
    def n_frames(self) -> int:
        """Frames of the sentence: the sum of its durations."""
        return int(self.durations.sum())


class Encoder:
    """An encoder, loaded and checked once; safe to use from many threads.

    Parameters
    ----------
    model : path, bytes, ModelProto or Program
        The graph, or what was made of it for the native engine.
    n_symbols : int
        Ids are below this.
    options : RuntimeOptions, optional
        How the graph is run.

    Attributes
    ----------
    n_channels : int or None
        Channels of an encoding, where the graph fixes them.
    has_speakers : bool
        Whether the graph wants a speaker.
    kernels : str or None
        The native engine's instruction set; None if ONNX Runtime runs the graph.

    Raises
    ------
    ModelError
        If the graph can't be loaded or its inputs and outputs are not an encoder's.
    """

    def __init__(
        self, model: GraphSource | Program, *, n_symbols: int, options: RuntimeOptions | None = None
    ) -> None:
        self._session: Session | NativeSession
        self.kernels: str | None = None
        if isinstance(model, Program):
            self._session = session = open_session(model, options, label="encoder")
            self.kernels = session.kernels
        else:
            self._session = Session(model, options)
        self._n_symbols = n_symbols
        inputs, outputs = self._session.inputs, self._session.outputs
        check_tensors("input", inputs, ENCODER_INPUTS, required=("phoneme_ids", "length_scale"))
        check_tensors("output", outputs, ENCODER_OUTPUTS, required=("encodings", "durations"))
        channels = outputs["encodings"].shape[-1]
        self.n_channels = channels if isinstance(channels, int) else None
        self.has_speakers = "speaker_id" in inputs
        self.has_speaker_embedding = "speaker_embedding" in outputs
        self.has_log_scales = "log_scales" in outputs
        # A deterministic duration predictor takes none.
        self._has_noise = "duration_noise" in inputs
        # Named at every run: a graph may have outputs beside these, which would be computed for nobody.
        self._output_names = [name for name in ENCODER_OUTPUTS if name in outputs]

    def encode(
        self,
        phoneme_ids: IntArray,
        *,
        length_scale: float = 1.0,
        noise_w: float = 0.0,
        speaker_id: int | None = None,
        seed: int = 0,
        stream: int = 0,
    ) -> Encoding:
        """Encode one sentence.

        Parameters
        ----------
        phoneme_ids : ndarray of shape (n_phonemes,), int64
        length_scale : float
            Factor on the durations.
        noise_w : float
            Standard deviation of the noise that varies the durations, where 1 is what the voice was trained
            with. Where it is above, or `length_scale` is, no id lasts longer than `MAX_PHONEME_FRAMES` and
            no sentence longer than `MAX_FRAMES`: durations beyond are cut off rather than refused.
        speaker_id : int, optional
            Needed by a voice with several speakers, and by no other.
        seed, stream : int
            Choose the noise; see `balacoon_tk.stages.random`.

        Returns
        -------
        Encoding
            ``n_frames = durations.sum()``

        Raises
        ------
        ParameterError
            If an argument doesn't fit the voice.
        ModelError
            If the graph fails, or gives durations or encodings that can't be.
        """
        self._check(phoneme_ids, speaker_id)
        n_phonemes = len(phoneme_ids)
        feeds: dict[str, AnyArray] = {"phoneme_ids": phoneme_ids[None]}
        feeds["length_scale"] = np.array([length_scale], np.float32)
        if self._has_noise:
            # By position, as the frames' noise is: a seed gives the same rhythm, whatever was said before.
            noise = frame_noise(0, n_phonemes, n_channels=_DURATION_NOISE_CHANNELS, seed=seed, stream=stream)
            feeds["duration_noise"] = np.multiply(noise.T, np.float32(noise_w), order="C")[None]
        if speaker_id is not None:
            feeds["speaker_id"] = np.array([speaker_id], np.int64)
        outputs = self._session.run(feeds, self._output_names)
        # Of a batch of one; the embedding keeps its axis, as the decoder takes it.
        rows = {
            name: outputs[name][0] for name in ("encodings", "durations", "log_scales") if name in outputs
        }
        if length_scale > 1 or noise_w > 1:
            most = min(MAX_PHONEME_FRAMES, MAX_FRAMES // n_phonemes)
            rows["durations"] = np.minimum(rows["durations"], most)
        encoding = Encoding(**rows, speaker_embedding=outputs.get("speaker_embedding"))
        _check_encoding(encoding, n_phonemes)
        return encoding

    def _check(self, phoneme_ids: IntArray, speaker_id: int | None) -> None:
        if phoneme_ids.ndim != 1 or phoneme_ids.dtype != np.int64 or not phoneme_ids.size:
            raise ParameterError(
                f"phoneme_ids of shape {phoneme_ids.shape}, {phoneme_ids.dtype} must be 1-D int64, not empty"
            )
        # One kernel looks at all; only where it found something is the place looked for, to be named.
        if sum_within(np.ascontiguousarray(phoneme_ids), self._n_symbols - 1) < 0:
            position = int(((phoneme_ids < 0) | (phoneme_ids >= self._n_symbols)).argmax())
            raise ParameterError(
                f"phoneme_ids[{position}]={phoneme_ids[position]} must be in [0, {self._n_symbols})"
            )
        if self.has_speakers != (speaker_id is not None):
            rule = "be a number: the voice has several" if self.has_speakers else "be None: the voice has one"
            raise ParameterError(f"speaker_id={speaker_id} must {rule}")


def _check_encoding(encoding: Encoding, n_phonemes: int) -> None:
    """Raise an error for what would allocate without bounds, or be heard as noise."""
    # A graph from anywhere is run here: what it gives is looked at like an argument.
    durations, encodings, log_scales = encoding.durations, encoding.encodings, encoding.log_scales
    if durations.shape != (n_phonemes,):
        raise ModelError(f"durations of shape {durations.shape} must be ({n_phonemes},): one per phoneme")
    n_frames = sum_within(durations, MAX_PHONEME_FRAMES)
    if n_frames < 0:
        position = int(((durations < 0) | (durations > MAX_PHONEME_FRAMES)).argmax())
        raise ModelError(f"durations[{position}]={durations[position]} must be in [0, {MAX_PHONEME_FRAMES}]")
    if n_frames > MAX_FRAMES:
        raise ModelError(f"sum(durations)={n_frames} must be <= {MAX_FRAMES}")
    for name, array in (("encodings", encodings), ("log_scales", log_scales)):
        if array is None:
            continue
        if array.shape != encodings.shape or len(array) != n_phonemes:
            raise ModelError(f"{name} of shape {array.shape} must be ({n_phonemes}, n_channels)")
        if not all_finite(array):
            position = int(np.argmin(np.isfinite(array).all(axis=1)))
            raise ModelError(f"{name}[{position}] holds NaN or infinity")
