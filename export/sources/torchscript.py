"""Vocoders from torch: mel spectrogram in, samples out, as one ONNX graph with a dynamic time axis.

Torch is imported here only, inside of the function that needs it. The exporter is the one that
reads TorchScript, because a ``torch.jit`` file can't be read by any other; tracing fixes whatever
depends on the example's length, so the graph is run against the module at other lengths before
anybody gets to see it.
"""

from __future__ import annotations

import contextlib
import copy
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.session import Session

if TYPE_CHECKING:
    from torch.nn import Module

__all__ = ["MAX_ABS_DIFF", "export_vocoder"]

MAX_ABS_DIFF = 1e-4
"""Largest difference of samples to the torch module's that is put down to floating point."""

_OPSET = 17
_TRACED_FRAMES = 16
_VERIFIED_FRAMES = (19, 40)
# Log mels of speech lie about here; standard normal ones make clipped noise, which hides differences.
_MEL_MEAN, _MEL_DEVIATION = -5.0, 2.0


def export_vocoder(model: str | os.PathLike[str] | Module, *, n_mels: int = 80) -> onnx.ModelProto:
    """Turn a mel vocoder of torch into ONNX.

    Parameters
    ----------
    model : path or Module
        A TorchScript file, or a module, scripted or not, that maps (1, n_mels, n_frames) to
        (1, 1, n_samples). It is not changed; weight norm is folded into the weights.
    n_mels : int
        Channels of the mel spectrogram.

    Returns
    -------
    ModelProto
        ``mel`` (1, n_mels, n_frames) float32 to ``samples`` (1, 1, n_samples) float32.
        `balacoon_tk.export.streaming.make_streaming` takes it as it is.

    Raises
    ------
    MissingExtraError
        If torch isn't installed.
    ParameterError
        If `n_mels` is below 1.
    ModelError
        If there is no such file or it isn't TorchScript, if the module doesn't take or give what
        it should, if torch can't export it, or if the graph differs by more than `MAX_ABS_DIFF`.
    """
    if n_mels < 1:
        raise ParameterError(f"n_mels={n_mels} must be >= 1")
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("a vocoder from torch", extra="export") from error
    with _quiet(), torch.no_grad():
        module = _load(model) if isinstance(model, (str, os.PathLike)) else _plain_copy(model)
        references = [_run(module, _random_mel(n_mels, n)) for n in _VERIFIED_FRAMES]
        try:
            proto = _export(module, n_mels)
        except Exception as error:  # a dozen unrelated types
            raise ModelError(f"torch can't export {_label(model)} to ONNX: {error}") from error
    _verify(proto, references, n_mels, _label(model))
    return proto


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep back what torch says about TorchScript's age, and about tracing, which `_verify` answers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _label(model: object) -> str:
    return str(Path(model)) if isinstance(model, (str, os.PathLike)) else type(model).__name__


def _load(path: str | os.PathLike[str]) -> Module:
    import torch

    if not Path(path).is_file():
        raise ModelError(f"{path}: no such file")
    try:
        module: Module = torch.jit.load(os.fspath(path), map_location="cpu")
    except Exception as error:  # RuntimeError, pickle's and zip's errors
        raise ModelError(f"{path}: not TorchScript that this torch can read: {error}") from error
    return module.eval()


def _plain_copy(model: Module) -> Module:
    """Return a copy for inference on the CPU, without weight norm, old or new."""
    import torch
    from torch.nn.utils import parametrize
    from torch.nn.utils.weight_norm import WeightNorm

    for part in model.modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, WeightNorm):
                hook(part, ())  # as before a run: the weight it left in a training step can't be copied
    module: Module = copy.deepcopy(model).to("cpu").eval()
    if isinstance(module, torch.jit.ScriptModule):
        return module
    for part in list(module.modules()):
        with contextlib.suppress(ValueError):  # it has none of the old kind
            torch.nn.utils.remove_weight_norm(part)
        if parametrize.is_parametrized(part):
            # By hand: torch's own way alters the class, which the copy shares with the caller's module.
            values = {name: getattr(part, name) for name in part.parametrizations}
            plain = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            part.__class__ = plain
            for name, value in values.items():
                setattr(part, name, torch.nn.Parameter(value))
    return module


def _export(module: Module, n_mels: int) -> onnx.ModelProto:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocoder.onnx"
        torch.onnx.export(
            module,
            (torch.from_numpy(_random_mel(n_mels, _TRACED_FRAMES)),),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["mel"],
            output_names=["samples"],
            dynamic_axes={"mel": {2: "n_frames"}, "samples": {2: "n_samples"}},
        )
        return onnx.load(path)


def _random_mel(n_mels: int, n_frames: int) -> FloatArray:
    rng = np.random.default_rng(n_frames)
    mel = rng.standard_normal((1, n_mels, n_frames)) * _MEL_DEVIATION + _MEL_MEAN
    return mel.astype(np.float32)


def _run(module: Module, mel: FloatArray) -> FloatArray:
    import torch

    try:
        samples = module(torch.from_numpy(mel))
    except Exception as error:  # whatever the module's own code raises
        raise ModelError(f"the module doesn't take a mel of shape {mel.shape}: {error}") from error
    if not isinstance(samples, torch.Tensor) or samples.ndim != 3 or tuple(samples.shape[:2]) != (1, 1):
        found = tuple(samples.shape) if isinstance(samples, torch.Tensor) else type(samples).__name__
        raise ModelError(f"the module gives {found}: must be samples of shape (1, 1, n_samples)")
    array: FloatArray = samples.numpy()
    return array


def _verify(
    proto: onnx.ModelProto,
    references: list[FloatArray],
    n_mels: int,
    label: str,
) -> None:
    """Run the graph against what the module gave, at lengths that it wasn't traced at."""
    session = Session(proto)
    for n_frames, expected in zip(_VERIFIED_FRAMES, references, strict=True):
        samples = session.run({"mel": _random_mel(n_mels, n_frames)})["samples"]
        if samples.shape != expected.shape:
            raise ModelError(
                f"{label}: {n_frames} frames give samples of shape {samples.shape} in ONNX and "
                f"{expected.shape} in torch: something in the module depends on the length in Python code"
            )
        difference = float(np.abs(samples - expected).max(initial=0.0))
        if not difference <= MAX_ABS_DIFF:
            raise ModelError(
                f"{label}: the samples of {n_frames} frames differ by {difference:.2g} between ONNX and "
                f"torch: must be at most {MAX_ABS_DIFF:g}"
            )
