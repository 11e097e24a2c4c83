"""Convolutions that make two or four steps at a time, with fewer products, and how their weights lie."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, TypeAlias

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.program import Program, Stage

WIDTH = 32
"""Channels of a block, BK_WIDTH in C."""
COLUMNS = 16
"""Channels of the input that are combined at once, BK_COLUMNS in C."""
N_SUMS = 12
"""What four outputs are summed up in, BK_SUMS in C."""
_MOST_BYTES_OF_A_STEP = 1 << 18
"""Of a stage's weights for a step of a frame: more than this come from memory anew for each push. Pairs need
no more numbers than there are weights. Fours need 2 to 2.3 for one, which would take a small push longer to
read than it saves."""
QUAD = 4
"""Bytes that are multiplied at once, BK_QUAD in C."""
LARGEST_OF_PAIRS = 127
"""Largest byte of what is read in pairs, so that the sum of two is a byte."""
_OF_A_DIFFERENCE = 128
"""What is added to the difference of two bytes, so that it is one."""
_LARGEST_WEIGHT = 127
FEWEST_IN_PAIRS_OF_BYTES = 64
"""Channels of the input: of fewer, what is combined takes as long as the products that it saves."""
PAIRED_TAPS = 3
"""Taps whose weights lie together for steps in pairs, but for a rest of fewer."""
_FEWEST_TAPS = 3
"""In pairs of steps, two taps save a quarter of the products: too little for what combining inputs costs, but
where that is done once for many blocks of many products, as for all phases of a transposed convolution."""
_MANY_BLOCKS, _MANY_CHANNELS = 4, 128
_OFTEN = 16
"""Steps for a frame: of what is made more seldom than this, a push of a few frames has few pairs."""
_FEWEST_TAPS_IN_FOURS = 4
"""Three taps have no fewer products in fours than in pairs."""
_MOST_FRAMES_BETWEEN = 4
"""Between the first and the last step of four: what isn't due where a push ends is made again in the next."""
_TAPS_OF_SHARED_FOURS = 3
"""Of one filter with six products, which BK_IN_SHARED_FOURS is."""
_SCALE = 0.75
"""BK_SCALE in C."""
Bundles: TypeAlias = Literal["paired", "fours", "shared_fours"]
"""How a convolution makes steps together: a kind of packed stage."""


def choose_bundles(program: Program, stage: Stage, n_in: int) -> Bundles | None:
    """Say in which bundles a convolution makes steps: a property of the stage, whatever the chunks.

    Parameters
    ----------
    program : Program
    stage : Stage
        A dense convolution in float32.
    n_in : int
        Channels of its input.

    Returns
    -------
    str or None
        None where bundles can't be made, or bring nothing.
    """
    pays = (
        stage.source is not None
        and not program.edges[stage.source].timeless
        and stage.stride == stage.n_groups == 1
        and n_in >= COLUMNS
        and stage.n_channels >= WIDTH
        and (
            stage.n_taps >= _FEWEST_TAPS
            or (
                stage.n_taps == 2
                and n_in >= _MANY_CHANNELS
                and _n_blocks(stage) >= _MANY_BLOCKS
                and Fraction(*stage.rate) >= _OFTEN
            )
        )
        and (stage.n_phases == 1 or (stage.transposed and _are_fewer_in_pairs(stage)))
    )
    if not pays:
        return None
    if program.needs_all and stage.n_taps == _TAPS_OF_SHARED_FOURS and not stage.transposed:
        return "shared_fours"
    in_fours_too = (
        stage.n_taps >= _FEWEST_TAPS_IN_FOURS
        and not stage.transposed
        and not comes_from_memory(program, stage)
        and 3 * stage.dilation <= _MOST_FRAMES_BETWEEN * Fraction(*stage.rate)
    )
    return "fours" if in_fours_too else "paired"


def _are_fewer_in_pairs(stage: Stage) -> bool:
    """Say whether phases by themselves, in pairs, are fewer products than steps one by one, phases joined."""
    n_products = stage.n_taps + -(-stage.n_taps // PAIRED_TAPS)
    n_joined = -(-stage.n_channels * stage.n_phases // WIDTH)
    return _n_blocks(stage) * n_products < n_joined * 2 * stage.n_taps


def _n_blocks(stage: Stage) -> int:
    """Return the blocks of all phases."""
    return stage.n_phases * -(-stage.n_channels // WIDTH)


def comes_from_memory(program: Program, stage: Stage) -> bool:
    """Say whether a stage's weights are too many for a cache to keep until the next push."""
    return weight_bytes(program, stage) > _MOST_BYTES_OF_A_STEP * max(Fraction(1), Fraction(*stage.rate))


def weight_bytes(program: Program, stage: Stage) -> int:
    """Return how many bytes a stage's weights are; 0 where there are none, or their array isn't there."""
    array = program.arrays.get(stage.weights or "")
    if array is None or not array.size:
        return 0
    return array.nbytes if stage.transposed else array.nbytes // len(array) * stage.n_channels


def can_pair_bytes(program: Program, stage: Stage, weights: AnyArray) -> bool:
    """Say whether a convolution in int8 can be made in pairs, with the same sums.

    Its inputs have 7 bits then, and the taps of its kernels, three by three, even sums.

    Parameters
    ----------
    program : Program
    stage : Stage
        A dense convolution in int8.
    weights : ndarray of int8, shape (n_out, n_in, n_taps)
    """
    if stage.source is None or stage.transposed or stage.stride * stage.n_groups != 1:
        return False
    source, few = program.edges[stage.source], weights.shape[1] < FEWEST_IN_PAIRS_OF_BYTES
    if source.timeless or source.largest > LARGEST_OF_PAIRS or stage.n_taps < _FEWEST_TAPS or few:
        return False
    for part in _parts(weights.astype(np.int16)):
        if len(part) == 1:
            continue
        outer = part[0] + part[-1]
        middle = part[1] if len(part) == PAIRED_TAPS else np.zeros_like(outer)
        sums = np.abs(outer) + np.abs(middle)  # the larger of their sum and their difference
        if (sums & 1).any() or sums.max() > 2 * _LARGEST_WEIGHT:
            return False
    return True


def bytes_in_pairs(weights: AnyArray, zero_point: int) -> tuple[AnyArray, AnyArray]:
    """Lay weights out for pairs of steps in int8, as pairs_int8_impl.h takes them.

    Parameters
    ----------
    weights : ndarray of int8, shape (n_out, n_in, n_taps)
        For which `can_pair_bytes` holds.
    zero_point : int
        The input's.

    Returns
    -------
    tuple of ndarray
        A block's weights each, int8 of shape (n_blocks, n_taps * n_quads * WIDTH * QUAD), and int32 of
        shape (n_blocks, 2, WIDTH): what has to be added to the sums of the earlier and the later output.
    """
    n_out, n_in, n_taps = weights.shape
    n_blocks, n_quads = -(-n_out // WIDTH), -(-n_in // QUAD)
    padded = np.zeros((n_blocks * WIDTH, n_quads * QUAD, n_taps), np.int16)
    padded[:n_out, :n_in] = weights

    def laid(*products: AnyArray) -> AnyArray:
        made = np.empty((n_blocks, n_quads, len(products), WIDTH, QUAD), np.int8)
        for k, product in enumerate(products):
            made[:, :, k] = product.reshape(n_blocks, WIDTH, n_quads, QUAD).swapaxes(1, 2)
        return made.reshape(n_blocks, -1)

    laid_parts = []
    at_zero = -zero_point * padded.sum((1, 2), dtype=np.int32)
    offsets = np.stack([at_zero, at_zero])
    for part in _parts(padded):
        first, last = part[0], part[-1]
        if len(part) == 1:
            laid_parts.append(laid(first))
            continue
        differences = [first.sum(1, dtype=np.int32), last.sum(1, dtype=np.int32)]
        if len(part) == PAIRED_TAPS:
            plus, minus = (first + part[1] + last) >> 1, (first - part[1] + last) >> 1
            laid_parts.append(laid(first, plus, last))
            of_minus = minus.sum(1, dtype=np.int32)
            differences = [differences[0] + of_minus, differences[1] - of_minus]
        else:
            laid_parts.append(laid(first, (first + last) >> 1))
        offsets -= _OF_A_DIFFERENCE * np.stack(differences)
    laid_offsets = offsets.reshape(2, n_blocks, WIDTH).swapaxes(0, 1)
    return np.concatenate(laid_parts, axis=1), np.ascontiguousarray(laid_offsets, np.int32)


def _parts(weights: AnyArray) -> Iterator[list[AnyArray]]:
    """Yield the taps of weights (n_out, n_in, n_taps) in threes, and the rest of them."""
    for start in range(0, weights.shape[2], PAIRED_TAPS):
        part = weights[..., start : start + PAIRED_TAPS]
        yield [part[..., k] for k in range(part.shape[2])]


def of_shared_fours(weights: AnyArray) -> AnyArray:
    """Return the weights (n_out, n_in, 3) as the products of shared_fours_impl.h take them."""
    scaled: AnyArray = weights * _SCALE ** np.arange(_TAPS_OF_SHARED_FOURS, dtype=np.float32)
    return scaled


def in_fours(taps: AnyArray) -> AnyArray:
    """Lay the weights of a block out for steps in fours, as the products of fours_impl.h take them.

    Parameters
    ----------
    taps : ndarray, shape (n_taps, n_in, WIDTH)

    Returns
    -------
    ndarray, shape (n_products * n_padded * WIDTH,)
        As ``[sum][taps in sixes][channel][WIDTH]``, the channels padded to a multiple of COLUMNS.
    """
    n_taps, n_in, _ = taps.shape
    padded = np.zeros((n_taps, -(-n_in // COLUMNS) * COLUMNS, WIDTH))
    padded[:, :n_in] = taps
    sums: list[list[AnyArray]] = [[] for _ in range(N_SUMS)]
    for start in range(0, n_taps, 6):
        six = padded[start : start + 6]
        odd = len(six) % 2
        if odd:
            six = np.concatenate([np.zeros_like(six[:1]), six])
        filters = six.reshape(-1, 2, *six.shape[1:])
        for outer, (first, second) in _outer_filters(filters).items():
            if odd and (outer == 0 or len(filters) == 1):
                inner = {0: second, 2: second}
            else:
                inner = {0: first, 1: first + second, 2: second}
            for place, product in inner.items():
                sums[3 * outer + place].append(product)
    return np.concatenate([product.ravel() for products in sums for product in products]).astype(np.float32)


def _outer_filters(filters: AnyArray) -> dict[int, AnyArray]:
    """Return what one to three filters become for two outputs, by the place of their product among four."""
    if len(filters) == 1:
        return {0: filters[0], 3: filters[0]}
    if len(filters) == 2:
        return {0: filters[0], 1: filters[0] + filters[1], 3: filters[1]}
    a, b, c = filters
    return {0: a, 1: (a + b + c) / 2, 2: (a - b + c) / 2, 3: c}
