"""A decoder's layers, and how far each of them looks: the receptive field as it grows."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.prepare import analyse_model


@dataclass(frozen=True, slots=True)
class Layer:
    """One operator that looks at more than one step of its input."""

    name: str
    op_type: str
    rate: float
    """Steps of its output per frame."""
    left_frames: float
    """How far before its own time a step depends on the frames, counted in frames."""
    right_frames: float
    """How far after."""


def decoder_layers(
    model: onnx.ModelProto | ir.Model, *, time_inputs: dict[str, int] | None = None
) -> tuple[Layer, ...]:
    """Return the layers of a decoder that widen its view of the frames, in the order of the graph.

    Pointwise operators are left out. The last layers see the decoder's whole receptive field. The decoder is
    as it was trained, not one that `make_streaming` has rewritten; errors are those of `analyse_model`.
    """
    analysis = analyse_model(model, time_inputs=time_inputs)
    layers = []
    for node, effect in analysis.effects.items():
        local, output = effect.local, name_of(node.outputs[0])
        if not (local.span > 0 or local.up > 1 or local.down > 1 or effect.recurrent) or not output:
            continue
        timeline = analysis.timelines[output]
        # Padding at the start can make steps known before their time; they look at nothing after.
        rate, right = float(timeline.rate), max(0.0, float(timeline.lag))
        layers.append(Layer(node.name or output, node.op_type, rate, timeline.left / rate, right / rate))
    return tuple(layers)
