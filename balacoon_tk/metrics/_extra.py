"""Packages of the extra `eval`: imported when a metric is called, named when they are missing."""

from __future__ import annotations

import importlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.metrics.signal import as_signal

EVAL_RATE = 16000
"""Hz; what recognisers and judges of speech were trained on."""


def import_eval(module: str, *, what: str) -> Any:
    """Import a package of the extra `eval`.

    Parameters
    ----------
    module : str
        Its name in Python.
    what : str
        What needs it, for the error.

    Raises
    ------
    MissingExtraError
        If it, or something that it needs itself, isn't installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what they deprecate is not the caller's concern
            return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra="eval") from error


def resample(samples: NDArray[np.float64], sample_rate: int, target_rate: int) -> NDArray[np.float64]:
    """Return the samples at another rate (soxr, high quality), of length ``ceil(n * target / rate)``."""
    if sample_rate < 1:
        raise ParameterError(f"sample_rate={sample_rate} must be >= 1")
    if sample_rate == target_rate:
        return samples
    librosa = import_eval("librosa", what="resampling")
    resampled: NDArray[np.float64] = librosa.resample(samples, orig_sr=sample_rate, target_sr=target_rate)
    return resampled


def trained_rate(samples: AnyArray, sample_rate: int) -> FloatArray:
    """Return samples as a model for speech at 16 kHz takes them: float32 in [-1, 1], never all zeros.

    Raises
    ------
    ParameterError
        If they are no samples, or silence throughout, of which nothing can be judged.
    """
    signal = resample(as_signal("samples", samples), sample_rate, EVAL_RATE)
    if not signal.any():
        raise ParameterError("samples must not be silent throughout: there is nothing to judge")
    return np.clip(signal, -1.0, 1.0).astype(np.float32)
