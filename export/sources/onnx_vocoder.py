"""Vocoders in one ONNX file: mel spectrogram in, samples out, with a JSON file beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ModelError, VoiceError
from balacoon_tk.export.sources.istft import IstftInfo, append_istft, istft
from balacoon_tk.export.sources.piper_json import read_license
from balacoon_tk.export.sources.signature import load_onnx, read_signature
from balacoon_tk.export.sources.source import Progress, SourceVocoder, VocoderFacts
from balacoon_tk.export.sources.vocoder_graph import FrameLayout, find_layout, to_decoder
from balacoon_tk.export.sources.vocoder_json import VocoderConfig, read_vocoder_json
from balacoon_tk.runtime.session import Session

MODEL_CARD = "MODEL_CARD"

# Natural logs of speech lie about here; standard normal ones make clipped noise, which hides differences.
_MEL_MEAN, _MEL_DEVIATION = -5.0, 2.0


class OnnxVocoder:
    """Reads a vocoder: ``vocoder.onnx``, a mel spectrogram to samples, and ``vocoder.onnx.json``."""

    def claims(self, path: Path) -> bool:
        """Say whether a path is a graph that takes one tensor of floats, as frames are."""
        signature = read_signature(path)
        return signature is not None and signature.is_one_float_tensor

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> SourceVocoder:
        """Read a vocoder.

        Raises
        ------
        ModelError
            If the graph can't be read, or isn't one from frames to samples.
        VoiceError
            If the JSON is missing or damaged, or doesn't fit the graph.
        """
        progress("reading", 0.0)
        said = read_vocoder_json(config or path.with_name(f"{path.name}.json"))
        try:
            model = load_onnx(path)
            progress("reading", 0.5)
            whole = model if said.istft is None else append_istft(model, said.istft)
            layout = find_layout(whole, n_channels=said.mel.n_mels if said.mel else said.n_channels)
            decoder = to_decoder(whole, layout)
        except VoiceError:
            raise
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error
        progress("reading", 1.0)
        return SourceVocoder(
            facts=read_facts(path, said),
            decoder=decoder,
            n_channels=layout.n_channels,
            reference=layout.run if said.istft is None else _with_istft(model, layout, said.istft),
            draw_frames=lambda n_frames, seed: random_mel(layout.n_channels, n_frames, seed=seed),
            n_bytes=path.stat().st_size,
        )


def _with_istft(
    model: onnx.ModelProto, layout: FrameLayout, info: IstftInfo
) -> Callable[[FloatArray], FloatArray]:
    """Return what runs the graph as it came, and makes samples of its spectra by Fourier transforms."""
    session = Session(model)

    def run(frames: FloatArray) -> FloatArray:
        return istft(list(session.run({layout.input: layout.order(frames)}).values()), info)

    return run


def read_facts(path: Path, said: VocoderConfig) -> VocoderFacts:
    """Return what a vocoder's JSON, its file and a MODEL_CARD beside it say."""
    with path.open("rb") as file:
        provenance = {
            "source_file": path.name,
            "source_sha256": hashlib.file_digest(file, "sha256").hexdigest(),
        }
    card = path.with_name(MODEL_CARD)
    if card.is_file():
        provenance["model_card"] = card.read_text(encoding="utf-8", errors="replace")
    return VocoderFacts(
        name=said.name or path.stem,
        license=said.license or read_license(provenance.get("model_card", "")) or "unknown",
        sample_rate=said.sample_rate,
        mel=said.mel,
        provenance=provenance,
    )


def random_mel(n_mels: int, n_frames: int, *, seed: int) -> FloatArray:
    """Return noise as loud as the log mels of speech, of shape (1, n_mels, n_frames)."""
    mel = np.random.default_rng(seed).standard_normal((1, n_mels, n_frames))
    return (mel * _MEL_DEVIATION + _MEL_MEAN).astype(np.float32)
