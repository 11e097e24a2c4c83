"""A Piper voice as it came, to compare with what is made of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray, FloatArray, IntArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.sources.files import private_copy
from balacoon_tk.export.sources.source import GivenNoise
from balacoon_tk.export.sources.vits_seams import find_seams
from balacoon_tk.graph.edit import remove_unused
from balacoon_tk.runtime.session import Session

_DURATION_NOISE, _FRAME_NOISE = "noise of durations", "noise of frames"
_PICKS = frozenset({"Cast", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Unsqueeze"})


class PiperReference:
    """The graph of a file, as it came and with its noise as inputs; `whole` has its constants lifted.

    Without a `path` the graph as it came is `whole`: that of the file computes otherwise than in float32.
    """

    def __init__(self, path: Path | None, whole: bytes) -> None:
        model = private_copy(whole)
        seams = find_seams(model.graph)
        self._inputs = {value.name or "": value for value in model.graph.inputs}
        self._ids = seams.phonemes.input.name or ""
        self._lengths = None if seams.lengths is None else seams.lengths.name
        self._speaker = None if seams.speakers is None else seams.speakers.input.name
        # Piper's three scales are one input of three elements, other exporters' are an input each.
        self._places = {
            role: _place(role, value)
            for role in ("noise_scale", "length_scale", "noise_w")
            if (value := getattr(seams, role)) is not None
        }
        self._samples = seams.samples.name or ""
        self._path, self._whole = path, whole
        # Loaded when they are needed: together they are twice the size of the voice.
        self._plain: Session | None = None
        self._noisy: Session | None = None

    def run(self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float) -> FloatArray:
        """Synthesize without noise, by the file as it came."""
        if self._plain is None:
            self._plain = Session(self._whole if self._path is None else self._path)
        feeds = self._feeds(phoneme_ids, speaker_id, {"length_scale": length_scale})
        return _flat(self._plain.run(feeds, [self._samples])[self._samples])

    def run_with_noise(
        self, phoneme_ids: IntArray, *, speaker_id: int, length_scale: float, noise: GivenNoise
    ) -> tuple[FloatArray, AnyArray]:
        """Synthesize with noise that is given; see `NoisyReference`."""
        # The durations' noise is scaled already, so the graph's own factor on it is 1.
        scales = {"length_scale": length_scale, "noise_w": 1.0, "noise_scale": noise.frame_scale}
        feeds = self._feeds(phoneme_ids, speaker_id, scales) | {_DURATION_NOISE: noise.durations}
        if noise.frames is None:
            # A graph of the duration predictor alone; asked for so seldom that it is not kept.
            session = _with_noise_inputs(self._whole, find_durations=True)
            (exact,) = _run(session, feeds)
            return np.empty(0, np.float32), exact.reshape(-1)
        if self._noisy is None:
            self._noisy = _with_noise_inputs(self._whole, find_durations=False)
        samples, exact = _run(self._noisy, feeds | {_FRAME_NOISE: noise.frames})
        return _flat(samples), exact.reshape(-1)

    def _feeds(self, ids: IntArray, speaker_id: int, scales: dict[str, float]) -> dict[str, AnyArray]:
        """Return an array for every input of the whole graph; a scale that isn't given is 0."""
        feeds: dict[str, AnyArray] = {}
        for name, value in self._inputs.items():
            # A batch of one; every other axis of these inputs has a number.
            shape = [n if isinstance(n, int) else 1 for n in value.shape or ()]
            dtype = (value.dtype or ir.DataType.FLOAT).numpy()
            if name == self._ids:
                feeds[name] = ids[None].astype(dtype)
            else:
                number = {self._lengths: len(ids), self._speaker: speaker_id}.get(name, 0)
                feeds[name] = np.full(shape, number, dtype)
        for role, (name, index) in self._places.items():
            feeds[name].reshape(-1)[index] = scales.get(role, 0.0)
        return feeds


def _flat(samples: AnyArray) -> FloatArray:
    return samples.reshape(-1).astype(np.float32, copy=False)


def _run(session: Session, feeds: dict[str, AnyArray]) -> list[AnyArray]:
    # For the durations alone the graph takes less than the whole one does.
    return list(session.run({name: feeds[name] for name in session.inputs}).values())


def _with_noise_inputs(whole: bytes, *, find_durations: bool) -> Session:
    """Make the random nodes inputs, and the durations before they are rounded an output."""
    model = private_copy(whole)
    graph = model.graph
    seams = find_seams(graph)
    for name, value in ((_DURATION_NOISE, seams.duration_noise), (_FRAME_NOISE, seams.frame_noise)):
        if value is not None:
            new = ir.Value(name=name, shape=ir.Shape([None] * 3), type=ir.TensorType(ir.DataType.FLOAT))
            graph.inputs.append(new)
            value.replace_all_uses_with(new)
    graph.outputs[:] = [seams.before_ceil] if find_durations else [seams.samples, seams.before_ceil]
    remove_unused(model)
    # What led to noise that is given now, or past the durations, is read by nothing any more.
    graph.inputs[:] = [value for value in graph.inputs if value.uses()]
    # Exporters declare shapes of what was an output alone, and seams inside the graph have none.
    for value in graph.outputs:
        value.shape, value.type = None, ir.TensorType(ir.DataType.FLOAT)
    return Session(ir.to_proto(model), optimize=False)  # optimizing takes longer than the few runs


def _place(role: str, value: ir.Value) -> tuple[str, int]:
    """Find which input a scale is, and which element of it."""
    # One that is computed from its input rather than taken is refused: what to feed would be unknown.
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
    return value.name or "", index
