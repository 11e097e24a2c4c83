"""A Piper voice as it came, to compare with what is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.vits_seams import Seams, find_seams
from balacoon_tk.graph.edit import remove_unused
from balacoon_tk.runtime.session import Session


def parse(data: bytes) -> ir.Model:
    """Read a graph, so that nobody else has it."""
    # Values share their tensors, names included, with the message that they were read from.
    model: ir.Model = ir.from_proto(onnx.ModelProto.FromString(data))
    return model


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a scale goes in: an input, and its place in it."""

    input: str
    index: int


class PiperReference:
    """The whole graph: as it is on disk, and with its noise as inputs.

    Parameters
    ----------
    path : Path
        The voice as it came.
    whole : bytes
        The same graph, its constants lifted.
    """

    def __init__(self, path: Path, whole: bytes) -> None:
        model = parse(whole)
        seams = find_seams(model.graph)
        self._inputs = {value.name or "": value for value in model.graph.inputs}
        self._ids = seams.phonemes.input.name or ""
        self._lengths = None if seams.lengths is None else seams.lengths.name
        self._speaker = None if seams.speakers is None else seams.speakers.input.name
        self._slots = _find_slots(seams)
        self._samples = seams.samples.name or ""
        self._path, self._whole = path, whole
        self._plain: Session | None = None
        self._noisy: Session | None = None

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise, by the file as it came."""
        if self._plain is None:
            self._plain = Session(self._path)
        feeds = self._feeds(phoneme_ids, speaker_id, length_scale=length_scale)
        return _flat(self._plain.run(feeds, [self._samples])[self._samples])

    def run_with_noise(
        self,
        phoneme_ids: IntArray,
        *,
        speaker_id: int,
        length_scale: float,
        duration_noise: FloatArray,
        frame_noise: FloatArray,
        noise_scale: float,
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given."""
        if self._noisy is None:
            self._noisy = _with_noise_inputs(parse(self._whole), durations_only=False)
        feeds = self._feeds(
            phoneme_ids, speaker_id, length_scale=length_scale, noise_w=1.0, noise_scale=noise_scale
        )
        samples, durations = _run(self._noisy, feeds, duration_noise, frame_noise)
        return _flat(samples), durations.reshape(-1)

    def exact_durations(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, duration_noise: FloatArray
    ) -> AnyArray:
        """Return the durations before they are rounded up."""
        session = _with_noise_inputs(parse(self._whole), durations_only=True)
        feeds = self._feeds(phoneme_ids, speaker_id, length_scale=length_scale, noise_w=1.0)
        return _run(session, feeds, duration_noise, None)[0].reshape(-1)

    def _feeds(self, ids: IntArray, speaker_id: int, **scales: float) -> dict[str, AnyArray]:
        feeds: dict[str, AnyArray] = {}
        for name, value in self._inputs.items():
            shape = [n if isinstance(n, int) else 1 for n in value.shape or ()]
            dtype = (value.dtype or ir.DataType.FLOAT).numpy()
            feeds[name] = np.zeros(shape, dtype)
            if name == self._ids:
                feeds[name] = ids[None].astype(dtype)
            elif name == self._lengths:
                feeds[name] = np.full(shape, len(ids), dtype)
            elif name == self._speaker:
                feeds[name] = np.full(shape, speaker_id, dtype)
        for role, slot in self._slots.items():
            feeds[slot.input].reshape(-1)[slot.index] = scales.get(role, 0.0)
        return feeds


def _flat(samples: AnyArray) -> FloatArray:
    return samples.reshape(-1).astype(np.float32, copy=False)


_DURATION_NOISE, _FRAME_NOISE = "noise of durations", "noise of frames"


def _run(
    session: Session,
    feeds: Mapping[str, AnyArray],
    duration_noise: FloatArray,
    frame_noise: FloatArray | None,
) -> list[AnyArray]:
    every: dict[str, AnyArray] = {**feeds, _DURATION_NOISE: duration_noise}
    if frame_noise is not None:
        every[_FRAME_NOISE] = frame_noise
    return list(session.run({name: every[name] for name in session.inputs}).values())


def _with_noise_inputs(model: ir.Model, *, durations_only: bool) -> Session:
    """Make the random nodes inputs, and the durations before they are rounded an output."""
    graph = model.graph
    seams = find_seams(graph)
    for name, value in ((_DURATION_NOISE, seams.duration_noise), (_FRAME_NOISE, seams.frame_noise)):
        if value is not None:
            new = ir.Value(name=name, shape=ir.Shape([None] * 3), type=ir.TensorType(ir.DataType.FLOAT))
            graph.inputs.append(new)
            value.replace_all_uses_with(new)
    graph.outputs.clear()
    graph.outputs.extend([seams.before_ceil] if durations_only else [seams.samples, seams.before_ceil])
    remove_unused(model)
    for value in graph.inputs:
        if not value.uses():
            graph.inputs.remove(value)
    for value in graph.outputs:
        value.shape = None
        value.type = ir.TensorType(ir.DataType.FLOAT)
    return Session(ir.to_proto(model), optimize=False)  # optimizing takes longer than the few runs


def _find_slots(seams: Seams) -> dict[str, _Slot]:
    """Find which element of which input each scale is.

    Raises
    ------
    ModelError
        If a scale is computed from its input rather than taken.
    """
    roles = {"noise_scale": seams.noise_scale, "length_scale": seams.length_scale, "noise_w": seams.noise_w}
    return {role: _slot(role, value) for role, value in roles.items() if value is not None}


def _slot(role: str, value: ir.Value) -> _Slot:
    index = 0
    while (node := value.producer()) is not None:
        source = node.inputs[0]
        if source is None or node.op_type not in _PICKS:
            raise ModelError(f"not a VITS voice: {role} is computed by {node.op_type} from an input")
        if node.op_type in ("Gather", "Slice"):
            place = node.inputs[1]
            if place is None or place.const_value is None or place.const_value.size != 1:
                raise ModelError(f"not a VITS voice: {role} is taken from a computed place of an input")
            index = int(place.const_value.numpy().item())
        elif node.op_type == "Split":
            index = value.index() or 0
        value = source
    return _Slot(value.name or "", index)


_PICKS = frozenset({"Cast", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"})
