"""Any decoder of torch as a graph that was compared with it, and as a vocoder.

A module is run at two lengths, traced at a third, and the graph is run against what the module gave. Torch's
exporters are tried in turn: the older one follows an example, and freezes what Python code makes of a length;
the newer one keeps lengths as symbols, and needs the package onnxscript. A graph that says the same at other
lengths is taken from whichever gives one. Noise that a module draws becomes inputs of the graph, and what the
module has drawn is given to the graph where both are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import onnx

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.sources.onnx_vocoder import find_layout, to_decoder
from balacoon_tk.export.sources.recorded_noise import recorded_noise
from balacoon_tk.export.sources.source import Progress, SourceVocoder, VocoderFacts
from balacoon_tk.export.sources.torch_exporters import choose_exporters
from balacoon_tk.export.sources.torch_graph import quiet_torch
from balacoon_tk.graph.simplify.noise import METADATA_KEY as NOISE_KEY
from balacoon_tk.graph.simplify.noise import noise_inputs
from balacoon_tk.runtime.session import Session

if TYPE_CHECKING:
    from torch.nn import Module

_MAX_ABS_DIFF = 1e-4  # as in the verification that follows
# Lengths of which none divides another: what is frozen at one of them shows at the others.
_TRACED_FRAMES = 16
_VERIFIED_FRAMES = (19, 40)

Draw = Callable[[int, int], Mapping[str, AnyArray]]
"""Inputs of a decoder, in its order, by their number of frames and a seed."""


@dataclass(frozen=True, slots=True)
class Example:
    """Inputs of a decoder such as it was trained on."""

    arrays: Mapping[str, AnyArray]
    """As the module takes them, in its order."""
    time_axes: Mapping[str, int]
    """The axis of each input that has time; the lengths there say how many steps each has for a frame."""

    def __post_init__(self) -> None:
        for name, axis in self.time_axes.items():
            if name not in self.arrays:
                raise ParameterError(f"time_axes names {name!r}: the inputs are {', '.join(self.arrays)}")
            array = self.arrays[name]
            if not -array.ndim <= axis < array.ndim:
                raise ParameterError(
                    f"time_axes[{name!r}]={axis} must be an axis of a tensor of rank {array.ndim}"
                )
            if not array.size:
                raise ParameterError(f"example {name!r} of shape {array.shape} must not be empty")
        if not self.time_axes:
            raise ParameterError("time_axes={} must name at least one input")

    def draw(self, n_frames: int, seed: int) -> dict[str, AnyArray]:
        """Draw inputs like the example's: normal ones channel by channel, and of integers whole steps."""
        rng = np.random.default_rng(seed)
        lengths = {name: self.arrays[name].shape[axis] for name, axis in self.time_axes.items()}
        frame = gcd(*lengths.values())
        drawn = dict(self.arrays)
        for name, axis in self.time_axes.items():
            array, n_steps = self.arrays[name], n_frames * (lengths[name] // frame)
            if array.dtype.kind != "f":
                # Only what was seen: of codes nobody knows how many there are.
                drawn[name] = np.take(array, rng.integers(0, lengths[name], n_steps), axis=axis)
                continue
            shape = [n_steps if k == axis % array.ndim else n for k, n in enumerate(array.shape)]
            mean, deviation = array.mean(axis=axis, keepdims=True), array.std(axis=axis, keepdims=True)
            drawn[name] = (mean + deviation * rng.standard_normal(shape)).astype(array.dtype)
        return drawn


def export_module(
    module: Module,
    draw: Draw,
    *,
    time_axes: Mapping[str, int],
    label: str,
    one_channel: bool = True,
    exporter: str | None = None,
) -> onnx.ModelProto:
    """Export a module that is plain already (`plain_copy`), by the first exporter whose graph says the same.

    Only by `exporter`, if one is named. A ModelError says what each exporter said; its messages call the
    module `label`.
    """
    exporters = choose_exporters(exporter)
    # Run before it is traced: what it raises then is its own error, and not the exporter's.
    expected = [_run(module, n, draw(n, n), one_channel=one_channel) for n in _VERIFIED_FRAMES]
    example, rank = dict(draw(_TRACED_FRAMES, 0)), expected[0].samples.ndim
    said: list[tuple[str, ModelError]] = []
    for name, export in exporters.items():
        try:
            proto = noise_inputs(export(module, example, time_axes, rank, label), time_inputs=time_axes)
            _compare(proto, expected, example, time_axes, label)
        except ModelError as error:
            said.append((name, error))
        else:
            return proto
    if len(said) == 1:
        raise said[0][1]
    each = "; ".join(f"{name}: {reason}" for name, reason in said)
    raise ModelError(f"{label}: none of torch's exporters gives a graph that is right. {each}")


@dataclass(frozen=True, slots=True)
class _Run:
    """What a module made of some frames."""

    n_frames: int
    feeds: Mapping[str, AnyArray]
    drawn: Sequence[AnyArray]
    """The noise that it has drawn, in order."""
    samples: AnyArray


def _run(module: Module, n_frames: int, feeds: Mapping[str, AnyArray], *, one_channel: bool) -> _Run:
    with recorded_noise() as drawn:
        samples = run_module(module, feeds, one_channel=one_channel)
    return _Run(n_frames, feeds, [tensor.numpy() for tensor in drawn], samples)


def _compare(
    proto: onnx.ModelProto,
    expected: Sequence[_Run],
    example: Mapping[str, AnyArray],
    time_axes: Mapping[str, int],
    label: str,
) -> None:
    session = Session(proto)
    traced = " and ".join(
        f"axis {axis % example[name].ndim} of {name!r} at {example[name].shape[axis]} steps"
        for name, axis in time_axes.items()
    )
    frozen = f"something in the module depends on the length in Python code, so that the graph froze {traced}"
    for run in expected:
        n_frames, theirs = run.n_frames, run.samples
        noise = [name for name in session.inputs if name not in run.feeds]
        if len(noise) != len(run.drawn):
            raise ModelError(
                f"{label}: the graph draws noise {len(noise)} times, the module {len(run.drawn)}"
            )
        feeds = {**run.feeds, **dict(zip(noise, run.drawn, strict=True))}
        try:
            # An input that the module doesn't use is none of the graph.
            samples = session.run({name: feeds[name] for name in session.inputs})["samples"]
        except ModelError as error:
            raise ModelError(
                f"{label}: {n_frames} frames run in torch and not in ONNX: {frozen} ({error})"
            ) from error
        if samples.shape != theirs.shape:
            raise ModelError(
                f"{label}: {n_frames} frames give samples of shape {samples.shape} in ONNX and "
                f"{theirs.shape} in torch: {frozen}"
            )
        difference = float(np.abs(samples - theirs).max(initial=0.0))
        # Turned round, so that NaN is refused too.
        if not difference <= _MAX_ABS_DIFF:
            raise ModelError(
                f"{label}: the samples of {n_frames} frames differ by {difference:.2g} between ONNX and "
                f"torch: must be at most {_MAX_ABS_DIFF:g}"
            )


def run_module(module: Module, feeds: Mapping[str, AnyArray], *, one_channel: bool = True) -> AnyArray:
    """Run a module on its inputs in their order, and return its samples."""
    import torch

    shapes = " and ".join(f"{name} of shape {array.shape}" for name, array in feeds.items())
    try:
        samples = module(*(torch.from_numpy(array) for array in feeds.values()))
    except Exception as error:  # whatever the module's own code raises
        raise ModelError(f"the module doesn't take {shapes}: {error}") from error
    is_tensor = isinstance(samples, torch.Tensor)
    found = tuple(samples.shape) if is_tensor else type(samples).__name__
    # Vocoders that also give a loss or features are refused.
    if not is_tensor or not samples.ndim:
        raise ModelError(f"the module gives {found}: must be samples of shape (1, 1, n_samples)")
    # One channel of a batch of one: not stereo.
    if one_channel and (samples.ndim not in (2, 3) or samples.numel() != samples.shape[-1]):
        raise ModelError(f"the module gives {found}: must be samples of shape (1, 1, n_samples)")
    array: AnyArray = samples.numpy()
    return array


def vocoder_of(
    module: Module,
    draw: Callable[[int, int], AnyArray],
    *,
    facts: VocoderFacts,
    label: str,
    n_bytes: int,
    progress: Progress,
    what: str,
    exporter: str | None = None,
) -> SourceVocoder:
    """Turn a plain module that maps frames (1, n_channels, n_frames) to samples into a vocoder."""
    progress("exporting from torch", 0.2)
    # Tracing tells nothing of how far it is, and takes seconds.
    proto = export_module(
        module,
        lambda n_frames, seed: {"mel": draw(n_frames, seed)},
        time_axes={"mel": 2},
        label=label,
        exporter=exporter,
    )
    progress("exporting from torch", 1.0)
    if NOISE_KEY in {item.key for item in proto.metadata_props}:
        raise ModelError(
            f"{label} draws noise, and the frames are all that a voice's decoder is given: let its forward "
            "take the noise from more channels of the frames, or export it as a graph, with noise as inputs"
        )
    layout = find_layout(proto, n_channels=draw(1, 0).shape[1])

    def run(frames: AnyArray) -> FloatArray:
        with quiet_torch(what):
            return run_module(module, {"mel": frames}).reshape(-1)

    return SourceVocoder(
        facts=facts,
        decoder=to_decoder(proto, layout),
        n_channels=layout.n_channels,
        reference=run,
        draw_frames=draw,
        n_bytes=n_bytes,
    )
