"""States of equal length, joined into one."""

from __future__ import annotations

import numpy as np
import pytest

from balacoon_tk.export.passes.make_plain import make_plain
from balacoon_tk.export.streaming.packing import MIN_STATES
from balacoon_tk.session import Session
from streaming_laws import Streamed, assert_streams, make_streaming
from tiny_graphs import TinyGraph

WIDTHS = (4, 6, 4, 8, 2, 5)


def stack(*convolutions, opset=17, channels_last=False):
    """Convolutions of widths that differ, one on the other."""
    g = TinyGraph(opset=opset)
    x = g.frames(WIDTHS[0])
    for k, options in enumerate(convolutions):
        x = g.conv(x, WIDTHS[k], WIDTHS[k + 1], **options)
    return g.model(x)


def shapes(model):
    return [state.shape for state in Streamed(model, "states").spec.states]


SAME = {"kernel": 5, "pads": [2, 2]}


@pytest.mark.parametrize("opset", [11, 13, 17])
def test_windows_that_differ_in_their_channels_alone_are_one_state(opset):
    n = MIN_STATES
    model = stack(*n * [SAME], opset=opset)
    assert shapes(model) == [(1, sum(WIDTHS[:n]), 2)]
    assert_streams(model)


def test_fewer_are_left_apart():
    n = MIN_STATES - 1
    assert shapes(stack(*n * [SAME])) == [(1, width, 2) for width in WIDTHS[:n]]


@pytest.mark.parametrize(
    "other",
    [
        {"kernel": 5, "pads": [1, 3]},  # another first length
        {"kernel": 3, "pads": [2, 0]},  # the same one, and another one later
        {"kernel": 5, "pads": [2, 2], "dilations": [3]},
    ],
)
def test_a_window_of_another_length_stays_apart(other):
    model = stack(*2 * [SAME], other, *2 * [SAME])
    sizes = sorted(shape[1] for shape in shapes(model))
    assert sizes == sorted([WIDTHS[2], sum(WIDTHS[:5]) - WIDTHS[2]])
    assert_streams(model)


def test_two_kinds_of_windows_are_two_states():
    causal = {
        "kernel": 5,
        "pads": [7, 0],
        "dilations": [2],
    }  # 7 steps of padding, of which 8 are needed later
    wide = {"kernel": 3, "pads": [7, 0], "dilations": [2]}  # 7 as well, of which 4 are
    model = stack(causal, wide, causal, wide, causal)
    states = Streamed(model, "states").spec.states
    assert len(states) == 5  # three and two: too few to be joined, and never with each other
    assert_streams(model)


@pytest.mark.parametrize("opset", [11, 17])
def test_nothing_of_it_is_left_in_a_plain_graph(opset):
    model = stack(*5 * [SAME], opset=opset)
    plain = make_plain(make_streaming(model, "states"))
    assert [node.op_type for node in plain.graph.node] == 5 * ["Conv"]
    pair = Streamed(model)
    feeds = pair.feeds(17)
    for name, expected in pair.run_whole(feeds).items():
        np.testing.assert_array_equal(Session(plain, n_threads=1).run(feeds)[name], expected)
