"""What a stateful decoder costs on ONNX Runtime's CPU kernels, for the plan of its cuts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis
from balacoon_tk.graph.streaming.costs import PlanCosts, SegmentForm
from balacoon_tk.graph.streaming.segments import Segment
from balacoon_tk.targets.ort_cpu.halves import find_halves, is_narrow
from balacoon_tk.targets.ort_cpu.passes.keep_blocked import changes_nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class OrtCpuCosts(PlanCosts):
    """Prices of ONNX Runtime's CPU kernels.

    Attributes
    ----------
    in_halves : bool
        Whether segments with few filters may be run as two halves side by side (see `halves`). It pays
        where several threads run, which would wait for one; one thread only does the margins twice.
    """

    in_halves: bool

    def is_idle(self, node: ir.Node) -> bool:
        """Return whether all threads but one wait for a node."""
        return self.in_halves and is_narrow(node)

    def can_cut(self, producer: ir.Node, name: str) -> bool:
        """Return False of a tensor that has only just been brought into blocks.

        A state is in the plain order, so it would bring the tensor back again: the cut belongs before
        the convolution that changes nothing (see `keep_blocked`).
        """
        if producer.op_type == "LeakyRelu" and producer.inputs[0] is not None:
            return not changes_nothing(producer.inputs[0].producer())
        return not (changes_nothing(producer) and producer.outputs[0].name == name)

    def forms(self, segment: Segment, analysis: Analysis) -> Sequence[SegmentForm]:
        """Return the two halves of a segment that one thread alone would do, if it can be halved."""
        # Where no thread waits, halves would only compute a second margin.
        halves = find_halves(segment, analysis) if any(map(self.is_idle, segment.nodes)) else None
        return () if halves is None else (halves,)
