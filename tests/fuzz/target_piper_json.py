"""The JSON beside a Piper voice: a damaged one is refused by an error that says which field."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path

from damage import damaged_json


def prepare(folder: Path, _: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what reads one damaged configuration, and what damage to begin with."""
    from balacoon_tk.export.sources.piper_json import read_piper_json

    one = {
        "audio": {"sample_rate": 22050, "quality": "medium"},
        "espeak": {"voice": "en-us"},
        "language": {"code": "en_US"},
        "inference": {"noise_scale": 0.667, "length_scale": 1, "noise_w": 0.8},
        "phoneme_type": "espeak",
        "phoneme_map": {"x": ["a", "b"]},
        "phoneme_id_map": {"_": [0], "^": [1], "$": [2], " ": [3], "a": [4], "b": [5, 6]},
        "num_symbols": 256,
        "num_speakers": 1,
        "speaker_id_map": {},
    }
    several = one | {"num_speakers": 3, "speaker_id_map": {"ann": 0, "bob": 2}, "phoneme_type": "text"}
    several |= {"default_speaker_id": 2, "vowel_clusters": [["a", "b"]], "hop_length": 256}
    path = folder / "voice.onnx.json"
    (folder / "voice.onnx").write_bytes(b"")  # only its hash is looked at

    def run(data: bytes) -> None:
        path.write_bytes(damaged_json([one, several], data))
        read_piper_json(path, voice=folder / "voice.onnx")

    rng = random.Random(0)
    assert json.loads(damaged_json([one], b"\0")) == one
    return run, [b"\0", b"\1", *(rng.randbytes(1 + 4 * rng.randint(1, 3)) for _ in range(200))]
