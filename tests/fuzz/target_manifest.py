"""voice.json: a damaged one is refused by an error that says which field."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from damage import damaged_json


def prepare(folder: Path, _: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what reads one damaged manifest, and what damage to begin with."""
    from balacoon_tk.voice import read_manifest
    from tiny_voice import build_tiny_voice

    voices = [
        build_tiny_voice(folder / "one"),
        build_tiny_voice(folder / "two", ["ann", "bob"], streaming=True),
    ]
    valid = [json.loads((voice / "voice.json").read_bytes()) for voice in voices]

    def run(data: bytes) -> None:
        voice = voices[(data[0] if data else 0) % len(voices)]
        (voice / "voice.json").write_bytes(damaged_json(valid, data))
        read_manifest(voice)

    rng = random.Random(0)
    return run, [b"\0", b"\1", *(rng.randbytes(1 + 4 * rng.randint(1, 3)) for _ in range(200))]
