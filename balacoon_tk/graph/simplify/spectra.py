"""Short-time Fourier transforms and what adds frames up, as the convolutions that they are.

Cases; each is the same arithmetic in other operators, which stream, and which every target has:

1. ``STFT`` of a real signal: a convolution with windowed waves, as many steps apart as frames are.
2. ``Col2Im`` of one row of blocks: a transposed convolution with an identity matrix. The length that it is
   given must be known at every number of frames, as the last block may be followed by less than a stride.
What a graph computes with sizes or windows that depend on its inputs is left as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from balacoon_tk.graph.edit import Writer
from balacoon_tk.graph.lengths import read_lengths
from balacoon_tk.graph.match import constant_of, input_of, ints_of, name_of
from balacoon_tk.graph.probe import Probe
from balacoon_tk.graph.quasi_polynomial import QuasiPolynomial, UnprovenError
from balacoon_tk.graph.simplify.replace_nodes import replace_nodes


def simplify_spectra(model: ir.Model, probe: Probe) -> bool:
    """Write STFT and Col2Im as convolutions; as `replace_nodes`."""
    return replace_nodes(model, probe, {"STFT": _write_stft, "Col2Im": _write_col2im})


def _write_stft(node: ir.Node, graph: ir.Graph, probe: Probe, write: Writer) -> ir.Value | None:
    step, length = constant_of(node, 1), constant_of(node, 3)
    window, signal = input_of(node, 2), node.inputs[0]
    shape = probe.shape_of(signal)
    if signal is None or step is None or (window is None and length is None):
        return None
    if len(shape) not in (2, 3) or shape[2:] not in ((), (1,)):
        return None  # a complex signal
    n_fft = int(length.reshape(-1)[0]) if length is not None else probe.shape_of(window)[0]
    transform = np.fft.rfft if node.attributes.get_int("onesided", 1) else np.fft.fft
    spectra = transform(np.eye(n_fft)).T  # (n_bins, n_fft)
    waves = np.concatenate([spectra.real, spectra.imag])[:, None]
    kernels = write.constant(waves.astype(probe.dtypes[name_of(signal)]))
    if window is not None:
        kernels = write.one("Mul", kernels, window)
    if len(shape) == 3:
        channel = write.one("Transpose", signal, perm=[0, 2, 1])
    else:
        channel = write.over_axes("Unsqueeze", signal, 1)
    sizes = {"strides": [int(step.reshape(-1)[0])], "kernel_shape": [n_fft]}
    parts = write.one("Conv", channel, kernels, **sizes)
    split = write.one("Reshape", parts, write.ints(shape[0], 2, len(spectra), -1))
    return write.one("Transpose", split, perm=[0, 3, 2, 1])


def _write_col2im(node: ir.Node, graph: ir.Graph, probe: Probe, write: Writer) -> ir.Value | None:
    blocks, data = constant_of(node, 2), node.inputs[0]
    if blocks is None or data is None:
        return None
    n_axes = len(blocks)
    strides, dilations = (ints_of(node, key, [1] * n_axes) for key in ("strides", "dilations"))
    pads = ints_of(node, "pads", [0] * 2 * n_axes)
    image = None if node.inputs[1] is None else read_lengths(graph, probe).get(node.inputs[1])
    if image is None:
        return None
    # Time is the one axis along which there is more than a single block of a single step.
    sizes: list[QuasiPolynomial] = list(image.values)
    single = [
        blocks[k] == 1 and not pads[k] and not pads[k + n_axes] and sizes[k].constant == 1
        for k in range(n_axes)
    ]
    if single.count(False) != 1:
        return None
    axis = single.index(False)
    kernel, stride, ends = int(blocks[axis]), strides[axis], [pads[axis], pads[axis + n_axes]]
    span = dilations[axis] * (kernel - 1) + 1 - sum(ends)
    rest = steps_behind(sizes[axis], image.n, probe.shapes[name_of(data)], 2, stride, span)
    if rest is None:
        return None
    n_channels = probe.shape_of(data)[1] // kernel
    identity = np.tile(np.eye(kernel), (n_channels, 1))[:, None].astype(probe.dtypes[name_of(data)])
    added = write.one(
        "ConvTranspose",
        data,
        write.constant(identity),
        group=n_channels,
        strides=[stride],
        dilations=[dilations[axis]],
        kernel_shape=[kernel],
        pads=ends,
        output_padding=[rest],
    )
    others = [k + 2 for k in range(n_axes) if k != axis]
    return write.over_axes("Unsqueeze", added, *others)


def steps_behind(
    length: QuasiPolynomial,
    n: tuple[int, ...],
    frames: Sequence[tuple[int, ...]],
    axis: int,
    stride: int,
    span: int,
) -> int | None:
    """Return how many steps follow those that overlapping frames take up, if always as many.

    The `length` of all is a function of what was `n` when the frames had these shapes, with time on an axis.
    Each takes up `span` steps, `stride` behind the one before. None as well if another frame would fit in.
    """
    try:
        n_frames = QuasiPolynomial.through({k: shape[axis] for k, shape in zip(n, frames, strict=True)})
        taken = (n_frames - QuasiPolynomial.of(1)) * QuasiPolynomial.of(stride) + QuasiPolynomial.of(span)
        rest = (length - taken).constant
    except UnprovenError:
        return None
    return int(rest) if rest is not None and rest.denominator == 1 and 0 <= rest < stride else None
