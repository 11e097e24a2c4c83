"""What a chain ends in, where one kernel does it in one pass over the tile.

Convolutions of today's vocoders end alike: residuals are added, a mean of branches is taken, and the sum is
stored for the next residual, its leaky ReLU for the next convolution. Call by call, that reads and writes the
tile six times.
"""

from __future__ import annotations

from dataclasses import dataclass

from balacoon_tk.runtime.native.program import Call, Program, Stage

MOST_ADDED = 2
"""Residuals, BK_ADDED in C."""


@dataclass(frozen=True, slots=True)
class Ending:
    """The last calls of a chain, by index: all from `first` on."""

    first: int
    register: int
    """Of the tile that they begin with."""
    added: tuple[int, ...]
    """Loads of what is added."""
    scaling: int | None
    stored: int | None
    """The store in front of the activation, or of another one."""
    activation: int | None
    stored_activated: int | None


def find_ending(program: Program, stage: Stage) -> Ending | None:
    """Return the longest ending of a stage that the kernel knows: of two calls at least, or all there are."""
    endings = (_matched(program, stage, first) for first in range(max(1, len(stage.chain) - 1)))
    return next((ending for ending in endings if ending is not None), None)


def _matched(program: Program, stage: Stage, first: int) -> Ending | None:
    chain, k = stage.chain, first
    start: int | None = None  # the register that the first call reads
    register = -1  # and that of what is computed so far
    added: list[int] = []
    while k + 1 < len(chain) and len(added) < MOST_ADDED and _is_plain_load(program, chain[k]):
        call, loaded = chain[k + 1], chain[k].out
        if call.function != "add" or call.b is None or loaded not in (call.a, call.b):
            return None
        other = call.b if call.a == loaded else call.a
        if other == loaded or (start is not None and other != register):
            return None
        start, register = (other if start is None else start), call.out
        added.append(k)
        k += 2

    def take(functions: tuple[str, ...]) -> int | None:
        nonlocal k, start, register
        call = chain[k] if k < len(chain) else None
        if call is None or call.function not in functions or (start is not None and call.a != register):
            return None
        if call.function != "store":
            if call.scalar is None:
                return None
            register = call.out
        elif start is None:
            register = call.a
        start = call.a if start is None else start
        k += 1
        return k - 1

    scaling = take(("mul", "div"))
    stored = take(("store",))
    activation = take(("leaky_relu",))
    stored_activated = take(("store",))
    if k < len(chain) or start is None or (activation is not None and stored_activated is None):
        return None
    return Ending(first, start, tuple(added), scaling, stored, activation, stored_activated)


def _is_plain_load(program: Program, call: Call) -> bool:
    if call.function != "load" or call.edge is None:
        return False
    edge = program.edges[call.edge]
    return not (edge.timeless or edge.scale or call.by_group or call.broadcast or call.order)
