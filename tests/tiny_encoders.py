"""Encoders of tiny VITS, in the forms in which exporters write them."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import onnx

from balacoon_tk.export.sources import find_source
from balacoon_tk.runtime.session import Session
from tiny_vits import TinyVits, write_tiny_vits

WHOLE = TinyVits(relative=True, splines=True)
VARIANTS = {
    "plain": TinyVits(),
    "relative positions": TinyVits(relative=True),
    "splines": TinyVits(splines=True),
    "both": WHOLE,
    "speakers": TinyVits(relative=True, splines=True, n_speakers=3),
    "deterministic": TinyVits(relative=True, stochastic=False),
    "opset 17, constants as nodes": TinyVits(relative=True, splines=True, opset=17, constants="nodes"),
    "opset 13": TinyVits(relative=True, splines=True, opset=13),
}
LENGTHS = (1, 2, 3, 4, 7, 30)  # below, at and above the window


@functools.cache
def encoder_of(variant: TinyVits, folder: Path) -> onnx.ModelProto:
    source = write_tiny_vits(folder, variant)
    return find_source(source).read(source, config=None, progress=lambda stage, share: None).encoder


def feeds_of(session: Session, length: int, *, noise: float = 1.0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(length)
    feeds = {
        "phoneme_ids": rng.integers(3, 11, (1, length)),
        "length_scale": np.array([1.3], np.float32),
        "duration_noise": noise * rng.standard_normal((1, 2, length)).astype(np.float32),
        "speaker_id": np.array([2]),
    }
    return {name: feeds[name] for name in session.inputs}
