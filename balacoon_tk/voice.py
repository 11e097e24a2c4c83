"""A voice: a folder or a single .addon file, with everything in it checked when it is loaded."""

from __future__ import annotations

import hashlib
import math
import operator
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.chunking import push_schedule
from balacoon_tk.contract import check_decoder, check_encoder, check_run
from balacoon_tk.decoder import Decoder, DecoderGraph, Strategy, open_decoder
from balacoon_tk.encoder import Encoder
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.manifest import DecoderInfo, EncoderInfo, Manifest
from balacoon_tk.upsampler import Upsampler

__all__ = ["MANIFEST_FILE", "Voice", "load_voice", "read_member"]

MANIFEST_FILE = "voice.json"

_N_NAMED_SPEAKERS = 10  # an error names this many of the speakers there are

_DAMAGED_ZIP = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
"""What zipfile raises for a member that is cut, altered, encrypted or packed in an unknown way."""


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A loaded voice; one serves any number of streams and threads."""

    path: Path
    manifest: Manifest
    encoder: Encoder
    decoder: DecoderGraph

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The ways in which its decoder can be run."""
        exact: tuple[Strategy, ...] = ("full", "overlap")
        return exact if self.manifest.decoder.streaming is None else (*exact, "stateful")

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, in the order of their ids; a lone speaker has the voice's name."""
        return self.manifest.speakers or (self.manifest.name,)

    def speaker_id(self, speaker: str | int | None) -> int | None:
        """Return the id of a speaker for the encoder: None if the voice has only one.

        Parameters
        ----------
        speaker : str, int or None
            A name or an id, which may be written as text; None is the first speaker.

        Raises
        ------
        ParameterError
            If there is no such speaker; the message names some that there are.
        """
        number = 0 if speaker is None else self._find_speaker(speaker)
        if number is None:
            names = ", ".join(self.speakers[:_N_NAMED_SPEAKERS])
            more = len(self.speakers) - _N_NAMED_SPEAKERS
            known = f"{names} and {more} more" if more > 0 else names
            raise ParameterError(
                f"speaker={speaker!r} must be one of {known}, or an id below {len(self.speakers)}"
            )
        return number if self.manifest.speakers else None

    def choose_strategy(self, strategy: str | None) -> Strategy:
        """Return the strategy asked for, or the best one that the decoder can do.

        Raises
        ------
        ParameterError
            If there is no such strategy, or the decoder can't do it.
        """
        if strategy in self.strategies:
            return strategy
        reason = self.manifest.decoder.not_streamable or "the voice was exported without it"
        if strategy == "stateful":
            raise ParameterError(
                f"strategy='stateful': the decoder of {self.manifest.name} can't be streamed "
                f"exactly: {reason}; 'overlap' and 'full' work"
            )
        if strategy is not None:
            raise ParameterError(f"strategy={strategy!r} must be one of {', '.join(self.strategies)}")
        if "stateful" in self.strategies:
            return "stateful"
        warnings.warn(
            f"{self.manifest.name} is streamed with strategy='overlap': its decoder can't be streamed "
            f"exactly: {reason}",
            stacklevel=3,
        )
        return "overlap"

    def open_decoder(self, strategy: Strategy) -> Decoder:
        """Open a decoder for one sentence; it holds the stream's state and none of the weights."""
        return open_decoder(
            strategy,
            self.decoder,
            left_context=self.manifest.decoder.left_context,
            lookahead=self.manifest.decoder.lookahead,
            hop_length=self.manifest.hop_length,
        )

    def decode(
        self,
        upsampler: Upsampler,
        speaker_embedding: FloatArray | None,
        strategy: Strategy,
        chunk_frames: Sequence[int],
    ) -> Iterator[FloatArray]:
        """Turn the frames of one sentence into samples, chunk by chunk.

        Parameters
        ----------
        upsampler : Upsampler
            The frames.
        speaker_embedding : ndarray, optional
            As the encoder gave it.
        strategy : {"full", "overlap", "stateful"}
        chunk_frames : sequence of int
            Frames of audio in a chunk; the last number repeats.

        Yields
        ------
        ndarray of shape (n_samples,), float32
            Never empty; in all ``n_frames * hop_length`` samples.

        Raises
        ------
        ModelError
            If the decoder fails or gives samples that are not finite.
        """
        decoder = self.open_decoder(strategy)
        constant: dict[str, AnyArray] = {}
        if speaker_embedding is not None and "speaker_embedding" in self.decoder.inputs:
            constant["speaker_embedding"] = speaker_embedding
        lag_frames = math.ceil(decoder.lag_samples / decoder.hop_length)
        for push in push_schedule(upsampler.n_frames, chunk_frames, lag_frames=lag_frames):
            frames = upsampler.window(push.start, push.stop)[np.newaxis]
            samples = cast(FloatArray, decoder.push({"frames": frames, **constant}, push.last)).reshape(-1)
            if not np.isfinite(samples).all():
                raise ModelError(f"the decoder made NaN or infinity of the frames to {push.stop}")
            if samples.size:
                yield samples

    def _find_speaker(self, speaker: str | int) -> int | None:
        if isinstance(speaker, str) and speaker in self.speakers:
            return self.speakers.index(speaker)
        if isinstance(speaker, bool):
            return None
        try:
            number = int(speaker) if isinstance(speaker, str) else operator.index(speaker)
        except (TypeError, ValueError):
            return None
        return number if 0 <= number < len(self.speakers) else None


def load_voice(path: str | os.PathLike[str], *, n_threads: int | None = None) -> Voice:
    """Load a voice and check all of it, so that nothing is found out in the middle of a sentence.

    Parameters
    ----------
    path : path
        A voice folder, or the same in one .addon file, which is read in place.
    n_threads : int, optional
        Threads that one run of a graph may use; ONNX Runtime's own choice if None.

    Raises
    ------
    VoiceError
        If there is no voice, or it is damaged, or its parts don't fit each other; the message names
        the file or the field.
    """
    voice_path = Path(path)
    _check_place(voice_path)
    try:
        return _load(voice_path, n_threads)
    except ModelError as error:
        raise VoiceError(f"{voice_path}: {error}") from error


def _load(path: Path, n_threads: int | None) -> Voice:
    try:
        text = read_member(path, MANIFEST_FILE).decode("utf-8")
    except UnicodeDecodeError as error:
        raise VoiceError(f"{MANIFEST_FILE} is not UTF-8: {error}") from error
    manifest = Manifest.from_json(text)
    n_symbols = 1 + max(max(ids) for ids in manifest.frontend.phoneme_ids.values())
    encoder_model, decoder_model = _read_graph(path, manifest.encoder), _read_graph(path, manifest.decoder)
    try:
        encoder = Encoder(encoder_model, n_symbols=n_symbols, n_threads=n_threads)
        check_encoder(encoder, manifest)
    except ModelError as error:
        raise VoiceError(f"{manifest.encoder.file}: {error}") from error
    try:
        decoder = DecoderGraph(decoder_model, n_threads=n_threads)
        check_decoder(decoder, encoder, manifest)
    except ModelError as error:
        raise VoiceError(f"{manifest.decoder.file}: {error}") from error
    check_run(encoder, decoder, manifest, n_symbols=n_symbols)
    return Voice(path, manifest, encoder, decoder)


def _check_place(path: Path) -> None:
    """Say what the path is instead of a voice."""
    if not path.exists():
        raise VoiceError(f"{path}: no such voice folder or .addon file")
    if path.is_dir():
        if not (path / MANIFEST_FILE).is_file():
            raise VoiceError(f"{path}: not a voice folder: there is no {MANIFEST_FILE} in it")
    elif path.suffix.lower() == ".onnx":
        raise VoiceError(f"{path}: not a voice; export it first: balacoon-tk export {path.name} -o DIR")
    elif not zipfile.is_zipfile(path):
        raise VoiceError(f"{path}: neither a voice folder nor an undamaged .addon file")


def read_member(path: Path, name: str) -> bytes:
    """Return a file of a voice, from its folder or its .addon.

    Raises
    ------
    VoiceError
        If it is missing, damaged or can't be read.
    """
    try:
        if path.is_dir():
            return (path / name).read_bytes()
        with zipfile.ZipFile(path) as archive:
            return archive.read(name)
    except (FileNotFoundError, KeyError):
        raise VoiceError(f"{name} is missing") from None
    except OSError as error:
        raise VoiceError(f"{name} can't be read: {error}") from error
    except _DAMAGED_ZIP as error:
        raise VoiceError(f"{name} is damaged: {error}") from error


def _read_graph(path: Path, info: EncoderInfo | DecoderInfo) -> bytes:
    model = read_member(path, info.file)
    sha256 = hashlib.sha256(model).hexdigest()
    if sha256 != info.sha256:
        raise VoiceError(
            f"{info.file} is damaged or another file: its sha256 {sha256[:12]}… "
            f"is not {info.sha256[:12]}…, as {MANIFEST_FILE} says"
        )
    return model
