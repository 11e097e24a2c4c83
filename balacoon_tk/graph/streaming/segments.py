"""Runs of nodes between two single tensors, and what decoding one of them piece by piece takes.

A segment runs unchanged, own padding and all, on ``tail + new``: the last steps of its input that
were seen before, and the new ones. What the missing neighbourhood spoils is cropped::

        input    [ tail (m) |        new (n)        ]
        output   [ left crop|   new, now known   |right crop]

    m           = ceil((left + lag) / rate), and at least 1 if the lag is negative; more, if an operator
                  inside would have no steps left of so few
    left crop   = max(0, rate * len(tail) - lag), and 0 at the utterance's start, where the tail is empty
    right crop  = right, and none in the last push

At both ends of the utterance nothing is cropped, so the padding that the graph was trained with
stands where it stood. `left`, `lag` and `right` are those of `Timeline`, counted from the
segment's input. The lag is negative where padding at the start makes more steps than come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, inf

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis, time_names
from balacoon_tk.graph.timeline import Timeline, join


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes that run unchanged on a piece of their one input, and are cropped at their one output."""

    nodes: tuple[ir.Node, ...]
    source: str
    target: str
    rate: int
    """Steps of the target for one of the source."""
    lag: int
    """Steps of the target that trail ``rate * n``."""
    right_crop: int
    """Steps at the target's end that are not known yet."""
    tail: int
    """Steps of the source that are kept from push to push."""
    min_length: int
    """Steps that a piece of the source must have."""
    in_halves: bool = False
    """Whether the piece is run as two rows (see `halves`)."""

    @property
    def pointwise(self) -> bool:
        """Whether nothing is kept and nothing is cropped."""
        return self.tail == 0 and self.right_crop == 0


def time_nodes(analysis: Analysis) -> list[ir.Node]:
    """Return the nodes that have time or measure it, in the order of the graph."""
    return [
        node
        for node in analysis.model.graph
        if node in analysis.effects or any(value.name in analysis.sized_by for value in node.outputs)
    ]


def sources_of(node: ir.Node, analysis: Analysis) -> list[str]:
    """Return the tensors with time that a node reads, or whose length it reads."""
    names = time_names(node, analysis.timelines)
    roots = [
        analysis.sized_by[str(value.name)]
        for value in node.inputs
        if value is not None and value.name in analysis.sized_by
    ]
    return list(dict.fromkeys([*names, *roots]))


def find_cuts(analysis: Analysis, nodes: Sequence[ir.Node]) -> list[tuple[int, str]]:
    """Return the places where all that is known passes through one tensor.

    Returns
    -------
    list of (int, str)
        How many nodes come before the place, and the tensor's name.
    """
    uses: dict[str, int] = {}
    for node in nodes:
        for name in _read_names(node, analysis):
            uses[name] = uses.get(name, 0) + 1
    for name in analysis.outputs:
        uses[name] = uses.get(name, 0) + 1  # an output is never used up
    live = {name for name in analysis.inputs.axes if uses.get(name)}
    cuts = [(0, next(iter(live)))] if len(live) == 1 else []
    for position, node in enumerate(nodes, start=1):
        for name in _read_names(node, analysis):
            uses[name] -= 1
            if not uses[name]:
                live.discard(name)
        live |= {name for value in node.outputs if uses.get(name := str(value.name))}
        if len(live) == 1 and (name := next(iter(live))) in analysis.timelines:
            cuts.append((position, name))
    return cuts


def _read_names(node: ir.Node, analysis: Analysis) -> list[str]:
    """Return the tensors that a node reads and that a cut must not lose: those with time, and lengths."""
    sizes = [str(v.name) for v in node.inputs if v is not None and v.name in analysis.sized_by]
    return list(dict.fromkeys([*sources_of(node, analysis), *sizes]))


def measure_segment(
    analysis: Analysis, nodes: Sequence[ir.Node], source: str, target: str, *, late: bool = False
) -> Segment | None:
    """Work out what a run of nodes needs to be decoded piece by piece; None if it can't be.

    A node that cuts steps off the end cuts them off a piece as well, though they are known: what comes
    out is late. Such a run is None too, unless `late` is true; begun further up it would not be late.
    """
    start = analysis.timelines[source]
    n_steps = start.lengths
    local: dict[str, Timeline] = {
        source: replace(start, rate=Fraction(1), lag=Fraction(0), left=0, phased=False)
    }
    tail = 0
    min_length = 1
    for node in nodes:
        effect = analysis.effects.get(node)
        if effect is None:
            continue
        if effect.kind != "local" or effect.local.down > 1:
            return None
        names = sources_of(node, analysis)
        if any(name not in local for name in names):
            return None
        into = join([local[name] for name in names])
        if effect.local.reach:
            # What is mirrored at the end must not be spoiled, nor, in the first run, what is at the start.
            reach = effect.local.reach
            at_the_end = ceil((reach + into.left + into.short(n_steps)) / into.rate)
            at_the_start = ceil((reach + into.lag) / into.rate)
            tail, min_length = max(tail, at_the_end), max(min_length, at_the_end, at_the_start)
        made = into.through(effect.local, axis=effect.axis, n_frames=n_steps)
        local |= {value.name: made for value in node.outputs if value.name}
        # Cut off more steps than there are, and what follows is as long as if there had been none to cut.
        min_length = max(min_length, ceil((made.short(n_steps) + 1) / made.rate))
    out = local[target]
    if out.left == inf or out.rate.denominator != 1:
        return None
    rate, lag = int(out.rate), int(out.lag)
    if not late and start.lag * rate + lag > analysis.timelines[target].lag:
        return None
    return Segment(
        nodes=tuple(nodes),
        source=source,
        target=target,
        rate=rate,
        lag=lag,
        right_crop=int(out.right(n_steps)),
        tail=max(tail, ceil((int(out.left) + lag) / rate), int(lag < 0), min_length - 1),
        min_length=min_length,
    )
