"""VITS models of Hugging Face's transformers: MMS-TTS in over a thousand languages, and others."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.piper_json import read_license
from balacoon_tk.export.sources.source import Progress, SourceVoice, VoiceFacts
from balacoon_tk.export.sources.torch_graph import to_graph
from balacoon_tk.export.sources.torchscript import plain_copy, quiet_torch
from balacoon_tk.export.sources.vits_checkpoint import load_vits, weights_file
from balacoon_tk.export.sources.vits_frontend import read_tokenizer
from balacoon_tk.voice.manifest import ProsodyDefaults

if TYPE_CHECKING:
    from transformers import VitsModel

_TRACED_PHONEMES, _TRACED_FRAMES = 11, 13
_CARDS = ("README.md", "MODEL_CARD")


class HfVits:
    """Reads a folder of a ``VitsModel``: ``config.json``, ``vocab.json`` and weights (MMS-TTS and others)."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a folder with the configuration of a model of transformers."""
        return path.is_dir() and (path / "config.json").is_file()

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> SourceVoice:
        """Read a model and cut it into encoder and decoder; nothing is unpickled but weights.

        Raises
        ------
        MissingExtraError
            If torch, transformers or safetensors isn't installed.
        ModelError
            If a file is missing or damaged, the model is of another architecture, or its weights don't fit.
        """
        if config is not None:
            raise ModelError(
                f"{path}: the folder has its own config.json, so config={str(config)!r} has no place"
            )
        progress("reading", 0.0)
        with quiet_torch("a VitsModel"):
            model = load_vits(path)
            from balacoon_tk.export.sources.vits_reference import VitsReference

            frontend, language = read_tokenizer(path, n_symbols=model.config.vocab_size)
            progress("exporting from torch", 0.3)
            plain = plain_copy(model)
            encoder = _export_encoder(plain)
            progress("exporting from torch", 0.7)
            decoder = _export_decoder(plain)
            progress("exporting from torch", 1.0)
        settings, n_speakers = model.config, model.config.num_speakers
        return SourceVoice(
            facts=VoiceFacts(
                name=path.resolve().name,
                language=language or frontend.language,
                license=_license(path),
                sample_rate=settings.sampling_rate,
                frontend=frontend,
                prosody=ProsodyDefaults(
                    noise_scale=settings.noise_scale,
                    length_scale=1 / settings.speaking_rate,
                    noise_w=settings.noise_scale_duration,
                ),
                speakers=tuple(f"speaker {k}" for k in range(n_speakers)) if n_speakers > 1 else (),
                provenance=_provenance(path),
            ),
            encoder=encoder,
            decoder=decoder,
            n_channels=settings.flow_size,
            n_speakers=n_speakers,
            reference=VitsReference(model),
            n_bytes=weights_file(path).stat().st_size,
        )


def _export_encoder(model: VitsModel) -> onnx.ModelProto:
    import torch

    from balacoon_tk.export.sources.vits_modules import VitsEncoderHalf

    config, n = model.config, _TRACED_PHONEMES
    inputs = {"phoneme_ids": torch.arange(n)[None] % config.vocab_size, "length_scale": torch.ones(1)}
    outputs: dict[str, list[int | str]] = {
        "encodings": [1, "n_phonemes", config.flow_size],
        "log_scales": [1, "n_phonemes", config.flow_size],
        "durations": [1, "n_phonemes"],
    }
    time_axes = {"phoneme_ids": 1}
    if config.use_stochastic_duration_prediction:
        inputs["duration_noise"] = torch.zeros(1, 2, n)
        time_axes["duration_noise"] = 2
    if config.num_speakers > 1:
        inputs["speaker_id"] = torch.zeros(1, dtype=torch.int64)
        outputs["speaker_embedding"] = [1, config.speaker_embedding_size, 1]
    return to_graph(VitsEncoderHalf(model), inputs, time_axes=time_axes, outputs=outputs, name="encoder")


def _export_decoder(model: VitsModel) -> onnx.ModelProto:
    import torch

    from balacoon_tk.export.sources.vits_modules import VitsDecoderHalf

    config = model.config
    inputs = {"frames": torch.randn(1, config.flow_size, _TRACED_FRAMES)}
    if config.num_speakers > 1:
        inputs["speaker_embedding"] = torch.randn(1, config.speaker_embedding_size, 1)
    outputs: dict[str, list[int | str]] = {"samples": [1, 1, "n_samples"]}
    return to_graph(VitsDecoderHalf(model), inputs, time_axes={"frames": 2}, outputs=outputs, name="decoder")


def _card(folder: Path) -> str:
    found = [folder / name for name in _CARDS if (folder / name).is_file()]
    return found[0].read_text(encoding="utf-8", errors="replace") if found else ""


def _license(folder: Path) -> str:
    return read_license(_card(folder)) or "unknown"


def _provenance(folder: Path) -> dict[str, str]:
    weights = weights_file(folder)
    with weights.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    said = {"source_file": f"{folder.resolve().name}/{weights.name}", "source_sha256": sha256}
    return said | ({"model_card": card} if (card := _card(folder)) else {})
