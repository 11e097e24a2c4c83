"""A voice in other precisions: where they lie in the user's cache, which are there, and making one.

::

    cache/voices/int8-<both graphs>/     the decoder's convolutions in bytes, the encoder as it was
    cache/voices/fp16-<both graphs>/     weights of both in half precision

A folder is known by the graphs that it was made from: whoever exports the voice anew gets others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from balacoon_tk.errors import ParameterError
from balacoon_tk.voice.default import cache_folder
from balacoon_tk.voice.files import MANIFEST_FILE
from balacoon_tk.voice.manifest import Precision
from balacoon_tk.voice.voice import Voice

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
"""All that a decoder may compute with; the first one is that of an export."""

_KEY_DIGITS = 16
_QUICK_STEP = 25
"""Of the plain sentences each so many-th one is enough to calibrate on, and quick to judge."""


def precision_folder(voice: Voice, precision: str) -> Path:
    """Return where a voice lies in another precision; nothing may be there yet.

    Raises
    ------
    ParameterError
        If there is no such precision.
    """
    if precision not in PRECISIONS:
        raise ParameterError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")
    graphs = f"{voice.manifest.encoder.sha256} {voice.manifest.decoder.sha256}"
    key = hashlib.sha256(graphs.encode()).hexdigest()[:_KEY_DIGITS]
    return cache_folder() / "voices" / f"{precision}-{key}"


def find_precisions(voice: Voice) -> dict[str, Path]:
    """Return the folders of a voice by their precision: its own, and those that were made of it."""
    own: str = voice.manifest.decoder.precision
    found = {own: voice.path}
    for precision in PRECISIONS:
        folder = precision_folder(voice, precision)
        if precision != own and (folder / MANIFEST_FILE).is_file():
            found[precision] = folder
    return found


def make_precision(
    voice: Voice, precision: str, *, progress: Callable[[str, float], None] | None = None
) -> Path:
    """Put a version of a voice where `find_precisions` finds it: the fastest int8, or weights in fp16.

    What int8 loses doesn't matter here: four sentences calibrate and judge it, enough to hear what bytes
    do. A version within a budget of quality takes `balacoon_tk.export.quantize_voice` and more sentences.
    The encoder of int8 stays as it is, so that both say the same durations.

    Parameters
    ----------
    voice : Voice
        In floating point.
    precision : {"int8", "fp16"}
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    Path
        The folder; one that was there is replaced.

    Raises
    ------
    ParameterError
        If the voice can't be made in that precision.
    ModelError
        If the voice is quantized already, or nothing in its decoder gets faster in bytes.
    MissingExtraError
        If the extra `export` isn't installed, or for int8 the extra `eval`.
    """
    from balacoon_tk.export.quantize import halve_voice, quantize_voice
    from balacoon_tk.metrics import plain_sentences

    if precision not in PRECISIONS[1:]:
        raise ParameterError(f"precision={precision!r} must be one of {', '.join(PRECISIONS[1:])}")
    folder = precision_folder(voice, precision)
    folder.parent.mkdir(parents=True, exist_ok=True)
    if precision == "fp16":
        return halve_voice(
            voice.path, folder, n_threads=voice.n_threads, overwrite=True, progress=progress
        ).path
    return quantize_voice(
        voice.path,
        folder,
        sentences=plain_sentences()[_QUICK_STEP - 1 :: _QUICK_STEP],
        max_wer_increase=None,
        max_dnsmos_drop=None,
        quantize_encoder=False,
        n_threads=voice.n_threads,
        overwrite=True,
        progress=progress,
    ).path
