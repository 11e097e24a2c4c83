"""Graphs: a damaged one is read and analysed, or refused by an error of the toolkit's own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path

from damage import damaged_bytes


def prepare(folder: Path, _: str) -> tuple[Callable[[bytes], None], Iterable[bytes]]:
    """Return what reads one damaged graph, and what damage to begin with."""
    from balacoon_tk.export.sources.files import load_onnx
    from balacoon_tk.graph import analyse_model
    from tiny_voice import decoder_model, encoder_model

    models = [decoder_model(), encoder_model(), decoder_model(2)]
    valid = [model.SerializeToString() for model in models]
    path = folder / "graph.onnx"

    def run(data: bytes) -> None:
        path.write_bytes(damaged_bytes(valid, data))
        analyse_model(load_onnx(path))

    rng = random.Random(0)
    return run, [b"\0", b"\1", b"\2", *(rng.randbytes(1 + 4 * rng.randint(1, 3)) for _ in range(200))]
