"""How many steps of each edge a program knows: its lag, and how long its outputs are.

The executor makes whatever its rows allow, but what stages are told to hold back, so these follow from the
stages alone; what is counted here is what `n_possible` in executor.c counts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np

from balacoon_tk._typing import AnyArray
from balacoon_tk.runtime.native.program import Program, Stage

_WITHOUT_END = 1 << 50
_LONGEST = 1 << 20
"""Frames after which any decoder has begun to give a frame's steps for a frame."""


def with_lags(program: Program) -> Program:
    """Return a program whose outputs say by how many steps they trail at most, if any number is enough."""
    if program.needs_all:
        return program
    n_frames = _frames_until_even(program)
    counts = _count(program, n_frames, ended=False)
    outputs = []
    for port in program.outputs:
        behind = n_frames * port.rate[0] // port.rate[1] - counts[port.edge]
        outputs.append(replace(port, lag=max(0, int(behind.max()))))
    return replace(program, outputs=tuple(outputs))


def with_held_back(program: Program) -> Program:
    """Return a program whose stages leave to the next push what no output needs before.

    Where branches of several lengths of kernels meet, the longest comes last. What the others have made by
    then, a first sound would wait for.
    """
    if program.needs_all:
        return program
    n_frames = _frames_until_even(program)
    wanted = _wanted(program, n_frames)
    counts = _inputs(program, n_frames)
    stages = []
    for stage, groups in zip(program.stages, wanted, strict=True):
        spare = (_groups(program, stage, counts, ended=False) - groups)[groups > 0]
        may_wait = spare.size and not _is_timeless(program, stage)
        # Never below 0: should more be wanted than can be made, all is made at once.
        stages.append(replace(stage, held_back=max(0, int(spare.min())) if may_wait else 0))
        _store(program, stages[-1], counts, ended=False)
    return replace(program, stages=tuple(stages))


def _wanted(program: Program, n_frames: AnyArray) -> list[AnyArray]:
    """Return how many groups of each stage the outputs need of so many frames."""
    counts = _count(program, n_frames, ended=False)
    of_edges = [np.zeros_like(n_frames)] * len(program.edges)

    def want(edge: int | None, n_steps: AnyArray) -> None:
        if edge is not None:
            of_edges[edge] = np.maximum(of_edges[edge], n_steps)

    for port in program.outputs:
        want(port.edge, counts[port.edge])
    wanted = []
    for stage in reversed(program.stages):
        stored = [of_edges[call.edge or 0] for call in stage.chain if call.function == "store"]
        n_steps = np.maximum.reduce(stored)
        groups = np.where(n_steps > 0, -(-(n_steps + stage.crop) // stage.n_phases), 0)
        wanted.append(groups)
        is_made = groups > 0
        window = (groups - 1) * stage.stride + (stage.n_taps - 1) * stage.dilation + 1 - stage.pad_left
        if stage.kind == "pad":  # what is taken away behind may still come
            window = window - min(stage.pad_right, 0)
        want(stage.source, np.where(is_made, window, 0))
        if stage.padding == "reflect":  # the first step is made of so many
            want(stage.source, np.where(is_made, stage.pad_left + 1, 0))
        if stage.transposed:  # the end may cut steps off the last group
            sure = groups * stage.n_phases - stage.n_extra - stage.crop
            want(stage.source, np.where(is_made, -(-sure // stage.n_phases), 0))
        for edge in (stage.kernels, stage.biases):
            want(edge, -(-groups // stage.kernel_steps))
        for edge, _ in stage.others:
            want(edge, np.where(is_made, groups + stage.right_context, 0))
        for call in stage.chain:
            if call.function in ("load", "lookup"):
                want(call.edge, groups if call.by_group else groups * stage.n_phases - stage.crop)
    return wanted[::-1]


def _is_timeless(program: Program, stage: Stage) -> bool:
    return all(program.edges[call.edge or 0].timeless for call in stage.chain if call.function == "store")


def output_lengths(program: Program, n_frames: Sequence[int]) -> list[list[int]]:
    """Return the steps of each output, for whole utterances of so many frames."""
    counts = _count(program, np.array(n_frames, np.int64), ended=True)
    return [counts[port.edge].tolist() for port in program.outputs]


def _frames_until_even(program: Program) -> AnyArray:
    """Return 0 to as many frames as it takes until each edge gets in any period what its rate says."""
    rates = _rates(program)
    period = math.lcm(*(rate.denominator for rate in rates.values()))
    n = 8 * period
    while True:
        n_frames = np.arange(n + period + 1, dtype=np.int64)
        counts = _count(program, n_frames, ended=False)
        if n >= _LONGEST or all(
            counts[edge][-1] - counts[edge][-1 - period] == period * rate for edge, rate in rates.items()
        ):
            return n_frames
        n *= 2


def _rates(program: Program) -> dict[int, Fraction]:
    """Return the steps for a frame of each edge with time."""
    rates = {port.edge: Fraction(*port.rate) for port in program.inputs}
    for stage in program.stages:
        for call in stage.chain:
            if call.function == "store":
                rates[call.edge or 0] = Fraction(*stage.rate) / stage.stride * stage.n_phases
    return {edge: rate for edge, rate in rates.items() if not program.edges[edge].timeless}


def _count(program: Program, n_frames: AnyArray, *, ended: bool) -> list[AnyArray]:
    """Return the steps of each edge that are known of so many frames."""
    counts = _inputs(program, n_frames)
    for stage in program.stages:
        _store(program, stage, counts, ended=ended)
    return counts


def _inputs(program: Program, n_frames: AnyArray) -> list[AnyArray]:
    """Return the steps of each edge before any stage has run."""
    counts = [np.zeros_like(n_frames)] * len(program.edges)
    for port in program.inputs:
        counts[port.edge] = n_frames * port.rate[0] // port.rate[1]
    return counts


def _store(program: Program, stage: Stage, counts: list[AnyArray], *, ended: bool) -> None:
    """Count what a stage makes."""
    n_steps = _groups(program, stage, counts, ended=ended) * stage.n_phases - stage.crop
    if ended and stage.transposed and stage.source is not None:
        n_steps = np.minimum(n_steps, counts[stage.source] * stage.n_phases + stage.n_extra)
    for call in stage.chain:
        if call.function == "store" and call.edge is not None:
            counts[call.edge] = np.maximum(n_steps, 0)


def _groups(program: Program, stage: Stage, counts: Sequence[AnyArray], *, ended: bool) -> AnyArray:
    most = np.full_like(counts[0], _WITHOUT_END)
    if stage.source is not None and not program.edges[stage.source].timeless:
        n_source = counts[stage.source]
        if stage.kind == "pad":
            needed = stage.pad_left if stage.padding == "reflect" else 0 if stage.pad_left else -1
            behind = stage.pad_right if ended else min(stage.pad_right, 0)
            most = np.where(ended | (n_source > needed), n_source + stage.pad_left + behind, 0)
        else:
            span = (stage.n_taps - 1) * stage.dilation
            room = n_source + stage.pad_left + (stage.pad_right if ended else 0) - span
            most = np.where(room > 0, (room - 1) // stage.stride + 1, 0)
            if stage.padding != "constant":  # the first is made of steps that have to be there
                most = np.where(n_source > (stage.pad_left if stage.padding == "reflect" else 0), most, 0)
        if stage.transposed and not ended:
            n_sure = n_source * stage.n_phases + stage.n_extra + stage.crop
            most = np.minimum(most, n_sure // stage.n_phases)
        most = np.where(n_source > 0, most, 0)
    for edge in (stage.kernels, stage.biases):
        if edge is not None:
            most = np.minimum(most, counts[edge] * stage.kernel_steps)
    for edge, _ in stage.others:
        if stage.kind == "spline" or stage.left_context is not None:
            most = np.minimum(most, counts[edge] - (0 if ended else stage.right_context))
        elif not ended:
            most = np.zeros_like(most)
    for call in stage.chain:
        if call.function not in ("load", "lookup") or call.edge is None or program.edges[call.edge].timeless:
            continue
        n_rows = counts[call.edge] + stage.crop
        if call.by_group:
            most = np.minimum(most, counts[call.edge])
        elif not ended:
            most = np.minimum(most, n_rows // stage.n_phases)
        elif stage.n_phases == 1:
            most = np.minimum(most, n_rows)
    return np.maximum(most if ended else most - stage.held_back, 0)
