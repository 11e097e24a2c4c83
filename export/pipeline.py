"""From a trained model to a voice: read, cut, verify, rewrite, measure, put in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.measure import stages_of_vocoder, stages_of_voice
from balacoon_tk.export.sources import (
    Progress,
    SourceVocoder,
    SourceVoice,
    VocoderFacts,
    find_source,
)
from balacoon_tk.export.verify import (
    trained_frames,
    verify_receptive_field,
    verify_split,
    verify_vocoder,
)
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.receptive_field import ReceptiveField, receptive_field
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.graph.streaming.equivalence import verify_streaming
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder, optimize_encoder
from balacoon_tk.voice.files import MANIFEST_FILE
from balacoon_tk.voice.install import check_target, install
from balacoon_tk.voice.manifest import DecoderInfo, EncoderInfo, Manifest, StreamingInfo
from balacoon_tk.voice.vocoder_manifest import VocoderManifest

if TYPE_CHECKING:
    from torch.nn import Module  # noqa: TID251 - its name alone

_ENCODER_FILE = "encoder.onnx"
_DECODER_FILE = "decoder.onnx"

# Shares of the time that an export takes, where each stage ends.
_READ, _OPTIMIZED, _MEASURED, _VERIFIED, _STREAMED, _STATEFUL, _TIMED = 0.2, 0.3, 0.35, 0.55, 0.65, 0.9, 0.98


def export_voice(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    name: str | None = None,
    license: str | None = None,
    speakers: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a voice of a trained model.

    The model is cut into an encoder and a decoder, both are compared to the model as it came, and
    only then is the voice put in place, all at once: nothing half-written is ever at `out`. A vocoder has
    a decoder alone.

    Parameters
    ----------
    source : path
        A trained model of any kind in `balacoon_tk.export.sources.SOURCES`.
    out : path
        The voice's folder, or a single file ending in ``.addon``.
    config : path, optional
        The JSON file of a Piper voice or a vocoder, if it isn't ``voice.onnx.json`` beside it.
    name : str, optional
        Name of the voice; the file's own if None.
    license : str, optional
        Licence of the trained weights; what the ``MODEL_CARD`` beside the source says if None.
    speakers : sequence of str, optional
        Names of the speakers in the order of their ids; those of the JSON if None.
    overwrite : bool
        Whether a voice that is at `out` is replaced.
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    Path
        `out`

    Raises
    ------
    ParameterError
        If something is at `out` that must not be replaced, or `speakers` doesn't fit the model.
    ModelError
        If the source can't be read, is no voice, or differs from what was made of it.
    VoiceError
        If its JSON is missing, damaged, or doesn't fit it.
    OSError
        If the voice can't be written.
    """
    source_path, target = Path(source), Path(out)
    check_target(target, overwrite=overwrite)
    report = progress or _silent
    trained = find_source(source_path).read(
        source_path,
        config=None if config is None else Path(config),
        progress=lambda stage, share: report(stage, share * _READ),
    )
    return export_trained(
        trained, target, name=name, license=license, speakers=speakers, overwrite=overwrite, progress=report
    )


def export_trained(
    trained: SourceVoice | SourceVocoder,
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
    speakers: Sequence[str] | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a voice of a trained model that has been read already, by a source of one's own.

    Parameters
    ----------
    trained : SourceVoice or SourceVocoder
        See docs/writing_a_source.md.
    out, name, license, speakers, overwrite, progress
        As in `export_voice`.

    Returns
    -------
    Path
        `out`

    Raises
    ------
    ParameterError
        If something is at `out` that must not be replaced, or `speakers` doesn't fit the model.
    ModelError
        If the graphs differ from the trained model, or the decoder needs the whole utterance.
    OSError
        If the voice can't be written.
    """
    target, report = Path(out), progress or _silent
    check_target(target, overwrite=overwrite)
    if isinstance(trained, SourceVoice):
        names = _speaker_names(trained, speakers)
        files = _voice_files(trained, names, name=name, license=license, report=report)
    elif speakers is not None:
        raise ParameterError(f"speakers={list(speakers)} must be None: {trained.facts.name} is a vocoder")
    else:
        files = _vocoder_files(trained, name=name, license=license, report=report)
    install(files, target, overwrite=overwrite)
    report("done", 1.0)
    return target


def export_decoder(
    module: Module,
    example_frames: FloatArray,
    out: str | os.PathLike[str],
    *,
    sample_rate: int,
    mel: MelInfo | None = None,
    name: str | None = None,
    license: str = "unknown",
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a vocoder of a module of torch.

    Parameters
    ----------
    module : Module
        Maps frames (1, n_channels, n_frames) to samples (1, 1, n_samples) or (1, n_samples). It is not
        changed; weight norm is folded into the weights.
    example_frames : ndarray of shape (n_channels, n_frames), float32
        Frames such as it was trained on; those that it is verified with are drawn to be like them.
    out : path
        The vocoder's folder, or a single file ending in ``.addon``.
    sample_rate : int
        Hz
    mel : MelInfo, optional
        What the frames are, so that recordings can be resynthesized.
    name : str, optional
        Name of the vocoder; that of the module's class if None.
    license : str
        Licence of the weights.
    overwrite : bool
        Whether a voice that is at `out` is replaced.
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    Path
        `out`

    Raises
    ------
    MissingExtraError
        If torch isn't installed.
    ParameterError
        If something is at `out` that must not be replaced, or an argument is wrong.
    ModelError
        If torch can't export the module, or its graph differs from it.
    OSError
        If the vocoder can't be written.
    """
    from balacoon_tk.export.sources.torchscript import read_module

    target, report = Path(out), progress or _silent
    check_target(target, overwrite=overwrite)
    if sample_rate < 1:
        raise ParameterError(f"sample_rate={sample_rate} must be >= 1")
    facts = VocoderFacts(
        name=name or type(module).__name__,
        license=license,
        sample_rate=sample_rate,
        mel=mel,
        provenance={"source_module": f"{type(module).__module__}.{type(module).__qualname__}"},
    )
    trained = read_module(
        module, example_frames, facts=facts, progress=lambda stage, share: report(stage, share * _READ)
    )
    return export_trained(trained, target, overwrite=overwrite, progress=report)


def _voice_files(
    cut: SourceVoice,
    speakers: tuple[str, ...],
    *,
    name: str | None,
    license: str | None,
    report: Progress,
) -> Mapping[str, bytes]:
    report("optimizing", _READ)
    encoder = optimize_encoder(cut.encoder, phoneme_ids=_known_ids(cut))
    trained = replace(cut, encoder=encoder.model)
    report("measuring", _OPTIMIZED)
    field = _receptive_field(trained.decoder)
    report("verifying", _MEASURED)
    verified = verify_split(
        trained, progress=lambda share: report("verifying", _MEASURED + share * (_VERIFIED - _MEASURED))
    )
    verified |= verify_receptive_field(trained.decoder, field)
    report("making stateful", _VERIFIED)
    decoder = _stateful(trained.decoder, utterances=trained_frames(trained), report=report)
    report("timing", _STATEFUL)
    stages = stages_of_voice(cut, encoder.model, decoder.model)
    report("writing", _TIMED)
    encoder_data = trained.encoder.SerializeToString(deterministic=True)
    decoder_data = decoder.model.SerializeToString(deterministic=True)
    facts = trained.facts
    manifest = Manifest(
        name=name or facts.name,
        language=facts.language,
        license=license or facts.license,
        sample_rate=facts.sample_rate,
        hop_length=field.hop_length,
        n_channels=trained.n_channels,
        frontend=facts.frontend,
        prosody=facts.prosody,
        encoder=EncoderInfo(
            file=_ENCODER_FILE, sha256=hashlib.sha256(encoder_data).hexdigest(), passes=encoder.passes
        ),
        decoder=_decoder_info(decoder, field, decoder_data),
        speakers=speakers,
        gaussian_delta=trained.gaussian_delta,
        provenance={**facts.provenance, **_exporter()},
        verified=verified,
        stages=stages,
    )
    return {
        _ENCODER_FILE: encoder_data,
        _DECODER_FILE: decoder_data,
        MANIFEST_FILE: manifest.to_json().encode("utf-8"),
    }


def _vocoder_files(
    trained: SourceVocoder, *, name: str | None, license: str | None, report: Progress
) -> Mapping[str, bytes]:
    facts = trained.facts
    report("measuring", _READ)
    field = _receptive_field(trained.decoder)
    if facts.mel is not None and facts.mel.hop_length != field.hop_length:
        raise ModelError(
            f"mel.hop_length={facts.mel.hop_length} must be {field.hop_length}, "
            "the decoder's samples for a frame"
        )
    report("verifying", _MEASURED)
    verified = verify_vocoder(
        trained,
        field,
        progress=lambda share: report("verifying", _MEASURED + share * (_VERIFIED - _MEASURED)),
    )
    verified |= verify_receptive_field(trained.decoder, field)
    report("making stateful", _VERIFIED)
    decoder = _stateful(
        trained.decoder, draw=lambda n, seed: {"frames": trained.draw_frames(n, seed)}, report=report
    )
    report("timing", _STATEFUL)
    stages = stages_of_vocoder(trained, decoder.model, hop_length=field.hop_length)
    report("writing", _TIMED)
    decoder_data = decoder.model.SerializeToString(deterministic=True)
    manifest = VocoderManifest(
        name=name or facts.name,
        license=license or facts.license,
        sample_rate=facts.sample_rate,
        hop_length=field.hop_length,
        n_channels=trained.n_channels,
        mel=facts.mel,
        decoder=_decoder_info(decoder, field, decoder_data),
        provenance={**facts.provenance, **_exporter()},
        verified=verified,
        stages=stages,
    )
    return {_DECODER_FILE: decoder_data, MANIFEST_FILE: manifest.to_json().encode("utf-8")}


def _silent(stage: str, share: float) -> None:
    """Report to nobody."""


def _known_ids(trained: SourceVoice) -> list[int]:
    return sorted({number for ids in trained.facts.frontend.phoneme_ids.values() for number in ids})


def _exporter() -> dict[str, str]:
    return {"exporter": f"balacoon_tk {version('balacoon_tk')}"}


def _speaker_names(trained: SourceVoice, given: Sequence[str] | None) -> tuple[str, ...]:
    if given is None:
        return trained.facts.speakers
    names = tuple(given)
    n_speakers = len(trained.facts.speakers)
    if len(names) != n_speakers or len(set(names)) != n_speakers:
        raise ParameterError(f"speakers={list(names)} must be {n_speakers} names, each another")
    return names


@dataclass(frozen=True, slots=True)
class _Decoder:
    """The decoder as it goes into the voice."""

    model: onnx.ModelProto
    streaming: StreamingInfo | None
    not_streamable: str | None
    passes: tuple[str, ...] = ()


def _receptive_field(model: onnx.ModelProto) -> ReceptiveField:
    try:
        return receptive_field(model)
    except NotStreamableError as error:
        raise ModelError(f"the decoder needs the whole utterance for every sample: {error}") from error


def _decoder_info(decoder: _Decoder, field: ReceptiveField, data: bytes) -> DecoderInfo:
    return DecoderInfo(
        file=_DECODER_FILE,
        sha256=hashlib.sha256(data).hexdigest(),
        left_context=field.left_context,
        lookahead=field.lookahead,
        streaming=decoder.streaming,
        not_streamable=decoder.not_streamable,
        passes=decoder.passes,
    )


def _stateful(
    original: onnx.ModelProto,
    *,
    utterances: Sequence[Mapping[str, AnyArray]] = (),
    draw: Callable[[int, int], Mapping[str, AnyArray]] | None = None,
    report: Progress,
) -> _Decoder:
    """Give the decoder its stateful form, which is its plain one as well, if it has one."""
    optimized = optimize_decoder(original)
    try:
        model = make_streaming(optimized.model)
    except NotStreamableError as error:
        return _Decoder(original, None, f"{error.op_type} node {error.node!r}: {error.reason}")
    check = verify_streaming(
        original,
        model,
        utterances=utterances,
        draw=draw,
        progress=lambda share: report("streaming", _STREAMED + share * (_STATEFUL - _STREAMED)),
    )
    spec = streaming_spec(model)
    info = StreamingInfo(
        lag_samples=spec.outputs[0].lag,
        n_state_bytes=spec.n_state_bytes,
        max_abs_diff=check.max_abs_diff,
    )
    return _Decoder(model, info, None, optimized.passes)
