"""Positions, counted from the utterance's start in whatever pushes it comes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto

from balacoon_tk.errors import ModelError
from balacoon_tk.export import NotStreamableError, make_streaming
from streaming_laws import Streamed, assert_streams, stream
from tiny_graphs import TinyGraph

N = 8
"""Channels."""


def n_steps(g: TinyGraph, x: str) -> str:
    return g.squeeze(g.length(x), 0)


def positions(g: TinyGraph, x: str) -> str:
    steps = g.op("Cast", g.op("Range", g.const(0), n_steps(g, x), g.const(1)), to=TensorProto.FLOAT)
    return g.op(
        "Add", x, g.op("Sin", g.op("Mul", steps, g.const(np.linspace(0.1, 1, N)[:, None], np.float32)))
    )


def looked_up(g: TinyGraph, x: str) -> str:
    numbers = g.op("Range", g.const(1), g.op("Add", n_steps(g, x), g.const(1)), g.const(1))
    return g.op("Add", x, g.transpose(g.op("Gather", g.weight(100, N), numbers, axis=0), 1, 0))


def cut_table(g: TinyGraph, x: str) -> str:
    table = g.op("Slice", g.weight(1, N, 100), g.const([0]), g.length(x), g.const([2]), g.const([1]))
    return g.op("Add", x, table)


def twice_as_many(g: TinyGraph, x: str) -> str:
    """The steps of a tensor that is made twice as fast, numbered from -3 on in steps of 2."""
    double = g.op("Mul", n_steps(g, x), g.const(2))
    last = g.op("Sub", g.op("Mul", double, g.const(2)), g.const(3))
    numbers = g.op("Cast", g.op("Range", g.const(-3), last, g.const(2)), to=TensorProto.FLOAT)
    fast = g.op("Resize", x, "", g.const([1, 1, 2], np.float32), mode="nearest")
    return g.op("Add", fast, g.op("Cos", numbers))


def rows_from_the_third(g: TinyGraph, x: str) -> str:
    end = g.op("Add", g.length(x), g.const([2]))
    rows = g.op("Slice", g.weight(100, N), g.const([2]), end, g.const([0]), g.const([1]))
    return g.op("Add", x, g.transpose(rows, 1, 0))


def rows_of_the_first_axis(g: TinyGraph, x: str) -> str:
    """Without axes it cuts them from the first one on."""
    rows = g.op("Slice", g.weight(100, N), g.const([0]), g.length(x))
    return g.op("Add", x, g.transpose(rows, 1, 0))


COUNTED = [positions, looked_up, cut_table, twice_as_many, rows_from_the_third, rows_of_the_first_axis]


@pytest.mark.parametrize("build", COUNTED)
def test_positions_are_counted_from_the_start(build: Callable[[TinyGraph, str], str]) -> None:
    g = TinyGraph(opset=20)
    x = g.conv(g.frames(N), N, N, 3, pads=[1, 1])
    assert_streams(g.model(g.conv(build(g, x), N, 2, 4, pads=[2, 1])))


@pytest.mark.parametrize("build", [looked_up, cut_table])
def test_an_utterance_longer_than_its_table_of_positions_fails(
    build: Callable[[TinyGraph, str], str],
) -> None:
    g = TinyGraph(opset=20)
    pair = Streamed(g.model(build(g, g.frames(N))))
    n_rows = 99 if build is looked_up else 100
    for pushes in ([n_rows + 1], [n_rows, 1], [n_rows - 1, 2]):
        with pytest.raises(ModelError, match="run failed"):
            stream(pair, pair.feeds(n_rows + 1), pushes)


def from_the_end(g: TinyGraph, x: str) -> str:
    last = g.op("Sub", n_steps(g, x), g.const(1))
    numbers = g.op("Range", last, g.const(-1), g.const(-1))
    return g.op("Add", x, g.op("Cast", numbers, to=TensorProto.FLOAT))


def last_rows(g: TinyGraph, x: str) -> str:
    start = g.op("Sub", g.const([100]), g.length(x))
    rows = g.op("Slice", g.weight(100, N), start, g.const([100]), g.const([0]))
    return g.op("Add", x, g.transpose(rows, 1, 0))


def every_second_row(g: TinyGraph, x: str) -> str:
    end = g.op("Mul", g.length(x), g.const([2]))
    rows = g.op("Slice", g.weight(200, N), g.const([0]), end, g.const([0]), g.const([2]))
    return g.op("Add", x, g.transpose(rows, 1, 0))


REFUSED = {
    from_the_end: ("Range", "must be a constant"),
    last_rows: ("Slice", "must be a constant"),
    every_second_row: ("Slice", "in steps"),
}


@pytest.mark.parametrize("build", REFUSED)
def test_what_is_not_counted_from_the_start_is_refused(build: Callable[[TinyGraph, str], str]) -> None:
    op_type, reason = REFUSED[build]
    g = TinyGraph(opset=20)
    with pytest.raises(NotStreamableError, match=reason) as caught:
        make_streaming(g.model(build(g, g.frames(N))))
    assert caught.value.op_type == op_type
