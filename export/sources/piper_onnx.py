"""Piper voices: VITS in one ONNX file, with a JSON file beside it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export.sources.piper_json import PiperConfig, read_license, read_piper_json
from balacoon_tk.export.sources.piper_reference import PiperReference, parse
from balacoon_tk.export.sources.signature import load_onnx
from balacoon_tk.export.sources.source import Progress, SourceVoice, VoiceFacts
from balacoon_tk.export.sources.vits_cut import cut_decoder, cut_encoder
from balacoon_tk.export.sources.vits_seams import Seams, find_seams
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.simplify.tidy import lift_constants, tidy

_MODEL_CARD = "MODEL_CARD"


class PiperOnnx:
    """Reads a Piper voice: ``voice.onnx`` and ``voice.onnx.json``."""

    def claims(self, path: Path) -> bool:
        """Say whether a path looks like a Piper voice."""
        return path.suffix.lower() == ".onnx"

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> SourceVoice:
        """Read a Piper voice and cut it into encoder and decoder.

        Raises
        ------
        ModelError
            If the graph can't be read, or is no VITS voice; the message says which part is missing.
        VoiceError
            If the JSON is missing or damaged, or doesn't fit the graph.
        """
        try:
            return self._read(path, config or path.with_name(f"{path.name}.json"), progress)
        except VoiceError:
            raise  # about the JSON, which it names
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error

    def _read(self, path: Path, config: Path, progress: Progress) -> SourceVoice:
        progress("reading", 0.0)
        original = load_onnx(path)
        said = read_piper_json(config)
        model = ir.from_proto(original)
        lift_constants(model)
        seams = find_seams(model.graph)
        _check_fit(said, seams, config)
        whole = ir.to_proto(model).SerializeToString()
        progress("cutting", 0.3)
        encoder = parse(whole)
        cut_encoder(encoder)
        n_channels = _tidy_encoder(encoder)
        progress("cutting", 0.7)
        decoder = parse(whole)
        cut_decoder(decoder, n_channels=n_channels)
        tidy(decoder, {"frames": 2}, {"samples": [1, 1, "n_samples"]})
        progress("cutting", 1.0)
        return SourceVoice(
            facts=_facts(path, said),
            encoder=_finished(encoder, "encoder"),
            decoder=_finished(decoder, "decoder"),
            n_channels=n_channels,
            n_speakers=said.n_speakers,
            reference=PiperReference(path, whole),
            n_bytes=path.stat().st_size,
        )


def _check_fit(said: PiperConfig, seams: Seams, config: Path) -> None:
    for symbol, ids in said.frontend.phoneme_ids.items():
        if max(ids) >= seams.phonemes.n_rows:
            raise VoiceError(
                f"{config}: phoneme_id_map[{symbol!r}]={list(ids)} doesn't fit the graph, "
                f"which has an embedding of {seams.phonemes.n_rows} ids"
            )
    n_speakers = 1 if seams.speakers is None else seams.speakers.n_rows
    if said.n_speakers != n_speakers:
        raise VoiceError(
            f"{config}: num_speakers={said.n_speakers} doesn't fit the graph, which has {n_speakers} speaker"
            f"{'s' if n_speakers > 1 else ''}"
        )


def _tidy_encoder(model: ir.Model) -> int:
    """Fold the encoder's masks and declare its outputs; return the number of channels."""
    time_axes = {"phoneme_ids": 1, "duration_noise": 2}
    names = {value.name for value in model.graph.inputs}
    seen = tidy(
        model,
        {name: axis for name, axis in time_axes.items() if name in names},
        {
            "encodings": [1, "n_phonemes", "n_channels"],
            "log_scales": [1, "n_phonemes", "n_channels"],
            "durations": [1, "n_phonemes"],
            "speaker_embedding": [1, "n_speaker_channels", 1],
        },
    )
    n_channels = _channels(seen, "encodings", axis=2)
    if _channels(seen, "log_scales", axis=2) != n_channels:
        raise ModelError("not a VITS voice: the prior's mean and log scale differ in their channels")
    for value in model.graph.outputs:
        if value.name in ("encodings", "log_scales"):
            value.shape = ir.Shape([1, "n_phonemes", n_channels])
        elif value.name == "speaker_embedding":
            value.shape = ir.Shape([1, _channels(seen, "speaker_embedding", axis=1), 1])
    return n_channels


def _channels(seen: Probe, name: str, *, axis: int) -> int:
    shapes = seen.shapes[name]
    if (
        any(len(shape) != 3 or shape[0] != 1 for shape in shapes)
        or len({shape[axis] for shape in shapes}) != 1
    ):
        raise ModelError(f"not a VITS voice: {name} has shapes {', '.join(map(str, shapes))}")
    return shapes[0][axis]


def _finished(model: ir.Model, name: str) -> onnx.ModelProto:
    model.graph.name = name
    model.producer_name, model.producer_version = "balacoon_tk", None
    return ir.to_proto(model)


def _facts(path: Path, said: PiperConfig) -> VoiceFacts:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    provenance = {"source_file": path.name, "source_sha256": sha256}
    card = path.with_name(_MODEL_CARD)
    if card.is_file():
        provenance["model_card"] = card.read_text(encoding="utf-8", errors="replace")
    return VoiceFacts(
        name=path.stem,
        language=said.language,
        license=read_license(provenance.get("model_card", "")) or "unknown",
        sample_rate=said.sample_rate,
        frontend=said.frontend,
        prosody=said.prosody,
        speakers=said.speakers,
        provenance=provenance,
    )
