"""Stages in the making: which stage a value is computed in, and where it has to be stored.

A function of a number is computed as early as all that it reads is known: by the stage that made the last of
it, while that stage's tile lies in registers. What another stage reads is stored once, in an edge. Slices,
concatenations and flips of channels move nothing: they are views, which whoever reads them resolves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.graph.int8 import Step
from balacoon_tk.runtime.native.program import Call, Edge, Padding, Port, Program, Stage
from balacoon_tk.targets.native.drafts import Draft
from balacoon_tk.targets.native.views import Operand, Value, View, concatenate

_COMMUTATIVE = ("add", "mul", "max", "min")


class Builder:
    """Collects stages, edges and arrays."""

    def __init__(self) -> None:
        self.drafts: list[Draft] = []
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
        steps = rate.numerator, rate.denominator
        self.inputs.append(Port(name, edge, shape, rate=steps, symbols=symbols))
        return View.of(Value(n_channels, rate, timeless, edge=edge))

    def output(
        self, name: str, view: View, shape: tuple[int, ...], *, axis: int = -1, symbols: bool = False
    ) -> None:
        """Add an output, which has an edge that nothing else reads; its shape lacks time, which is `axis`."""
        value = view.whole
        if value is None or value.draft is None:
            value = self._base(self.function("copy", [view], name, alone=True))
        assert value.draft is not None
        edge = self._edge(name, value.n_channels, value.timeless)
        value.draft.stores.setdefault(value.number, []).append(edge)
        rate = value.rate.numerator, value.rate.denominator
        self.outputs.append(Port(name, edge, shape, axis=axis, rate=rate, symbols=symbols))

    def array(self, array: AnyArray, name: str) -> str:
        """Keep an array and return the name under which it is kept; equal ones are kept once."""
        data = np.ascontiguousarray(array)
        key = (hashlib.blake2b(data.data).digest(), data.dtype.str, data.shape)
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
        if step is not None:
            source = self._rounded(base, step, stage.name)
        elif stage.kind != "pad" and stage.padding != "constant":
            source = self._padded(base, (stage.padding, stage.pad_left, stage.pad_right), stage.name)
        else:
            source = self._stored(base, stage.name)
        draft = Draft(
            len(self.drafts),
            replace(
                stage,
                source=source,
                source_channel=int(view.channels[0]),
                rate=(base.rate.numerator, base.rate.denominator),
            ),
            stage.n_channels,
            base.timeless,
            rate,
        )
        self.drafts.append(draft)
        return View.of(Value(stage.n_channels, rate, base.timeless, draft))

    def recurrence(self, stage: Stage, view: View) -> View:
        """Begin a stage that reads what it has made of the step before, besides a view in one piece."""
        result = self.window(stage, view, view.rate)
        value = self._base(result)
        assert value.draft is not None
        value.draft.stage = replace(value.draft.stage, own=self._stored(value, stage.name))
        return result

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
        draft = self._timed(view, len(values), times, name)
        number = draft.add(Call("fill", **self._constant(values, len(values), name)))
        return View.of(Value(len(values), draft.rate, False, draft, number))

    def positions(self, view: View, times: int, name: str) -> View:
        """Return the number of each step, for so many times the steps of a view; one channel."""
        draft = self._timed(view, 1, times, name)
        return View.of(Value(1, draft.rate, False, draft, draft.add(Call("position"))))

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
        if lies:
            return view
        copy = self.function("copy", [view], name, alone=True)
        return replace(copy, pads=view.pads, padding=view.padding)

    def laid_out(self, view: View, name: str, *, alone: bool) -> View:
        """Return a view whose channels lie in one piece, in their order.

        A convolution whose every channel is read `alone`, by whoever calls this for it, makes them in that
        order at once; other channels are copied.
        """
        draft = view.bases[0].draft
        if not alone or len(view.bases) > 1 or draft is None or not draft.is_plain_convolution:
            return self.gathered(view, name)
        if draft.places is None:
            draft.places = np.arange(draft.n_channels)
        wanted = np.arange(view.channels.min(), view.channels.max() + 1)
        if np.array_equal(np.sort(view.channels), wanted) and np.array_equal(draft.places[wanted], wanted):
            draft.places[view.channels] = wanted
        return self.gathered(replace(view, channels=draft.places[view.channels]), name)

    def place_of(self, view: View, name: str) -> tuple[int, int]:
        """Return the edge, and the first channel there, of a view whose channels lie in one piece."""
        return self._stored(view.bases[0], name), int(view.channels[0])

    def add_biases(self, view: View, biases: View, name: str) -> bool:
        """Let a convolution with predicted kernels add biases; False if it can't."""
        base, draft = biases.bases[0], view.bases[0].draft
        if (
            draft is None
            or draft.stage.kind != "predicted"
            or draft.stage.biases is not None
            or draft.calls
            or draft.stores
            or base.index >= draft.index
            or biases.timeless
            or biases.rate != view.rate
            or self.gathered(biases, name) is not biases
        ):
            return False
        edge, first = self.place_of(biases, name)
        draft.stage = replace(draft.stage, biases=edge, bias_channel=first)
        return True

    def padded(self, view: View, left: int, right: int, padding: Padding = "constant") -> View:
        """Return a view with steps in front and behind, which whoever reads a window of it takes in."""
        return replace(view, pads=(view.pads[0] + left, view.pads[1] + right), padding=padding)

    def pad(
        self,
        view: View,
        left: int,
        right: int,
        name: str,
        *,
        padding: Padding = "constant",
        value: float = 0.0,
    ) -> View:
        """Begin a stage that makes steps in front of a view and behind it, or takes them away."""
        view = self.gathered(replace(view, pads=(0, 0), padding="constant"), name)
        stage = Stage(
            kind="pad",
            name=name,
            source=None,
            n_channels=view.n_channels,
            pad_left=left,
            pad_right=right,
            padding=padding,
            value=value,
        )
        return self.window(stage, view, view.rate)

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
        return self.pad(view, -start, -behind, name)

    def function(self, function: str, operands: Sequence[Operand], name: str, *, alone: bool = False) -> View:
        """Add a function of one or two operands; `alone` begins a stage for it.

        "copy" gives its one operand as it is.
        """
        views = [operand for operand in operands if isinstance(operand, View)]
        parts = next((view.parts for view in views if not alone and len(view.parts) > 1), ())
        if parts:
            of_parts = ([_part(operand, *part) for operand in operands] for part in parts)
            return concatenate([self.function(function, each, name) for each in of_parts])
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
        """Return the program, without stages of which no output needs anything."""
        stages = tuple(self._reordered(draft) for draft in self.drafts)
        needed: set[int | None] = {port.edge for port in self.outputs}
        n_before = 0
        while n_before < len(needed):
            n_before = len(needed)
            for stage in stages:
                if not needed.isdisjoint(_edges(stage, "store")):
                    needed |= {stage.source, stage.kernels, stage.biases, *_edges(stage, "load", "lookup")}
                    needed.update(edge for edge, _ in stage.others)
        stages = tuple(stage for stage in stages if not needed.isdisjoint(_edges(stage, "store")))
        used = {name for stage in stages for name in (stage.weights, stage.bias, stage.scales)}
        used |= {stage.padding_biases for stage in stages}
        used |= {
            name for stage in stages for name in (stage.distance_biases, stage.near_keys, stage.near_values)
        }
        used |= {name for stage in stages for call in stage.chain for name in (call.array, call.order)}
        arrays = {name: array for name, array in self.arrays.items() if name in used}
        return Program(tuple(self.edges), stages, tuple(self.inputs), tuple(self.outputs), arrays)

    def _reordered(self, draft: Draft) -> Stage:
        """Return the stage, its channels made where they are wanted."""
        stage = draft.finish()
        if draft.places is None:
            return stage
        order = stage.first_filter + np.argsort(draft.places)

        def moved(name: str | None, axis: int = 0) -> str | None:
            if name is None or self.arrays[name].shape[axis] == 1:
                return name
            return self.array(self.arrays[name].take(order, axis), f"{name}.laid_out")

        return replace(
            stage,
            first_filter=0,
            weights=moved(stage.weights),
            bias=moved(stage.bias),
            padding_biases=moved(stage.padding_biases, 1),
            scales=moved(stage.scales),
        )

    def _appended(
        self, draft: Draft, function: str, operands: Sequence[Operand], n_channels: int, name: str
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
        draft: Draft,
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

    def _in_register(self, draft: Draft, view: View, n_channels: int, name: str) -> int:
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
        orders = [np.where(view.which == k, view.channels, -1) for k in range(len(view.bases))]
        names = [self.array(order.astype(np.int32), f"{name}.order") for order in orders]
        edges = [self._stored(base, name) for base in view.bases]
        return self._load(
            draft, *(Call("load", edge=edge, order=order) for edge, order in zip(edges, names, strict=True))
        )

    def _load(self, draft: Draft, *calls: Call) -> int:
        """Return the number of what calls load together, each going on with what the one before has begun."""
        if calls not in draft.loads:
            number = draft.add(calls[0])
            for call in calls[1:]:
                number = draft.add(replace(call, a=number))
            draft.loads[calls] = number
        return draft.loads[calls]

    def _pointwise(self, name: str, n_channels: int, rate: Fraction, *, timeless: bool) -> Draft:
        stage = Stage("pointwise", name, None, n_channels, rate=(rate.numerator, rate.denominator))
        draft = Draft(len(self.drafts), stage, n_channels, timeless, rate)
        self.drafts.append(draft)
        return draft

    def _timed(self, view: View, n_channels: int, times: int, name: str) -> Draft:
        """Begin a stage for each step of a view, or so many of it, that makes nothing of its numbers."""
        base = view.bases[0]
        draft = self._pointwise(name, n_channels, base.rate, timeless=False)
        draft.stage = replace(draft.stage, n_phases=times)
        draft.rate = base.rate * times
        # What is loaded says how far time has come, and is written over.
        draft.add(Call("load", edge=self._stored(base, name), by_group=True, broadcast=True))
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

    def _padded(self, value: Value, form: tuple[Padding, int, int], name: str) -> int:
        """Return the edge that holds a value for those alone who read it padded in this way."""
        if form not in value.padded:
            assert value.draft is not None
            value.padded[form] = self._edge(
                f"{value.draft.stage.name or name}.{form[0]}", value.n_channels, False
            )
            value.draft.stores.setdefault(value.number, []).append(value.padded[form])
        return value.padded[form]

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
                step.largest,
            )
            self.edges.append(edge)
            value.rounded[step] = len(self.edges) - 1
            draft.stores.setdefault(value.number, []).append(value.rounded[step])
        return value.rounded[step]

    def _edge(self, name: str, n_channels: int, timeless: bool) -> int:
        self.edges.append(Edge(name, n_channels, timeless))
        return len(self.edges) - 1


def _part(operand: Operand, start: int, stop: int) -> Operand:
    """Return what some channels of an operand are, if it has more than one."""
    if isinstance(operand, View):
        return operand.take(np.arange(start, stop)) if operand.n_channels > 1 else operand
    return operand[start:stop] if isinstance(operand, np.ndarray) and operand.size > 1 else operand


def _edges(stage: Stage, *functions: str) -> set[int | None]:
    return {call.edge for call in stage.chain if call.function in functions}
