"""Text files that are there whole or not at all, and JSON that every program reads."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path


def json_text(data: object) -> str:
    """Return data as the JSON text that a program reads: finite numbers, names as they are."""
    return json.dumps(_finite(data), ensure_ascii=False, indent=2) + "\n"


def write_whole(path: str | os.PathLike[str], text: str) -> None:
    """Write a UTF-8 file beside its place and put it there when it is complete."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.urandom(4).hex()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _finite(data: object) -> object:
    if isinstance(data, dict):
        return {key: _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
