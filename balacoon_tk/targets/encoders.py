"""What targets share that compile an encoder: where its time is, and whether another form says the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.session import TensorSpec

ENCODER_TIME_AXES = {"phoneme_ids": 1, "duration_noise": 2}
"""The axis of each input that is phonemes."""

_COMPARED_LENGTHS = (1, 2, 5, 13, 60)
# Of encodings of unit scale: what samples may differ by.
_MAX_DIFF = 1e-4
_N_DRAWS = 3


class Runner(Protocol):
    """What runs a graph, or a program, whole."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """What it takes."""

    def run(self, feeds: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
        """Return the outputs by name."""


def say_the_same(ours: Runner, theirs: Runner, *, phoneme_ids: Sequence[int], seed: int = 0) -> bool:
    """Whether two forms of an encoder say the same of 1 to 60 phonemes at random."""
    known, rng = np.asarray(phoneme_ids, np.int64), np.random.default_rng(seed)
    for length in _COMPARED_LENGTHS:
        # A duration on the edge of two numbers may fall to either side, but hardly in several draws.
        draws = [_draw(ours, known, length, rng) for _ in range(_N_DRAWS)]
        if not any(_agree(ours.run(feeds), theirs.run(feeds)) for feeds in draws):
            return False
    return True


def _draw(session: Runner, known: AnyArray, length: int, rng: np.random.Generator) -> dict[str, AnyArray]:
    feeds: dict[str, AnyArray] = {
        "phoneme_ids": rng.choice(known, (1, length)),
        "length_scale": np.ones(1, np.float32),
        "duration_noise": rng.standard_normal((1, 2, length)).astype(np.float32),
        "speaker_id": np.zeros(1, np.int64),
    }
    return {name: feeds[name] for name in session.inputs}


def _agree(a: Mapping[str, AnyArray], b: Mapping[str, AnyArray]) -> bool:
    encodings = [(a[name], b[name]) for name in a if name != "durations"]
    same = (float(np.abs(x - y).max()) <= _MAX_DIFF * max(1.0, float(np.abs(x).max())) for x, y in encodings)
    return np.array_equal(a["durations"], b["durations"]) and all(same)
