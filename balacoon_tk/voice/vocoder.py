"""Vocoders: voices without a frontend, which make sound of frames, or of a recording's own.

Copy synthesis (`Vocoder.resynthesize`) takes the mel spectrogram of a recording and turns it back into
samples: what is lost on the way is what the vocoder can't do, and no text model has a part in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.audio import AudioChunk
from balacoon_tk.decoder import Strategy
from balacoon_tk.decoder.renderer import Renderer
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.stages.mel import mel_spectrogram
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES, choose_chunk_frames
from balacoon_tk.voice.contract import check_decoder, check_decoder_run
from balacoon_tk.voice.files import check_place, read_graph, read_manifest_text
from balacoon_tk.voice.vocoder_manifest import VocoderManifest


@dataclass(frozen=True, slots=True, eq=False)
class Vocoder:
    """A loaded vocoder; one serves any number of streams and threads."""

    path: Path
    manifest: VocoderManifest
    decoder: OrtEngine

    @property
    def renderer(self) -> Renderer:
        """Its decoder, and the ways in which it can be run."""
        return Renderer(self.manifest.name, self.manifest.decoder, self.decoder, self.manifest.hop_length)

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The ways in which its decoder can be run."""
        return self.renderer.strategies

    def mel_spectrogram(self, samples: FloatArray, *, sample_rate: int) -> FloatArray:
        """Return a recording's mel spectrogram, as the vocoder reads it.

        Parameters
        ----------
        samples : ndarray of shape (n_samples,), float32
            In [-1, 1].
        sample_rate : int
            Hz; that of the vocoder.

        Returns
        -------
        ndarray of shape (n_channels, n_frames), float32

        Raises
        ------
        ParameterError
            If the rate is another, the vocoder doesn't read mel spectrograms, or the recording is too short.
        """
        mel = self.manifest.mel
        if mel is None:
            raise ParameterError(
                f"{self.manifest.name}: its manifest has no mel, so frames can't be made of a recording"
            )
        if sample_rate != self.manifest.sample_rate:
            raise ParameterError(
                f"sample_rate={sample_rate} must be {self.manifest.sample_rate} Hz, that of "
                f"{self.manifest.name}: convert the recording first"
            )
        return mel_spectrogram(samples, mel, sample_rate=sample_rate)

    def resynthesize(
        self,
        samples: FloatArray,
        *,
        sample_rate: int,
        strategy: str | None = None,
        chunk_frames: int | Sequence[int] | None = None,
    ) -> Iterator[AudioChunk]:
        """Say a recording again, with the vocoder's voice: copy synthesis.

        Parameters
        ----------
        samples : ndarray of shape (n_samples,), float32
            In [-1, 1].
        sample_rate : int
            Hz; that of the vocoder.
        strategy, chunk_frames
            As in `decode`.

        Returns
        -------
        iterator of AudioChunk
            ``n_frames * hop_length`` samples in all.

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong.
        """
        mel = self.mel_spectrogram(samples, sample_rate=sample_rate)
        return self.decode(mel, strategy=strategy, chunk_frames=chunk_frames)

    def decode(
        self,
        frames: FloatArray,
        *,
        strategy: str | None = None,
        chunk_frames: int | Sequence[int] | None = None,
    ) -> Iterator[AudioChunk]:
        """Turn frames into samples, whole or chunk by chunk.

        Parameters
        ----------
        frames : ndarray of shape (n_channels, n_frames), float32
        strategy : {"stateful", "overlap", "full"}, optional
            How the decoder is run; the exact one that costs least if None.
        chunk_frames : int or sequence of int, optional
            Frames of audio in a chunk; the last number of a sequence repeats. None is
            `settings.DEFAULT_CHUNK_FRAMES`. ``strategy="full"`` gives one chunk.

        Returns
        -------
        iterator of AudioChunk

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong.
        """
        n_channels = self.manifest.n_channels
        if frames.ndim != 2 or len(frames) != n_channels or frames.dtype != np.float32:
            raise ParameterError(
                f"frames of shape {frames.shape}, {frames.dtype} must be ({n_channels}, n_frames), float32"
            )
        if not np.isfinite(frames).all():
            raise ParameterError("frames hold NaN or infinity")
        chosen = self.renderer.choose_strategy(strategy)
        sizes = choose_chunk_frames(chunk_frames) or DEFAULT_CHUNK_FRAMES
        return self._chunks(_Frames(frames), chosen, sizes)

    def _chunks(self, frames: _Frames, strategy: Strategy, sizes: Sequence[int]) -> Iterator[AudioChunk]:
        start = 0
        for samples in self.renderer.render(frames, strategy, sizes):
            yield AudioChunk(samples=samples, sample_rate=self.manifest.sample_rate, start_sample=start)
            start += len(samples)


@dataclass(frozen=True, slots=True, eq=False)
class _Frames:
    """Frames that are all there."""

    frames: FloatArray

    @property
    def n_frames(self) -> int:
        return int(self.frames.shape[1])

    def window(self, start: int, stop: int) -> FloatArray:
        return np.ascontiguousarray(self.frames[:, start:stop])


def load_vocoder(path: str | os.PathLike[str], *, n_threads: int | None = None) -> Vocoder:
    """Load a vocoder and check all of it.

    Parameters
    ----------
    path : path
        A folder that an export has written, or the same in one .addon file, which is read in place.
    n_threads : int, optional
        Threads that one run of a graph may use; ONNX Runtime's own choice if None.

    Raises
    ------
    VoiceError
        If there is no vocoder, or it is damaged, or its parts don't fit each other; the message names
        the file or the field.
    """
    vocoder_path = Path(path)
    check_place(vocoder_path)
    try:
        return _load(vocoder_path, n_threads)
    except ModelError as error:
        raise VoiceError(f"{vocoder_path}: {error}") from error


def _load(path: Path, n_threads: int | None) -> Vocoder:
    manifest = VocoderManifest.from_json(read_manifest_text(path))
    if manifest.mel is not None:
        for name, said, wanted in (
            ("hop_length", manifest.mel.hop_length, manifest.hop_length),
            ("n_mels", manifest.mel.n_mels, manifest.n_channels),
        ):
            if said != wanted:
                raise VoiceError(f"mel.{name}={said} must be {wanted}, as the decoder has it")
    model = read_graph(path, manifest.decoder)
    try:
        decoder = OrtEngine(model, RuntimeOptions(n_threads=n_threads))
        check_decoder(decoder, manifest, has_speaker_embedding=False)
        check_decoder_run(decoder, manifest)
    except (ModelError, ParameterError) as error:
        raise VoiceError(f"{manifest.decoder.file}: {error}") from error
    return Vocoder(path, manifest, decoder)
