"""Judges of speech that come in wheels and are no metrics of the package: DistillMOS and ViSQOL."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.metrics.signal import as_signal
from balacoon_tk.metrics.speech import EVAL_RATE, at_eval_rate


def distillmos(samples: AnyArray, *, sample_rate: int) -> float:
    """Return the opinion, 1 to 5, that DistillMOS predicts of speech, without a reference.

    Windows of 7.68 s are averaged.

    References
    ----------
    B. Stahl and H. Gamper, "Distillation and pruning for scalable self-supervised representation-based speech
    quality assessment", ICASSP 2025.
    """
    import torch

    signal = at_eval_rate(as_signal("samples", samples), sample_rate).astype(np.float32)
    with torch.inference_mode():
        return float(_distillmos_model()(torch.from_numpy(signal)[None]))


def visqol(samples: AnyArray, reference: AnyArray, *, sample_rate: int) -> float:
    """Return the opinion, 1 to 5, that ViSQOL v3 predicts of speech beside a reference.

    Equal signals get the highest one.

    References
    ----------
    M. Chinen et al., "ViSQOL v3: An open source production ready objective speech and audio metric", QoMEX
    2020.
    """
    # Float64 all through: an alignment is found by correlation. In silence of half a second, as ViSQOL asks
    # for: a short sentence alone is less than one of its patches.
    x, r = (
        np.pad(at_eval_rate(as_signal(n, s), sample_rate), EVAL_RATE // 2)
        for n, s in (("samples", samples), ("reference", reference))
    )
    return float(_visqol_model().measure_from_arrays(r, x, EVAL_RATE).moslqo)


@cache
def _distillmos_model() -> Any:
    with _something_called("torchaudio"):
        from distillmos import ConvTransformerSQAModel

    # It says on stdout where its weights are.
    with contextlib.redirect_stdout(io.StringIO()):
        return ConvTransformerSQAModel().eval()


@contextlib.contextmanager
def _something_called(name: str) -> Iterator[None]:
    """Let a module be imported that isn't installed: DistillMOS wants it for its command line alone."""
    if find_spec(name) is not None:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        # Others look whether it is there, and would find this.
        del sys.modules[name]


@cache
def _visqol_model() -> Any:
    from visqol import VisqolApi

    model = VisqolApi()
    # The fitted polynomial; the lattice of the C++ program needs another runtime.
    model.create(mode="speech", use_lattice_model=False)
    return model
