"""What each operator does with time: one small rule per operator, in one registry.

An operator that has no rule is refused, never guessed. To teach the toolkit a new one, write a
function that takes a `NodeContext` and returns an `Effect` (or raises through `ctx.refuse`), put
`@rule("OpType")` above it, and add its tiny graph to ``tests/test_streaming_operators.py``. A pointwise
operator needs no more, nor does one with a window that a margin makes exact. One that can do better, or
carries a state through the utterance, gives the effect a function of its own (`Effect.write`) that
writes it in the stateful graph with what `StreamWriter` offers; see `stateful`.
"""

from __future__ import annotations

# Importing the families fills the registry.
from balacoon_tk.graph.rules import (
    attention,
    channels,
    interpolation,
    layout,
    local,
    positions,
    recurrence,
    stateful,
)
from balacoon_tk.graph.rules.base import Effect, NodeContext, find_rule, first_spatial_axis
from balacoon_tk.graph.rules.channels import ELEMENTWISE

__all__ = ["ELEMENTWISE", "Effect", "NodeContext", "find_rule", "first_spatial_axis"]

_FAMILIES = (attention, channels, interpolation, layout, local, positions, recurrence, stateful)
