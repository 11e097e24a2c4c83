"""Stages in the making: which stage a value is computed in, and where it has to be stored.

A function of a number is computed as early as all that it reads is known: by the stage that made the last of
it, while that stage's tile lies in registers. What another stage reads is stored once, in an edge. Slices,
concatenations and flips of channels move nothing: they are views, which whoever reads them resolves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.int8 import Step
from balacoon_tk.runtime.native.program import N_REGISTERS, Call, Edge, Port, Program, Stage

_COMMUTATIVE = ("add", "mul", "max", "min")
_TILE = 0  # number of the value that a stage's window gives


class RegistersError(Exception):
    """A chain needs more registers than there are."""


@dataclass(eq=False)
class _Draft:
    """A stage, whose chain still grows."""

    index: int
    stage: Stage
    n_channels: int
    timeless: bool
    rate: Fraction  # steps of the output for a frame
    calls: list[Call] = field(default_factory=list)  # of numbers of values, not of registers
    n_values: int = 1
    stores: dict[int, list[int]] = field(default_factory=dict)  # edges by the value's number
    loads: dict[Call, int] = field(default_factory=dict)

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


@dataclass(eq=False)
class Value:
    """A tensor: computed in a stage, or an input of the program."""

    n_channels: int
    rate: Fraction
    timeless: bool
    draft: _Draft | None = None
    number: int = _TILE
    edge: int | None = None
    rounded: dict[Step, int] = field(default_factory=dict)  # edges that hold it in bytes

    @property
    def index(self) -> int:
        """Of the stage that makes it; -1 of an input."""
        return -1 if self.draft is None else self.draft.index


@dataclass(frozen=True, eq=False)
class View:
    """Channels of values, in any order."""

    bases: tuple[Value, ...]
    which: AnyArray  # for each channel the base it is of
    channels: AnyArray  # and its channel there
    pads: tuple[int, int] = (0, 0)
    """Steps of zeros in front and behind, for whoever reads a window of it."""

    @classmethod
    def of(cls, value: Value) -> View:
        """Return a view of all of a value."""
        n = value.n_channels
        return cls((value,), np.zeros(n, np.int64), np.arange(n))

    @property
    def n_channels(self) -> int:
        """Channels of the view."""
        return len(self.channels)

    @property
    def timeless(self) -> bool:
        """Whether nothing of it has time."""
        return all(base.timeless for base in self.bases)

    @property
    def rate(self) -> Fraction:
        """Steps for a frame."""
        return next((base.rate for base in self.bases if not base.timeless), Fraction(1))

    @property
    def whole(self) -> Value | None:
        """The value that it is all of, in order; None if it is another view."""
        base = self.bases[0]
        same = len(self.bases) == 1 and base.n_channels == self.n_channels
        return base if same and np.array_equal(self.channels, np.arange(self.n_channels)) else None

    def take(self, order: AnyArray) -> View:
        """Return some of the channels."""
        which, channels = self.which[order], self.channels[order]
        used = sorted(set(which.tolist()))
        number = {base: k for k, base in enumerate(used)}
        return View(
            tuple(self.bases[k] for k in used),
            np.array([number[k] for k in which.tolist()], np.int64),
            channels,
            self.pads,
        )


def concatenate(views: Sequence[View]) -> View:
    """Return the channels of several views behind each other."""
    bases: list[Value] = []
    which: list[AnyArray] = []
    for view in views:
        places = [_place(bases, base) for base in view.bases]
        which.append(np.array(places, np.int64)[view.which])
    return View(tuple(bases), np.concatenate(which), np.concatenate([view.channels for view in views]))


def _place(bases: list[Value], base: Value) -> int:
    if base not in bases:
        bases.append(base)
    return bases.index(base)


Operand: TypeAlias = View | AnyArray | float
"""What a function reads: a tensor, a number for each channel, or one number."""


class Builder:
    """Collects stages, edges and arrays."""

    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self.edges: list[Edge] = []
        self.arrays: dict[str, AnyArray] = {}
        self._names: dict[tuple[Any, ...], str] = {}
        self.inputs: list[Port] = []
        self.outputs: list[Port] = []

    def input(
        self, name: str, shape: tuple[int, ...], rate: Fraction, *, timeless: bool, symbols: bool = False
    ) -> View:
        """Add an input of the program; its shape lacks time."""
        n_channels = int(np.prod(shape))
        edge = self._edge(name, n_channels, timeless)
        self.inputs.append(Port(name, edge, shape, (rate.numerator, rate.denominator), symbols=symbols))
        return View.of(Value(n_channels, rate, timeless, edge=edge))

    def output(self, name: str, view: View, shape: tuple[int, ...]) -> None:
        """Add an output, which has an edge that nothing else reads; its shape lacks time."""
        value = view.whole
        if value is None or value.draft is None:
            value = self._base(self.function("copy", [view], name, alone=True))
        assert value.draft is not None
        edge = self._edge(name, value.n_channels, value.timeless)
        value.draft.stores.setdefault(value.number, []).append(edge)
        self.outputs.append(Port(name, edge, shape, (value.rate.numerator, value.rate.denominator)))

    def array(self, array: AnyArray, name: str) -> str:
        """Keep an array and return the name under which it is kept; equal ones are kept once."""
        data = np.ascontiguousarray(array)
        key = (data.tobytes(), data.dtype.str, data.shape)
        if key not in self._names:
            unused, k = name, 1
            while unused in self.arrays:
                unused, k = f"{name}.{k}", k + 1
            self._names[key] = unused
            self.arrays[unused] = data
        return self._names[key]

    def window(self, stage: Stage, view: View, rate: Fraction, step: Step | None = None) -> View:
        """Begin a stage that reads a window of a view, whose channels must lie in one piece in one base.

        `stage` lacks its source and its chain; `rate` is that of the output. What it reads is rounded to
        bytes where `step` says how.
        """
        base = view.bases[0]
        draft = _Draft(
            len(self.drafts),
            replace(
                stage,
                source=self._stored(base, stage.name)
                if step is None
                else self._rounded(base, step, stage.name),
                source_channel=int(view.channels[0]),
                rate=(base.rate.numerator, base.rate.denominator),
            ),
            stage.n_channels,
            base.timeless,
            rate,
        )
        self.drafts.append(draft)
        return View.of(Value(stage.n_channels, rate, base.timeless, draft))

    def phases(self, views: Sequence[View], name: str) -> View:
        """Begin a stage that makes several steps of one: the channels of one view, then of the next.

        All must be of one base.
        """
        (base,) = {base for view in views for base in view.bases}
        n_channels, times = views[0].n_channels, len(views)
        draft = self._pointwise(name, n_channels, base.rate, timeless=False)
        draft.stage = replace(draft.stage, n_phases=times)
        draft.rate = base.rate * times
        channels = np.stack([view.channels for view in views]).astype(np.int32)
        whole = n_channels == base.n_channels and (channels == np.arange(n_channels)).all()
        order = None if whole else self.array(channels, f"{name}.order")
        number = draft.add(Call("load", edge=self._stored(base, name), by_group=True, order=order))
        return View.of(Value(n_channels, draft.rate, False, draft, number))

    def filled(self, view: View, values: AnyArray, times: int, name: str) -> View:
        """Return numbers for each channel that are the same in every step, for as many as a view has."""
        base = view.bases[0]
        draft = self._pointwise(name, len(values), base.rate, timeless=False)
        draft.stage = replace(draft.stage, n_phases=times)
        draft.rate = base.rate * times
        # What is loaded says how far time has come, and is written over.
        draft.add(Call("load", edge=self._stored(base, name), by_group=True, broadcast=True))
        number = draft.add(Call("fill", **self._constant(values, len(values), name)))
        return View.of(Value(len(values), draft.rate, False, draft, number))

    def look_up(self, view: View, table: AnyArray, name: str) -> View:
        """Return the rows of a table (n_symbols, n_channels) that the one channel of a view names."""
        base = view.bases[0]
        n_channels = table.shape[1]
        draft = self._pointwise(name, n_channels, base.rate, timeless=base.timeless)
        call = Call(
            "lookup",
            edge=self._stored(base, name),
            channel=int(view.channels[0]),
            array=self.array(table.astype(np.float32), name),
        )
        return View.of(Value(n_channels, base.rate, base.timeless, draft, draft.add(call)))

    def gathered(self, view: View, name: str) -> View:
        """Return a view of one base in which its channels lie in one piece."""
        first = int(view.channels[0])
        lies = len(view.bases) == 1 and np.array_equal(
            view.channels, np.arange(first, first + view.n_channels)
        )
        return view if lies else replace(self.function("copy", [view], name, alone=True), pads=view.pads)

    def padded(self, view: View, left: int, right: int) -> View:
        """Return a view with zeros in front and behind, which whoever reads a window of it takes in."""
        return replace(view, pads=(view.pads[0] + left, view.pads[1] + right))

    def cropped(self, view: View, start: int, behind: int, name: str) -> View:
        """Return a view without some steps in front and behind."""
        value = view.whole
        draft = None if value is None else value.draft
        if draft is not None and draft.stage.transposed and not draft.calls and not draft.stores:
            # A transposed convolution just doesn't store them. Whoever calls has seen to it that nobody else
            # reads what it gives.
            stage = draft.stage
            draft.stage = replace(stage, crop=stage.crop + start, n_extra=stage.n_extra - start - behind)
            return view
        stage = Stage("pad", name, None, view.n_channels, pad_left=-start, pad_right=-behind)
        return self.window(stage, self.gathered(view, name), view.rate)

    def function(self, function: str, operands: Sequence[Operand], name: str, *, alone: bool = False) -> View:
        """Add a function of one or two operands; `alone` begins a stage for it.

        "copy" gives its one operand as it is.
        """
        views = [operand for operand in operands if isinstance(operand, View)]
        n_channels = max(view.n_channels for view in views)
        for operand in operands:
            if isinstance(operand, np.ndarray):
                n_channels = max(n_channels, operand.size)
        timeless = all(view.timeless for view in views)
        rate = next((view.rate for view in views if not view.timeless), Fraction(1))
        bases = [base for view in views for base in view.bases if base.timeless == timeless]
        newest = max(bases, key=lambda base: base.index)
        draft = newest.draft
        if (
            alone
            or draft is None
            or draft.n_channels != n_channels
            or any(view.whole is None for view in views if any(base.draft is draft for base in view.bases))
        ):
            behind = self.drafts[newest.index + 1 :]
            fitting = (each for each in behind if each.takes(n_channels, rate, timeless=timeless))
            draft = None if alone else next(fitting, None)
        if draft is None:
            draft = self._pointwise(name, n_channels, rate, timeless=timeless)
        before = draft.calls.copy(), draft.n_values, draft.loads.copy()
        number = self._appended(draft, function, operands, n_channels, name)
        if not draft.fits():
            # Its registers are all in use for what is read further on: what it has made is read from edges.
            draft.calls, draft.n_values, draft.loads = before
            draft = self._pointwise(name, n_channels, rate, timeless=timeless)
            number = self._appended(draft, function, operands, n_channels, name)
        return View.of(Value(n_channels, rate if not timeless else Fraction(1), timeless, draft, number))

    def finish(self) -> Program:
        """Return the program."""
        return Program(
            tuple(self.edges),
            tuple(draft.finish() for draft in self.drafts),
            tuple(self.inputs),
            tuple(self.outputs),
            self.arrays,
        )

    def _appended(
        self, draft: _Draft, function: str, operands: Sequence[Operand], n_channels: int, name: str
    ) -> int:
        numbers = [
            self._in_register(draft, operand, n_channels, name) if isinstance(operand, View) else operand
            for operand in operands
        ]
        if function != "copy":
            return self._call(draft, function, numbers, n_channels, name)
        (number,) = numbers
        assert isinstance(number, int)
        return number

    def _call(
        self,
        draft: _Draft,
        function: str,
        operands: Sequence[int | AnyArray | float],
        n_channels: int,
        name: str,
    ) -> int:
        first, *others = operands
        if others and not isinstance(first, int) and function in _COMMUTATIVE:
            first, others = others[0], [first]
        if not isinstance(first, int):
            # Kernels take a constant on the right alone.
            first = draft.add(Call("fill", **self._constant(first, n_channels, name)))
        if not others:
            return draft.add(Call(function, a=first))
        (second,) = others
        if isinstance(second, int):
            return draft.add(Call(function, a=first, b=second))
        return draft.add(Call(function, a=first, **self._constant(second, n_channels, name)))

    def _constant(self, constant: AnyArray | float, n_channels: int, name: str) -> dict[str, Any]:
        if isinstance(constant, float):
            return {"scalar": constant}
        values = constant.reshape(-1)
        if (values == values[0]).all():
            return {"scalar": float(values[0])}
        return {"array": self.array(values.astype(np.float32), name)}

    def _in_register(self, draft: _Draft, view: View, n_channels: int, name: str) -> int:
        whole = view.whole
        if whole is not None and whole.draft is draft:
            return whole.number
        if view.n_channels == 1 and n_channels > 1:
            edge = self._stored(view.bases[0], name)
            return self._load(draft, Call("load", edge=edge, channel=int(view.channels[0]), broadcast=True))
        first = int(view.channels[0])
        in_order = np.array_equal(view.channels, np.arange(first, first + view.n_channels))
        if len(view.bases) == 1 and in_order:
            return self._load(draft, Call("load", edge=self._stored(view.bases[0], name), channel=first))
        number: int | None = None
        for k, base in enumerate(view.bases):
            order = np.where(view.which == k, view.channels, -1).astype(np.int32)
            call = Call("load", edge=self._stored(base, name), order=self.array(order, f"{name}.order"))
            number = self._load(draft, call) if number is None else draft.add(replace(call, a=number))
        assert number is not None
        return number

    def _load(self, draft: _Draft, call: Call) -> int:
        if call not in draft.loads:
            draft.loads[call] = draft.add(call)
        return draft.loads[call]

    def _pointwise(self, name: str, n_channels: int, rate: Fraction, *, timeless: bool) -> _Draft:
        stage = Stage("pointwise", name, None, n_channels, rate=(rate.numerator, rate.denominator))
        draft = _Draft(len(self.drafts), stage, n_channels, timeless, rate)
        self.drafts.append(draft)
        return draft

    def _base(self, view: View) -> Value:
        value = view.whole
        assert value is not None
        return value

    def _stored(self, value: Value, name: str) -> int:
        if value.edge is None:
            assert value.draft is not None
            value.edge = self._edge(value.draft.stage.name or name, value.n_channels, value.timeless)
            value.draft.stores.setdefault(value.number, []).append(value.edge)
        return value.edge

    def _rounded(self, value: Value, step: Step, name: str) -> int:
        """Return the edge that holds a value in bytes."""
        if step not in value.rounded:
            if value.draft is None:  # an input: somebody has to round it
                value = self._base(self.function("copy", [View.of(value)], name, alone=True))
            draft = value.draft
            assert draft is not None
            edge = Edge(
                f"{draft.stage.name or name}.int8",
                value.n_channels,
                value.timeless,
                float(step.scale),
                int(step.zero_point),
            )
            self.edges.append(edge)
            value.rounded[step] = len(self.edges) - 1
            draft.stores.setdefault(value.number, []).append(value.rounded[step])
        return value.rounded[step]

    def _edge(self, name: str, n_channels: int, timeless: bool) -> int:
        self.edges.append(Edge(name, n_channels, timeless))
        return len(self.edges) - 1


def _allocate(calls: Sequence[Call], stores: dict[int, list[int]]) -> tuple[Call, ...]:
    """Put values into registers: a call may write over the last value that it reads as its first operand."""
    last = {_TILE: -1}
    for position, call in enumerate(calls):
        for number in _read(call):
            last[number] = position
    registers = {_TILE: 0}
    free = list(range(N_REGISTERS - 1, 0, -1))
    chain: list[Call] = []

    def release(number: int, position: int) -> None:
        if last.get(number, -1) <= position and number in registers:
            free.append(registers.pop(number))

    chain += [Call("store", a=0, edge=edge) for edge in stores.get(_TILE, ())]
    release(_TILE, -1)
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
    if call.function in ("fill", "lookup"):
        return []
    if call.function == "load":
        # Number 0 is the window's tile, which no load goes on with.
        return [call.a] if call.order is not None and call.a else []
    return [call.a] if call.b is None else [call.a, call.b]
