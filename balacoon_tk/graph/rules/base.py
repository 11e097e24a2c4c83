"""The registry of rules, and what a rule gets to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NoReturn

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.timeline import POINTWISE, Local, Timeline


@dataclass(frozen=True, slots=True)
class Effect:
    """What a node does with time.

    Attributes
    ----------
    axis : int
        The time axis of the outputs.
    local : Local
        The window that a step of the output looks at.
    kind : str
        ``local``: a bounded window. ``recurrent``: carries its own state through the utterance,
        as the operator's inputs and outputs say.
    """

    axis: int
    local: Local = POINTWISE
    kind: Literal["local", "recurrent"] = "local"


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node with all that is known about its inputs."""

    node: ir.Node
    opset: int
    probe: Probe
    timelines: Mapping[str, Timeline]
    sized_by: Mapping[str, str]
    """Tensors whose values are computed from the length of a tensor with time, and that tensor."""
    lengths: Mapping[str, Sequence[AnyArray]]
    """What is computed from lengths in a way that can be followed, at each of the probe's lengths."""

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that says why this node can't be streamed."""
        raise NotStreamableError(self.node, reason)

    def time(self, index: int) -> Timeline | None:
        """Return the timeline of an input, None if it has no time (or isn't there)."""
        name = self.input(index)
        return None if name is None else self.timelines.get(name)

    def only_time(self, index: int = 0) -> Timeline:
        """Return the timeline of an input that must be the only one with time."""
        for other in range(len(self.node.inputs)):
            if other != index and self.time(other) is not None:
                self.refuse(f"its input {other} must not depend on time")
        timeline = self.time(index)
        if timeline is None:
            self.refuse(f"its input {index} has no time axis")
        return timeline

    def input(self, index: int) -> str | None:
        """Return the name of an input."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return None if value is None else value.name

    def rank(self, index: int) -> int:
        """Return the rank of an input."""
        return len(self.shape(index))

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an input at the probe's first length."""
        value = self.node.inputs[index]
        name = self.input(index)
        if value is not None and value.const_value is not None:
            return value.const_value.numpy().shape
        if name is None or name not in self.probe.shapes:
            self.refuse(f"its input {index} is missing")
        return self.probe.shapes[name][0]

    def output_shapes(self, index: int = 0) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of an output at all of the probe's lengths."""
        name = self.node.outputs[index].name
        return self.probe.shapes[name] if name is not None else ()

    def const(self, index: int) -> AnyArray | None:
        """Return the value of an input that is the same whatever the utterance; None if absent.

        Raises
        ------
        NotStreamableError
            If the input is there, and its value isn't constant.
        """
        name = self.input(index)
        if name is None:
            return None
        value = self.node.inputs[index]
        if value is None or value.const_value is None:
            self.refuse(f"its input {index} ({name!r}) must be a constant")
        return value.const_value.numpy()

    def ints(self, attribute: str, index: int | None = None) -> list[int] | None:
        """Return a list of integers that older opsets hold in an attribute and newer in an input."""
        if attribute in self.node.attributes:
            return [int(n) for n in self.node.attributes[attribute].as_ints()]
        found = None if index is None else self.const(index)
        return None if found is None else [int(n) for n in np.atleast_1d(found)]

    def int(self, attribute: str, default: int) -> int:
        """Return an integer attribute."""
        found = self.node.attributes.get(attribute)
        return default if found is None else int(found.as_int())

    def string(self, attribute: str, default: str) -> str:
        """Return a string attribute."""
        found = self.node.attributes.get(attribute)
        return default if found is None else str(found.as_string())


Rule = Callable[[NodeContext], Effect]


def first_spatial_axis(node: ir.Node) -> int:
    """Return the first axis that a node's kernel moves over; the batch is before it, and mostly channels."""
    return 1 if node.attributes.get_int("channels_last", 0) else 2


_RULES: dict[tuple[str, str], Rule] = {}


def rule(*op_types: str, domain: str = "") -> Callable[[Rule], Rule]:
    """Register a rule for operators of a domain, the standard one if none is given."""

    def register(function: Rule) -> Rule:
        for op_type in op_types:
            _RULES[domain, op_type] = function
        return function

    return register


def find_rule(node: ir.Node) -> Rule:
    """Return the rule for a node.

    Raises
    ------
    NotStreamableError
        If there is none: what isn't known is refused.
    """
    found = _RULES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))
    if found is None:
        raise NotStreamableError(node, "no rule says what this operator does with time")
    return found
