"""What stages could make and leave to the next push, since no output needs it yet."""

from __future__ import annotations

from dataclasses import replace

import onnx

from balacoon_tk.runtime.native.engine import NativeEngine
from native_laws import ONE_THREAD, assert_native
from tiny_graphs import TinyGraph


def branches(*kernels: int, n_channels: int = 32) -> onnx.ModelProto:
    """Residual branches of several kernels whose sum goes up in rate, as HiFi-GAN's."""
    g = TinyGraph(opset=17)
    x = g.conv(g.frames(), 4, n_channels, 3, pads=[1, 1])
    sums = []
    for kernel in kernels:
        y = x
        for dilation in (1, 3):
            pads = [kernel // 2 * dilation] * 2
            activated = g.op("LeakyRelu", y)
            made = g.conv(activated, n_channels, n_channels, kernel, dilations=[dilation], pads=pads)
            y = g.op("Add", y, made)
        sums.append(y)
    for y in sums[1:]:
        sums[0] = g.op("Add", sums[0], y)
    return g.model(g.up(sums[0], n_channels, 8, 4, 2, pads=[1, 1]))


def test_a_short_branch_waits_for_the_longest() -> None:
    pair = assert_native(branches(3, 7, 11))
    stages = pair.program.stages
    # The first of a branch holds back by how many steps on the right its branch needs fewer than the longest.
    held = {stage.n_taps: stage.held_back for stage in stages if stage.held_back}
    right = {kernel: (kernel // 2) * (1 + 3) for kernel in (3, 7, 11)}
    assert held == {3: right[11] - right[3], 7: right[11] - right[7]}
    made = []
    for program in (
        pair.program,
        replace(pair.program, stages=tuple(replace(s, held_back=0) for s in stages)),
    ):
        engine = NativeEngine(program, ONE_THREAD)
        _, state = engine.step(engine.start(), pair.feeds(60), last=False)
        made.append(engine.save(state)["positions"][-len(stages) :])
    fewer = {stage.n_taps: set() for stage in stages}
    for stage, n_fewer in zip(stages, made[1] - made[0], strict=True):
        fewer[stage.n_taps].add(int(n_fewer))
    assert (fewer[3], fewer[7], fewer[11]) == ({0, held[3]}, {held[7]}, {0})


def test_one_branch_holds_nothing_back() -> None:
    assert not any(stage.held_back for stage in assert_native(branches(5)).program.stages)
