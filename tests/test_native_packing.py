"""How the native engine lays weights out, and divides its stages into pieces."""

from __future__ import annotations

import numpy as np

from balacoon_tk.runtime.native.packing import pack
from balacoon_tk.runtime.native.program import Program, Stage
from test_native_engine import made, random, store


def chained(n_channels: int, n_stages: int, *, n_phases: int = 1) -> Program:
    """Convolutions of one tap, one after the other, the last of them transposed to `n_phases`."""
    stages = [
        Stage("convolve", f"conv{k}", k, n_channels, (store(k + 1),), weights=f"w{k}")
        for k in range(n_stages)
    ]
    arrays = {f"w{k}": random(n_channels, n_channels, 1) for k in range(n_stages)}
    if n_phases > 1:
        up = Stage(
            "convolve",
            "up",
            n_stages,
            n_channels,
            (store(n_stages + 1),),
            n_phases=n_phases,
            weights="up",
            transposed=True,
        )
        stages.append(up)
        arrays["up"] = random(n_channels, n_channels, n_phases)
    return made(n_channels, *stages, arrays=arrays)


def test_weights_lie_one_after_the_other_each_at_the_start_of_a_cache_line():
    packed = pack(chained(33, 5))
    places = [stage.weights.ctypes.data for stage in packed if stage.weights is not None]
    assert all(place % 64 == 0 for place in places)
    sizes = [stage.weights.nbytes for stage in packed if stage.weights is not None]
    # Blocks of few channels are larger than what they are made of, so that one piece of memory may not do.
    n_gaps = sum(b - a != -(-size // 64) * 64 for a, b, size in zip(places, places[1:], sizes, strict=False))
    assert len(places) == 5 and n_gaps <= 2


def test_what_is_packed_is_the_weights():
    program = chained(32, 3)
    for k, stage in enumerate(pack(program)):
        assert stage.weights is not None
        assert np.array_equal(stage.weights[0, 0], program.arrays[f"w{k}"][..., 0].T)


def test_pieces_go_by_frames_until_the_rate_goes_up():
    wide = pack(chained(512, 2, n_phases=64))
    assert [stage.n_most for stage in wide] == [96, 96, 1]
    assert [stage.n_most for stage in pack(chained(4, 1, n_phases=2))] == [96, 2048]
