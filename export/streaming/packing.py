"""Join states that always have the same length into one.

A tensor that goes from push to push through Python costs 5 to 8 microseconds there, between runs that have
emptied the caches; a flow alone has 16 such states, the last steps in front of each of its convolutions. Side
by side along their channels they are one state, which a ``Split`` takes apart and a ``Concat`` puts together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk.decoder.graph import StateSpec
from balacoon_tk.export.streaming.builder import GraphBuilder

__all__ = ["MIN_STATES", "pack_states"]

MIN_STATES = 4
"""Fewer than this cost less than the two nodes and the copies."""


def pack_states(builder: GraphBuilder, candidates: Sequence[tuple[ir.Value, int]]) -> None:
    """Join those of the candidates that differ in nothing but the number of their channels.

    Parameters
    ----------
    builder : GraphBuilder
        A graph in which every state has its next value.
    candidates : sequence of (ir.Value, int)
        Inputs of states, and the length that each has after every push.
    """
    specs = {spec.input: spec for spec in builder.states}
    groups: defaultdict[tuple[object, ...], list[StateSpec]] = defaultdict(list)
    for value, length in candidates:
        spec = specs[str(value.name)]
        channels = _long_axes(spec)
        if len(channels) == 1:
            lengths = (spec.shape[spec.axis], length, spec.max_length)
            groups[spec.dtype, spec.fill, len(spec.shape), spec.axis, channels, lengths].append(spec)
    for group in groups.values():
        if len(group) >= MIN_STATES:
            _pack(builder, group)


def _long_axes(spec: StateSpec) -> tuple[int, ...]:
    """Return the axes that are longer than 1, but time: if it is one, that of the channels."""
    return tuple(axis for axis, length in enumerate(spec.shape) if axis != spec.axis and length != 1)


def _pack(builder: GraphBuilder, group: Sequence[StateSpec]) -> None:
    first = group[0]
    (axis,) = _long_axes(first)
    sizes = [spec.shape[axis] for spec in group]
    inputs = {str(value.name): value for value in builder.state_inputs}
    outputs = {str(value.name): value for value in builder.state_outputs}
    builder.drop_states(group)
    shape = [sum(sizes) if k == axis else length for k, length in enumerate(first.shape)]
    packed = builder.state(shape, first.axis, first.max_length, np.dtype(first.dtype), fill=first.fill)
    builder.split(packed, axis, sizes, [inputs[spec.input] for spec in group])
    builder.keep(packed, builder.concat([outputs[spec.output] for spec in group], axis))
