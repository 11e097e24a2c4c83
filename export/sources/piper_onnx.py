"""Piper voices: VITS in one ONNX file, with a JSON file beside it.

What is read of it, all else being for training::

    audio.sample_rate                 Hz
    espeak.voice                      the espeak-ng voice whose phonemes were learnt, such as en-us
    language.code                     the language for people, such as en_US; older files have none
    phoneme_type                      espeak, or text where characters were learnt; espeak if missing
    phoneme_id_map                    for each symbol its ids; ^ $ and _ begin, end and part them
    phoneme_map                       symbols that are said as several others
    inference.noise_scale, .noise_w   how much sound and durations vary
    inference.length_scale            factor on the durations
    num_speakers, speaker_id_map      how many, and their ids by name
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import onnx_ir as ir

from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export.sources.files import (
    finished,
    load_onnx,
    private_copy,
    read_json,
    read_license,
    read_provenance,
)
from balacoon_tk.export.sources.piper_reference import PiperReference
from balacoon_tk.export.sources.source import Progress, SourceVoice, VoiceFacts
from balacoon_tk.export.sources.vits_cut import cut_decoder, cut_encoder
from balacoon_tk.export.sources.vits_seams import Seams, find_seams
from balacoon_tk.frontend.phoneme_map import PAD
from balacoon_tk.graph.simplify.tidy import lift_constants, tidy
from balacoon_tk.voice.json_fields import JsonFields
from balacoon_tk.voice.manifest import FrontendInfo, PhonemeType, ProsodyDefaults

# The other types of FrontendInfo are of tokenizers that Piper doesn't have.
_PHONEME_TYPES = ("espeak", "text")
_HINT = "; a Piper voice comes with its JSON (config=... if it lies elsewhere)"


class PiperOnnx:
    """Reads a Piper voice: ``voice.onnx`` and ``voice.onnx.json``."""

    def claims(self, path: Path) -> bool:
        """Say whether a path looks like a Piper voice: any ONNX file that no other source knows."""
        return path.suffix.lower() == ".onnx"

    def read(
        self, path: Path, *, config: Path | None, progress: Progress, trust: bool = False
    ) -> SourceVoice:
        """Read a Piper voice and cut it into encoder and decoder; see `Source.read`."""
        try:
            return _read(path, config or path.with_name(f"{path.name}.json"), progress)
        except VoiceError:
            raise  # about the JSON, which it names
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error


def _read(path: Path, config: Path, progress: Progress) -> SourceVoice:
    progress("reading", 0.0)
    model = ir.from_proto(load_onnx(path))
    facts = read_piper_json(config, voice=path)
    # Whatever is looked for in the graph (tables, places of scales) is an initializer from here on.
    lift_constants(model)
    seams = find_seams(model.graph)
    _check_fit(facts, seams, config)
    # A cut is done in place, so each part is cut out of a copy of its own.
    whole = ir.to_proto(model).SerializeToString()
    progress("cutting", 0.3)
    encoder = private_copy(whole)
    cut_encoder(encoder)
    n_channels = _tidy_encoder(encoder)
    progress("cutting", 0.7)
    decoder = private_copy(whole)
    cut_decoder(decoder, n_channels=n_channels)
    tidy(decoder, {"frames": 2}, {"samples": [1, 1, "n_samples"]})
    progress("cutting", 1.0)
    return SourceVoice(
        facts=facts,
        encoder=finished(encoder, "encoder"),
        decoder=finished(decoder, "decoder"),
        n_channels=n_channels,
        reference=PiperReference(path, whole),
        n_bytes=path.stat().st_size,
    )


def _check_fit(facts: VoiceFacts, seams: Seams, config: Path) -> None:
    """Compare JSON and graph: that of another voice would be read, and speak gibberish."""
    for symbol, ids in facts.frontend.phoneme_ids.items():
        if max(ids) >= seams.phonemes.n_rows:
            raise VoiceError(
                f"{config}: phoneme_id_map[{symbol!r}]={list(ids)} doesn't fit the graph, "
                f"which has an embedding of {seams.phonemes.n_rows} ids"
            )
    n_speakers = 1 if seams.speakers is None else seams.speakers.n_rows
    said = len(facts.speakers) or 1
    if said != n_speakers:
        raise VoiceError(
            f"{config}: num_speakers={said} doesn't fit the graph, which has {n_speakers} speaker"
            f"{'s' if n_speakers > 1 else ''}"
        )


def _tidy_encoder(model: ir.Model) -> int:
    """Fold the encoder's masks and declare its outputs; return the number of channels."""
    axes = {"phoneme_ids": 1, "duration_noise": 2}
    seen = tidy(
        model,
        {value.name: axes[value.name] for value in model.graph.inputs if value.name in axes},
        {
            "encodings": [1, "n_phonemes", "n_channels"],
            "log_scales": [1, "n_phonemes", "n_channels"],
            "durations": [1, "n_phonemes"],
            "speaker_embedding": [1, "n_speaker_channels", 1],
        },
    )
    n_channels: dict[str, int] = {}
    for value in model.graph.outputs:
        axis = {"encodings": 2, "log_scales": 2, "speaker_embedding": 1}.get(value.name or "")
        if axis is None:
            continue
        # A probe has run the graph at several lengths: what stayed the same is a number of channels.
        shapes = seen.shapes[value.name or ""]
        is_batch_of_one = all(len(shape) == 3 and shape[0] == 1 for shape in shapes)
        if not is_batch_of_one or len({shape[axis] for shape in shapes}) != 1:
            raise ModelError(f"not a VITS voice: {value.name} has shapes {', '.join(map(str, shapes))}")
        n_channels[value.name or ""] = size = shapes[0][axis]
        value.shape = ir.Shape([1, size, 1] if axis == 1 else [1, "n_phonemes", size])
    # The upsampler adds one to the other, channel by channel.
    if n_channels["encodings"] != n_channels["log_scales"]:
        raise ModelError("not a VITS voice: the prior's mean and log scale differ in their channels")
    return n_channels["encodings"]


def read_piper_json(path: Path, *, voice: Path) -> VoiceFacts:
    """Read the JSON of a Piper voice, and what its file and a model card beside it say."""
    root = JsonFields(read_json(path, hint=_HINT), f"{path.name}: ")
    espeak_voice = None if root.is_null("espeak") else root.record("espeak").optional_text("voice")
    code = None if root.is_null("language") else root.record("language").optional_text("code")
    phoneme_type = "espeak"
    if root.optional_text("phoneme_type"):
        phoneme_type = root.choice("phoneme_type", _PHONEME_TYPES)
    if espeak_voice is None and phoneme_type == "espeak":
        root.record("espeak").text("voice")  # raises the error that names it
    provenance = read_provenance(voice)
    return VoiceFacts(
        name=voice.stem,
        # Each stands for the other where one is missing: files of the first Piper have espeak alone.
        language=code or espeak_voice or "",
        license=read_license(provenance),
        sample_rate=root.record("audio").integer("sample_rate", minimum=1),
        frontend=FrontendInfo(
            phoneme_type=cast(PhonemeType, phoneme_type),
            language=espeak_voice or code or "",
            phoneme_ids=_phoneme_ids(root),
        ),
        prosody=_prosody(root),
        speakers=_speakers(root),
        provenance=provenance,
    )


def _prosody(root: JsonFields) -> ProsodyDefaults:
    if root.is_null("inference"):
        return ProsodyDefaults()
    inference = root.record("inference")
    # A scale of 0 would be durations of 0 and so silence; noise of 0 is the most likely reading.
    readers = {
        "noise_scale": inference.number,
        "length_scale": inference.positive,
        "noise_w": inference.number,
    }
    given = {name: read(name) for name, read in readers.items() if not inference.is_null(name)}
    return ProsodyDefaults(**given)


def _phoneme_ids(root: JsonFields) -> Mapping[str, tuple[int, ...]]:
    """Return the ids of every symbol; one that stands for others (``phoneme_map``) gets the ids of these."""
    ids = root.id_lists("phoneme_id_map")
    joined = dict(ids)
    for symbol, others in root.optional_mapping("phoneme_map").items():
        listed = others if isinstance(others, list) else []
        if not listed or not all(isinstance(other, str) and other in ids for other in listed):
            raise root.entry_error("phoneme_map", symbol, "must be a list of symbols of phoneme_id_map")
        # In training a pad stood between any two symbols.
        pad = ids.get(PAD, ())
        joined[symbol] = tuple(i for k, other in enumerate(listed) for i in (pad if k else ()) + ids[other])
    return joined


def _speakers(root: JsonFields) -> tuple[str, ...]:
    n_speakers = 1 if root.is_null("num_speakers") else root.integer("num_speakers", minimum=1)
    if n_speakers == 1:
        return ()  # the one that a file may name is never chosen
    # Names may be missing for some ids or for all: such a speaker is asked for by the name that it gets here.
    speakers = [f"speaker {speaker_id}" for speaker_id in range(n_speakers)]
    seen: dict[int, str] = {}
    for name, speaker_id in root.optional_mapping("speaker_id_map").items():
        if type(speaker_id) is not int or not 0 <= speaker_id < n_speakers:
            rule = f"must be an id below num_speakers={n_speakers}"
            raise root.entry_error("speaker_id_map", name, rule)
        if speaker_id in seen:
            raise root.entry_error("speaker_id_map", name, f"is the id of {seen[speaker_id]!r}")
        seen[speaker_id] = speakers[speaker_id] = name
    return tuple(speakers)
