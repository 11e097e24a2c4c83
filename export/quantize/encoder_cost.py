"""What an encoder of another precision saves and loses, beside the one it was made of."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, log10

import numpy as np

from balacoon_tk._typing import IntArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.stages.encoder import Encoder, Encoding

_N_ROUNDS = 11
_NOISE_W = 0.8


@dataclass(frozen=True, slots=True)
class EncoderCost:
    """What was measured of two encoders in turn, on the same phonemes with the same noise."""

    time_ratios: Mapping[int, float]
    """Per number of phonemes, the candidate's time over the reference's: medians of rounds in turn."""
    changed_durations: float
    """Share of phonemes that last another number of frames."""
    largest_change: int
    """Frames by which a duration differs at most."""
    encodings_snr_db: float
    """Power of the encodings over that of their difference."""


def measure_encoder(
    reference: Encoder,
    candidate: Encoder,
    phoneme_ids: Sequence[IntArray],
    *,
    n_rounds: int = _N_ROUNDS,
    speaker_id: int | None = None,
) -> EncoderCost:
    """Run two encoders in turn on some sentences.

    Parameters
    ----------
    reference, candidate : Encoder
        With as many threads each.
    phoneme_ids : sequence of ndarray of shape (n_phonemes,), int64
        Sentences; those of one length are timed together.
    n_rounds : int
        Runs of each sentence by each of the two.
    speaker_id : int, optional
        As for `Encoder.encode`.

    Raises
    ------
    ParameterError
        If there are no sentences, or no rounds.
    """
    if not phoneme_ids or n_rounds < 1:
        raise ParameterError(f"{len(phoneme_ids)} sentences and n_rounds={n_rounds} must both be >= 1")
    seconds: dict[int, tuple[list[float], list[float]]] = {}
    changed = n_phonemes = largest = 0
    signal = noise = 0.0
    for seed, ids in enumerate(phoneme_ids):
        taken = seconds.setdefault(len(ids), ([], []))
        for k in range(n_rounds + 1):
            ours, theirs = _timed(candidate, ids, seed, speaker_id), _timed(reference, ids, seed, speaker_id)
            if k:  # the first run is slower than the others
                taken[0].append(ours[1])
                taken[1].append(theirs[1])
        (a, _), (b, _) = ours, theirs
        off = np.abs(a.durations - b.durations)
        changed, n_phonemes = changed + int((off > 0).sum()), n_phonemes + len(ids)
        largest = max(largest, int(off.max()))
        signal += float(np.square(b.encodings, dtype=np.float64).sum())
        noise += float(np.square(a.encodings - b.encodings, dtype=np.float64).sum())
    return EncoderCost(
        time_ratios={n: statistics.median(a) / statistics.median(b) for n, (a, b) in seconds.items()},
        changed_durations=changed / n_phonemes,
        largest_change=largest,
        encodings_snr_db=10 * log10(signal / noise) if noise else inf,
    )


def _timed(
    encoder: Encoder, phoneme_ids: IntArray, seed: int, speaker_id: int | None
) -> tuple[Encoding, float]:
    start_s = time.perf_counter()
    encoding = encoder.encode(phoneme_ids, noise_w=_NOISE_W, seed=seed, speaker_id=speaker_id)
    return encoding, time.perf_counter() - start_s
