"""Drop the samples of the context from decoded windows, and join what is kept.

Nothing is cross-faded: with enough context the kept samples are those of the whole utterance, and with
too little a fade would hide the seam while the samples stay wrong. `balacoon_tk.decoder.chunking` has
the drawing.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from balacoon_tk.decoder import _overlap_trim
from balacoon_tk.decoder.chunking import Window
from balacoon_tk.errors import ParameterError

_Sample = TypeVar("_Sample", np.float32, np.int16)

_DTYPES = (np.dtype(np.float32), np.dtype(np.int16))


def trim(
    decoded: NDArray[_Sample], window: Window, *, hop_length: int, out: NDArray[_Sample] | None = None
) -> NDArray[_Sample]:
    """Copy the kept samples out of a decoded window, so that the rest can be freed.

    `decoded` has the ``window.n_frames * hop_length`` samples that the decoder made of the window, float32 or
    int16; `out`, if given, has room for ``window.n_kept * hop_length`` of the same dtype, and is returned.
    `ParameterError` says what doesn't fit.
    """
    _check_windows([window], hop_length)
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
    decoded: Sequence[NDArray[_Sample]], windows: Sequence[Window], *, hop_length: int
) -> NDArray[_Sample]:
    """Write the kept samples of every window into one array.

    There is a decoded array, as for `trim`, for each of one or more windows, all of one dtype; the windows'
    kept frames follow each other without gap or overlap. `ParameterError` says what doesn't fit.
    """
    if not len(decoded) == len(windows) >= 1:
        raise ParameterError(f"len(decoded)={len(decoded)} must be len(windows)={len(windows)}, at least 1")
    _check_windows(windows, hop_length)
    for i, (samples, window) in enumerate(zip(decoded, windows, strict=True)):
        _check_samples(f"decoded[{i}]", samples, n_samples=window.n_frames * hop_length)
        if samples.dtype != decoded[0].dtype:
            raise ParameterError(f"decoded[{i}]: {samples.dtype} must be {decoded[0].dtype} as in decoded[0]")
    # The kernel copies without looking: a window that keeps nothing may point behind the end of its array.
    pairs = [pair for pair in zip(decoded, windows, strict=True) if pair[1].n_kept]
    kept = np.array([(w.keep_start - w.start, w.keep_stop - w.start) for _, w in pairs], np.int64)
    joined = np.empty((windows[-1].keep_stop - windows[0].keep_start) * hop_length, decoded[0].dtype)
    if pairs:
        _overlap_trim.join_kept([samples for samples, _ in pairs], kept * hop_length, joined)
    return joined


def _check_windows(windows: Sequence[Window], hop_length: int) -> None:
    if hop_length < 1:
        raise ParameterError(f"hop_length={hop_length} must be >= 1")
    keep_start = windows[0].keep_start
    for window in windows:
        if not 0 <= window.start <= window.keep_start <= window.keep_stop <= window.stop:
            raise ParameterError(f"{window} must satisfy 0 <= start <= keep_start <= keep_stop <= stop")
        if window.keep_start != keep_start:
            raise ParameterError(f"{window} must keep frames from {keep_start} on")
        keep_start = window.keep_stop


def _check_samples(name: str, samples: object, *, n_samples: int) -> None:
    if not isinstance(samples, np.ndarray) or samples.dtype not in _DTYPES:
        kind = samples.dtype if isinstance(samples, np.ndarray) else type(samples).__name__
        raise ParameterError(f"{name}: {kind} must be a float32 or int16 array")
    if samples.shape != (n_samples,):
        raise ParameterError(f"{name}.shape={samples.shape} must be (n_samples,)=({n_samples},)")
    if not samples.flags.c_contiguous:
        raise ParameterError(f"{name} must be C-contiguous")
