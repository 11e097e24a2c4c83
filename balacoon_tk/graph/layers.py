"""A decoder's layers, and how far each of them looks: the receptive field as it grows."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

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

    Pointwise operators are left out. The last layers see the decoder's whole receptive field.

    Parameters
    ----------
    model : ModelProto
        The decoder as it was trained; not one that `make_streaming` has rewritten.
    time_inputs : dict of str to int, optional
        The time axis of each input that has one, where it can't be found from the graph.

    Raises
    ------
    NotStreamableError
        If a node has no bounded view of time, or isn't known.
    ModelError
        If the graph can't be run, or has no time axis.
    """
    analysis = analyse_model(model, time_inputs=time_inputs)
    layers = []
    for node, effect in analysis.effects.items():
        local = effect.local
        widens = local.span > 0 or local.up > 1 or local.down > 1
        if not (widens or effect.kind == "recurrent") or not node.outputs[0].name:
            continue
        timeline = analysis.timelines[node.outputs[0].name]
        rate = float(timeline.rate)
        layers.append(
            Layer(
                name=node.name or node.outputs[0].name,
                op_type=node.op_type,
                rate=rate,
                left_frames=timeline.left / rate,
                right_frames=max(0.0, float(timeline.lag)) / rate,
            )
        )
    return tuple(layers)
