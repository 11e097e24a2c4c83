"""From a trained model to a voice: read, cut, measure, verify, put in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import onnx

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.graph.errors import NotStreamableError
from balacoon_tk.export.graph.receptive_field import ReceptiveField, receptive_field
from balacoon_tk.export.optimize import optimize_decoder, optimize_encoder
from balacoon_tk.export.package import check_target, install
from balacoon_tk.export.sources import Progress, SourceVoice, find_source
from balacoon_tk.export.streaming import make_streaming, streaming_spec
from balacoon_tk.export.streaming.verify import verify_streaming
from balacoon_tk.export.verify import trained_frames, verify_receptive_field, verify_split
from balacoon_tk.manifest import DecoderInfo, EncoderInfo, Manifest, StreamingInfo
from balacoon_tk.voice import MANIFEST_FILE

__all__ = ["export_voice"]

_ENCODER_FILE = "encoder.onnx"
_DECODER_FILE = "decoder.onnx"

# Shares of the time that an export takes, where each stage ends.
_READ, _OPTIMIZED, _MEASURED, _VERIFIED, _STATEFUL = 0.2, 0.35, 0.4, 0.75, 0.95


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
    only then is the voice put in place, all at once: nothing half-written is ever at `out`.

    Parameters
    ----------
    source : path
        A Piper voice, ``voice.onnx``.
    out : path
        The voice's folder, or a single file ending in ``.addon``.
    config : path, optional
        The JSON file of a Piper voice, if it isn't ``voice.onnx.json`` beside it.
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
    names = _speaker_names(trained, speakers)
    report("optimizing", _READ)
    encoder = optimize_encoder(trained.encoder, phoneme_ids=_known_ids(trained))
    trained = replace(trained, encoder=encoder.model)
    report("measuring", _OPTIMIZED)
    field = _receptive_field(trained.decoder)
    report("verifying", _MEASURED)
    verified = verify_split(
        trained, progress=lambda share: report("verifying", _MEASURED + share * (_VERIFIED - _MEASURED))
    )
    verified |= verify_receptive_field(trained.decoder, field)
    report("making stateful", _VERIFIED)
    decoder = _stateful(trained)
    report("writing", _STATEFUL)
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
        decoder=DecoderInfo(
            file=_DECODER_FILE,
            sha256=hashlib.sha256(decoder_data).hexdigest(),
            left_context=field.left_context,
            lookahead=field.lookahead,
            streaming=decoder.streaming,
            not_streamable=decoder.not_streamable,
            passes=decoder.passes,
        ),
        speakers=names,
        provenance={**facts.provenance, "exporter": f"balacoon_tk {version('balacoon_tk')}"},
        verified=verified,
    )
    files = {
        _ENCODER_FILE: encoder_data,
        _DECODER_FILE: decoder_data,
        MANIFEST_FILE: manifest.to_json().encode("utf-8"),
    }
    install(files, target, overwrite=overwrite)
    report("done", 1.0)
    return target


def _silent(stage: str, share: float) -> None:
    """Report to nobody."""


def _known_ids(trained: SourceVoice) -> list[int]:
    return sorted({number for ids in trained.facts.frontend.phoneme_ids.values() for number in ids})


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


def _stateful(trained: SourceVoice) -> _Decoder:
    """Give the decoder its stateful form, which is its plain one as well, if it has one."""
    optimized = optimize_decoder(trained.decoder)
    try:
        model = make_streaming(optimized.model)
    except NotStreamableError as error:
        return _Decoder(trained.decoder, None, f"{error.op_type} node {error.node!r}: {error.reason}")
    check = verify_streaming(trained.decoder, model, utterances=trained_frames(trained))
    spec = streaming_spec(model)
    info = StreamingInfo(
        lag_samples=spec.outputs[0].lag,
        n_state_bytes=spec.n_state_bytes,
        max_abs_diff=check.max_abs_diff,
    )
    return _Decoder(model, info, None, optimized.passes)
