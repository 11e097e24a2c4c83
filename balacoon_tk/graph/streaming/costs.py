"""What a plan of cuts is chosen by: prices, and the ways of running a segment that a target knows.

The planner knows nothing of processors. What it asks, `PlanCosts` answers in general terms; a target
that knows more derives from it and says what a node really costs there, where a cut would undo what its
kernels rely on, and in which `SegmentForm` a segment may be run besides plainly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import Protocol

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.streaming.builder import GraphBuilder
from balacoon_tk.graph.streaming.segments import Segment


@dataclass(frozen=True, slots=True)
class Work:
    """What a stretch costs in one push beyond the arithmetic of the whole run."""

    recomputed: float = 0.0  # multiply-adds done again
    idle: float = 0.0  # multiply-adds that a part of the processor could do while it waits for another
    n_bytes: float = 0.0  # copied
    n_nodes: int = 0  # added to the graph

    def __add__(self, other: Work) -> Work:
        return Work(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


class SegmentForm(Protocol):
    """A way to run one segment other than plainly."""

    @property
    def label(self) -> str:
        """How the segment is run, for a person to read."""

    def work(self, plain: Work) -> Work:
        """Return what the segment costs in this form, from what it costs run plainly."""

    def write(
        self,
        build: GraphBuilder,
        piece: ir.Value,
        run: Callable[[ir.Value], ir.Value],
        start: ir.Value | int,
        end: ir.Value | int,
    ) -> ir.Value:
        """Write a push of the segment, of its tail and new steps.

        `run` writes the segment's nodes once, on what it is given, and returns their target. Of the target of
        `piece` the plain form keeps the steps from `start` to `end`: the same are returned.
        """


@dataclass(frozen=True, slots=True)
class PlanCosts:
    """Prices in seconds, only the ratios of which matter; nothing that is peculiar to a target.

    The numbers are those of two threads on one x86 machine: convolutions; copies along time, whose
    rows are short; and a small node, which the threads wait for.
    """

    per_multiply_add: float = 1 / 100e9
    per_byte_multiply_add: float = 1 / 400e9  # of products of bytes
    per_byte: float = 1 / 2.5e9
    per_node: float = 8e-6

    def seconds(self, work: Work) -> float:
        """Return what some work takes."""
        # Waiting costs what computing would: that it could be used otherwise is the point of a form.
        arithmetic = (work.recomputed + work.idle) * self.per_multiply_add
        return arithmetic + work.n_bytes * self.per_byte + work.n_nodes * self.per_node

    def share(self, node: ir.Node) -> float:
        """Return what one of a node's multiply-adds costs, as a share of the usual price."""
        of_bytes = node.op_type.startswith("QLinear")
        return self.per_byte_multiply_add / self.per_multiply_add if of_bytes else 1.0

    def is_idle(self, node: ir.Node) -> bool:
        """Return whether half of the processor waits while a node is run plainly."""
        return False

    def can_cut(self, producer: ir.Node, name: str) -> bool:
        """Return whether a state may be kept of a tensor, given the node it follows."""
        return True

    def forms(self, segment: Segment, analysis: Analysis) -> Sequence[SegmentForm]:
        """Return the ways in which a segment may be run besides plainly."""
        return ()
