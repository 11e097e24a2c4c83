"""The JSON file beside a vocoder: its rate, and the mel spectrogram that it was trained on.

Two forms are read: the record ``mel`` of voice.json with ``sample_rate`` beside it, and the configuration
that HiFi-GAN and many vocoders after it are trained with (``sampling_rate``, ``num_mels``, ``hop_size`` …).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from balacoon_tk.errors import VoiceError
from balacoon_tk.export.sources.istft import IstftInfo
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice.json_fields import JsonFields

EXAMPLE = (
    '{"sample_rate": 16000, "mel": {"n_fft": 640, "win_length": 640, "hop_length": 160, "n_mels": 80, '
    '"f_min": 0, "f_max": 8000, "scale": "slaney", "unit_area": true, "power": 1, "log": "ln", '
    '"floor": 1e-5, "padding": "same"}}'
)
"""What such a file looks like."""

_HIFIGAN_FLOOR = 1e-5  # in `dynamic_range_compression_torch` of HiFi-GAN's meldataset.py


@dataclass(frozen=True, slots=True)
class VocoderConfig:
    """What the JSON of a vocoder says."""

    sample_rate: int
    """Hz"""
    mel: MelInfo | None
    n_channels: int | None
    """Channels of a frame, where neither `mel` nor anything else says them."""
    istft: IstftInfo | None = None
    """How samples are made, where the graph gives spectra."""
    name: str | None = None
    license: str | None = None


def read_vocoder_json(path: Path) -> VocoderConfig:
    """Read the JSON of a vocoder.

    Raises
    ------
    VoiceError
        If the file is missing or no JSON, or a field is missing, of a wrong type or out of range.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VoiceError(
            f"{path}: no such file; a vocoder's rate and mel spectrogram stand in a JSON file "
            f"(config=... if it lies elsewhere), such as {EXAMPLE}"
        ) from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise VoiceError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(data, dict):
        raise VoiceError(f"{path}: must hold a JSON object")
    root = JsonFields(data, f"{path.name}: ")
    if "num_mels" in data:
        return _hifigan(root)
    mel = None if root.is_null("mel") else MelInfo.read(root.record("mel"))
    return VocoderConfig(
        sample_rate=root.integer("sample_rate", minimum=1),
        mel=mel,
        n_channels=None if root.is_null("n_channels") else root.integer("n_channels", minimum=1),
        istft=None if root.is_null("istft") else IstftInfo.read(root.record("istft")),
        name=root.optional_text("name"),
        license=root.optional_text("license"),
    )


def _hifigan(root: JsonFields) -> VocoderConfig:
    """Read the configuration of HiFi-GAN (Kong et al. 2020), whose mel is in its meldataset.py."""
    sample_rate = root.integer("sampling_rate", minimum=1)
    mel = MelInfo(
        n_fft=root.integer("n_fft", minimum=2),
        win_length=root.integer("win_size", minimum=1),
        hop_length=root.integer("hop_size", minimum=1),
        n_mels=root.integer("num_mels", minimum=1),
        f_min=root.number("fmin"),
        f_max=sample_rate / 2 if root.is_null("fmax") else root.positive("fmax"),
        floor=_HIFIGAN_FLOOR,
    )
    return VocoderConfig(sample_rate, mel, None)
