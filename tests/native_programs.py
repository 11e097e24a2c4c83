"""Programs of the native engine written by hand, and the laws that each of them has to obey."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Call, Edge, Port, Program, Stage
from balacoon_tk.runtime.options import RuntimeOptions
from native_laws import ONE_THREAD, assert_same_bits
from native_oracle import interpret

TWO_THREADS = RuntimeOptions(n_threads=2)
LENGTHS = (0, 1, 2, 5, 13, 40)

rng = np.random.default_rng(11)


def random(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape).astype(np.float32)


def made(
    n_in: int, *stages: Stage, arrays: dict[str, np.ndarray], n_edges: int = 0, more: tuple[Port, ...] = ()
) -> Program:
    """A program that reads `n_in` channels on edge 0; its last stage's tile, or register, is the output."""
    last = stages[-1]
    n_edges = n_edges or len(stages) + 1
    channels = {0: n_in} | {port.edge: int(np.prod(port.shape)) for port in more}
    for stage in stages:
        for call in stage.chain:
            if call.function == "store":
                channels.setdefault(call.edge or 0, stage.n_channels)
    edges = tuple(
        Edge(str(k), channels[k], timeless=any(port.edge == k and not port.rate[0] for port in more))
        for k in range(n_edges)
    )
    rate = (1, 1)
    for stage in stages:
        rate = (rate[0] * stage.n_phases, rate[1] * stage.stride)
    inputs = (Port("frames", 0, (1, n_in)), *more)
    outputs = (Port("samples", n_edges - 1, (1, last.n_channels), rate),)
    return Program(edges, stages, inputs, outputs, arrays)


def store(edge: int, a: int = 0) -> Call:
    return Call("store", a=a, edge=edge)


def convolution(n_in: int, n_out: int, n_taps: int, *, bias: bool = True, **options: Any) -> Program:
    n_groups = options.get("n_groups", 1)
    span = (n_taps - 1) * options.get("dilation", 1)
    pads = {"pad_left": span // 2, "pad_right": span - span // 2} | options
    stage = Stage(
        "convolve",
        "conv",
        0,
        n_out,
        (store(1),),
        n_taps=n_taps,
        weights="w",
        bias="b" if bias else None,
        **pads,
    )
    return made(n_in, stage, arrays={"w": random(n_out, n_in // n_groups, n_taps), "b": random(n_out)})


def vocoder(n_channels: int = 40) -> Program:
    """Frames of 8 channels, up by 4 and by 2, residuals, one channel of samples."""
    half = n_channels // 2
    convolution = partial(Stage, "convolve", pad_left=1, pad_right=1)
    leaky = (Call("leaky_relu", out=1, a=0, scalar=0.1), store(2), store(3, 1))
    added = (Call("load", out=1, edge=2), Call("add", out=1, a=1, b=0), Call("tanh", out=2, a=1), store(4, 2))
    tanh = (Call("tanh", out=1, a=0), store(6, 1))
    up = {"n_taps": 2, "transposed": True}
    stages = (
        convolution("first", 0, n_channels, (store(1),), n_taps=3, weights="a"),
        convolution("up", 1, half, leaky, n_phases=4, crop=2, weights="b", **up),
        convolution("residual", 3, half, added, n_taps=3, weights="c", rate=(4, 1)),
        convolution("up again", 4, half, (store(5),), n_phases=2, crop=1, weights="d", rate=(4, 1), **up),
        convolution("last", 5, 1, tanh, n_taps=3, weights="e", rate=(8, 1)),
    )
    arrays = {
        "a": random(n_channels, 8, 3),
        "b": random(n_channels, half, 8),
        "c": random(half, half, 3),
        "d": random(half, half, 4),
        "e": random(1, half, 3),
    }
    arrays = {name: array / np.float32(np.sqrt(array[0].size)) for name, array in arrays.items()}
    return made(8, *stages, arrays=arrays, n_edges=7)


def feeds_of(program: Program, n_frames: int) -> dict[str, np.ndarray]:
    feeds = {}
    for port in program.inputs:
        timeless = program.edges[port.edge].timeless
        shape = port.shape if timeless else (*port.shape, n_frames * port.rate[0])
        feeds[port.name] = rng.integers(0, 5, shape) if port.symbols else random(*shape)
    return feeds


def cut(program: Program, feeds: dict[str, np.ndarray], start: int, stop: int) -> dict[str, np.ndarray]:
    rates = {port.name: port.rate[0] for port in program.inputs if not program.edges[port.edge].timeless}
    return {
        name: array[..., start * rates[name] : stop * rates[name]] if name in rates else array
        for name, array in feeds.items()
    }


def streamed(
    engine: Engine, program: Program, feeds: dict[str, np.ndarray], sizes: list[int]
) -> dict[str, np.ndarray]:
    state, position, given_ = engine.start(), 0, []
    for k, size in enumerate(sizes):
        part = cut(program, feeds, position, position + size)
        outputs, state = engine.step(state, part, last=k == len(sizes) - 1)
        position += size
        given_.append(outputs)
    return {name: np.concatenate([part[name] for part in given_], -1) for name in given_[0]}


def ways(n_frames: int) -> list[list[int]]:
    mixed: list[int] = []
    while (left := n_frames - sum(mixed)) > 0:
        mixed.append(int(min(left, rng.choice([0, 1, 2, 3, 7, 17]))))
    return [[1] * n_frames + [0], [0, n_frames, 0], [*mixed, 0], [0, *mixed[::-1], 0]]


def assert_lawful(program: Program, lengths: tuple[int, ...] = LENGTHS, *, tolerance: float = 1e-5) -> None:
    """The oracle's numbers, and the same bits for any pushes and two threads."""
    engine, twice = NativeEngine(program, ONE_THREAD), NativeEngine(program, TWO_THREADS)
    for n_frames in lengths:
        feeds = feeds_of(program, n_frames)
        wanted = interpret(program, feeds)
        whole = engine.whole(feeds)
        for name, array in whole.items():
            assert array.shape == wanted[name].shape, (n_frames, name)
            limit = tolerance * max(1e-3, float(np.abs(wanted[name]).max(initial=0)))
            np.testing.assert_allclose(array, wanted[name], rtol=0, atol=limit, err_msg=str(n_frames))
        assert_same_bits(twice.whole(feeds), whole, (n_frames, "two threads"))
        for sizes in ways(n_frames):
            assert_same_bits(streamed(engine, program, feeds, sizes), whole, (n_frames, sizes))
        assert_same_bits(streamed(twice, program, feeds, ways(n_frames)[2]), whole, (n_frames, "both"))


damages = settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
"""How often a test damages states."""


def assert_damage_is_harmless(engine: NativeEngine, program: Program, data: st.DataObject) -> None:
    """A state with some positions and bytes changed is refused, or gives steps of whatever numbers."""
    n_frames = data.draw(st.integers(0, 12))
    _, state = engine.step(engine.start(), feeds_of(program, n_frames), last=False)
    arrays = engine.save(state)
    positions = arrays["positions"]
    values = (
        st.integers(-3, 3) | st.integers(-(2**63), 2**63 - 1) | st.sampled_from([2**40, 2**62, 2**63 - 1])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        k = data.draw(st.integers(0, len(positions) - 1))
        value = data.draw(values)
        positions[k] = max(-(2**63), min(int(positions[k]) + value, 2**63 - 1)) if abs(value) <= 3 else value
    for _ in range(data.draw(st.integers(0, 3))):
        if arrays["rows"].size:
            arrays["rows"][data.draw(st.integers(0, arrays["rows"].size - 1))] = data.draw(
                st.integers(0, 255)
            )
    try:
        damaged = engine.load(arrays)
    except ParameterError:
        return
    outputs, _ = engine.step(damaged, feeds_of(program, 3), last=False)
    (output,) = outputs.values()
    assert output.shape[-1] < 8 * 20
