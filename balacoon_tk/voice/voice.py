"""A voice: a folder or a single .addon file, with everything in it checked when it is loaded."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.decoder import Decoder, Strategy
from balacoon_tk.decoder.renderer import Renderer
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.background import Background
from balacoon_tk.runtime.options import RuntimeOptions, choose_options
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.voice.contract import check_decoder, check_decoder_run, check_encoder, check_encoder_run
from balacoon_tk.voice.files import check_place, read_graph, read_manifest_text
from balacoon_tk.voice.manifest import Manifest

_N_NAMED_SPEAKERS = 10  # an error names this many of the speakers there are


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A loaded voice; one serves any number of streams and threads."""

    path: Path
    manifest: Manifest
    encoder: Encoder
    decoder: OrtEngine
    options: RuntimeOptions = field(default_factory=RuntimeOptions)
    """How its graphs are run."""
    renderer: Renderer = field(init=False, repr=False)
    """Its decoder, and the ways in which it can be run."""

    def __post_init__(self) -> None:
        """Put what every stream needs together once."""
        info, hop_length = self.manifest.decoder, self.manifest.hop_length
        object.__setattr__(self, "renderer", Renderer(self.manifest.name, info, self.decoder, hop_length))

    @property
    def n_threads(self) -> int | None:
        """Threads that one run of a graph may use; None is ONNX Runtime's own choice."""
        return self.options.n_threads

    @property
    def strategies(self) -> tuple[Strategy, ...]:
        """The ways in which its decoder can be run."""
        return self.renderer.strategies

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
        return self.renderer.choose_strategy(strategy)

    def open_decoder(self, strategy: Strategy) -> Decoder:
        """Open a decoder for one sentence; it holds the stream's state and none of the weights."""
        return self.renderer.open(strategy)

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

        Returns
        -------
        iterator of ndarray of shape (n_samples,), float32
            Never empty; in all ``n_frames * hop_length`` samples.

        Raises
        ------
        ModelError
            In the iteration, if the decoder fails or gives samples that are not finite.
        """
        constant: dict[str, AnyArray] = {}
        if speaker_embedding is not None and "speaker_embedding" in self.decoder.contract.inputs:
            constant["speaker_embedding"] = speaker_embedding
        return self.renderer.render(upsampler, strategy, chunk_frames, constant=constant)

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


def load_voice(
    path: str | os.PathLike[str], *, n_threads: int | None = None, options: RuntimeOptions | None = None
) -> Voice:
    """Load a voice and check all of it, so that nothing is found out in the middle of a sentence.

    Both graphs are loaded at the same time, each in a thread of its own, and run once.

    Parameters
    ----------
    path : path
        A voice folder, or the same in one .addon file, which is read in place.
    n_threads : int, optional
        Threads that one run of a graph may use; ONNX Runtime's own choice if None. Short for `options`.
    options : RuntimeOptions, optional
        Threads, execution providers and device.

    Raises
    ------
    VoiceError
        If there is no voice, or it is damaged, or its parts don't fit each other; the message names
        the file or the field.
    """
    voice_path, manifest = Path(path), read_manifest(path)
    try:
        return _load(voice_path, manifest, choose_options(n_threads, options))
    except ModelError as error:
        raise VoiceError(f"{voice_path}: {error}") from error


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read what a voice says about itself, without its graphs.

    Raises
    ------
    VoiceError
        If there is no voice, or its voice.json is damaged; the message names the field.
    """
    voice_path = Path(path)
    check_place(voice_path)
    try:
        return Manifest.from_json(read_manifest_text(voice_path))
    except ModelError as error:
        raise VoiceError(f"{voice_path}: {error}") from error


def _load(path: Path, manifest: Manifest, options: RuntimeOptions) -> Voice:
    n_symbols = 1 + max(max(ids) for ids in manifest.frontend.phoneme_ids.values())
    # ONNX Runtime prepares a graph in one thread, and lets others run meanwhile.
    loading = Background(lambda: _load_decoder(path, manifest, options), name="load-decoder")
    try:
        encoder = _load_encoder(path, manifest, options, n_symbols=n_symbols)
    finally:
        loading.wait()
    decoder = loading.result()
    try:
        check_decoder(decoder, manifest, has_speaker_embedding=encoder.has_speaker_embedding)
    except ModelError as error:
        raise VoiceError(f"{manifest.decoder.file}: {error}") from error
    try:
        encoding = check_encoder_run(encoder, manifest, n_symbols=n_symbols)
    except ModelError as error:
        raise VoiceError(f"{manifest.encoder.file}: {error}") from error
    try:
        check_decoder_run(decoder, manifest, speaker_embedding=encoding.speaker_embedding)
    except (ModelError, ParameterError) as error:
        raise VoiceError(f"{manifest.decoder.file}: {error}") from error
    return Voice(path, manifest, encoder, decoder, options)


def _load_encoder(path: Path, manifest: Manifest, options: RuntimeOptions, *, n_symbols: int) -> Encoder:
    model = read_graph(path, manifest.encoder)
    try:
        encoder = Encoder(model, n_symbols=n_symbols, options=options)
        check_encoder(encoder, manifest)
    except ModelError as error:
        raise VoiceError(f"{manifest.encoder.file}: {error}") from error
    return encoder


def _load_decoder(path: Path, manifest: Manifest, options: RuntimeOptions) -> OrtEngine:
    model = read_graph(path, manifest.decoder)
    try:
        return OrtEngine(model, options)
    except ModelError as error:
        raise VoiceError(f"{manifest.decoder.file}: {error}") from error
