"""Piper voices: VITS in one ONNX file, with a JSON file beside it (`piper_json`)."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import onnx_ir as ir

from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export.sources.files import (
    finished,
    load_onnx,
    naming,
    private_copy,
)
from balacoon_tk.export.sources.float_weights import to_float_weights
from balacoon_tk.export.sources.piper_json import read_piper_json
from balacoon_tk.export.sources.piper_reference import PiperReference
from balacoon_tk.export.sources.source import Progress, SourceVoice, SourceWarning, VoiceFacts
from balacoon_tk.export.sources.vits_cut import cut_decoder, cut_encoder
from balacoon_tk.export.sources.vits_seams import Seams, find_seams
from balacoon_tk.frontend.phoneme_map import BOS, EOS, PAD
from balacoon_tk.frontend.registry import create_frontend
from balacoon_tk.graph.simplify.tidy import lift_constants, tidy


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
            raise naming(path, error) from error


def _read(path: Path, config: Path, progress: Progress) -> SourceVoice:
    progress("reading", 0.0)
    model = ir.from_proto(load_onnx(path))
    facts = read_piper_json(config, voice=path)
    _check_frontend(facts)
    # Whatever is looked for in the graph (tables, places of scales) is an initializer from here on.
    lift_constants(model)
    made_of = to_float_weights(model)
    if made_of is not None:
        facts = _noted(facts, made_of, path)
    seams = find_seams(model.graph)
    facts = _fitted(facts, seams, config)
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
        reference=PiperReference(path if made_of is None else None, whole),
        n_bytes=path.stat().st_size,
    )


def _noted(facts: VoiceFacts, made_of: str, path: Path) -> VoiceFacts:
    """Say of a voice that its weights were made smaller before it was exported."""
    if made_of == "integers":
        warnings.warn(
            f"{path}: is quantized; the voice has its weights in float32, so that it streams exactly, and "
            "what was rounded while it ran is rounded no more. Better is an export of the model that was "
            "quantized; `balacoon-tk quantize` makes a voice smaller",
            SourceWarning,
            stacklevel=2,
        )
    return replace(facts, provenance={**facts.provenance, "weights": f"{made_of}, in float32 here"})


def _check_frontend(facts: VoiceFacts) -> None:
    """Refuse a voice whose phonemes nobody here can give; those of espeak-ng gruut may give as well."""
    front = facts.frontend
    if front.phoneme_type != "espeak":
        create_frontend(language=front.language, phoneme_type=front.phoneme_type, symbols=front.phoneme_ids)


def _fitted(facts: VoiceFacts, seams: Seams, config: Path) -> VoiceFacts:
    """Compare JSON and graph, and leave out symbols past the graph's table, which never were learnt."""
    n_rows, ids = seams.phonemes.n_rows, facts.frontend.phoneme_ids
    past = {symbol: own for symbol, own in ids.items() if max(own) >= n_rows}
    # Without its frame no sentence is what was learnt, and the JSON of another voice would give gibberish.
    framing = next((symbol for symbol in (BOS, EOS, PAD) if symbol in past), None)
    if framing is not None or 2 * len(past) > len(ids):
        symbol = framing or next(iter(past))
        raise VoiceError(
            f"{config}: phoneme_id_map[{symbol!r}]={list(past[symbol])} doesn't fit the graph, "
            f"which has an embedding of {n_rows} ids"
        )
    if past:
        names = ", ".join(map(repr, past))
        warnings.warn(
            f"{config}: the graph has an embedding of {n_rows} ids, so these symbols of phoneme_id_map, "
            f"with ids past it, are left out of the voice: {names}",
            SourceWarning,
            stacklevel=2,
        )
        kept = {symbol: own for symbol, own in ids.items() if symbol not in past}
        facts = replace(facts, frontend=replace(facts.frontend, phoneme_ids=kept))
    n_speakers = 1 if seams.speakers is None else seams.speakers.n_rows
    said = len(facts.speakers) or 1
    if said != n_speakers:
        raise VoiceError(
            f"{config}: num_speakers={said} doesn't fit the graph, which has {n_speakers} speaker"
            f"{'s' if n_speakers > 1 else ''}"
        )
    return facts


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
