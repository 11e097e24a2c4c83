"""Which convolutions are worth computing in int8: blocks of them, tried one by one, then together.

A block is what lies between two places where a decoder is one tensor. What it loses is the log-spectral
distance to the decoder in floating point. Losses don't add up, since what one block has spoilt another can't
spoil again; so blocks are left out of the whole one by one, each time the one that brings back most for the
multiply-adds that it takes out of int8.

Where an engine makes convolutions of 7 bits in pairs of steps, with fewer products, blocks that lose little
by the bit are made so.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir
from onnx_ir.passes.common import NameFixPass

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.graph import int8
from balacoon_tk.graph.cost import multiply_adds
from balacoon_tk.graph.edit import Names, constant_of, remove_unused
from balacoon_tk.graph.match import name_of
from balacoon_tk.graph.opset import raise_opset
from balacoon_tk.graph.prepare import analyse_model
from balacoon_tk.graph.streaming import make_streaming
from balacoon_tk.graph.streaming.segments import find_cuts, time_nodes
from balacoon_tk.metrics.signal import log_spectral_distance_db
from balacoon_tk.runtime.engine import Engine, Feeds
from balacoon_tk.runtime.native.bundles import LARGEST_OF_PAIRS
from balacoon_tk.runtime.native.opening import open_program
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.targets.choice import SEVERAL_THREADS, choose_target
from balacoon_tk.targets.native import compile_native
from balacoon_tk.targets.native.operators import can_round as can_round_natively
from balacoon_tk.targets.native.paired import can_pair, quantize_even
from balacoon_tk.targets.ort_cpu.costs import OrtCpuCosts
from balacoon_tk.targets.ort_cpu.int8.convolutions import round_convolutions
from balacoon_tk.targets.ort_cpu.int8.products import can_round
from balacoon_tk.targets.ort_cpu.int8.regions import find_rounded, is_layer, is_tapped
from balacoon_tk.targets.ort_cpu.optimize import optimize_decoder

# Since this one a scale may be one of each channel.
_QDQ_OPSET = 13
# What all of int8 loses may grow by this share of it where convolutions are made in pairs.
_LOST_IN_PAIRS = 0.1
# A block with less of the multiply-adds joins the one before it: it isn't worth a choice of its own.
_LEAST_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Block:
    """Convolutions that are quantized together."""

    name: str
    layers: tuple[str, ...]
    """Names of the nodes."""
    multiply_adds: float
    """Per frame."""
    lsd_db: float = 0.0
    """Log-spectral distance with only this block in int8."""


def find_blocks(model: onnx.ModelProto, is_layer: Callable[[ir.Node], bool]) -> tuple[Block, ...]:
    """Return the blocks of a decoder, in the order of its graph; there must be a layer for int8."""
    analysis = analyse_model(model)
    nodes = time_nodes(analysis)
    ends = [position for position, _ in find_cuts(analysis, nodes)]
    shapes, n_frames = analysis.inputs.probe.shapes, analysis.n_frames[-1]

    def cost(node: ir.Node) -> float:
        # The longest of the probe's runs, in which the steps at the edges weigh least.
        x, y = (shapes[name_of(value)][-1] for value in (node.inputs[0], node.outputs[0]))
        return multiply_adds(node.op_type, x, np.asarray(constant_of(node, 1)).shape, y) / n_frames

    pieces: list[tuple[list[str], float]] = []
    for start, stop in zip([0, *ends], [*ends, len(nodes)], strict=True):
        layers = [node for node in nodes[start:stop] if is_layer(node)]
        if layers:
            pieces.append(([str(node.name) for node in layers], sum(map(cost, layers))))
    if not pieces:
        raise ModelError("the decoder has no convolution that can compute in int8")
    least = _LEAST_SHARE * sum(each for _, each in pieces)
    joined: list[tuple[list[str], float]] = []
    for names, each in pieces:
        # Either of the two may be the small one: the first piece has none before it to join.
        if joined and min(each, joined[-1][1]) < least:
            joined[-1] = joined[-1][0] + names, joined[-1][1] + each
        else:
            joined.append((names, each))
    return tuple(Block(f"block {k}", tuple(names), each) for k, (names, each) in enumerate(joined, 1))


class Mixer(ABC):
    """Rounds mixtures of a plain decoder's layers, in its own graph and as an engine runs it."""

    def __init__(self, plain: onnx.ModelProto) -> None:
        self.plain = plain
        self.blocks = find_blocks(plain, self._is_layer)
        self._ranges: dict[str, int8.Range] = {}

    @abstractmethod
    def round(self, layers: Collection[str], paired: Collection[str] = ()) -> onnx.ModelProto:
        """Return the decoder with some layers in int8 as `open` takes it, some of them made in pairs."""

    @abstractmethod
    def open(
        self, rounded: onnx.ModelProto, options: RuntimeOptions | None = None, *, streaming: bool = False
    ) -> Engine:
        """Open what `round` has returned in the engine, to be streamed if `streaming` says so."""

    @abstractmethod
    def _is_layer(self, node: ir.Node) -> bool:
        """Whether a node is worth computing in int8."""

    @abstractmethod
    def _find_rounded(self, graph: ir.Graph, layers: Collection[ir.Node]) -> dict[str, set[ir.Node]]:
        """Return the tensors that are rounded where some layers are, and who reads them so."""

    def find_pairable(self) -> frozenset[str]:
        """Return the layers that the engine could make in pairs of steps, of inputs of 7 bits."""
        return frozenset()

    @property
    def tensors(self) -> tuple[str, ...]:
        """The tensors that are rounded in a mixture of blocks, whichever it is."""
        graph = ir.from_proto(self.plain).graph
        names: dict[str, None] = {}
        # Alone a block rounds its own ends; in the whole, what lies between two of them as well.
        for mixture in (self.blocks, *((block,) for block in self.blocks)):
            names |= dict.fromkeys(self._find_rounded(graph, _nodes(graph, layers_of(mixture))))
        return tuple(names)

    def calibrate(self, ranges: Mapping[str, int8.Range]) -> None:
        """Take the range of each of the tensors."""
        self._ranges = dict(ranges)

    def quantize(self, layers: Collection[str], paired: Collection[str] = ()) -> onnx.ModelProto:
        """Return the plain decoder, of opset 13 or newer, with some layers in int8, as QDQ pairs."""
        copy = ir.from_proto(self.plain)
        if copy.graph.opset_imports.get("", 0) < _QDQ_OPSET:
            raise ModelError(f"int8 needs opset {_QDQ_OPSET} or newer: export the model again")
        chosen, names = _nodes(copy.graph, layers), Names(copy.graph)
        readers = self._find_rounded(copy.graph, chosen)
        in_pairs = _nodes(copy.graph, paired)
        steps = self._steps_of(readers, {name_of(node.inputs[0]) for node in in_pairs})
        int8.write_weights(copy.graph, names, chosen, dict.fromkeys(in_pairs, quantize_even))
        int8.write_steps(copy.graph, names, steps, readers)
        copy.graph.sort()
        # The weights in floating point, which only rounded ones stand for now.
        remove_unused(copy)
        return ir.to_proto(copy)

    def _steps_of(self, names: Iterable[str], short: Collection[str] = ()) -> dict[str, int8.Step]:
        for name in names:
            if name not in self._ranges:
                raise ModelError(f"the range of {name!r} is not known")
        return {
            name: self._ranges[name].step_of(LARGEST_OF_PAIRS) if name in short else self._ranges[name].step
            for name in names
        }


class OrtMixer(Mixer):
    """For ONNX Runtime: convolutions of several taps, and what lies between them."""

    def __init__(self, plain: onnx.ModelProto) -> None:
        super().__init__(plain)
        # The passes are made once: a mixture rounds what they give, and takes seconds less by it.
        self._fast = optimize_decoder(plain, for_int8=True).model

    def round(self, layers: Collection[str], paired: Collection[str] = ()) -> onnx.ModelProto:
        """Return the decoder with some layers in int8 as ONNX Runtime runs it fast: none in pairs."""
        graph = ir.from_proto(self.plain).graph
        chosen = _nodes(graph, layers)
        steps = self._steps_of(find_rounded(graph, chosen))
        rounding = int8.Rounding({str(node.name): _layer_rounding(node, steps) for node in chosen}, steps)
        copy = ir.from_proto(self._fast)
        # As a target does with what it reads of the plain graph's pairs, so that what is judged is installed.
        round_convolutions(copy, rounding)
        return ir.to_proto(copy)

    def open(
        self, rounded: onnx.ModelProto, options: RuntimeOptions | None = None, *, streaming: bool = False
    ) -> Engine:
        """Open a graph, as a target would have it, so that its speed is the one that the voice will have."""
        if streaming:
            costs = OrtCpuCosts(in_halves=choose_target(options or RuntimeOptions()) == SEVERAL_THREADS)
            rounded = make_streaming(rounded, costs=costs)
        return OrtEngine(rounded, options)

    def _is_layer(self, node: ir.Node) -> bool:
        # A last convolution to one channel is none: its output is the sound, of which 8 bits are not enough.
        return is_layer(node) and not is_tapped(node)

    def _find_rounded(self, graph: ir.Graph, layers: Collection[ir.Node]) -> dict[str, set[ir.Node]]:
        return find_rounded(graph, layers)


class NativeMixer(Mixer):
    """For the native engine: all dense convolutions, and of the tensors nothing but what they read.

    What a convolution gives stays in registers while it is added to and activated, and is rounded once.
    """

    def round(self, layers: Collection[str], paired: Collection[str] = ()) -> onnx.ModelProto:
        """Return the plain decoder, of which the engine's program is compiled."""
        return self.quantize(layers, paired)

    def find_pairable(self) -> frozenset[str]:
        """Return the layers that could be made in pairs: none whose input another one reads in 8 bits."""
        graph = ir.from_proto(self.plain).graph
        readers = self._find_rounded(graph, _nodes(graph, layers_of(self.blocks))).values()
        return frozenset(str(node.name) for nodes in readers if all(map(can_pair, nodes)) for node in nodes)

    def open(
        self, rounded: onnx.ModelProto, options: RuntimeOptions | None = None, *, streaming: bool = False
    ) -> Engine:
        """Compile and open a graph; it can always be streamed."""
        return open_program(compile_native(rounded), options)

    def _is_layer(self, node: ir.Node) -> bool:
        return can_round_natively(node)

    def _find_rounded(self, graph: ir.Graph, layers: Collection[ir.Node]) -> dict[str, set[ir.Node]]:
        found: dict[str, set[ir.Node]] = {}
        for node in layers:
            found.setdefault(name_of(node.inputs[0]), set()).add(node)
        return found


def quantize_encoder(plain: onnx.ModelProto) -> onnx.ModelProto:
    """Return a plain encoder whose products and convolutions that gain by it compute in int8, as QDQ pairs.

    Weights are rounded for each output channel, inputs by a scale that is taken of the whole sentence when it
    comes, so nothing is calibrated. A decoder never sees a whole sentence; an encoder always does.
    """
    model = ir.from_proto(plain)
    layers = [node for node in model.graph if can_round(node)]
    if not layers or not raise_opset(model):
        raise ModelError("no product is large enough: there is nothing to quantize")
    names = Names(model.graph)
    int8.write_weights(model.graph, names, layers)
    int8.write_dynamic_steps(model.graph, names, layers)
    remove_unused(model)
    return ir.to_proto(model)


def name_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph each of whose nodes has a name of its own; those that have one keep it."""
    return ir.to_proto(NameFixPass()(ir.from_proto(model)).model)


def layers_of(blocks: Collection[Block]) -> tuple[str, ...]:
    """Return the names of the layers of some blocks."""
    return tuple(layer for block in blocks for layer in block.layers)


def _nodes(graph: ir.Graph, names: Collection[str]) -> list[ir.Node]:
    return [node for node in graph if node.name in names]


def _layer_rounding(node: ir.Node, steps: Mapping[str, int8.Step]) -> int8.LayerRounding:
    weight = np.moveaxis(np.asarray(constant_of(node, 1)), int8.channel_axis(node), 0)
    given, made = (steps.get(name_of(value)) for value in (node.inputs[0], node.outputs[0]))
    return int8.LayerRounding(int8.quantize_kernel(weight)[1], given, made)


def measure_blocks(
    mixer: Mixer, utterances: Sequence[Feeds], progress: Callable[[float], None]
) -> dict[str, float]:
    """Return the log-spectral distance in dB that each block alone costs, by its name."""
    reference = _decode(mixer.plain, utterances)
    found = {}
    for k, block in enumerate(mixer.blocks):
        progress(k / len(mixer.blocks))
        found[block.name] = _loss(mixer, [block], utterances, reference)
    return found


def choose_pairs(
    mixer: Mixer, utterances: Sequence[Feeds], progress: Callable[[float], None]
) -> tuple[str, ...]:
    """Return the layers that may be made in pairs: of the blocks that lose least by it for what they save."""
    reference = _decode(mixer.plain, utterances)
    pairable = mixer.find_pairable()
    layers = {block: tuple(filter(pairable.__contains__, block.layers)) for block in mixer.blocks}
    layers = {block: found for block, found in layers.items() if found}
    if not layers:
        return ()
    lost = _loss(mixer, mixer.blocks, utterances, reference)
    alone = {}
    for k, block in enumerate(layers):
        progress(k / (2 * len(layers)))
        alone[block] = _loss(mixer, mixer.blocks, utterances, reference, layers[block])
    chosen: tuple[str, ...] = ()
    ordered = sorted(layers, key=lambda block: (alone[block] - lost) / block.multiply_adds)
    for k, block in enumerate(ordered):
        progress(0.5 + k / (2 * len(layers)))
        trial = chosen + layers[block]
        if _loss(mixer, mixer.blocks, utterances, reference, trial) <= lost * (1 + _LOST_IN_PAIRS):
            chosen = trial
    return chosen


def leave_out_blocks(
    mixer: Mixer, utterances: Sequence[Feeds], n: int, progress: Callable[[float], None]
) -> list[tuple[Block, ...]]:
    """Return mixtures: all blocks, all but one, … all but `n`; one always stays."""
    blocks, reference = mixer.blocks, _decode(mixer.plain, utterances)
    mixtures, lost = [tuple(blocks)], _loss(mixer, blocks, utterances, reference)
    n = min(n, len(blocks) - 1)
    n_trials, n_tried = sum(len(blocks) - k for k in range(n)), 0
    for _ in range(n):
        trials = []
        for block in mixtures[-1]:
            progress(n_tried / n_trials)
            kept = tuple(other for other in mixtures[-1] if other is not block)
            loss = _loss(mixer, kept, utterances, reference)
            # Not by the loss alone: a block that is half of the decoder is half of what int8 is for.
            trials.append(((lost - loss) / block.multiply_adds, loss, kept))
            n_tried += 1
        _, lost, kept = max(trials, key=lambda trial: trial[0])
        mixtures.append(kept)
    return mixtures


def _loss(
    mixer: Mixer,
    blocks: Collection[Block],
    utterances: Sequence[Feeds],
    reference: Sequence[AnyArray],
    paired: Collection[str] = (),
) -> float:
    samples = _decode(mixer.open(mixer.round(layers_of(blocks), paired)), utterances)
    return float(np.mean([log_spectral_distance_db(x, r) for x, r in zip(samples, reference, strict=True)]))


def _decode(decoder: onnx.ModelProto | Engine, utterances: Sequence[Feeds]) -> list[AnyArray]:
    engine = OrtEngine(decoder) if isinstance(decoder, onnx.ModelProto) else decoder
    return [next(iter(engine.whole(utterance).values())).reshape(-1) for utterance in utterances]
