"""Phonemes to frames: repeat every encoding for its duration and add the prior's noise, or mix neighbours.

This is the step between encoder and decoder of VITS (Kim et al., "Conditional variational autoencoder
with adversarial learning for end-to-end text-to-speech", ICML 2021, section 2.2): with the alignment
known, frames are drawn from the normal distribution of their phoneme. Models like FastSpeech that upsample
by Gaussians (Lim et al., "JETS: Jointly training FastSpeech2 and HiFi-GAN for end to end text to speech",
Interspeech 2022; Shen et al., "Non-attentive Tacotron", 2020, section 3.1) give each frame a mixture of
the phonemes around it. Any window of frames is written straight into the decoder's layout; the whole is
never built.
"""

from __future__ import annotations

import math
import operator
from bisect import bisect_left

import numpy as np

from balacoon_tk._typing import FloatArray, IntArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime._checks import all_finite, sum_within
from balacoon_tk.stages import _upsampler
from balacoon_tk.stages.random import check_stream

MAX_FRAMES = 2**20
"""Most frames in one sentence: over three hours at 86 frames a second, so more is a broken duration."""


GAUSSIAN_TOLERANCE = 2.0**-24
"""Largest share of a frame that the phonemes left out of its mixture would have: half a unit of float32."""


class Upsampler:
    """One sentence's frames, window by window.

    Frame f of phoneme p is ``encodings[p] + noise[f] * exp(log_scales[p]) * noise_scale``, where the noise
    depends on (seed, stream, f, channel) alone: a window always equals the slice of the whole, bit for bit.

    With `gaussian_delta`, frame f is ``sum(w[p] * encodings[p])`` instead, where the weights are the softmax
    over all phonemes of ``-gaussian_delta * (f - centre[p])**2``, ``centre[p]`` being the middle of p.
    Phonemes that have together at most `GAUSSIAN_TOLERANCE` of the weight are left out: a frame so takes as
    long in a long sentence as in a short one, and again a window is the slice of the whole.

    Parameters
    ----------
    encodings : ndarray of shape (n_phonemes, n_channels), float32
        For VITS the prior mean. Kept without a copy where it is C-contiguous.
    durations : ndarray of shape (n_phonemes,), integers
        Frames per phoneme, 0 allowed.
    log_scales : ndarray of shape (n_phonemes, n_channels), float32, optional
        For VITS the prior's log standard deviation; None for a model that does not sample.
    noise_scale : float
        Factor on the standard deviation, >= 0. At 0 the frames are exact copies of the encodings.
    seed, stream : int
        Choose the noise; see `balacoon_tk.stages.random`.
    gaussian_delta : float, optional
        Sharpness of Gaussian upsampling, > 0, per frame squared; 0.1 in JETS. It goes without `log_scales`.

    Attributes
    ----------
    n_phonemes, n_channels, n_frames : int
        ``n_frames = sum(durations)``, at most `MAX_FRAMES`.
    phoneme_starts : ndarray of shape (n_phonemes + 1,), int64
        Phoneme p has the frames from ``phoneme_starts[p]`` to ``phoneme_starts[p + 1]``; read-only.

    Raises
    ------
    ParameterError
        If a shape or dtype is wrong, a value is not finite, a duration is negative, or there are too
        many frames.

    Examples
    --------
    >>> encodings = np.array([[1, 10], [2, 20]], np.float32)
    >>> upsampler = Upsampler(encodings, np.array([1, 3]))
    >>> upsampler.window(0, 3)
    array([[ 1.,  2.,  2.],
           [10., 20., 20.]], dtype=float32)
    """

    def __init__(
        self,
        encodings: FloatArray,
        durations: IntArray,
        *,
        log_scales: FloatArray | None = None,
        noise_scale: float = 0.0,
        seed: int = 0,
        stream: int = 0,
        gaussian_delta: float | None = None,
    ) -> None:
        self._encodings = _checked_matrix("encodings", encodings)
        self.n_phonemes, self.n_channels = self._encodings.shape
        self.phoneme_starts, self.n_frames = _phoneme_starts(durations, n_phonemes=self.n_phonemes)
        check_stream(seed=seed, stream=stream)
        self._seed, self._stream = seed, stream
        if not 0 <= noise_scale < math.inf:
            raise ParameterError(f"noise_scale={noise_scale} must be finite and >= 0")
        self._noise_scale = noise_scale
        # The exponential once for a phoneme, not for each of its frames.
        self._scales = None if log_scales is None else self._deviations(log_scales, noise_scale)
        self._delta = gaussian_delta
        if gaussian_delta is not None:
            if not 0 < gaussian_delta < math.inf:
                raise ParameterError(f"gaussian_delta={gaussian_delta} must be finite and > 0")
            if log_scales is not None:
                raise ParameterError("log_scales must be None with gaussian_delta: its frames are not drawn")
            durations = np.diff(self.phoneme_starts)  # what was given may be of a narrow type, and overflow
            self._centres = self.phoneme_starts[:-1] + durations / 2
            # Beyond this a weight is less than the tolerance's share of one phoneme, the largest being 1.
            self._cutoff = math.log(max(1, self.n_phonemes) / GAUSSIAN_TOLERANCE)

    def window(self, start: int, stop: int, out: FloatArray | None = None) -> FloatArray:
        """Return the frames [start, stop) in the decoder's layout.

        Parameters
        ----------
        start, stop : int
            Frames, 0 <= start <= stop <= n_frames.
        out : ndarray of shape (n_channels, stop - start), float32, optional
            Where to write; C-contiguous. A new array if None.

        Returns
        -------
        ndarray of shape (n_channels, stop - start), float32
            C-contiguous; `out` itself where it was given.

        Raises
        ------
        ParameterError
            If the window is not inside the sentence or `out` does not fit.
        """
        start, stop = operator.index(start), operator.index(stop)
        if not 0 <= start <= stop <= self.n_frames:
            raise ParameterError(
                f"[start, stop)=[{start}, {stop}) must satisfy 0 <= start <= stop <= n_frames={self.n_frames}"
            )
        shape = (self.n_channels, stop - start)
        if out is None:
            out = np.empty(shape, np.float32)
        else:
            _check_out(out, shape)
        if start == stop:
            return out  # the kernels take nothing empty
        if self._delta is None:
            drawn = (self._scales, self._noise_scale, self._seed, self._stream)
            _upsampler.expand(self._encodings, *drawn, self.phoneme_starts, start, out)
        else:
            # The last phoneme whose middle is before `start`, or the first one.
            nearest = max(0, bisect_left(self._centres, start) - 1)
            mixing = (self._centres, self._delta, self._cutoff, nearest)
            _upsampler.expand_gaussian(self._encodings, *mixing, start, np.empty(self.n_phonemes), out)
        return out

    def _deviations(self, log_scales: FloatArray, noise_scale: float) -> FloatArray | None:
        """Check the two factors on the noise, and return that of each phoneme; None if there is no noise."""
        log_scales = _checked_matrix("log_scales", log_scales)
        if log_scales.shape != self._encodings.shape:
            raise ParameterError(
                f"log_scales.shape={log_scales.shape} must be encodings.shape={self._encodings.shape}"
            )
        if noise_scale == 0:
            return None  # copies are exact, where adding 0 times noise would turn -0.0 to 0.0
        with np.errstate(over="ignore"):  # looked at in the next lines, with a better message
            scales: FloatArray = np.exp(log_scales)
            product = scales if noise_scale <= 1 else scales * np.float32(noise_scale)
        _check_finite("exp(log_scales) * noise_scale", product)
        return scales


def _checked_matrix(name: str, matrix: object) -> FloatArray:
    """Return `matrix` C-contiguous if it is a finite float32 one with channels."""
    if not isinstance(matrix, np.ndarray) or matrix.dtype != np.float32:
        raise ParameterError(f"{name}: {_kind(matrix)} must be a float32 array")
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ParameterError(f"{name}.shape={matrix.shape} must be (n_phonemes, n_channels), n_channels >= 1")
    # Kernels read rows, which an encoder that ends in a Transpose doesn't give.
    matrix = np.ascontiguousarray(matrix)
    _check_finite(name, matrix)
    return matrix


def _check_finite(name: str, matrix: FloatArray) -> None:
    if not all_finite(matrix):
        row, column = np.argwhere(~np.isfinite(matrix))[0].tolist()
        raise ParameterError(f"{name}[{row}, {column}]={matrix[row, column]} must be finite")


def _phoneme_starts(durations: object, *, n_phonemes: int) -> tuple[IntArray, int]:
    """Return where the frames of each phoneme begin, and how many there are in all."""
    if not isinstance(durations, np.ndarray) or durations.dtype.kind not in "iu":
        raise ParameterError(f"durations: {_kind(durations)} must be an integer array")
    if durations.shape != (n_phonemes,):
        raise ParameterError(f"durations.shape={durations.shape} must be (n_phonemes,)=({n_phonemes},)")
    numbers = durations.astype(np.int64, order="C", copy=False)  # what doesn't fit becomes negative
    n_frames = sum_within(numbers, MAX_FRAMES)
    if n_frames < 0:
        i = int(((durations < 0) | (durations > MAX_FRAMES)).argmax())
        raise ParameterError(f"durations[{i}]={durations[i]} must be in [0, MAX_FRAMES={MAX_FRAMES}]")
    if n_frames > MAX_FRAMES:
        raise ParameterError(f"sum(durations)={n_frames} must be <= MAX_FRAMES={MAX_FRAMES}")
    starts = np.empty(n_phonemes + 1, np.int64)
    _upsampler.add_up(numbers, starts)
    starts.flags.writeable = False  # it is handed out, and kernels trust it
    return starts, n_frames


def _check_out(out: object, shape: tuple[int, int]) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != np.float32 or out.shape != shape:
        raise ParameterError(f"out: {_kind(out)} must be a float32 array of shape {shape}")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise ParameterError("out must be C-contiguous and writeable")


def _kind(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of shape {value.shape}"
    return type(value).__name__
