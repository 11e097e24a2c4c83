"""Lay a program's weights out as the kernels read them, and divide its stages into pieces.

A dense convolution's weights lie as ``[block][tap][channel of the input][32 channels of the output]``: what a
tile needs next is always what lies next. Channels that a block has too few of are zeros, which nobody stores.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.errors import ModelError
from balacoon_tk.runtime.native._layout import interleave
from balacoon_tk.runtime.native.bundles import (
    PAIRED_TAPS,
    QUAD,
    WIDTH,
    bytes_in_pairs,
    can_pair_bytes,
    choose_bundles,
    comes_from_memory,
    in_fours,
    of_shared_fours,
    weight_bytes,
)
from balacoon_tk.runtime.native.ending import Ending, find_ending
from balacoon_tk.runtime.native.program import Program, Stage

_TILES_TOGETHER = {"paired": 6, "shared_fours": 4}
"""Tiles whose inputs are combined before a block's weights are read, where these come from memory: they fit
into a second cache together, and each weight is read once for all of them."""
_MOST_NARROW = 4
"""Channels below which a block would be mostly zeros."""
_ALIGNMENT = 64
_PIECE_BYTES = 64 << 10
"""What an edge may take between two stages of a piece: some of them fit into a second cache together."""
_FIRST_FRAMES = 96
"""Frames of the first segment's pieces, however many bytes: with few steps and many channels, its weights are
what it waits for, and they come from memory again for each piece."""
_FEWEST_GROUPS = 96
"""Groups in a piece of a stage with many weights: with a tile or two, it would wait for them."""
_MOST_BYTES = 1 << 20
"""Of weights that a second cache keeps from one piece to the next."""
_ALL_GROUPS = 1 << 30
_MOST_PHASES = 384
"""BK_ROWS * BK_WIDTH in C, the numbers of a tile."""
_MOST_SIBLINGS = 3
"""BK_SIBLINGS in C."""
_OF_WINDOW = (
    *("source", "source_channel", "n_channels", "n_groups", "n_taps", "dilation", "stride"),
    *("pad_left", "pad_right", "padding", "n_phases", "crop", "rate", "transposed"),
)
"""What stages have alike that make tiles of the same windows."""
_ARENA_BYTES = 32 << 20
"""What weights are laid into, one array after the other. NumPy asks for large pages for so much: with small
ones a push of few frames looks up more addresses than there is time for."""


@dataclass(frozen=True, slots=True)
class Block:
    """Up to 32 output channels of one phase, or of all phases one behind the other where they are joined."""

    phase: int
    source_channel: int
    channel: int
    channel_block: int
    width: int


@dataclass(frozen=True, slots=True, eq=False)
class PackedStage:
    """A stage as C reads it."""

    kind: str
    n_in: int
    joined: bool
    blocks: tuple[Block, ...]
    weights: AnyArray | None  # [n_blocks, ...]
    bias: AnyArray | None  # [n_channel_blocks, WIDTH]
    padding_biases: AnyArray | None  # [n_taps, n_channel_blocks, WIDTH]
    scales: AnyArray | None
    offsets: AnyArray | None
    orders: dict[str, AnyArray]  # [n_phases, n_channel_blocks, WIDTH]
    vectors: dict[str, AnyArray]
    tables: dict[str, AnyArray]  # [n_symbols, n_channels]
    distance_biases: AnyArray | None  # [head][step of the period][distance]
    near_keys: AnyArray | None  # [head][distance][channel]
    near_values: AnyArray | None  # [head][distance][blocks of the head * WIDTH]
    recurrent_weights: AnyArray | None  # [gate][block of units][unit][WIDTH]
    recurrent_bias: AnyArray | None  # [gate][unit, padded]
    ending: Ending | None
    segment: int
    n_most: int
    n_together: int
    flat: bool = False
    """Whether a tile is steps of the one channel, of all phases in turn, 32 of them in a row."""
    n_siblings: int = 0
    """Stages right behind that read the same window: they are made with it, block by block."""


def pack(
    program: Program, *, pairs: bool = False, pairs_of_bytes: bool = False, n_threads: int = 1
) -> list[PackedStage]:
    """Pack the stages of a program.

    Parameters
    ----------
    program : Program
    pairs : bool
        Whether convolutions for which that pays make steps in bundles; the kernels must be able to.
    pairs_of_bytes : bool
        The same of convolutions in int8, where it changes no sum.
    n_threads : int
        Threads that share each stage of a piece, which is longer the more there are.

    Raises
    ------
    ModelError
        If an array isn't there or has another shape.
    """
    segments = _segments(program)
    most = _most_groups(program, segments, n_threads)
    arena = _Arena(sum(array.nbytes for array in program.arrays.values()))
    packed = [
        _pack_stage(program, stage, segment, n_most, arena, pairs=pairs, pairs_of_bytes=pairs_of_bytes)
        for stage, segment, n_most in zip(program.stages, segments, most, strict=True)
    ]
    first = 0
    while first < len(packed):
        n = 0
        while n < _MOST_SIBLINGS and _are_siblings(program, packed, first, first + n + 1):
            n += 1
        packed[first] = replace(packed[first], n_siblings=n)
        first += n + 1
    return packed


def _are_siblings(program: Program, packed: list[PackedStage], first: int, other: int) -> bool:
    """Say whether a stage may be made block by block with one in front of it, and those between them."""
    if other == len(packed):
        return False
    stages = program.stages[first : other + 1]
    one, two = stages[0], stages[-1]
    stored = {call.edge for stage in stages for call in stage.chain if call.function == "store"}
    loads = [call for call in two.chain if call.function in ("load", "lookup") and call.edge in stored]
    return (
        packed[first].kind == packed[other].kind
        and packed[first].kind in ("convolve", "paired", "fours", "shared_fours")
        and all(getattr(one, name) == getattr(two, name) for name in _OF_WINDOW)
        and one.n_groups == one.n_phases == 1
        and not one.transposed
        and one.source is not None
        and not program.edges[one.source].timeless
        and (packed[first].segment, packed[first].n_most) == (packed[other].segment, packed[other].n_most)
        # What it loads of the others is what lies in the same tile.
        and all(
            call.function == "load" and not (call.channel or call.by_group or call.broadcast or call.order)
            for call in loads
        )
        # Steps that padding repeats would be copied before they are made.
        and all(stage.source not in stored or stage.padding == "constant" for stage in program.stages)
    )


class _Arena:
    """Memory in few large pieces, for arrays that are kept as long as each other."""

    def __init__(self, n_expected: int) -> None:
        self._piece = min(n_expected, _ARENA_BYTES)
        self._left = np.empty(0, np.uint8)

    def empty(self, shape: tuple[int, ...], dtype: type[np.generic]) -> AnyArray:
        """Return an array that begins at the start of a cache line, of whatever numbers."""
        n_bytes = math.prod(shape) * np.dtype(dtype).itemsize
        n_taken = -(-n_bytes // _ALIGNMENT) * _ALIGNMENT
        if n_taken > self._left.size:
            memory = np.empty(max(self._piece, n_taken) + _ALIGNMENT, np.uint8)
            self._left = memory[-memory.ctypes.data % _ALIGNMENT :]
        array: AnyArray = self._left[:n_bytes].view(dtype).reshape(shape)
        self._left = self._left[n_taken:]
        return array


def aligned(array: AnyArray) -> AnyArray:
    """Return a copy that begins at the start of a cache line."""
    data = np.ascontiguousarray(array)
    memory = np.empty(data.nbytes + _ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % _ALIGNMENT
    copy = memory[start : start + data.nbytes].view(data.dtype).reshape(data.shape)
    copy[...] = data
    return copy


def _pack_stage(
    program: Program,
    stage: Stage,
    segment: int,
    n_most: int,
    arena: _Arena,
    *,
    pairs: bool,
    pairs_of_bytes: bool,
) -> PackedStage:
    source = None if stage.source is None else program.edges[stage.source]
    each_by_itself = stage.kind in ("depthwise", "pad")
    n_groups = 1 if each_by_itself else stage.n_groups
    weights = None if stage.weights is None else _array(program, stage, stage.weights)
    filters = slice(stage.first_filter, stage.first_filter + stage.n_channels)
    if weights is not None and stage.kind == "convolve" and not stage.transposed:
        weights = weights[filters]
    n_in = 0
    if stage.kind == "convolve" and weights is not None:
        n_in = weights.shape[1] if not stage.transposed else weights.shape[0] // n_groups
    elif stage.kind == "normalise":
        n_in = stage.n_channels
    elif stage.kind in ("predicted", "attend"):
        n_in = stage.n_in
    bundles = None
    if stage.kind == "convolve" and weights is not None:
        if weights.dtype != np.int8:
            bundles = choose_bundles(program, stage, n_in) if pairs else None
        elif pairs_of_bytes and can_pair_bytes(program, stage, weights):
            bundles = "paired"
    joined, flat = bundles is None and _joins_phases(program, stage), _is_flat(program, stage)
    n_phases, n_channels = stage.n_phases, stage.n_channels
    if joined:
        n_phases, n_channels = 1, n_phases * n_channels
    elif flat:
        n_phases = 1
    per_group = n_channels // n_groups
    blocks: list[Block] = []
    for phase in range(n_phases):
        number = 0
        for group in range(n_groups):
            for start in range(0, per_group, WIDTH):
                channel = group * per_group + start
                first = stage.source_channel + (channel if each_by_itself else group * n_in)
                blocks.append(Block(phase, first, channel, number, min(WIDTH, per_group - start)))
                number += 1
    channels = [(block.channel, block.width) for block in blocks if block.phase == 0]

    def in_blocks(values: AnyArray) -> AnyArray:
        rows = np.zeros((len(channels), WIDTH), np.float32)
        for row, (channel, width) in zip(rows, channels, strict=True):
            row[:width] = values[channel : channel + width]
        return rows

    def vector(name: str, part: slice = slice(None)) -> AnyArray:
        values = _array(program, stage, name).reshape(-1)
        values = np.broadcast_to(values[part] if values.size > 1 else values, (stage.n_channels,))
        return aligned(in_blocks(np.tile(values, n_channels // stage.n_channels)))

    def of_taps(name: str) -> AnyArray:
        return aligned(np.stack([in_blocks(values[filters]) for values in _array(program, stage, name)]))

    def order(name: str) -> AnyArray:
        phases = _array(program, stage, name).reshape(-1, stage.n_channels)
        phases = np.broadcast_to(phases, (stage.n_phases, stage.n_channels))
        rows = np.full((stage.n_phases, len(channels), WIDTH), -1, np.int32)
        for k, (channel, width) in enumerate(channels):
            rows[:, k, :width] = phases[:, channel : channel + width]
        return aligned(rows)

    def kept(name: str | None) -> AnyArray | None:
        return None if name is None else aligned(_array(program, stage, name))

    kind = str(stage.kind)
    packed: AnyArray | None = None
    offsets: AnyArray | None = None
    if stage.kind in ("convolve", "depthwise") and weights is not None:
        taps = _taps(stage, weights)  # [phase, tap, in, out of all groups]
        if joined:
            taps = taps.transpose(1, 2, 0, 3).reshape(1, *taps.shape[1:3], n_channels)
        if weights.dtype == np.int8 and bundles is not None:
            kind = bundles
            lies, offsets = bytes_in_pairs(weights, 0 if source is None else source.zero_point)
            n_in = -(-n_in // QUAD) * QUAD
            packed = arena.empty(lies.shape, np.int8)
            packed[...] = lies
        elif weights.dtype == np.int8:
            lies, offsets = _pack_bytes(taps, blocks, n_in, 0 if source is None else source.zero_point)
            n_in = lies.shape[2] * QUAD
            packed = arena.empty(lies.shape, np.int8)
            packed[...] = lies
        elif stage.kind == "convolve" and _is_narrow(program, stage):
            kind = "narrow"
            packed = arena.empty((1, stage.n_channels, stage.n_taps, n_in), np.float32)
            packed[0] = taps[0].transpose(2, 0, 1)
        elif bundles == "fours":
            kind = bundles
            fours = [in_fours(_of_block(taps, block)) for block in blocks]
            packed = arena.empty((len(blocks), fours[0].size), np.float32)
            for row, four in zip(packed, fours, strict=True):
                row[...] = four
        elif stage.kind == "convolve" and not stage.transposed:
            kind = bundles or kind
            packed = arena.empty((len(blocks), stage.n_taps * n_in * WIDTH), np.float32)
            scaled = of_shared_fours(weights) if bundles == "shared_fours" else weights
            together = np.ascontiguousarray(scaled)
            for row, block in zip(packed, blocks, strict=True):
                _interleave(together, block, row, n_together=1 if bundles is None else PAIRED_TAPS)
        elif bundles is not None:
            kind = bundles
            packed = arena.empty((len(blocks), stage.n_taps * n_in * WIDTH), np.float32)
            for row, block in zip(packed, blocks, strict=True):
                _lay_together(_of_block(taps, block), row)
        else:
            # Of a depthwise one there is one channel in for each channel out.
            packed = arena.empty((len(blocks), *taps.shape[1:3], WIDTH), np.float32)
            for row, block in zip(packed, blocks, strict=True):
                row[...] = _of_block(taps, block)
    recurrent = _recurrent(program, stage, arena) if stage.cell is not None else (None, None)
    return PackedStage(
        kind=kind,
        n_in=n_in,
        joined=joined,
        blocks=tuple(blocks),
        weights=packed,
        bias=None if stage.bias is None or stage.cell is not None else vector(stage.bias, filters),
        padding_biases=None if stage.padding_biases is None else of_taps(stage.padding_biases),
        scales=None if stage.scales is None else vector(stage.scales, filters),
        offsets=offsets,
        orders={call.order: order(call.order) for call in stage.chain if call.order is not None},
        vectors={
            call.array: vector(call.array)
            for call in stage.chain
            if call.array is not None and call.function != "lookup"
        },
        tables={
            call.array: aligned(_array(program, stage, call.array).astype(np.float32))
            for call in stage.chain
            if call.array is not None and call.function == "lookup"
        },
        distance_biases=kept(stage.distance_biases),
        near_keys=kept(stage.near_keys),
        near_values=_near_values(program, stage),
        flat=flat,
        recurrent_weights=recurrent[0],
        recurrent_bias=recurrent[1],
        ending=find_ending(program, stage),
        segment=segment,
        n_most=n_most,
        n_together=_TILES_TOGETHER.get(kind, 1) if comes_from_memory(program, stage) else 1,
    )


def _interleave(weights: AnyArray, block: Block, row: AnyArray, *, n_together: int) -> None:
    """Lay the weights of a block out as ``[taps, so many together][channel in][these taps][WIDTH]``."""
    _, n_in, n_taps = weights.shape
    for tap in range(0, n_taps, n_together):
        n = min(n_together, n_taps - tap)
        part = row[tap * n_in * WIDTH :][: n * n_in * WIDTH]
        interleave(weights, block.channel, block.width, tap, part.reshape(n_in, n, WIDTH))


def _lay_together(taps: AnyArray, row: AnyArray) -> None:
    """Do the same for steps in pairs with weights of (n_taps, n_in, WIDTH)."""
    start = 0
    for tap in range(0, len(taps), PAIRED_TAPS):
        part = taps[tap : tap + PAIRED_TAPS].swapaxes(0, 1)
        row[start : start + part.size] = part.reshape(-1)
        start += part.size


def _is_narrow(program: Program, stage: Stage) -> bool:
    array = None if stage.weights is None else program.arrays.get(stage.weights)
    few = stage.n_channels <= _MOST_NARROW and stage.n_phases == stage.n_groups == 1
    return few and array is not None and array.dtype != np.int8


def _of_block(taps: AnyArray, block: Block) -> AnyArray:
    """Return the weights of a block, (n_taps, n_in, WIDTH), zeros where it has too few channels."""
    part: AnyArray = taps[block.phase][..., block.channel : block.channel + block.width]
    if block.width == WIDTH:
        return part
    return np.pad(part, ((0, 0), (0, 0), (0, WIDTH - block.width)))


def _recurrent(program: Program, stage: Stage, arena: _Arena) -> tuple[AnyArray | None, AnyArray | None]:
    """Return what the step before is multiplied by, in blocks of each gate's units, and what is added."""
    if stage.weights is None:
        return None, None
    weights = _array(program, stage, stage.weights)  # (n_gates * n_units, n_units)
    n_units = weights.shape[1]
    n_gates, n_blocks = len(weights) // n_units, -(-n_units // WIDTH)
    filled = np.zeros((n_gates, n_blocks * WIDTH, n_units), np.float32)
    filled[:, :n_units] = weights.reshape(n_gates, n_units, n_units)
    packed = arena.empty((n_gates, n_blocks, n_units, WIDTH), np.float32)
    packed[...] = filled.reshape(n_gates, n_blocks, WIDTH, n_units).swapaxes(2, 3)
    if stage.bias is None:
        return packed, None
    bias = np.zeros((n_gates, n_blocks * WIDTH), np.float32)
    bias[-1, :n_units] = _array(program, stage, stage.bias).reshape(-1)
    return packed, aligned(bias)


def _near_values(program: Program, stage: Stage) -> AnyArray | None:
    """Return embeddings of distances as the second factor of a product, of whole blocks of columns."""
    if stage.near_values is None:
        return None
    array = _array(program, stage, stage.near_values)
    return aligned(np.pad(array, ((0, 0), (0, 0), (0, -array.shape[2] % WIDTH))))


def _joins_phases(program: Program, stage: Stage) -> bool:
    """Say whether blocks take the channels of several phases, because those of one would be mostly zeros."""
    loads = [call for call in stage.chain if call.function in ("load", "lookup")]
    plain = all(
        call.function == "load"
        and not (call.by_group or call.broadcast or call.order)
        and not program.edges[call.edge or 0].timeless
        for call in loads
    )
    each, together = -(-stage.n_channels // WIDTH), -(-stage.n_channels * stage.n_phases // WIDTH)
    return stage.kind == "convolve" and stage.n_groups == 1 and plain and together < stage.n_phases * each


def _is_flat(program: Program, stage: Stage) -> bool:
    """Say whether all that a stage reads and makes is of one channel, which lies in edges step by step."""
    moved = [call for call in stage.chain if call.edge is not None]
    return (
        stage.n_channels == 1
        and (stage.kind == "pointwise" or (stage.kind == "convolve" and _is_narrow(program, stage)))
        and stage.n_phases <= _MOST_PHASES
        and not (stage.transposed or stage.crop or stage.padding_biases)
        and all(call.function not in ("lookup", "position") for call in stage.chain)
        and not any(call.broadcast or call.order for call in moved)
        and all(program.edges[call.edge or 0].n_channels == 1 for call in moved)
        and not any(program.edges[call.edge or 0].scale for call in moved)
        and all(call.array is None for call in stage.chain)
    )


def _array(program: Program, stage: Stage, name: str) -> AnyArray:
    array = program.arrays.get(name)
    if array is None:
        raise ModelError(f"the stage {stage.name!r} reads the array {name!r}, which isn't there")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ModelError(f"the array {name!r} of {stage.name!r} holds NaN or infinity")
    return array


def _taps(stage: Stage, weights: AnyArray) -> AnyArray:
    """Return weights as [phase, tap, channel of a group's input, channel of the output]."""
    if not stage.transposed:
        return weights.transpose(2, 1, 0)[np.newaxis]
    # (in, out / groups, width): phase p of step q adds, for k of n_taps, the source's step q - n_taps + 1 + k
    # by the kernel's place p + (n_taps - 1 - k) * n_phases.
    n_in, n_out, width = weights.shape
    n_groups = n_in if stage.kind == "depthwise" else stage.n_groups
    per_group = n_in // n_groups
    kernel = np.zeros((n_in, n_out, stage.n_taps * stage.n_phases), weights.dtype)
    kernel[..., :width] = weights
    places = kernel.reshape(n_groups, per_group, n_out, stage.n_taps, stage.n_phases)
    # to [phase, tap, in, group, out]
    ordered = places[..., ::-1, :].transpose(4, 3, 1, 0, 2)
    return np.ascontiguousarray(ordered).reshape(stage.n_phases, stage.n_taps, per_group, -1)


def _pack_bytes(taps: AnyArray, blocks: list[Block], n_in: int, zero_point: int) -> tuple[AnyArray, AnyArray]:
    n_quads = -(-n_in // QUAD)
    n_taps = taps.shape[1]
    packed = np.zeros((len(blocks), n_taps, n_quads, WIDTH, QUAD), np.int8)
    offsets = np.zeros((len(blocks), WIDTH), np.int32)
    for k, block in enumerate(blocks):
        part = taps[block.phase][..., block.channel :][..., : block.width]  # [tap, in, out]
        padded = np.zeros((n_taps, n_quads * QUAD, block.width), np.int8)
        padded[:, :n_in] = part
        packed[k, :, :, : block.width] = padded.reshape(n_taps, n_quads, QUAD, block.width).swapaxes(2, 3)
        offsets[k, : block.width] = -zero_point * part.sum((0, 1), dtype=np.int32)
    return packed, aligned(offsets)


def _segments(program: Program) -> list[int]:
    """Return the segment of each stage: one ends where the rate goes up, so that pieces may be shorter."""
    segments, segment = [], 0
    before = None
    for stage in program.stages:
        rate = Fraction(*stage.rate) / stage.stride * stage.n_phases
        # Behind what was computed at a lower rate in between, such as kernels, it goes up as well.
        if before is not None and (stage.n_phases > 1 or rate > before):
            segment += 1
        segments.append(segment)
        before = rate
    return segments


def _most_groups(program: Program, segments: list[int], n_threads: int) -> list[int]:
    """Return how many groups of each stage make a piece."""
    rates = [Fraction(*stage.rate) / stage.stride for stage in program.stages]  # groups for a frame
    n_segments = segments[-1] + 1 if segments else 0
    heaviest = [1.0] * n_segments  # bytes of an edge for a frame
    fewest = [0.0] * n_segments  # frames for which weights are read often enough
    for stage, rate, segment in zip(program.stages, rates, segments, strict=True):
        n_bytes = float(rate * stage.n_phases) * stage.n_channels * 4
        heaviest[segment] = max(heaviest[segment], n_bytes)
        if _has_many_weights(program, stage) and stage.n_phases == 1:
            fewest[segment] = max(fewest[segment], _FEWEST_GROUPS / float(rate))
    # Nothing can be taken before all is there: pieces would only read the weights again.
    if program.needs_all:
        return [_ALL_GROUPS] * len(program.stages)
    # Several threads wait for each other behind each stage, and each has a second cache of its own.
    piece_bytes = _PIECE_BYTES * (1 if n_threads == 1 else 2 * n_threads)
    most = []
    for stage, rate, segment in zip(program.stages, rates, segments, strict=True):
        n_frames = max(piece_bytes / heaviest[segment], fewest[segment]) if segment else _FIRST_FRAMES
        n_groups = max(1, round(n_frames * float(rate)))
        # What goes up in rate may run ahead of what reads it, as far as the first segment has come.
        ahead = stage.n_phases > 1 and _has_many_weights(program, stage)
        most.append(max(n_groups, _FEWEST_GROUPS) if ahead else n_groups)
    return most


def _has_many_weights(program: Program, stage: Stage) -> bool:
    """Say whether a stage's weights come from beyond the second cache for each piece."""
    return weight_bytes(program, stage) > _MOST_BYTES
