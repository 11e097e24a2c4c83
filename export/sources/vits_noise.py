"""The noise of a VITS graph: where it is drawn, what it is multiplied by, and which scales a caller sets.

In a stream the noise must be the same whichever window it is drawn for, so it leaves the graph: the toolkit
draws it, by position. That asks for graphs which draw standard normal noise once for the frames and at most
once for the durations, each scaled by one input; all others are refused, by the node that is in the way.
"""

from __future__ import annotations

import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.walk import ancestors

RENAMES = frozenset({"Identity", "Cast"})
"""Operators that give the same numbers another name or type."""

_NORMAL = ("RandomNormalLike", "RandomNormal")
_RANDOM = frozenset({*_NORMAL, "Bernoulli", "Multinomial", "RandomUniform", "RandomUniformLike"})


def not_a_voice(what: str) -> ModelError:
    """Return the error that says what is missing of a voice."""
    return ModelError(f"not a VITS voice: {what}")


def label(node: ir.Node) -> str:
    """Return what to call a node in an error."""
    return f"{node.op_type} node {node.name or (node.outputs[0].name if node.outputs else '')!r}"


def required(value: ir.Value | None) -> ir.Value:
    """Return an input of a node that must be there."""
    if value is None:
        raise not_a_voice("an input of a node is left out where there must be one")
    return value


def find_noises(graph: ir.Graph, behind_ceil: set[ir.Value]) -> tuple[ir.Value, ir.Value | None]:
    """Find the noise of the frames, and that of the durations, if these are random."""
    # What the durations depend on is theirs, all other noise is the frames'.
    frame_noises: list[ir.Node] = []
    duration_noises: list[ir.Node] = []
    for node in (node for node in graph if node.op_type in _RANDOM):
        # Left out they are 0 and 1, as ONNX has it.
        mean, scale = (node.attributes.get_float(*given) for given in (("mean", 0.0), ("scale", 1.0)))
        if node.op_type not in _NORMAL or (mean, scale) != (0, 1):
            raise not_a_voice(f"{label(node)} draws something else than standard normal noise")
        (duration_noises if node.outputs[0] in behind_ceil else frame_noises).append(node)
    if len(duration_noises) > 1:
        raise not_a_voice(f"the duration predictor draws noise twice, in {label(duration_noises[1])} as well")
    if not frame_noises:
        raise not_a_voice("no noise (RandomNormalLike) is drawn for the frames")
    if len(frame_noises) > 1:
        raise not_a_voice(f"noise is drawn after the durations twice, in {label(frame_noises[1])} as well")
    return frame_noises[0].outputs[0], duration_noises[0].outputs[0] if duration_noises else None


def find_sum(noise: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
    """Follow the frames' noise to where it is added to the mean; also return what it is multiplied by."""
    value = noise
    while True:
        # Its shape may be read as well: exporters make the noise as long as the mean is.
        readers = [node for node in value.consumers() if node.op_type != "Shape"]
        if len(readers) != 1 or readers[0].op_type not in RENAMES | {"Mul", "Add"}:
            found = ", ".join(label(node) for node in readers) or "nothing"
            raise not_a_voice(f"the frames' noise is not scaled and added to a mean, but goes into {found}")
        node = readers[0]
        if node.op_type == "Add":
            return node.outputs[0], [factor for factor in factors_of(value) if factor is not noise]
        value = node.outputs[0]


def factors_of(value: ir.Value) -> list[ir.Value]:
    """Take a product apart."""
    node = value.producer()
    if node is not None and node.op_type == "Mul":
        return [factor for operand in node.inputs for factor in factors_of(required(operand))]
    if node is not None and node.op_type in RENAMES:
        return factors_of(required(node.inputs[0]))
    return [value]


def _is_scale(graph: ir.Graph, value: ir.Value) -> bool:
    """Whether a value depends on inputs of floating point only: what a caller sets, not what was spoken."""
    if value.is_initializer():
        return False
    # A log scale of the prior is floating point too, but phoneme ids are behind it.
    behind = ancestors([value])
    if any((node := other.producer()) is not None and node.op_type in _RANDOM for other in behind):
        return False
    sources = [source for source in graph.inputs if source in behind and not source.is_initializer()]
    return bool(sources) and all(source.dtype == ir.DataType.FLOAT for source in sources)


def find_scale(graph: ir.Graph, factors: list[ir.Value], what: str) -> ir.Value:
    """Find the one factor that is a scale: what a caller sets."""
    scales = [factor for factor in factors if _is_scale(graph, factor)]
    if len(scales) != 1:
        raise not_a_voice(f"{what} must be multiplied by one scale that is an input, not {len(scales)}")
    return scales[0]


def find_scaled(graph: ir.Graph, noise: ir.Value | None) -> tuple[ir.Value | None, ir.Value | None]:
    """Follow the duration predictor's noise to its product with a scale, if it has one."""
    if noise is None:
        return None, None
    # Without a scale of their own the durations get the noise as it was drawn, and noise_w does nothing.
    value = noise
    while len(readers := value.consumers()) == 1 and readers[0].op_type in RENAMES | {"Mul"}:
        node, value = readers[0], readers[0].outputs[0]
        if node.op_type == "Mul":
            scales = [v for v in node.inputs if v is not None and _is_scale(graph, v)]
            return (value, scales[0]) if scales else (noise, None)
    return noise, None
