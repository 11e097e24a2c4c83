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

No segment are runs of nodes that read anything else with time, that go down in rate further than they went
up before (where a piece begins would decide which steps are taken), that hold a recurrence (no margin is
enough), or whose target would be known later than the same nodes with states of their own give it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, inf

import onnx_ir as ir

from balacoon_tk.graph.analysis import Analysis, time_names
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.timeline import join


@dataclass(frozen=True, slots=True)
class Segment:
    """Nodes that run unchanged on a piece of their one input, and are cropped at their one output."""

    nodes: tuple[ir.Node, ...]
    source: str
    target: str
    rate: int  # steps of the target for one of the source
    lag: int  # steps of the target that trail ``rate * n``
    right_crop: int  # steps at the target's end that are not known yet
    tail: int  # steps of the source that are kept from push to push
    min_length: int  # steps that a piece of the source must have

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
    return list(dict.fromkeys([*names, *(analysis.sized_by[name] for name in _sizes(node, analysis))]))


def _sizes(node: ir.Node, analysis: Analysis) -> list[str]:
    return [name for value in node.inputs if (name := name_of(value)) in analysis.sized_by]


def find_cuts(analysis: Analysis, nodes: Sequence[ir.Node]) -> list[tuple[int, str]]:
    """Return where all that is known passes through one tensor: the nodes before the place, and its name."""
    uses = Counter(name for node in nodes for name in _read_names(node, analysis))
    uses.update(analysis.outputs)  # an output is never used up
    live = {name for name in analysis.inputs.axes if uses[name]}
    cuts = [(0, next(iter(live)))] if len(live) == 1 else []
    for position, node in enumerate(nodes, start=1):
        for name in _read_names(node, analysis):
            uses[name] -= 1
            if not uses[name]:
                live.discard(name)
        live |= {name for value in node.outputs if uses[name := str(value.name)]}
        # A length that is still to be read is live too: it is no tensor to cut at.
        if len(live) == 1 and (name := next(iter(live))) in analysis.timelines:
            cuts.append((position, name))
    return cuts


def _read_names(node: ir.Node, analysis: Analysis) -> list[str]:
    # A cut must lose neither what has time nor a length that is still to be read.
    return list(dict.fromkeys([*sources_of(node, analysis), *_sizes(node, analysis)]))


def measure_segment(
    analysis: Analysis, nodes: Sequence[ir.Node], source: str, target: str, *, late: bool = False
) -> Segment | None:
    """Work out what a run of nodes needs to be decoded piece by piece; None if it can't be.

    A node that cuts steps off the end cuts them off a piece as well, though they are known: what comes
    out is late. Such a run is None too, unless `late` is true; begun further up it would not be late.
    """
    # As `analyse`, but with the source as the input: what its own past has spoiled is not counted again.
    start = analysis.timelines[source]
    n_steps = start.lengths
    local = {source: replace(start, rate=Fraction(1), lag=Fraction(0), left=0, phased=False)}
    tail, min_length = 0, 1
    for node in nodes:
        effect = analysis.effects.get(node)
        if effect is None:  # it measures a length, of the piece as well as of the whole
            continue
        if effect.recurrent:
            return None
        names = sources_of(node, analysis)
        if not effect.in_segments or any(name not in local for name in names):
            return None
        into = join([local[name] for name in names])
        if effect.local.reach:
            # What is mirrored at the end must not be spoiled, nor, in the first run, what is at the start.
            reach = effect.local.reach
            at_the_end = ceil((reach + into.left + into.short(n_steps)) / into.rate)
            at_the_start = ceil((reach + into.lag) / into.rate)
            tail, min_length = max(tail, at_the_end), max(min_length, at_the_end, at_the_start)
        made = into.through(effect.local, axis=effect.axis, n_frames=n_steps)
        if made.phased:
            return None
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
        # A push may bring a single step, so all but one of the shortest piece must be in the tail. With a
        # negative lag that it isn't empty is the only sign that the utterance has begun.
        tail=max(tail, ceil((int(out.left) + lag) / rate), int(lag < 0), min_length - 1),
        min_length=min_length,
    )
