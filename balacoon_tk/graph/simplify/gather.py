"""Frames that are looked up in a signal at computed places, as the strided convolution that this is.

Where there is no operator for it, a signal is cut into frames by a ``Gather`` at ``hop * t + j``. That is a
convolution each of whose filters has a single tap, of 1. There must be as many frames as fit into the signal
at any length; if not, or if the places are anything else, it is left as it is.
"""

from __future__ import annotations

from math import prod

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import Writer
from balacoon_tk.graph.lengths import read_lengths
from balacoon_tk.graph.match import constant_of, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.quasi_polynomial import QuasiPolynomial, UnprovenError, larger
from balacoon_tk.graph.simplify.places import find_placement
from balacoon_tk.graph.simplify.replace_nodes import replace_nodes
from balacoon_tk.graph.walk import ancestors


def write_gathered_frames(model: ir.Model, probe: Probe) -> bool:
    """Write frames that are looked up at computed places as convolutions; as `replace_nodes`."""
    return replace_nodes(model, probe, {"Gather": _write})


def _write(node: ir.Node, graph: ir.Graph, probe: Probe, write: Writer) -> ir.Value | None:
    if constant_of(node, 1) is not None:
        return None
    data, places = node.inputs
    axis, at = probe.varying_axis(data), probe.varying_axis(places)
    if data is None or places is None or axis is None or at is None:
        return None
    shape, frames = probe.shape_of(data), probe.shape_of(places)
    if node.attributes.get_int("axis", 0) % len(shape) != axis:
        return None
    placement = find_placement(places, probe.shapes[name_of(places)], at, probe)
    if placement is None:
        return None
    hop, offsets = placement
    n_taps, length = offsets.size, int(offsets.max()) + 1
    if not _are_all_that_fit(places, data, axis, graph, probe, hop=hop, length=length):
        return None
    others = [n for k, n in enumerate(shape) if k != axis]
    n_channels = prod(others)
    kernels = np.zeros((n_taps, 1, length), probe.dtypes[name_of(data)])
    kernels[np.arange(n_taps), 0, offsets] = 1
    order = [*(k for k in range(len(shape)) if k != axis), axis]
    channels = write.one("Reshape", write.one("Transpose", data, perm=order), write.ints(1, n_channels, -1))
    cut = write.one(
        "Conv",
        channels,
        write.constant(np.tile(kernels, (n_channels, 1, 1))),
        group=n_channels,
        strides=[hop],
        kernel_shape=[length],
    )
    # Channels, then places in a frame, then time: each axis goes to where Gather has it.
    within = [n for k, n in enumerate(frames) if k != at]
    split = write.one("Reshape", cut, write.ints(*others, *within, -1))
    n_others, n_within = len(others), len(within)
    places_of = list(range(n_others, n_others + n_within))
    places_of.insert(at, n_others + n_within)
    return write.one("Transpose", split, perm=[*range(axis), *places_of, *range(axis, n_others)])


def _are_all_that_fit(
    places: ir.Value, data: ir.Value, axis: int, graph: ir.Graph, probe: Probe, *, hop: int, length: int
) -> bool:
    """Whether there are as many frames as a convolution gives, at every length."""
    at = probe.varying_axis(places)
    n_frames = [shape[at] for shape in probe.shapes[name_of(places)]] if at is not None else []
    counts = read_lengths(graph, probe)
    for value in ancestors([places]):
        ramp = value.producer()
        seen = [shape[0] for shape in probe.shapes.get(name_of(value), ()) if len(shape) == 1]
        if ramp is None or ramp.op_type != "Range" or seen != n_frames:
            continue
        start, limit, step = (None if each is None else counts.get(each) for each in ramp.inputs)
        if start is None or limit is None or step is None:
            return False
        lengths = [shape[axis] for shape in probe.shapes[name_of(data)]]
        try:
            first, end, by = (each.values.reshape(-1)[0] for each in (start, limit, step))
            given = ((end - first) / by).ceil()
            n_steps = QuasiPolynomial.through(dict(zip(limit.n, lengths, strict=True)))
            hops = (n_steps - QuasiPolynomial.of(length)) / QuasiPolynomial.of(hop)
            fit = hops.floor() + QuasiPolynomial.of(1)
            # Of a signal that is shorter than a frame both are none, whichever way it is rounded.
            return larger(given, QuasiPolynomial.of(0)) == larger(fit, QuasiPolynomial.of(0))
        except UnprovenError:
            return False
    return False
