"""Stages whose chains still grow, and the registers that a chain's values get in the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.program import N_REGISTERS, Call, Stage

TILE = 0
"""Number of the value that a stage's window gives."""


class RegistersError(Exception):
    """A chain needs more registers than there are."""


@dataclass(eq=False)
class Draft:
    """A stage, whose chain still grows."""

    index: int
    stage: Stage
    n_channels: int
    timeless: bool
    rate: Fraction  # steps of the output for a frame
    calls: list[Call] = field(default_factory=list)  # of numbers of values, not of registers
    n_values: int = 1
    stores: dict[int, list[int]] = field(default_factory=dict)  # edges by the value's number
    places: AnyArray | None = None  # for each channel that the weights make, where it lies in the end
    loads: dict[tuple[Call, ...], int] = field(default_factory=dict)  # the value of calls in a row

    def add(self, call: Call) -> int:
        """Append a call and return the number of what it gives."""
        number = self.n_values
        self.n_values += 1
        self.calls.append(replace(call, out=number))
        return number

    def takes(self, n_channels: int, rate: Fraction, *, timeless: bool) -> bool:
        """Whether it is a chain alone that functions of such tensors may be added to."""
        return (
            self.stage.kind == "pointwise"
            and self.stage.n_phases == 1
            and (self.n_channels, self.rate, self.timeless) == (n_channels, rate, timeless)
        )

    @property
    def is_plain_convolution(self) -> bool:
        """Whether its channels are the rows of its weights, and nothing is computed of them."""
        return (
            self.stage.kind == "convolve"
            and not (self.stage.transposed or self.calls)
            and self.stage.n_groups == self.stage.n_phases == 1
        )

    def fits(self) -> bool:
        """Whether there are registers for all that is computed so far."""
        try:
            _allocate(self.calls, self.stores)
        except RegistersError:
            return False
        return True

    def finish(self) -> Stage:
        """Return the stage, its values in registers."""
        return replace(self.stage, chain=_allocate(self.calls, self.stores))


def _allocate(calls: Sequence[Call], stores: dict[int, list[int]]) -> tuple[Call, ...]:
    """Put values into registers: a call may write over the last value that it reads as its first operand."""
    last = {TILE: -1}
    for position, call in enumerate(calls):
        for number in _read(call):
            last[number] = position
    registers = {TILE: 0}
    free = list(range(N_REGISTERS - 1, 0, -1))
    chain: list[Call] = []

    def release(number: int, position: int) -> None:
        if last.get(number, -1) <= position and number in registers:
            free.append(registers.pop(number))

    chain += [Call("store", a=0, edge=edge) for edge in stores.get(TILE, ())]
    release(TILE, -1)
    for position, call in enumerate(calls):
        reads = _read(call)
        places = {number: registers[number] for number in reads}
        first = reads[0] if reads else None
        if first is not None and reads.count(first) == 1:
            release(first, position)
        if not free:
            raise RegistersError
        if call.function == "load" and call.order is not None and reads:
            # It goes on with what another load has begun.
            free.remove(places[call.a])
            out = places[call.a]
        else:
            out = free.pop()
        registers[call.out] = out
        for number in reads:
            release(number, position)
        chain.append(
            replace(
                call,
                out=out,
                a=places.get(call.a, 0) if reads else 0,
                b=None if call.b is None else places[call.b],
            )
        )
        chain += [Call("store", a=out, edge=edge) for edge in stores.get(call.out, ())]
        release(call.out, position)
    return tuple(chain)


def _read(call: Call) -> list[int]:
    """Return the numbers of the values that a call reads."""
    if call.function in ("fill", "lookup", "position"):
        return []
    if call.function == "load":
        # Number 0 is the window's tile, which no load goes on with.
        return [call.a] if call.order is not None and call.a else []
    return [call.a] if call.b is None else [call.a, call.b]
