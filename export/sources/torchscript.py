"""Vocoders from torch: frames in, samples out, as one ONNX graph with a dynamic time axis.

Torch is imported here only, inside of the functions that need it. The exporter is the one that
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
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError
from balacoon_tk.export.sources.onnx_vocoder import random_mel, read_facts
from balacoon_tk.export.sources.source import Progress, SourceVocoder, VocoderFacts
from balacoon_tk.export.sources.vocoder_graph import find_layout, to_decoder
from balacoon_tk.export.sources.vocoder_json import read_vocoder_json
from balacoon_tk.runtime.session import Session

if TYPE_CHECKING:
    from torch.nn import Module

MAX_ABS_DIFF = 1e-4
"""Largest difference of samples to the torch module's that is put down to floating point."""

_OPSET = 17
_TRACED_FRAMES = 16
_VERIFIED_FRAMES = (19, 40)
_N_MELS = 80

_Draw = Callable[[int, int], FloatArray]
"""Frames (1, n_channels, n_frames) by their number and a seed."""


class TorchScript:
    """Reads a vocoder from torch: ``vocoder.ts``, a mel spectrogram to samples, and ``vocoder.ts.json``."""

    _SUFFIXES = frozenset({".ts", ".jit", ".pt", ".pth"})

    def claims(self, path: Path) -> bool:
        """Say whether a path has the name of a file of torch."""
        return path.suffix.lower() in self._SUFFIXES and path.is_file()

    def read(self, path: Path, *, config: Path | None, progress: Progress) -> SourceVocoder:
        """Read a vocoder; nothing in the file is unpickled.

        Raises
        ------
        MissingExtraError
            If torch isn't installed.
        ModelError
            If the file isn't TorchScript, or no vocoder.
        VoiceError
            If the JSON is missing or damaged.
        """
        progress("reading", 0.0)
        _check_script(path)
        with quiet_torch("a vocoder from torch"):
            module = _load(path)
            said = read_vocoder_json(config or path.with_name(f"{path.name}.json"))
            n_mels = said.mel.n_mels if said.mel else said.n_channels or _N_MELS
            return _to_source(
                module,
                facts=read_facts(path, said),
                draw=lambda n_frames, seed: random_mel(n_mels, n_frames, seed=seed),
                label=str(path),
                n_bytes=path.stat().st_size,
                progress=progress,
            )


def read_module(
    module: Module, example_frames: FloatArray, *, facts: VocoderFacts, progress: Progress
) -> SourceVocoder:
    """Read a module of torch that turns frames into samples.

    Parameters
    ----------
    module : Module
        Maps (1, n_channels, n_frames) to (1, 1, n_samples) or (1, n_samples). It is not changed.
    example_frames : ndarray of shape (n_channels, n_frames), float32
        Frames such as it was trained on; others are drawn with their mean and deviation, channel by channel.
    facts : VocoderFacts
    progress : callable

    Raises
    ------
    MissingExtraError
        If torch isn't installed.
    ParameterError
        If the example doesn't fit.
    ModelError
        If the module can't be exported, or its graph differs from it.
    """
    if example_frames.ndim != 2 or not example_frames.size or example_frames.dtype != np.float32:
        raise ParameterError(
            f"example_frames of shape {example_frames.shape}, {example_frames.dtype} must be "
            "(n_channels, n_frames), float32, not empty"
        )
    mean, deviation = example_frames.mean(axis=1, keepdims=True), example_frames.std(axis=1, keepdims=True)

    def draw(n_frames: int, seed: int) -> FloatArray:
        normal = np.random.default_rng(seed).standard_normal((len(mean), n_frames), np.float32)
        frames: FloatArray = (mean + normal * deviation)[None]
        return frames

    with quiet_torch("a vocoder from torch"):
        plain = plain_copy(module)
        return _to_source(
            plain,
            facts=facts,
            draw=draw,
            label=type(module).__name__,
            n_bytes=sum(tensor.nbytes for tensor in plain.state_dict().values()),
            progress=progress,
        )


def export_vocoder(model: str | os.PathLike[str] | Module, *, n_mels: int = _N_MELS) -> onnx.ModelProto:
    """Turn a mel vocoder of torch into ONNX.

    Parameters
    ----------
    model : path or Module
        A TorchScript file, or a module, scripted or not, that maps (1, n_mels, n_frames) to
        (1, 1, n_samples) or (1, n_samples). It is not changed; weight norm is folded into the weights.
    n_mels : int
        Channels of the mel spectrogram.

    Returns
    -------
    ModelProto
        ``mel`` (1, n_mels, n_frames) float32 to ``samples``, of the module's shape, float32.
        `balacoon_tk.graph.streaming.make_streaming` takes it as it is.

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
    with quiet_torch("a vocoder from torch"):
        if isinstance(model, (str, os.PathLike)):
            _check_script(Path(model))
            module, label = _load(Path(model)), str(model)
        else:
            module, label = plain_copy(model), type(model).__name__
        return _to_onnx(module, lambda n_frames, seed: random_mel(n_mels, n_frames, seed=seed), label)


@contextlib.contextmanager
def quiet_torch(what: str) -> Iterator[None]:
    """Run torch without gradients, and without what it says about tracing and TorchScript's age.

    Raises
    ------
    MissingExtraError
        If torch isn't installed; `what` needs it.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(what, extra="export") from error
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        yield


def plain_copy(model: Module) -> Module:
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


def first_line(error: Exception) -> str:
    """Return what an error of torch says before it prints tensors and graphs."""
    return str(error).strip().partition("\n")[0]


def _to_source(
    module: Module, *, facts: VocoderFacts, draw: _Draw, label: str, n_bytes: int, progress: Progress
) -> SourceVocoder:
    progress("exporting from torch", 0.2)
    proto = _to_onnx(module, draw, label)
    progress("exporting from torch", 1.0)
    layout = find_layout(proto, n_channels=draw(1, 0).shape[1])

    def run(frames: FloatArray) -> FloatArray:
        with quiet_torch("a vocoder from torch"):
            return _run(module, frames).reshape(-1)

    return SourceVocoder(
        facts=facts,
        decoder=to_decoder(proto, layout),
        n_channels=layout.n_channels,
        reference=run,
        draw_frames=draw,
        n_bytes=n_bytes,
    )


def _load(path: Path) -> Module:
    import torch

    try:
        module: Module = torch.jit.load(os.fspath(path), map_location="cpu")
    except Exception as error:  # RuntimeError, pickle's and zip's errors
        raise ModelError(f"{path}: not TorchScript that this torch can read: {error}") from error
    return module.eval()


def _check_script(path: Path) -> None:
    """Tell TorchScript from other files of torch by what is in it, before torch is asked."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file")
    names = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    if not any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            f"{path}: not TorchScript. A checkpoint is a pickle, which may run code, so it is not unpickled, "
            "and it holds weights without their module: build that, give it the weights by "
            "torch.load(..., weights_only=True), and call balacoon_tk.export.export_decoder"
        )


def _to_onnx(module: Module, draw: _Draw, label: str) -> onnx.ModelProto:
    """Export a module, and run the graph against it."""
    references = [_run(module, draw(n_frames, n_frames)) for n_frames in _VERIFIED_FRAMES]
    try:
        proto = _export(module, draw(_TRACED_FRAMES, 0), time_axis=references[0].ndim - 1)
    except Exception as error:  # a dozen unrelated types
        raise ModelError(f"torch can't export {label} to ONNX: {first_line(error)}") from error
    _verify(proto, references, draw, label)
    return proto


def _export(module: Module, frames: FloatArray, *, time_axis: int) -> onnx.ModelProto:
    import torch

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocoder.onnx"
        torch.onnx.export(
            module,
            (torch.from_numpy(frames),),
            path,
            dynamo=False,
            opset_version=_OPSET,
            input_names=["mel"],
            output_names=["samples"],
            dynamic_axes={"mel": {2: "n_frames"}, "samples": {time_axis: "n_samples"}},
        )
        return onnx.load(path)


def _run(module: Module, frames: FloatArray) -> FloatArray:
    import torch

    try:
        samples = module(torch.from_numpy(frames))
    except Exception as error:  # whatever the module's own code raises
        raise ModelError(f"the module doesn't take a mel of shape {frames.shape}: {error}") from error
    is_tensor = isinstance(samples, torch.Tensor)
    if not is_tensor or samples.ndim not in (2, 3) or samples.numel() != samples.shape[-1]:
        found = tuple(samples.shape) if is_tensor else type(samples).__name__
        raise ModelError(f"the module gives {found}: must be samples of shape (1, 1, n_samples)")
    array: FloatArray = samples.numpy()
    return array


def _verify(proto: onnx.ModelProto, references: list[FloatArray], draw: _Draw, label: str) -> None:
    """Run the graph against what the module gave, at lengths that it wasn't traced at."""
    session = Session(proto)
    for n_frames, expected in zip(_VERIFIED_FRAMES, references, strict=True):
        samples = session.run({"mel": draw(n_frames, n_frames)})["samples"]
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
