"""The arithmetic of lag and margin, against operators written out in NumPy."""

from __future__ import annotations

from fractions import Fraction
from math import ceil, inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balacoon_tk.graph.timeline import POINTWISE, Local, Timeline, join

N = 240
"""Steps that go in: a multiple of every stride below, and more than any chain sees."""
SIZES = (N, N + 24, N + 120)


def apply(local: Local, x: np.ndarray) -> np.ndarray:
    """Run an operator with a kernel of ones; what isn't known is NaN and spreads."""
    if local.up > 1 or local.transposed:
        full = np.zeros((len(x) - 1) * local.up + local.span + 1 + local.output_padding)
        for i, value in enumerate(x):
            full[i * local.up : i * local.up + local.span + 1] += value
        return full[local.pad_left : len(full) - local.pad_right]
    x = x[max(0, -local.pad_left) : len(x) - max(0, -local.pad_right)]
    x = np.pad(x, (max(0, local.pad_left), max(0, local.pad_right)))
    return np.array([x[i : i + local.span + 1].sum() for i in range(0, len(x) - local.span, local.down)])


def timeline(chain: list[Local]) -> Timeline:
    result = Timeline(axis=2, rate=Fraction(1), lengths=SIZES)
    for local in chain:
        result = result.through(local, n_frames=SIZES)
    return result


@st.composite
def convolutions(draw: st.DrawFn) -> Local:
    span = draw(st.integers(0, 5))
    pads = (draw(st.integers(0, span)), draw(st.integers(0, span)))
    return Local(span=span, pad_left=pads[0], pad_right=pads[1])


@st.composite
def transposed(draw: st.DrawFn) -> Local:
    up, span = draw(st.integers(1, 3)), draw(st.integers(0, 5))
    pads = (draw(st.integers(0, span)), draw(st.integers(0, span)))
    extra = draw(st.integers(0, up - 1))
    return Local(up=up, span=span, pad_left=pads[0], pad_right=pads[1], output_padding=extra, transposed=True)


@st.composite
def paddings(draw: st.DrawFn) -> Local:
    return Local(pad_left=draw(st.integers(-3, 3)), pad_right=draw(st.integers(-3, 3)))


@st.composite
def repetitions(draw: st.DrawFn) -> Local:
    up = draw(st.integers(1, 3))
    return Local(up=up, span=up - 1)


@st.composite
def reductions(draw: st.DrawFn) -> Local:
    down, span = draw(st.integers(2, 4)), draw(st.integers(0, 5))
    pads = (draw(st.integers(0, span)), draw(st.integers(0, span)))
    return Local(down=down, span=span, pad_left=pads[0], pad_right=pads[1])


bounded = st.one_of(convolutions(), transposed(), paddings(), repetitions())


@st.composite
def chains_of(draw: st.DrawFn) -> list[Local]:
    """Operators after which no phase matters: a rate that falls was raised as far before."""
    chain = draw(st.lists(bounded, min_size=1, max_size=4))
    if draw(st.booleans()):
        factor, span = draw(st.integers(2, 3)), draw(st.integers(0, 5))
        up = Local(up=factor, span=span, pad_left=draw(st.integers(0, span)), transposed=True)
        between = draw(st.lists(st.one_of(convolutions(), paddings()), max_size=2))
        down = Local(down=factor, span=draw(st.integers(0, 5)), pad_left=draw(st.integers(-2, 3)))
        chain = [*chain[:2], up, *between, down, *chain[2:]]
    return chain


chains = chains_of()


@given(st.lists(st.one_of(bounded, reductions()), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_lengths_are_those_of_the_operators(chain: list[Local]) -> None:
    lengths = []
    for size in SIZES:
        x = np.ones(size)
        for local in chain:
            x = apply(local, x)
        lengths.append(len(x))
    assert timeline(chain).lengths == tuple(lengths)


def known_steps(chain: list[Local], n_known: int) -> int:
    x = np.ones(N)
    x[n_known:] = np.nan
    for local in chain:
        x = apply(local, x)
    unknown = np.flatnonzero(np.isnan(x))
    return int(unknown[0]) if unknown.size else len(x)


@given(st.lists(st.one_of(bounded, reductions()), min_size=1, max_size=4), st.integers(100, 130))
@settings(max_examples=100, deadline=None)
def test_what_is_said_to_be_known_is_known(chain: list[Local], n_known: int) -> None:
    found = timeline(chain)
    assert known_steps(chain, n_known) >= ceil(found.rate * n_known - found.lag)


@given(st.lists(convolutions(), min_size=1, max_size=5), st.integers(100, 130))
@settings(max_examples=50, deadline=None)
def test_no_step_of_a_chain_of_convolutions_is_known_earlier(chain: list[Local], n_known: int) -> None:
    found = timeline(chain)
    assert known_steps(chain, n_known) == n_known - found.lag


@given(chains, st.integers(60, 70))
@settings(max_examples=100, deadline=None)
def test_a_piece_is_right_behind_the_margin_and_wrong_inside(chain: list[Local], start: int) -> None:
    x = np.random.default_rng(start).integers(1, 9, N).astype(float)
    whole, piece = x, x[start:]
    for local in chain:
        whole, piece = apply(local, whole), apply(local, piece)
    found = timeline(chain)
    left, rate = int(found.left), int(found.rate)
    assert np.array_equal(piece[left:], whole[rate * start + left :])
    if all(local.pad_left >= 0 and local.up == local.down == 1 and not local.transposed for local in chain):
        assert not left or piece[left - 1] != whole[rate * start + left - 1]


@given(chains, st.integers(100, 110))
@settings(max_examples=100, deadline=None)
def test_a_piece_is_right_up_to_its_right_margin(chain: list[Local], stop: int) -> None:
    x = np.random.default_rng(stop).integers(1, 9, N).astype(float)
    whole, piece = x, x[:stop]
    for local in chain:
        whole, piece = apply(local, whole), apply(local, piece)
    found = timeline(chain)
    n_right = len(piece) - int(found.right(SIZES))
    assert n_right == int(found.rate) * stop - found.lag
    assert np.array_equal(piece[:n_right], whole[:n_right])


def test_a_pointwise_operator_changes_the_axis_only() -> None:
    before = timeline([Local(span=4, pad_left=2, pad_right=2)])
    after = before.through(POINTWISE, axis=1, n_frames=SIZES)
    assert after.axis == 1
    assert (after.lag, after.left, after.lengths, after.rate) == (before.lag, before.left, before.lengths, 1)


def test_nothing_makes_an_infinite_margin_finite_again() -> None:
    found = Timeline(axis=2, rate=Fraction(1), lengths=SIZES, left=inf)
    for local in (Local(up=3, span=5, transposed=True), Local(span=3, pad_left=1), Local(down=2, span=1)):
        found = found.through(local, n_frames=SIZES)
        assert found.left == inf


def test_tensors_that_meet_are_as_late_as_the_latest() -> None:
    early = timeline([Local(span=6, pad_left=6)])
    late = timeline([Local(span=6, pad_right=6)])
    assert (early.lag, early.left) == (0, 6)
    assert (late.lag, late.left) == (6, 0)
    met = join([early, late])
    assert (met.lag, met.left) == (6, 6)


def test_a_reduction_makes_the_phase_matter() -> None:
    found = timeline([Local(down=2, span=1), Local(up=2, span=1, transposed=True)])
    assert found.phased
    assert found.rate == 1
    assert not timeline([Local(up=2, span=1, transposed=True)]).phased
    assert not timeline([Local(up=4, span=3, transposed=True), Local(down=2, span=3)]).phased


@pytest.mark.parametrize(
    ("kernel", "stride", "pad", "extra"), [(11, 5, 3, 0), (10, 5, 3, 1), (16, 8, 4, 0), (4, 2, 1, 0)]
)
def test_the_upsamplers_of_vocoders_lose_nothing(kernel: int, stride: int, pad: int, extra: int) -> None:
    """HiFi-GAN's strides, odd ones with output padding: as many samples as frames times stride."""
    local = Local(
        up=stride, span=kernel - 1, pad_left=pad, pad_right=pad, output_padding=extra, transposed=True
    )
    found = timeline([local])
    assert found.lengths == tuple(stride * n for n in SIZES)
    assert found.short(SIZES) == 0
    assert found.lag == pad
