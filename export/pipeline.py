"""From a trained model to a voice: read, cut, verify, compile, measure, put in place.

Whatever is wrong with the arguments is said before anything takes time, and nothing is written before all has
been compared with the trained model.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.measure import measure_stages
from balacoon_tk.export.measured_field import measure_field
from balacoon_tk.export.sandbox import Limits, Request, export_apart
from balacoon_tk.export.sources import Progress, SourceVocoder, SourceVoice, check_exists, find_source
from balacoon_tk.export.verify import trained_frames, verify_receptive_field, verify_split, verify_vocoder
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.half import computes_in_half
from balacoon_tk.graph.receptive_field import ReceptiveField, receptive_field
from balacoon_tk.targets.choice import SEVERAL_THREADS
from balacoon_tk.targets.ort_cpu.compile import compile_voice
from balacoon_tk.voice.finish import (
    UNKNOWN_ENCODER,
    PlainVoice,
    finish_voice,
    ignore_progress,
    made_by,
    share_of,
    unknown_decoder,
)
from balacoon_tk.voice.install import check_space, check_target, install, nearest_folder
from balacoon_tk.voice.manifest import Manifest, TextInfo

# Shares of the time that an export takes, where each stage ends.
READ, _FIELD, _VERIFIED, _COMPILED, _TIMED = 0.2, 0.25, 0.45, 0.9, 0.95
# A voice is a tenth larger than its model. The sandbox has another in its folder, and graphs in files.
_SPACE_FACTOR, _SPACE_FACTOR_APART = 2, 4


def export_voice(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    name: str | None = None,
    license: str | None = None,
    speakers: Sequence[str] | None = None,
    max_frames: int | None = None,
    trust: bool = False,
    sandbox: bool | Limits = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a voice of a trained model.

    The model is cut into an encoder and a decoder, both are compared to the model as it came, and
    only then is the voice put in place, all at once: nothing half-written is ever at `out`. A vocoder has
    a decoder alone.

    The model is read and run in a process of its own, with bounds on memory and time; on Linux that process
    can't write outside its folder, run other programs or reach a network either. What holds on which system,
    `balacoon_tk.export.sandbox.confine` says, and what holds on this one, the log of
    ``balacoon_tk.export.sandbox``.

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
    max_frames : int, optional
        Of a vocoder or codec whose attention looks back to the utterance's start: frames of the longest
        utterance, of which keys and values are kept so that it streams exactly. A longer one fails.
    trust : bool
        Whether models are exported that are programs, or run code when they are read: TorchScript and
        weights in pickles (``.bin``). Only for what comes from somebody whose programs you would run.
    sandbox : bool or Limits
        Whether the model is read and run in a process of its own, and what it may take.
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
        If something is at `out` that must not be replaced, there is no room for it, or `speakers` or
        `max_frames` don't fit the model.
    ModelError
        If the source can't be read, is no voice, takes more than it may, must be trusted and isn't, or
        differs from what was made of it.
    VoiceError
        If its JSON is missing, damaged, or doesn't fit it.
    OSError
        If the voice can't be written.
    """
    source_path, target = Path(source), Path(out)
    # First, though `export_trained` looks again: minutes of work must not end before a folder that is taken.
    check_target(target, overwrite=overwrite)
    check_max_frames(max_frames)
    check_exists(source_path)
    check_space(target, source_path, factor=_SPACE_FACTOR_APART if sandbox else _SPACE_FACTOR)
    report = progress or ignore_progress
    if sandbox:
        request = Request(
            source=str(source_path),
            config=None if config is None else str(Path(config)),
            name=name,
            license=license,
            speakers=None if speakers is None else list(speakers),
            max_frames=max_frames,
            trust=trust,
        )
        limits = sandbox if isinstance(sandbox, Limits) else Limits()
        files = export_apart(request, nearest_folder(target), limits=limits, progress=report)
        return install(files, target, overwrite=overwrite)
    trained = find_source(source_path).read(
        source_path,
        config=None if config is None else Path(config),
        trust=trust,
        progress=share_of(report, 0.0, READ),
    )
    return export_trained(
        trained,
        target,
        name=name,
        license=license,
        speakers=speakers,
        max_frames=max_frames,
        overwrite=overwrite,
        progress=report,
    )


def export_trained(
    trained: SourceVoice | SourceVocoder,
    out: str | os.PathLike[str],
    *,
    name: str | None = None,
    license: str | None = None,
    speakers: Sequence[str] | None = None,
    max_frames: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Make a voice of a trained model that has been read already, by a source of one's own.

    Parameters
    ----------
    trained : SourceVoice or SourceVocoder
        See docs/writing_a_source.md.
    out, name, license, speakers, max_frames, overwrite, progress
        As in `export_voice`, and so is what is returned.

    Raises
    ------
    ParameterError
        If something is at `out` that must not be replaced, or `speakers` or `max_frames` don't fit the model.
    ModelError
        If the graphs differ from the trained model, or the decoder needs the whole utterance.
    OSError
        If the voice can't be written.
    """
    target, report = Path(out), progress or ignore_progress
    check_target(target, overwrite=overwrite)
    check_max_frames(max_frames)
    facts, text = trained.facts, _text(trained, speakers)
    if max_frames is not None and text is not None:
        rule = "must be None: a voice that speaks text has a decoder of a bounded view"
        raise ParameterError(f"max_frames={max_frames} {rule}")
    report("measuring", READ)
    field, checked, bounded = _field(trained)
    # Where no attention asks for it, it limits nothing.
    max_frames = None if bounded else max_frames
    report("verifying", _FIELD)
    verifying = share_of(report, _FIELD, _VERIFIED)
    if isinstance(trained, SourceVoice):
        mel = None
        verified = verify_split(trained, progress=lambda share: verifying("verifying", share))
        # Optimized graphs are compared on frames of the voice's own: noise would hide what speech brings out.
        plain = PlainVoice(trained.decoder, trained.encoder, utterances=trained_frames(trained))
    else:
        mel = trained.facts.mel
        # A mel of another hop would be resynthesized at another speed, and nobody told why.
        if mel is not None and mel.hop_length != field.hop_length:
            rule = f"must be {field.hop_length}, the decoder's samples for a frame"
            raise ModelError(f"mel.hop_length={mel.hop_length} {rule}")
        verified = verify_vocoder(trained, field, progress=lambda share: verifying("verifying", share))
        plain = PlainVoice(
            trained.decoder,
            draw=lambda n, seed: {"frames": trained.draw_frames(n, seed)},
            analyzer=trained.analyzer,
        )
    verified |= checked
    try:
        compiled = compile_voice(
            plain,
            known_ids=() if text is None else text.frontend.known_ids,
            max_frames=max_frames,
            progress=share_of(report, _VERIFIED, _COMPILED),
        )
    except ModelError as error:
        node = computes_in_half(trained.decoder)
        if node is None:
            raise
        rule = "what it rounds depends on how many frames run at once: export the model in float32"
        raise ModelError(f"{facts.name}: {node} computes in float16, and {rule} ({error})") from error
    report("timing", _COMPILED)
    manifest = Manifest(
        name=name or facts.name,
        license=license or facts.license,
        sample_rate=facts.sample_rate,
        hop_length=field.hop_length,
        n_channels=trained.n_channels,
        decoder=unknown_decoder(field.left_context, field.lookahead, max_frames=max_frames),
        text=text,
        mel=mel,
        codebook_size=None if isinstance(trained, SourceVoice) else trained.facts.codebook_size,
        provenance={**facts.provenance, "exporter": made_by()},
        verified=verified,
        stages=measure_stages(
            trained, compiled[SEVERAL_THREADS], hop_length=field.hop_length, max_frames=max_frames
        ),
    )
    done = share_of(report, _TIMED, 1.0)
    finish_voice(plain, manifest, target, compiled=compiled, overwrite=overwrite, progress=done)
    return target


def check_max_frames(max_frames: object) -> None:
    """Refuse what is no longest utterance."""
    if max_frames is not None and (not isinstance(max_frames, int) or max_frames < 1):
        raise ParameterError(f"max_frames={max_frames!r} must be an int >= 1, or None")


def _field(trained: SourceVoice | SourceVocoder) -> tuple[ReceptiveField, dict[str, float], bool]:
    """Return how far a decoder looks, what was seen when that was checked, and whether it has an end."""
    codebook_size = None if isinstance(trained, SourceVoice) else trained.facts.codebook_size
    try:
        field = receptive_field(trained.decoder)
    except ModelError as error:
        # A vocoder can still be decoded whole, or by overlap with what that loses written down; a voice that
        # speaks text would be cut where its decoder needs it whole.
        if isinstance(trained, SourceVocoder):
            return *measure_field(trained), not isinstance(error, NotStreamableError)
        if isinstance(error, NotStreamableError):
            raise ModelError(f"the decoder needs the whole utterance for every sample: {error}") from error
        raise
    # The field was computed from the graph, and every chunk relies on it: the graph itself is asked as well.
    return field, verify_receptive_field(trained.decoder, field, codebook_size=codebook_size), True


def _text(trained: SourceVoice | SourceVocoder, speakers: Sequence[str] | None) -> TextInfo | None:
    facts = trained.facts
    if isinstance(trained, SourceVocoder):
        if speakers is not None:
            raise ParameterError(f"speakers={list(speakers)} must be None: {facts.name} is a vocoder")
        return None
    n_speakers = len(trained.facts.speakers)
    names = trained.facts.speakers if speakers is None else tuple(speakers)
    if speakers is not None and not len(names) == len(set(names)) == n_speakers:
        raise ParameterError(f"speakers={list(names)} must be {n_speakers} names, each another")
    return TextInfo(
        language=trained.facts.language,
        frontend=trained.facts.frontend,
        prosody=trained.facts.prosody,
        encoder=UNKNOWN_ENCODER,
        speakers=names,
        default_speaker_id=trained.facts.default_speaker_id,
        lone_speaker=trained.facts.lone_speaker,
        gaussian_delta=trained.gaussian_delta,
    )
