"""Drop the samples of the context from decoded windows, and join what is kept.

Nothing is cross-faded: with enough context the kept samples are those of the whole utterance, and with
too little a fade would hide the seam while the samples stay wrong. `balacoon_tk.chunking` has the drawing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from balacoon_tk import _overlap_trim
from balacoon_tk.chunking import Window
from balacoon_tk.errors import ParameterError

__all__ = ["join", "trim"]

_Sample = TypeVar("_Sample", np.float32, np.int16)


def trim(
    decoded: NDArray[_Sample],
    window: Window,
    *,
    hop_length: int,
    out: NDArray[_Sample] | None = None,
) -> NDArray[_Sample]:
    """Copy the kept samples out of a decoded window, so that the rest can be freed.

    Parameters
    ----------
    decoded : ndarray of shape (window.n_frames * hop_length,), float32 or int16
        What the decoder made of the window's frames.
    window : Window
        Which frames were decoded, and which are kept.
    hop_length : int
        Samples per frame, >= 1.
    out : ndarray of shape (window.n_kept * hop_length,), optional
        Where to write, of the same dtype and C-contiguous. A new array if None.

    Returns
    -------
    ndarray of shape (window.n_kept * hop_length,)
        `out` itself where it was given.

    Raises
    ------
    ParameterError
        If the decoder gave more or fewer samples than hop_length a frame, or an array has a wrong shape,
        dtype or layout.
    """
    _check_hop_length(hop_length)
    if not window.start <= window.keep_start <= window.keep_stop <= window.stop:
        raise ParameterError(f"{window} must satisfy start <= keep_start <= keep_stop <= stop")
    _check_samples("decoded", decoded, n_samples=window.n_frames * hop_length)
    n_kept = window.n_kept * hop_length
    if out is None:
        out = np.empty(n_kept, decoded.dtype)
    else:
        _check_samples("out", out, n_samples=n_kept)
        if out.dtype != decoded.dtype or not out.flags.writeable:
            raise ParameterError(f"out: {out.dtype} array must be writeable and {decoded.dtype}")
    if n_kept:
        _overlap_trim.copy_kept(decoded, (window.keep_start - window.start) * hop_length, out)
    return out


def join(
    decoded: Iterable[NDArray[_Sample]], windows: Sequence[Window], *, hop_length: int
) -> NDArray[_Sample]:
    """Write the kept samples of every window into one array.

    Parameters
    ----------
    decoded : iterable of ndarray of shape (window.n_frames * hop_length,), float32 or int16
        One for each window, in order and of one dtype. A generator that decodes as it goes keeps only one
        of them in memory.
    windows : sequence of Window
        Their kept frames follow each other without gap or overlap.
    hop_length : int
        Samples per frame, >= 1.

    Returns
    -------
    ndarray of shape (n_samples,)
        ``n_samples = sum(window.n_kept) * hop_length``; float32 if there are no windows.

    Raises
    ------
    ParameterError
        If the windows do not follow each other, there are more or fewer of them than decoded ones, or
        `trim` refuses one.
    """
    _check_hop_length(hop_length)
    for before, after in pairwise(windows):
        if before.keep_stop != after.keep_start:
            raise ParameterError(f"{after} must keep frames from {before.keep_stop} on")
    joined: NDArray[_Sample] | None = None
    position = n_decoded = 0
    for n_decoded, samples in enumerate(decoded, start=1):
        if n_decoded > len(windows):
            break
        window = windows[n_decoded - 1]
        if joined is None:
            joined = np.empty(sum(w.n_kept for w in windows) * hop_length, samples.dtype)
        stop = position + window.n_kept * hop_length
        trim(samples, window, hop_length=hop_length, out=joined[position:stop])
        position = stop
    if n_decoded != len(windows):
        raise ParameterError(f"decoded has {n_decoded} arrays or more, windows {len(windows)}; must be equal")
    return np.empty(0, np.float32) if joined is None else joined


def _check_hop_length(hop_length: int) -> None:
    if hop_length < 1:
        raise ParameterError(f"hop_length={hop_length} must be >= 1")


def _check_samples(name: str, samples: object, *, n_samples: int) -> None:
    if not isinstance(samples, np.ndarray) or samples.dtype not in (np.float32, np.int16):
        kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise ParameterError(f"{name}: {kind} must be a float32 or int16 array")
    if samples.shape != (n_samples,):
        raise ParameterError(f"{name}.shape={samples.shape} must be (n_samples,)=({n_samples},)")
    if not samples.flags.c_contiguous:
        raise ParameterError(f"{name} must be C-contiguous")
