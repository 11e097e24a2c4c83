"""Vocoders from torch: frames in, samples out, as one ONNX graph with a dynamic time axis.

A file of TorchScript, or a module that the caller has built, is run at two lengths, traced at a third, and
the graph is run against what the module gave, before anybody gets to see it. Rejected are pickles (they may
run code), modules that give anything but one channel of samples, and those whose Python code depends on the
number of frames.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from balacoon_tk._typing import FloatArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.sources.onnx_vocoder import find_layout, random_mel, read_vocoder_json, to_decoder
from balacoon_tk.export.sources.source import Progress, SourceVocoder, VocoderFacts
from balacoon_tk.export.sources.torch_graph import plain_copy, quiet_torch, trace
from balacoon_tk.runtime.session import Session

if TYPE_CHECKING:
    from torch.nn import Module

_MAX_ABS_DIFF = 1e-4  # as in the verification that follows
_WHAT = "a vocoder from torch"
# Lengths of which none divides another: what is frozen at one of them shows at the others.
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
        """Read a vocoder; nothing in the file is unpickled; see `Source.read`."""
        progress("reading", 0.0)
        _check_script(path)
        with quiet_torch(_WHAT):
            import torch

            try:
                module = torch.jit.load(os.fspath(path), map_location="cpu").eval()
            except Exception as error:  # RuntimeError, pickle's and zip's errors
                raise ModelError(f"{path}: not TorchScript that this torch can read: {error}") from error
            facts, n_channels, _ = read_vocoder_json(config, vocoder=path)
            return _to_source(
                module,
                facts=facts,
                # A script doesn't say how many channels it takes; most vocoders' mels have 80.
                draw=lambda n_frames, seed: random_mel(n_channels or _N_MELS, n_frames, seed=seed),
                label=str(path),
                n_bytes=path.stat().st_size,
                progress=progress,
            )


def read_module(
    module: Module, example_frames: FloatArray, *, facts: VocoderFacts, progress: Progress
) -> SourceVocoder:
    """Read a module, which is not changed; frames are drawn like the example's, channel by channel."""
    if example_frames.ndim != 2 or not example_frames.size or example_frames.dtype != np.float32:
        raise ParameterError(
            f"example_frames of shape {example_frames.shape}, {example_frames.dtype} must be "
            "(n_channels, n_frames), float32, not empty"
        )
    # Other lengths are needed than the example's, and a piece of it would always end in the same way.
    mean, deviation = example_frames.mean(axis=1, keepdims=True), example_frames.std(axis=1, keepdims=True)

    def draw(n_frames: int, seed: int) -> FloatArray:
        normal = np.random.default_rng(seed).standard_normal((len(mean), n_frames), np.float32)
        frames: FloatArray = (mean + normal * deviation)[None]
        return frames

    with quiet_torch(_WHAT):
        plain = plain_copy(module)
        return _to_source(
            plain,
            facts=facts,
            draw=draw,
            label=type(module).__name__,
            n_bytes=sum(tensor.nbytes for tensor in plain.state_dict().values()),
            progress=progress,
        )


def _to_source(
    module: Module, *, facts: VocoderFacts, draw: _Draw, label: str, n_bytes: int, progress: Progress
) -> SourceVocoder:
    import torch

    progress("exporting from torch", 0.2)
    # Run before it is traced: what it raises then is its own error, and not the exporter's.
    runs = [(frames, _run(module, frames)) for frames in (draw(n, n) for n in _VERIFIED_FRAMES)]
    # Tracing tells nothing of how far it is, and takes seconds.
    proto = trace(
        module,
        {"mel": torch.from_numpy(draw(_TRACED_FRAMES, 0))},
        axes={"mel": {2: "n_frames"}, "samples": {runs[0][1].ndim - 1: "n_samples"}},
        outputs=["samples"],
        what=label,
    )
    session = Session(proto)
    for frames, expected in runs:
        samples, n_frames = session.run({"mel": frames})["samples"], frames.shape[-1]
        if samples.shape != expected.shape:
            raise ModelError(
                f"{label}: {n_frames} frames give samples of shape {samples.shape} in ONNX and "
                f"{expected.shape} in torch: something in the module depends on the length in Python code"
            )
        difference = float(np.abs(samples - expected).max(initial=0.0))
        # Turned round, so that NaN is refused too.
        if not difference <= _MAX_ABS_DIFF:
            raise ModelError(
                f"{label}: the samples of {n_frames} frames differ by {difference:.2g} between ONNX and "
                f"torch: must be at most {_MAX_ABS_DIFF:g}"
            )
    progress("exporting from torch", 1.0)
    layout = find_layout(proto, n_channels=draw(1, 0).shape[1])

    def run(frames: FloatArray) -> FloatArray:
        with quiet_torch(_WHAT):
            return _run(module, frames).reshape(-1)

    return SourceVocoder(
        facts=facts,
        decoder=to_decoder(proto, layout),
        n_channels=layout.n_channels,
        reference=run,
        draw_frames=draw,
        n_bytes=n_bytes,
    )


def _check_script(path: Path) -> None:
    """Tell TorchScript from other files of torch by what is in it, before torch is asked."""
    # Both are zip files; a script's constants are its own, a checkpoint has data.pkl alone.
    names: list[str] = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    if not any(name.endswith("/constants.pkl") for name in names):
        raise ModelError(
            f"{path}: not TorchScript. A checkpoint is a pickle, which may run code, so it is not unpickled, "
            "and it holds weights without their module: build that, give it the weights by "
            "torch.load(..., weights_only=True), and call balacoon_tk.export.export_decoder"
        )


def _run(module: Module, frames: FloatArray) -> FloatArray:
    import torch

    try:
        samples = module(torch.from_numpy(frames))
    except Exception as error:  # whatever the module's own code raises
        raise ModelError(f"the module doesn't take a mel of shape {frames.shape}: {error}") from error
    # One channel of a batch of one: stereo, and vocoders that also give a loss or features, are refused.
    is_tensor = isinstance(samples, torch.Tensor)
    if not is_tensor or samples.ndim not in (2, 3) or samples.numel() != samples.shape[-1]:
        found = tuple(samples.shape) if is_tensor else type(samples).__name__
        raise ModelError(f"the module gives {found}: must be samples of shape (1, 1, n_samples)")
    array: FloatArray = samples.numpy()
    return array
