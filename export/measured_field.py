"""How much context a decoder needs for overlap, where its graph doesn't say: by trying.

A decoder that looks at the whole utterance, or is written in a way that nobody can follow, has no receptive
field that could be computed. What most of them lack is a proof: a change of one frame moves samples near to
it, and what it moves further away is small. So one frame is changed, the context is as wide as what moves, up
to a limit, and the manifest says how far overlap with it is from the whole run.
"""

from __future__ import annotations

from math import ceil
from typing import cast

import numpy as np

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.decoder.overlap import OverlapDecoder
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.source import SourceVocoder
from balacoon_tk.export.verify import perturb
from balacoon_tk.graph.receptive_field import ReceptiveField
from balacoon_tk.runtime.ort_engine import OrtEngine

_MAX_CONTEXT = 64  # frames to either side; each of them is decoded again for every chunk
_CHUNK_FRAMES, _N_CHUNKS = 16, 12


def measure_field(vocoder: SourceVocoder) -> tuple[ReceptiveField, dict[str, float]]:
    """Return a context for overlap, and the largest difference to the whole run that was seen with it.

    A ModelError says that the decoder doesn't give a whole number of samples for each frame.
    """
    engine = OrtEngine(vocoder.decoder)

    def whole(n_frames: int) -> FloatArray:
        frames = vocoder.draw_frames(n_frames, n_frames)
        samples: FloatArray = engine.whole({"frames": frames})["samples"].reshape(-1)
        return samples

    short, long = whole(_MAX_CONTEXT).size, whole(2 * _MAX_CONTEXT).size
    hop_length = (long - short) // _MAX_CONTEXT
    if not hop_length or (short, long) != (_MAX_CONTEXT * hop_length, 2 * _MAX_CONTEXT * hop_length):
        raise ModelError(
            f"{_MAX_CONTEXT} frames give {short} samples, and {2 * _MAX_CONTEXT} give {long}: must be a "
            "whole number for each frame"
        )
    moved = perturb(
        engine.session,
        n_frames=2 * _MAX_CONTEXT + 1,
        frame=_MAX_CONTEXT,
        hop_length=hop_length,
        codebook_size=vocoder.facts.codebook_size,
        by=1.0,  # NaN would go through a mask: 0 times NaN is NaN
    )
    if not moved:
        raise ModelError("the decoder's samples don't depend on its frames")
    # A frame at which samples before it change is one that they look ahead to.
    lookahead = max(0, ceil(-moved.start / hop_length))
    left_context = max(0, ceil(moved.stop / hop_length) - 1)
    field = ReceptiveField(left_context, lookahead, hop_length, lookahead * hop_length)
    return field, {"overlap": _overlap_difference(vocoder, engine, field)}


def _overlap_difference(vocoder: SourceVocoder, engine: OrtEngine, field: ReceptiveField) -> float:
    n_frames = _CHUNK_FRAMES * _N_CHUNKS
    frames = vocoder.draw_frames(n_frames, 0)
    decoder = OverlapDecoder(
        engine, left_context=field.left_context, lookahead=field.lookahead, hop_length=field.hop_length
    )
    pieces: list[AnyArray] = []
    for start in range(0, n_frames, _CHUNK_FRAMES):
        stop = start + _CHUNK_FRAMES
        part = decoder.take({"frames": frames[..., start:stop]}, stop == n_frames)
        pieces.append(cast(AnyArray, part))  # of one output
    whole = engine.whole({"frames": frames})["samples"]
    return float(np.abs(np.concatenate(pieces, axis=-1) - whole).max())
