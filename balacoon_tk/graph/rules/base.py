"""The registry of rules, and what a rule gets to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.counts import Counts
from balacoon_tk.graph.errors import NotStreamableError
from balacoon_tk.graph.match import input_of, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.timeline import POINTWISE, Local, Timeline

if TYPE_CHECKING:  # it is made of what the rules say
    from balacoon_tk.graph.streaming.writer import StreamWriter


@dataclass(frozen=True, slots=True)
class Effect:
    """What a node does with time, and how it is written in a stateful graph."""

    axis: int
    """The time axis of the outputs."""
    local: Local = POINTWISE
    """The window that a step of the output looks at."""
    write: Callable[[StreamWriter, ir.Node, Effect], None] | None = None
    """Writes the node on what is newly known, with a state of its own. If None, the node is written as it
    is if it is pointwise, and otherwise as a segment, whose margin is computed again."""
    recurrent: bool = False
    """Whether a step depends on all before it: then no margin is enough, and `write` must be given."""
    in_segments: bool = True
    """Whether a piece is treated as the whole utterance is, but for what a margin makes up for. If not,
    `write` must be given."""
    fill: float = 0.0
    """What the operator's own padding is made of."""


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node with all that is known about its inputs."""

    node: ir.Node
    opset: int
    probe: Probe
    timelines: Mapping[str, Timeline]
    sized_by: Mapping[str, str]
    """Tensors whose values are computed from the length of a tensor with time, and that tensor."""
    lengths: Mapping[str, Counts]
    """What is computed from lengths in a way that can be followed."""

    def refuse(self, reason: str) -> NoReturn:
        """Raise the error that says why this node can't be streamed."""
        raise NotStreamableError(self.node, reason)

    def time(self, index: int) -> Timeline | None:
        """Return the timeline of an input, None if it has no time (or isn't there)."""
        return self.timelines.get(self.input(index) or "")

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
        value = input_of(self.node, index)
        return None if value is None else value.name

    def rank(self, index: int) -> int:
        """Return the rank of an input."""
        return len(self.shape(index))

    def shape(self, index: int) -> tuple[int, ...]:
        """Return the shape of an input at the probe's first length."""
        if not self.input(index):
            self.refuse(f"its input {index} is missing")
        return self.probe.shape_of(self.node.inputs[index])

    def output_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes of the first output at all of the probe's lengths."""
        return self.probe.shapes[name_of(self.node.outputs[0])]

    def varying_axis(self) -> int:
        """Return the one axis of the output that varies with time."""
        sizes = zip(*self.output_shapes(), strict=True)
        axes = [axis for axis, seen in enumerate(sizes) if len(set(seen)) > 1]
        if len(axes) != 1:
            self.refuse(
                "time can't be followed through it: not exactly one axis of the result varies with time"
            )
        return axes[0]

    def const(self, index: int) -> AnyArray | None:
        """Return the value of an input; None if absent, and refused if it isn't a constant."""
        name = self.input(index)
        if name is None:
            return None
        # Seen to be the same at the probe's lengths would not do: at others it might not be.
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
        return self.node.attributes.get_int(attribute, default)

    def string(self, attribute: str, default: str) -> str:
        """Return a string attribute."""
        return self.node.attributes.get_string(attribute, default)


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


def has_rule(node: ir.Node) -> bool:
    """Say whether there is a rule for a node."""
    return _key(node) in _RULES


def _key(node: ir.Node) -> tuple[str, str]:
    # Both are names of the standard domain.
    return "" if node.domain == "ai.onnx" else node.domain, node.op_type


def find_rule(node: ir.Node) -> Rule:
    """Return the rule for a node; what isn't known is refused."""
    found = _RULES.get(_key(node))
    if found is None:
        raise NotStreamableError(node, "no rule says what this operator does with time")
    return found
