"""From plain graphs to a voice in its place: compile, verify, hash, install."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.targets.choice import NATIVE, STANDARD, VERSION
from balacoon_tk.targets.native.verified import CompiledProgram, compile_decoder, compile_voice_encoder
from balacoon_tk.targets.ort_cpu.compile import Compiled, compile_voice
from balacoon_tk.targets.standard import compile_standard
from balacoon_tk.voice.files import MANIFEST_FILE, VoiceFiles
from balacoon_tk.voice.install import install
from balacoon_tk.voice.manifest import CompiledGraph, DecoderInfo, FileInfo, Manifest, TargetInfo
from balacoon_tk.voice.programs import pack_program
from balacoon_tk.voice.weights import WEIGHTS_FILE, WeightsWriter

Progress = Callable[[str, float], None]
"""Called with the stage's name and the share of the whole that is done, from 0 to 1."""

_ENCODER_FILE, _DECODER_FILE, _ANALYZER_FILE = "encoder.onnx", "decoder.onnx", "analyzer.onnx"
_COMPILED, _COMPILED_NATIVE = 0.75, 0.95
_UNKNOWN = "0" * 64


@dataclass(frozen=True, slots=True, eq=False)
class PlainVoice:
    """The graphs of a voice in standard operators, and what the compiled ones are compared on."""

    decoder: onnx.ModelProto
    encoder: onnx.ModelProto | None = None  # None for a vocoder
    # Inputs of the decoder, such as the voice's own encoder makes them.
    utterances: Sequence[Mapping[str, AnyArray]] = ()
    # Makes such inputs at random, of a number of frames and by a seed; standard normal ones if None.
    draw: Callable[[int, int], Mapping[str, AnyArray]] | None = None
    analyzer: onnx.ModelProto | None = None  # of a codec: samples to codes; None if there is none


def ignore_progress(stage: str, share: float) -> None:
    """Report to nobody."""


def share_of(report: Progress, start: float, stop: float) -> Progress:
    """Return what reports a part that goes from one share of the whole to another."""
    return lambda stage, share: report(stage, start + share * (stop - start))


# What a manifest says of files that `finish_voice` has yet to write.
UNKNOWN_ENCODER = FileInfo(_ENCODER_FILE, _UNKNOWN)


def unknown_decoder(left_context: int, lookahead: int, *, max_frames: int | None = None) -> DecoderInfo:
    """Return what a manifest says of a decoder before `finish_voice` knows its file."""
    return DecoderInfo(_DECODER_FILE, _UNKNOWN, left_context, lookahead, max_frames=max_frames)


def finish_voice(
    plain: PlainVoice,
    manifest: Manifest,
    target: Path,
    *,
    compiled: Mapping[str, Compiled] | None = None,
    extra: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
    with_program: bool = True,
    progress: Progress = ignore_progress,
) -> Manifest:
    """Compile a voice for the targets that run it here, and put all of it in place at once.

    `manifest` lacks the files, their checksums and what was compiled; it is returned with them, as it stands
    in the voice. `compiled` is what `compile_voice` has made of these graphs already, `extra` are other files
    that go into the voice; without `with_program` nothing is made for the native engine. `ModelError` says
    that the compiled graphs don't do what the plain ones do; the other errors are those of `install`.
    """
    if compiled is None:
        compiled = compile_voice(
            plain,
            known_ids=() if manifest.text is None else manifest.frontend.known_ids,
            precision=manifest.decoder.precision,
            max_frames=manifest.decoder.max_frames,
            progress=share_of(progress, 0.0, _COMPILED),
        )
    native: CompiledProgram | str | None = None
    native_encoder: Program | str | None = None
    if with_program:
        native = compile_decoder(
            plain,
            precision=manifest.decoder.precision,
            progress=share_of(progress, _COMPILED, _COMPILED_NATIVE),
        )
        if plain.encoder is not None and isinstance(native, CompiledProgram):
            known_ids = manifest.frontend.known_ids
            native_encoder = compile_voice_encoder(plain.encoder, phoneme_ids=known_ids)
    progress("writing", _COMPILED_NATIVE)
    written = _Files()
    decoder = written.add(_DECODER_FILE, plain.decoder)
    text = manifest.text
    if text is not None and plain.encoder is not None:
        text = replace(text, encoder=written.add(_ENCODER_FILE, plain.encoder))
    analyzer = None if plain.analyzer is None else written.add(_ANALYZER_FILE, plain.analyzer)
    targets = {name: _target(each, name, written) for name, each in compiled.items()}
    if isinstance(native, CompiledProgram):
        targets[NATIVE] = _native_target(native, native_encoder, written)
    # All targets stream by the same rewriting, so that one's reason is everyone's.
    reason = next(iter(compiled.values())).not_streamable
    finished = replace(
        manifest,
        text=text,
        analyzer=analyzer,
        decoder=replace(manifest.decoder, file=decoder.file, sha256=decoder.sha256, not_streamable=reason),
        weights=written.add_weights(),
        targets=targets,
        not_native=native if isinstance(native, str) else None,
        encoder_not_native=native_encoder if isinstance(native_encoder, str) else None,
    )
    files = {**written.contents, **(extra or {}), MANIFEST_FILE: finished.to_json().encode("utf-8")}
    install(files, target, overwrite=overwrite)
    progress("done", 1.0)
    return finished


def compile_again(files: VoiceFiles, target: Path, *, standard: bool = False) -> None:
    """Write a copy of a voice whose graphs this version has compiled; errors are those of `finish_voice`.

    They are for this machine's processor, or, if `standard`, for any other execution provider alone.
    """
    manifest = files.manifest
    encoder = None if manifest.text is None else files.model(manifest.text.encoder)
    analyzer = None if manifest.analyzer is None else files.model(manifest.analyzer)
    plain = PlainVoice(files.model(manifest.decoder), encoder, analyzer=analyzer)
    compiled = {STANDARD: compile_standard(plain, manifest)} if standard else None
    finish_voice(plain, manifest, target, compiled=compiled, with_program=not standard)


def made_by() -> str:
    """Return what a manifest says of the program that has made a voice."""
    return f"balacoon_tk {version('balacoon_tk')}"


class _Files:
    """The files of a voice in the making; equal graphs are one file."""

    def __init__(self) -> None:
        self.contents: dict[str, bytes] = {}
        self._weights = WeightsWriter()
        self._names: dict[str, str] = {}

    def add(self, name: str, model: onnx.ModelProto) -> FileInfo:
        # The weights are taken out first: whether graphs are equal is asked of what is left.
        return self._add(name, self._weights.take(model))

    def add_program(self, name: str, program: Program) -> FileInfo:
        return self._add(name, pack_program(program, self._weights))

    def _add(self, name: str, data: bytes) -> FileInfo:
        sha256 = hashlib.sha256(data).hexdigest()
        if sha256 not in self._names:
            self._names[sha256] = name
            self.contents[name] = data
        return FileInfo(self._names[sha256], sha256)

    def add_weights(self) -> FileInfo | None:
        data = self._weights.data
        if not data:
            return None
        self.contents[WEIGHTS_FILE] = data
        return FileInfo(WEIGHTS_FILE, hashlib.sha256(data).hexdigest())


def _target(compiled: Compiled, name: str, written: _Files) -> TargetInfo:
    decoder = written.add(f"decoder.{name}.onnx", compiled.decoder.model)
    encoder = None
    if compiled.encoder is not None:
        file = written.add(f"encoder.{name}.onnx", compiled.encoder.model)
        encoder = CompiledGraph(file.file, file.sha256, compiled.encoder.passes)
    return TargetInfo(
        version=VERSION,
        decoder=CompiledGraph(decoder.file, decoder.sha256, compiled.decoder.passes),
        encoder=encoder,
        streaming=compiled.streaming,
    )


def _native_target(decoder: CompiledProgram, encoder: Program | str | None, written: _Files) -> TargetInfo:
    file = written.add_program(f"decoder.{NATIVE}.json", decoder.program)
    compiled = None
    if isinstance(encoder, Program):
        compiled = _as_compiled(written.add_program(f"encoder.{NATIVE}.json", encoder))
    return TargetInfo(VERSION, _as_compiled(file), compiled, streaming=decoder.streaming)


def _as_compiled(file: FileInfo) -> CompiledGraph:
    return CompiledGraph(file.file, file.sha256)
