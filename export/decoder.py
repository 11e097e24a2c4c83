"""A decoder of torch in one call: as a graph, or as a voice without a frontend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ParameterError
from balacoon_tk.export.pipeline import READ, check_max_frames, export_trained
from balacoon_tk.export.sources import Progress, VocoderFacts
from balacoon_tk.export.sources.onnx_vocoder import draw_codes
from balacoon_tk.stages.mel import MelInfo
from balacoon_tk.voice.finish import ignore_progress, share_of
from balacoon_tk.voice.install import check_target

if TYPE_CHECKING:
    from torch.nn import Module  # noqa: TID251 - its name alone

_WHAT = "a decoder of torch"


@overload
def export_decoder(
    module: Module,
    example: AnyArray | Mapping[str, AnyArray],
    out: None = None,
    *,
    time_axes: Mapping[str, int] | None = None,
    exporter: str | None = None,
) -> onnx.ModelProto: ...


@overload
def export_decoder(
    module: Module,
    example: AnyArray | Mapping[str, AnyArray],
    out: str | os.PathLike[str],
    *,
    sample_rate: int,
    mel: MelInfo | None = None,
    codebook_size: int | None = None,
    name: str | None = None,
    license: str = "unknown",
    exporter: str | None = None,
    max_frames: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Path: ...


def export_decoder(
    module: Module,
    example: AnyArray | Mapping[str, AnyArray],
    out: str | os.PathLike[str] | None = None,
    *,
    time_axes: Mapping[str, int] | None = None,
    sample_rate: int | None = None,
    mel: MelInfo | None = None,
    codebook_size: int | None = None,
    name: str | None = None,
    license: str = "unknown",
    exporter: str | None = None,
    max_frames: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> onnx.ModelProto | Path:
    """Turn a module of torch that gives samples into a graph, or with `out` into a vocoder or codec.

    The graph was compared with the module at other lengths than it was traced at. The module is not changed;
    weight norm is folded into the weights.

    Parameters
    ----------
    module : Module
        Maps mel frames, latents or codes to samples. For a voice it maps frames (1, n_channels, n_frames) to
        (1, 1, n_samples) or (1, n_samples).
    example : ndarray or mapping of str to ndarray
        Inputs such as it was trained on: one, of shape (n_channels, n_frames) or with a batch of 1 before it,
        which is called ``frames``; or all by name, in the module's order and as it takes them. The lengths of
        several say how many steps each has for a frame. What it is verified with is drawn to be like them.
    out : path, optional
        The vocoder's folder, or a single file ending in ``.addon``; with None the graph is returned.
    time_axes : mapping of str to int, optional
        The time axis of each input that has one; the last axis of each if None. Not for a voice.
    sample_rate : int, optional
        Hz; for a voice.
    mel : MelInfo, optional
        What the frames are, so that recordings can be resynthesized; for a voice.
    codebook_size : int, optional
        For a voice whose frames are codes, int64: how many there are in a codebook.
    name : str, optional
        Name of the vocoder; that of the module's class if None.
    license : str
        Licence of the weights.
    exporter : str, optional
        ``torchscript``, which follows an example, or ``dynamo``, which keeps lengths as symbols; with None
        the first of them whose graph says the same as the module.
    max_frames, overwrite, progress
        For a voice, as in `export_voice`.

    Returns
    -------
    ModelProto or Path
        The graph, with the inputs' names and the output ``samples``; or `out`.

    Raises
    ------
    MissingExtraError
        If torch isn't installed.
    ParameterError
        If something is at `out` that must not be replaced, or an argument is wrong.
    ModelError
        If torch can't export the module, or its graph differs from it, as where a length is frozen.
    OSError
        If the vocoder can't be written.
    """
    from balacoon_tk.export.sources.torch_decoder import Example, export_module, vocoder_of
    from balacoon_tk.export.sources.torch_graph import plain_copy, quiet_torch

    arrays = _arrays(example)
    inputs = Example(arrays, dict.fromkeys(arrays, -1) if time_axes is None else dict(time_axes))
    label = type(module).__name__
    if out is None:
        with quiet_torch(_WHAT):
            return export_module(
                plain_copy(module),
                inputs.draw,
                time_axes=inputs.time_axes,
                label=label,
                one_channel=False,
                exporter=exporter,
            )
    target, report = Path(out), progress or ignore_progress
    check_target(target, overwrite=overwrite)
    check_max_frames(max_frames)
    _check_voice(arrays, time_axes, sample_rate, codebook_size)
    facts = VocoderFacts(
        name=name or label,
        license=license,
        sample_rate=sample_rate or 0,
        mel=mel,
        provenance={"source_module": f"{type(module).__module__}.{type(module).__qualname__}"},
        codebook_size=codebook_size,
    )
    ((_, frames),) = arrays.items()

    def draw(n_frames: int, seed: int) -> AnyArray:
        if codebook_size is not None:
            return draw_codes(codebook_size, frames.shape[1], n_frames, seed=seed)
        return next(iter(inputs.draw(n_frames, seed).values()))

    with quiet_torch(_WHAT):
        plain = plain_copy(module)
        trained = vocoder_of(
            plain,
            draw,
            facts=facts,
            label=label,
            n_bytes=sum(tensor.nbytes for tensor in plain.state_dict().values()),
            progress=share_of(report, 0.0, READ),
            what=_WHAT,
            exporter=exporter,
        )
    return export_trained(trained, target, max_frames=max_frames, overwrite=overwrite, progress=report)


def _arrays(example: AnyArray | Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    if isinstance(example, Mapping):
        return dict(example)
    if example.ndim == 2:
        example = example[np.newaxis]
    if example.ndim != 3 or len(example) != 1:
        raise ParameterError(
            f"example of shape {example.shape} must be (n_channels, n_frames), or several inputs by name"
        )
    return {"frames": example}


def _check_voice(
    arrays: Mapping[str, AnyArray],
    time_axes: Mapping[str, int] | None,
    sample_rate: int | None,
    codebook_size: int | None,
) -> None:
    if list(arrays) != ["frames"] or time_axes is not None:
        raise ParameterError(
            f"example {', '.join(arrays)}: a voice's decoder takes one array, (n_channels, n_frames), with "
            "time last; let the module's forward make the others of it, or leave out=None for a graph alone"
        )
    if sample_rate is None or sample_rate < 1:
        raise ParameterError(f"sample_rate={sample_rate} must be >= 1")
    frames = arrays["frames"]
    wanted = np.float32 if codebook_size is None else np.int64
    if frames.dtype != wanted:
        raise ParameterError(
            f"example of {frames.dtype} must be {np.dtype(wanted)} with codebook_size={codebook_size}: "
            "frames are float32, and codes are int64, below codebook_size"
        )
    if codebook_size is not None and not 0 <= frames.min() <= frames.max() < codebook_size:
        raise ParameterError(f"example has codes that are not in [0, codebook_size={codebook_size})")
