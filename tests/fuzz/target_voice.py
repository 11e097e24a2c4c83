"""A voice, folder or .addon: with a bit, a field, a hash or an end changed, it is refused or loads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path


def prepare(folder: Path, _: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what damages and loads a copy of a voice, and seeds of the damage to begin with."""
    from balacoon_tk.voice import load_voice
    from tiny_voice import build_tiny_voice
    from voice_damage import damaged_voice

    whole = build_tiny_voice(folder / "whole", streaming=True)

    def run(data: bytes) -> None:
        with damaged_voice(random.Random(data), whole, folder / "voice") as (_, path):
            load_voice(path)

    return run, [index.to_bytes(2, "big") for index in range(100)]
