"""Will a graph stream, and if not, why: every node that stands against it, and what would help.

A rewrite stops at the first node that it can't prove. Here the pass goes on behind it, with the time that the
shapes suggest, so that whoever has to change a model sees all of it at once. What is found behind a first
obstacle rests on that guess; it is there to be read, and nothing is rewritten by it.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
import onnx_ir as ir

from balacoon_tk.errors import ModelError
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.runtime.stateful_graph import StreamingSpec

# Where torch's newer exporter writes the modules that a node is in, from the outermost to the node itself.
_SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Obstacle:
    """A node that can't be streamed exactly."""

    node: str
    """Its name, or that of its first output."""
    op_type: str
    module: str | None
    """The part of the trained module that it comes from, as ``decoder.layers.0``; None if nobody kept it."""
    reason: str
    """Why not."""
    advice: str
    """What would make it stream."""


@dataclass(frozen=True, slots=True)
class Streamability:
    """Whether a graph streams exactly: either what it costs, or what stands against it."""

    spec: StreamingSpec | None
    """Lag, states and plan of the rewritten graph; None if it can't be rewritten."""
    obstacles: tuple[Obstacle, ...]
    """In the order of the graph; empty if it streams."""


def judge_streaming(model: onnx.ModelProto, *, time_inputs: Mapping[str, int] | None = None) -> Streamability:
    """Say whether a graph streams exactly, at what cost, or all that stands against it.

    Parameters
    ----------
    model : ModelProto
        Any decoder; it is not changed.
    time_inputs : mapping of str to int, optional
        The time axis of each input that has one, where it can't be found from the graph.

    Returns
    -------
    Streamability
        What was rewritten has not run: whoever uses it compares it with the original first.

    Raises
    ------
    ModelError
        If the graph can't be run, has no time axis or several candidates for it, or is stateful already.
    ParameterError
        If `time_inputs` doesn't fit.
    """
    if any(item.key == StreamingSpec.METADATA_KEY for item in model.metadata_props):
        raise ModelError("the graph is stateful already")
    refused: list[NotStreamableError] = []
    axes = None if time_inputs is None else dict(time_inputs)
    analysis = analyse_model(model, time_inputs=axes, refused=refused)
    nodes = {_name(node): node for node in analysis.model.graph}
    if not refused:
        try:
            return Streamability(streaming_spec(make_streaming(model, time_inputs=axes)), ())
        except NotStreamableError as error:  # what has a rule, and can't be written
            refused.append(error)
    return Streamability(None, tuple(_obstacle(error, nodes.get(error.node)) for error in refused))


def find_obstacles(model: onnx.ModelProto, *, time_inputs: Mapping[str, int] | None = None) -> list[Obstacle]:
    """Return every node that stands against streaming a graph exactly; none if it streams.

    Arguments and errors are those of `judge_streaming`.
    """
    return list(judge_streaming(model, time_inputs=time_inputs).obstacles)


def _obstacle(error: NotStreamableError, node: ir.Node | None) -> Obstacle:
    module = None if node is None else module_of(node)
    return Obstacle(error.node, error.op_type, module, error.reason, error.advice)


def _name(node: ir.Node) -> str | None:
    return node.name or next((value.name for value in node.outputs if value.name), None)


def module_of(node: ir.Node) -> str | None:
    """Return the part of the trained module that a node was made of, if its exporter has kept it."""
    scopes = node.metadata_props.get(_SCOPES)
    if scopes is not None:
        try:
            names = ast.literal_eval(scopes)
        except (ValueError, SyntaxError):
            return None
        # The last one is the node's own.
        return str(names[-2]) or None if isinstance(names, list) and len(names) > 1 else None
    # Torch's older exporter names a node "/decoder/layers.0/MatMul_1".
    if not node.name or not node.name.startswith("/"):
        return None
    return ".".join(node.name.split("/")[1:-1]) or None
