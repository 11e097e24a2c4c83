"""voice.json of a vocoder: a voice that is a decoder alone, and what its frames are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from balacoon_tk.errors import VoiceError
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice.manifest import (
    FORMAT_VERSION,
    VOCODER,
    DecoderInfo,
    ExportStage,
    read_decoder,
    read_root,
    read_stages,
)


def is_vocoder(text: str) -> bool:
    """Say whether the text of a voice.json is that of a vocoder.

    Raises
    ------
    VoiceError
        If it isn't JSON, or of a version that isn't read.
    """
    return not read_root(text).is_null("kind")


@dataclass(frozen=True, slots=True)
class VocoderManifest:
    """All of voice.json of a vocoder: a decoder without a frontend and an encoder."""

    name: str
    license: str
    sample_rate: int
    """Hz"""
    hop_length: int
    """Samples per frame."""
    n_channels: int
    """Channels of a frame."""
    mel: MelInfo | None
    """What its frames are; None if they are no mel spectrogram, or nobody has said which."""
    decoder: DecoderInfo
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Where the weights come from: source file, its sha256, the exporter, the model card's words."""
    verified: Mapping[str, float] = field(default_factory=dict)
    """What was checked at export: the name of each check and the largest difference it saw."""
    stages: tuple[ExportStage, ...] = ()
    """What the export made of size, speed and samples, from the source on."""
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the text of voice.json."""
        return json.dumps({"kind": VOCODER} | asdict(self), ensure_ascii=False, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> VocoderManifest:
        """Read the text of voice.json.

        Raises
        ------
        VoiceError
            If the text isn't JSON, is that of a voice with a frontend, or a field is missing, of a wrong
            type or out of its range.
        """
        root = read_root(text)
        if root.is_null("kind"):
            raise VoiceError("a voice that speaks text, and no vocoder; `balacoon-tk synthesize` takes it")
        root.choice("kind", (VOCODER,))
        return cls(
            name=root.text("name"),
            license=root.text("license"),
            sample_rate=root.integer("sample_rate", minimum=1),
            hop_length=root.integer("hop_length", minimum=1),
            n_channels=root.integer("n_channels", minimum=1),
            mel=None if root.is_null("mel") else MelInfo.read(root.record("mel")),
            decoder=read_decoder(root.record("decoder")),
            provenance=root.text_mapping("provenance"),
            verified=root.number_mapping("verified"),
            stages=read_stages(root),
        )
