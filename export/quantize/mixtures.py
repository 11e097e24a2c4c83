"""Which convolutions are worth computing with bytes: blocks of them, tried one by one, then together.

A block is what lies between two places where a decoder is one tensor. What it loses is the log-spectral
distance to the decoder in floating point. Losses don't add up, since what one block has spoilt another can't
spoil again; so blocks are left out of the whole one by one, each time the one that brings back most for the
multiply-adds that it takes out of bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_ir as ir

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.export.quantize.regions import is_layer, is_tapped
from balacoon_tk.export.quantize.scheme import Range
from balacoon_tk.export.quantize.to_bytes import byte_tensors, to_bytes
from balacoon_tk.graph.cost import multiply_adds
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming.segments import find_cuts, time_nodes
from balacoon_tk.metrics.signal import log_spectral_distance_db
from balacoon_tk.runtime.session import Session

_LEAST_SHARE = 0.01
"""A block with less of the multiply-adds joins the one before it: it isn't worth a choice of its own."""


@dataclass(frozen=True, slots=True)
class Block:
    """Convolutions that are quantized together."""

    name: str
    layers: tuple[str, ...]
    """Names of the nodes."""
    multiply_adds: float
    """Per frame."""
    lsd_db: float = 0.0
    """Log-spectral distance with only this block in bytes."""


def find_blocks(model: onnx.ModelProto) -> tuple[Block, ...]:
    """Return the blocks of a decoder, in the order of its graph.

    A last convolution to one channel is in none: its output is the sound, of which a byte is not enough.

    Raises
    ------
    ModelError
        If there is no convolution that can compute with bytes.
    """
    analysis = analyse_model(model)
    nodes = time_nodes(analysis)
    ends = [position for position, _ in find_cuts(analysis, nodes)]
    shapes, n_frames = analysis.inputs.probe.shapes, analysis.n_frames[-1]
    pieces: list[tuple[list[str], float]] = []
    for start, stop in zip([0, *ends], [*ends, len(nodes)], strict=True):
        layers = [node for node in nodes[start:stop] if is_layer(node) and not is_tapped(node)]
        if not layers:
            continue
        cost = 0.0
        for node in layers:
            weight = node.inputs[1]
            kernel = () if weight is None or weight.const_value is None else weight.const_value.numpy().shape
            x, y = (shapes[str(value.name)][-1] for value in (node.inputs[0], node.outputs[0]) if value)
            cost += multiply_adds("Conv", x, kernel, y) / n_frames
        pieces.append(([str(node.name) for node in layers], cost))
    if not pieces:
        raise ModelError("the decoder has no convolution that can compute with bytes")
    total = sum(cost for _, cost in pieces)
    joined: list[tuple[list[str], float]] = []
    for names, cost in pieces:
        if joined and min(cost, joined[-1][1]) < _LEAST_SHARE * total:
            joined[-1] = joined[-1][0] + names, joined[-1][1] + cost
        else:
            joined.append((names, cost))
    return tuple(Block(f"block {k}", tuple(names), cost) for k, (names, cost) in enumerate(joined, 1))


def tensors_to_calibrate(model: onnx.ModelProto, blocks: Sequence[Block]) -> tuple[str, ...]:
    """Return the tensors that are bytes in a mixture of blocks, whichever it is."""
    graph = ir.from_proto(model)
    names: dict[str, None] = {}
    for mixture in (blocks, *((block,) for block in blocks)):
        wanted = {layer for block in mixture for layer in block.layers}
        layers = [node for node in graph.graph if node.name in wanted]
        names |= dict.fromkeys(byte_tensors(graph, layers))
    return tuple(names)


def quantize_layers(
    model: onnx.ModelProto, layers: Sequence[str], ranges: Mapping[str, Range]
) -> onnx.ModelProto:
    """Return a decoder in which some convolutions compute with bytes."""
    copy = ir.from_proto(model)
    wanted = set(layers)
    to_bytes(copy, [node for node in copy.graph if node.name in wanted], ranges)
    return ir.to_proto(copy)


def measure_blocks(
    model: onnx.ModelProto,
    blocks: Sequence[Block],
    ranges: Mapping[str, Range],
    utterances: Sequence[Mapping[str, AnyArray]],
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[Block, ...]:
    """Quantize each block alone and return all with what that loses.

    Parameters
    ----------
    model : ModelProto
        The decoder without state.
    blocks : sequence of Block
    ranges : mapping of str to Range
    utterances : sequence of mapping of str to ndarray
    progress : callable, optional
        Called with the share that is done.
    """
    reference = _decode(model, utterances)
    measured = []
    for k, block in enumerate(blocks):
        if progress is not None:
            progress(k / len(blocks))
        measured.append(replace(block, lsd_db=_loss(model, [block], ranges, utterances, reference)))
    return tuple(measured)


def leave_out_blocks(
    model: onnx.ModelProto,
    blocks: Sequence[Block],
    ranges: Mapping[str, Range],
    utterances: Sequence[Mapping[str, AnyArray]],
    n: int,
    *,
    progress: Callable[[float], None] | None = None,
) -> tuple[tuple[Block, ...], ...]:
    """Return mixtures: all blocks, all but one, … all but `n`.

    Parameters
    ----------
    model, blocks, ranges, utterances
        As for `measure_blocks`.
    n : int
        How many blocks are left out in the last mixture; one always stays.
    progress : callable, optional
        Called with the share that is done.
    """
    reference = _decode(model, utterances)
    mixtures, lost = [tuple(blocks)], _loss(model, blocks, ranges, utterances, reference)
    n = min(n, len(blocks) - 1)
    n_trials, n_tried = sum(len(blocks) - k for k in range(n)), 0
    for _ in range(n):
        trials = []
        for block in mixtures[-1]:
            if progress is not None:
                progress(n_tried / n_trials)
            kept = tuple(other for other in mixtures[-1] if other is not block)
            loss = _loss(model, kept, ranges, utterances, reference)
            trials.append(((lost - loss) / block.multiply_adds, loss, kept))
            n_tried += 1
        _, lost, kept = max(trials, key=lambda trial: trial[0])
        mixtures.append(kept)
    return tuple(mixtures)


def _loss(
    model: onnx.ModelProto,
    blocks: Sequence[Block],
    ranges: Mapping[str, Range],
    utterances: Sequence[Mapping[str, AnyArray]],
    reference: Sequence[AnyArray],
) -> float:
    layers = [layer for block in blocks for layer in block.layers]
    samples = _decode(quantize_layers(model, layers, ranges), utterances)
    return float(np.mean([log_spectral_distance_db(x, r) for x, r in zip(samples, reference, strict=True)]))


def _decode(model: onnx.ModelProto, utterances: Sequence[Mapping[str, AnyArray]]) -> list[AnyArray]:
    session = Session(model)
    output = next(iter(session.outputs))
    return [session.run(dict(utterance), [output])[output].reshape(-1) for utterance in utterances]
