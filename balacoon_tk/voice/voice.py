"""A voice: a folder or a single .addon file, with everything in it checked when it is loaded.

A vocoder is a voice without a frontend and an encoder, which makes sound of frames, or of a recording's own.
Copy synthesis (`Voice.resynthesize`) takes the mel spectrogram of a recording, or a codec's codes of it, and
turns them back into samples: what is lost on the way is what the vocoder can't do, and no text model has a
part in it.
"""

import operator
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.audio import AudioChunk
from balacoon_tk.decoder import Decoder, Strategy
from balacoon_tk.decoder.renderer import FrameArray, FrameSource, Renderer
from balacoon_tk.errors import ModelError, ParameterError, VoiceError
from balacoon_tk.runtime.background import Background
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.options import Backend, RuntimeOptions, choose_options
from balacoon_tk.runtime.session import check_providers
from balacoon_tk.stages.encoder import Encoder, Encoding
from balacoon_tk.stages.mel import mel_spectrogram
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES, choose_chunk_frames
from balacoon_tk.targets.choice import CompiledFiles, find_compiled
from balacoon_tk.voice.analysis import find_codes
from balacoon_tk.voice.backends import (
    BackendChoice,
    BackendWarning,
    choose_decoder,
    choose_encoder,
    open_decoders,
    open_encoders,
)
from balacoon_tk.voice.contract import check_decoder, check_decoder_run, check_encoder, check_encoder_run
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.manifest import Manifest, TargetInfo
from balacoon_tk.voice.race import streaming_difference

_N_NAMED_SPEAKERS = 10  # an error names this many of the speakers there are


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """A loaded voice; one serves any number of streams and threads."""

    path: Path
    manifest: Manifest
    target: TargetInfo  # what was compiled of it, and is run
    text_encoder: Encoder | None  # None for a vocoder
    decoder: Engine
    renderer: Renderer  # the decoder, and the ways in which it can be run
    options: RuntimeOptions  # how its graphs are run
    backend: BackendChoice  # which engine the decoder is, and why
    encoder_backend: BackendChoice | None  # the same of the encoder; None for a vocoder
    sha256: str  # of voice.json, which has the checksum of every other file; `load_voice` can ask for it

    @property
    def encoder(self) -> Encoder:
        """Its encoder; a vocoder raises `VoiceError`."""
        if self.text_encoder is None:
            raise VoiceError(f"{self.manifest.name} is a vocoder: it has no encoder")
        return self.text_encoder

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
        """Names of the speakers, in the order of their ids; a lone one may have the voice's name."""
        text = self.manifest.text
        lone = None if text is None else text.lone_speaker
        return self.manifest.speakers or (lone or self.manifest.name,)

    def speaker_id(self, speaker: str | int | None) -> int | None:
        """Return the id of a speaker for the encoder: None if the voice has only one.

        A speaker is a name or an id, which may be written as text; None is the voice's default.
        `ParameterError` says that there is no such speaker, and names some that there are.
        """
        text = self.manifest.text
        default = 0 if text is None else text.default_speaker_id
        number = default if speaker is None else self._find_speaker(speaker)
        if number is None:
            names = ", ".join(self.speakers[:_N_NAMED_SPEAKERS])
            more = len(self.speakers) - _N_NAMED_SPEAKERS
            known = f"{names} and {more} more" if more > 0 else names
            raise ParameterError(
                f"speaker={speaker!r} must be one of {known}, or an id below {len(self.speakers)}"
            )
        # An encoder of one speaker has no input for it.
        return number if self.manifest.speakers else None

    def choose_strategy(self, strategy: str | None) -> Strategy:
        """Return the strategy asked for, or the best one that the decoder can do.

        `ParameterError` says that there is no such strategy, or that the decoder can't do it.
        """
        return self.renderer.choose_strategy(strategy)

    def open_decoder(self, strategy: Strategy) -> Decoder:
        """Open a decoder for one sentence; it holds the stream's state and none of the weights."""
        return self.renderer.open(strategy)

    def timeless_inputs(self, speaker_embedding: FloatArray | None) -> Mapping[str, AnyArray]:
        """Return the decoder's inputs that have no time, which come with every push."""
        if speaker_embedding is None or "speaker_embedding" not in self.decoder.contract.inputs:
            return {}
        return {"speaker_embedding": speaker_embedding}

    def render(
        self,
        frames: FrameSource,
        speaker_embedding: FloatArray | None,
        strategy: Strategy,
        chunk_frames: Sequence[int],
    ) -> Iterator[FloatArray]:
        """Turn the frames of one sentence into samples, chunk by chunk; see `Renderer.render`."""
        constant = self.timeless_inputs(speaker_embedding)
        return self.renderer.render(frames, strategy, chunk_frames, constant=constant)

    def mel_spectrogram(self, samples: FloatArray, *, sample_rate: int) -> FloatArray:
        """Return a recording's mel spectrogram, as a vocoder reads it.

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
        self._check_rate(sample_rate)
        return mel_spectrogram(samples, mel, sample_rate=sample_rate)

    def analyze(self, samples: FloatArray, *, sample_rate: int) -> FloatArray | IntArray:
        """Return a recording's frames: a codec's codes, or else its `mel_spectrogram`.

        Parameters
        ----------
        samples : ndarray of shape (n_samples,), float32
            In [-1, 1]; zeros behind it make the last frame whole.
        sample_rate : int
            Hz; that of the codec.

        Returns
        -------
        ndarray of shape (n_channels, n_frames)
            float32, or a codec's codes in int64.

        Raises
        ------
        ParameterError
            If the rate is another, the codec was exported without its encoder, or the recording is no such
            array.
        """
        if self.manifest.codebook_size is None:
            return self.mel_spectrogram(samples, sample_rate=sample_rate)
        self._check_rate(sample_rate)
        return find_codes(VoiceFiles(self.path, self.sha256), self.options, samples)

    def _check_rate(self, sample_rate: int) -> None:
        # Resampling is not made up for silently: it would be part of what is measured.
        if sample_rate != self.manifest.sample_rate:
            raise ParameterError(
                f"sample_rate={sample_rate} must be {self.manifest.sample_rate} Hz, that of "
                f"{self.manifest.name}: convert the recording first"
            )

    def resynthesize(
        self,
        samples: FloatArray,
        *,
        sample_rate: int,
        strategy: str | None = None,
        chunk_frames: int | Sequence[int] | None = None,
    ) -> Iterator[AudioChunk]:
        """Say a recording again, with a vocoder's voice: `decode` what `analyze` makes of it."""
        frames = self.analyze(samples, sample_rate=sample_rate)
        return self.decode(frames, strategy=strategy, chunk_frames=chunk_frames)

    def decode(
        self,
        frames: FloatArray | IntArray,
        *,
        strategy: str | None = None,
        chunk_frames: int | Sequence[int] | None = None,
    ) -> Iterator[AudioChunk]:
        """Turn frames into samples, whole or chunk by chunk; a decoder that also needs a speaker refuses.

        Parameters
        ----------
        frames : ndarray of shape (n_channels, n_frames)
            float32; a codec's are int64, a code of each codebook.
        strategy : {"stateful", "overlap", "full"}, optional
            How the decoder is run; the exact one that costs least if None.
        chunk_frames : int or sequence of int, optional
            Frames of audio in a chunk; the last number of a sequence repeats. None is
            `DEFAULT_CHUNK_FRAMES`. ``strategy="full"`` gives one chunk.

        Returns
        -------
        iterator of AudioChunk

        Raises
        ------
        ParameterError
            At the call, if an argument is wrong.
        """
        n_channels, dtype = self.manifest.n_channels, self.manifest.frame_dtype
        if frames.ndim != 2 or len(frames) != n_channels or frames.dtype != dtype:
            raise ParameterError(
                f"frames of shape {frames.shape}, {frames.dtype} must be ({n_channels}, n_frames), {dtype}"
            )
        if not np.isfinite(frames).all():
            raise ParameterError("frames hold NaN or infinity")
        size = self.manifest.codebook_size
        # A table is looked up from its end by what is below 0, which would sound, and be wrong.
        if size is not None and frames.size and not 0 <= frames.min() <= frames.max() < size:
            raise ParameterError(
                f"frames hold codes from {frames.min()} to {frames.max()}: must be in [0, {size})"
            )
        chosen = self.renderer.choose_strategy(strategy)
        sizes = choose_chunk_frames(chunk_frames) or DEFAULT_CHUNK_FRAMES
        # A generator of its own, so that errors come at the call and not with the first chunk.
        return self._chunks(FrameArray(frames), chosen, sizes)

    def _chunks(self, frames: FrameArray, strategy: Strategy, sizes: Sequence[int]) -> Iterator[AudioChunk]:
        start = 0
        for samples in self.renderer.render(frames, strategy, sizes):
            yield AudioChunk(samples=samples, sample_rate=self.manifest.sample_rate, start_sample=start)
            start += len(samples)

    def _find_speaker(self, speaker: str | int) -> int | None:
        if isinstance(speaker, str) and speaker in self.speakers:
            return self.speakers.index(speaker)
        if speaker == self.manifest.name and not self.manifest.speakers:
            return 0
        # To Python true and false are integers, and nobody's ids.
        if isinstance(speaker, bool):
            return None
        # A command line has ids as texts.
        try:
            number = int(speaker) if isinstance(speaker, str) else operator.index(speaker)
        except (TypeError, ValueError):
            return None
        return number if 0 <= number < len(self.speakers) else None


def load_voice(
    path: str | os.PathLike[str],
    *,
    n_threads: int | None = None,
    backend: Backend | None = None,
    options: RuntimeOptions | None = None,
    sha256: str | None = None,
) -> Voice:
    """Load a voice and check all of it, so that nothing is found out in the middle of a sentence.

    Encoder and decoder are loaded at the same time, each in a thread of its own, and run once. Where the
    voice holds nothing that was compiled by this version, it is compiled, once, into the user's cache.

    Parameters
    ----------
    path : path
        A voice folder, or the same in one .addon file, which is read in place.
    n_threads : int, optional
        Threads that one run of a graph may use; ONNX Runtime's own choice if None. Short for `options`.
    backend : {"auto", "native", "onnxruntime"}, optional
        What runs encoder and decoder. ``auto``, which None is, takes for each the one that was faster on this
        machine, and ONNX Runtime for what the native engine can't run; the first time, both are run, for a
        second or so. `Voice.backend` and `Voice.encoder_backend` say which it is, and why. Short for
        `options`.
    options : RuntimeOptions, optional
        Threads, backend, execution providers and device. What another execution provider than ONNX Runtime's
        own for processors can't run, ``CPUExecutionProvider`` takes over if it is named behind it, with a
        `BackendWarning`; it is also told if streamed samples differ from whole ones there.
    sha256 : str, optional
        That of the voice's voice.json, 64 hexadecimal digits, as `Voice.sha256` and ``balacoon-tk inspect``
        say it; another voice is refused. A voice's checksums travel with it: this one binds all of it to
        what somebody has seen.

    Raises
    ------
    VoiceError
        If there is no voice, or it is damaged, or its parts don't fit each other; the message names
        the file or the field. With ``backend="native"`` also if that can't run the decoder, with the reason.
    ParameterError
        If this build of ONNX Runtime hasn't an execution provider that `options` name.
    MissingExtraError
        If it has to be compiled, and the extra `voice` isn't installed.
    """
    voice_path, chosen = Path(path), choose_options(n_threads, backend, options)
    check_providers(chosen)
    files = _open(voice_path, sha256)
    try:
        return _load_or_instead(files, chosen)
    except ModelError as error:
        raise VoiceError(f"{voice_path}: {error}") from error


def load_vocoder(
    path: str | os.PathLike[str],
    *,
    n_threads: int | None = None,
    backend: Backend | None = None,
    options: RuntimeOptions | None = None,
    sha256: str | None = None,
) -> Voice:
    """Load a voice that must be a vocoder: as `load_voice`, and `VoiceError` if it speaks text."""
    if read_manifest(path, sha256=sha256).text is not None:
        raise VoiceError(
            f"{path}: a voice that speaks text, and no vocoder; `balacoon-tk synthesize` takes it"
        )
    return load_voice(path, n_threads=n_threads, backend=backend, options=options, sha256=sha256)


def read_manifest(path: str | os.PathLike[str], *, sha256: str | None = None) -> Manifest:
    """Read what a voice says about itself, without its graphs.

    `VoiceError` says that there is no voice, or which field of its voice.json is wrong, or that this hasn't
    the `sha256` asked for.
    """
    return _open(Path(path), sha256).manifest


def _open(path: Path, sha256: str | None) -> VoiceFiles:
    # What is wrong with the place itself names it already.
    try:
        return VoiceFiles(path, sha256)
    except VoiceError as error:
        raise VoiceError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from error


@contextmanager
def _naming(file: str) -> Iterator[None]:
    # Checks know tensors and no files; whoever reads the error knows files.
    try:
        yield
    except (ModelError, ParameterError) as error:
        raise VoiceError(f"{file}: {error}") from error


def _load_or_instead(files: VoiceFiles, options: RuntimeOptions) -> Voice:
    """Load a voice, on the processor if that was named behind execution providers that can't run it."""
    try:
        return _load(files, options)
    except ModelError as error:
        if options.instead is None:
            raise
        reason = f"{' or '.join(options.other_providers)} can't run it: {error}"
    # All of it: a voice that is half here and half there would be slow in a way that nobody sees.
    voice = _load(files, options.instead)
    warnings.warn(f"{voice.manifest.name}: {reason}; the processor does", BackendWarning, stacklevel=3)
    return replace(voice, backend=replace(voice.backend, reason=f"{reason}; {voice.backend.reason}"))


def _load(files: VoiceFiles, options: RuntimeOptions) -> Voice:
    manifest, compiled = files.manifest, find_compiled(files, options)
    # Most of a voice's bytes are weights. Both graphs are looked at while those are summed up.
    has_weights = compiled.files.manifest.weights is not None
    checking = Background(compiled.files.check_weights, name="check-weights") if has_weights else None
    # ONNX Runtime prepares a graph in one thread, and lets others run meanwhile.
    loading = Background(lambda: open_decoders(manifest, compiled, options), name="load-decoder")
    # Waited for even if the encoder fails: nobody else would end the threads.
    try:
        encoders = [] if manifest.text is None else open_encoders(manifest, compiled, options)
    finally:
        loading.wait()
        if checking is not None:
            checking.wait()
    opened = loading.result()
    encoding: Encoding | None = None
    for each in encoders:
        with _naming(_encoder_file(each.target)):
            check_encoder(each.runner, manifest)
            encoding = check_encoder_run(each.runner, manifest)
    spoken = choose_encoder(encoders, manifest, options) if encoders else None
    encoder = None if spoken is None else spoken.runner
    for decoder in opened:
        with _naming(decoder.target.decoder.file):
            has_speaker_embedding = encoder is not None and encoder.has_speaker_embedding
            promised = decoder.target.streaming
            check_decoder(decoder.runner, manifest, promised, has_speaker_embedding=has_speaker_embedding)
    timeless: dict[str, AnyArray] = {}
    embedding = None if encoding is None else encoding.speaker_embedding
    if embedding is not None and "speaker_embedding" in opened[0].runner.contract.inputs:
        timeless = {"speaker_embedding": embedding}
    # Last, since a decoder that needs a speaker's embedding runs on what the encoder has just given.
    for decoder in opened:
        with _naming(decoder.target.decoder.file):
            check_decoder_run(decoder.runner, manifest, timeless)
    decoder = choose_decoder(opened, manifest, options, timeless)
    target = replace(decoder.target, encoder=None if spoken is None else spoken.target.encoder)
    # What the processor says of a graph was compared when it was compiled, and what others say was not.
    if options.other_providers and (difference := streaming_difference(decoder.runner, manifest, timeless)):
        where = " or ".join(options.other_providers)
        warnings.warn(f"{manifest.name}: in {where} {difference}", BackendWarning, stacklevel=4)
    renderer = Renderer(
        name=manifest.name,
        engine=decoder.runner,
        hop_length=manifest.hop_length,
        left_context=manifest.decoder.left_context,
        lookahead=manifest.decoder.lookahead,
        not_streamable=None if target.streaming else _reason(manifest, compiled),
    )
    for place in {files, compiled.files}:
        place.check_rest()
    return Voice(
        path=files.path,
        manifest=manifest,
        target=target,
        text_encoder=encoder,
        decoder=decoder.runner,
        renderer=renderer,
        options=options,
        backend=decoder.choice,
        encoder_backend=None if spoken is None else spoken.choice,
        sha256=files.sha256,
    )


def _reason(manifest: Manifest, compiled: CompiledFiles) -> str:
    """Return why a decoder isn't streamed: it can't be, or this target can't."""
    found = (each.decoder.not_streamable for each in (manifest, compiled.files.manifest))
    return next((reason for reason in found if reason is not None), "it was compiled so")


def _encoder_file(target: TargetInfo) -> str:
    return "encoder" if target.encoder is None else target.encoder.file
