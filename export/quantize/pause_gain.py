"""Take the noise of rounding off the pauses of speech: a Wiener gain at the end of a decoder in bytes.

Rounding adds noise of much the same power all the time, and it is heard where nothing else is. Its power N is
known from calibration, and E, that of the last samples, is measured as they are made; where noise and speech
don't depend on each other, the least error is left by multiplying with

    1 - N / E        but never less than a floor

([1] Lim and Oppenheim, "Enhancement and bandwidth compression of noisy speech", 1979, section III, for all
frequencies at once). While somebody speaks that is 1; between words the noise sinks. E is the mean over the
block that a sample lies in and some before it, so a stream has to wait for the end of a block only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray, FloatArray
from balacoon_tk.graph.edit import Names, Writer

_BLOCK, _SMALLEST_BLOCK = 64, 16  # samples
_N_BLOCKS = 7
# A tenth of the noise stays: true silence between words would sound as if the line were cut.
_FLOOR = 0.1
_QUIET_SHARE = 0.1
# Power; it keeps the gain from dividing by a pause of zeros.
_SILENCE = 1e-12


def block_samples(hop_length: int) -> int | None:
    """Return how many samples have one gain; None if a frame can't be cut into such blocks."""
    # Whole blocks in a frame: otherwise a stream would have to keep the rest of one.
    block = gcd(hop_length, _BLOCK)
    return block if block >= _SMALLEST_BLOCK else None


def measure_noise(samples: Sequence[FloatArray], reference: Sequence[FloatArray], block: int) -> float:
    """Return the power that rounding adds to the quietest tenth of utterances, 0 if it adds none."""
    ours, theirs = (np.concatenate([_powers(x, block) for x in each]) for each in (samples, reference))
    quiet = theirs <= np.quantile(theirs, _QUIET_SHARE)
    return max(0.0, float((ours - theirs)[quiet].mean()))


def add_pause_gain(model: onnx.ModelProto, noise_power: float, block: int) -> onnx.ModelProto:
    """Return a decoder without state whose samples, (1, 1, n_samples), go through the gain."""
    copy = ir.from_proto(model)
    graph = copy.graph
    output = graph.outputs[0]
    name, names = output.name, Names(graph)
    output.name = names.take(f"{name}.noisy")
    writer = Writer(graph, names, "pause_gain")
    power = writer.one("Mul", output, output)
    blocks = writer.one("AveragePool", power, kernel_shape=[block], strides=[block])
    # Zeros before the first sample count: what is silent there needs no gain.
    mean = writer.one(
        "AveragePool", blocks, kernel_shape=[_N_BLOCKS], pads=[_N_BLOCKS - 1, 0], count_include_pad=1
    )
    share = writer.one("Div", writer.floats(noise_power), writer.one("Add", mean, writer.floats(_SILENCE)))
    gain = writer.one("Max", writer.one("Sub", writer.floats(1.0), share), writer.floats(_FLOOR))
    scales = writer.constant(np.array([1.0, 1.0, block], np.float32))
    # The one mode of Resize that repeats each number, and looks at no other.
    nearest = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    repeated = writer.one("Resize", gain, None, scales, mode="nearest", **nearest)
    samples = writer.one("Mul", output, repeated)
    samples.name, samples.shape, samples.type = name, output.shape, output.type
    graph.outputs[0] = samples
    graph.extend(writer.nodes)
    return ir.to_proto(copy)


def _powers(samples: AnyArray, block: int) -> AnyArray:
    """Return the mean power over each `_N_BLOCKS` blocks, over which the gain measures as well."""
    length = block * _N_BLOCKS
    n_whole = max(1, samples.size // length)
    # A short text is filled up with zeros; of a long one the rest of a group is left out.
    padded = np.resize(np.append(samples, np.zeros(length)), n_whole * length)
    powers: AnyArray = np.square(padded).reshape(n_whole, length).mean(axis=1)
    return powers
