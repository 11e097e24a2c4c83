"""What is told of a mask from how it is computed holds for every query and key: nothing is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balacoon_tk.graph.attention.band_rules import infer
from balacoon_tk.graph.attention.bands import Cases, constant, position, table, where_above

LENGTH = 24
QUERIES, KEYS = np.meshgrid(np.arange(LENGTH), np.arange(LENGTH), indexing="ij")
DISTANCES = KEYS - QUERIES

Known = tuple[np.ndarray, Cases]
"""Numbers for all queries and keys, and what is known of them."""

NUMBERS: dict[str, Callable[..., np.ndarray]] = {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Max": np.maximum, "Min": np.minimum,
}  # fmt: skip
COMPARISONS: dict[str, Callable[..., np.ndarray]] = {
    "Less": np.less, "LessOrEqual": np.less_equal, "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal, "Equal": np.equal,
}  # fmt: skip
LOGIC: dict[str, Callable[..., np.ndarray]] = {
    "And": np.logical_and, "Or": np.logical_or, "Xor": np.logical_xor,
}  # fmt: skip
ONE: dict[str, Callable[..., np.ndarray]] = {
    "Abs": np.abs,
    "Sign": np.sign,
    "Neg": np.negative,
    "Floor": np.floor,
    "Ceil": np.ceil,
}


@st.composite
def numbers(draw: st.DrawFn, depth: int = 3) -> Known:
    kind = draw(st.sampled_from(["i", "j", "number", *(["two", "one", "by", "where"] * (depth > 0))]))
    if kind in "ij":
        return (QUERIES if kind == "i" else KEYS).astype(float), position(of_key=kind == "j")
    if kind == "number":
        value = draw(st.sampled_from([-7.0, -2, -1, 0, 0.5, 1, 3, 4, 10]))
        return np.full(QUERIES.shape, value), constant(np.array(value))
    x, known = draw(numbers(depth - 1))
    if kind == "one":
        op_type = draw(st.sampled_from(sorted(ONE)))
        return ONE[op_type](x), infer(op_type, [known])
    if kind == "by":
        n = float(draw(st.integers(1, 5)))
        op_type, integers = draw(st.sampled_from([("Div", False), ("Div", True), ("Mod", False)]))
        if op_type == "Mod":
            return np.mod(x, n), infer("Mod", [known, constant(np.array(n))])
        # Of integers alone.
        integers = integers and bool((x == np.floor(x)).all())
        quotient = np.trunc(x / n) if integers else x / n
        return quotient, infer("Div", [known, constant(np.array(n))], integers=integers)
    y, known_y = draw(numbers(depth - 1))
    if kind == "where":
        condition, known_condition = draw(conditions(depth - 1))
        return np.where(condition, x, y), infer("Where", [known_condition, known, known_y])
    op_type = draw(st.sampled_from(sorted(NUMBERS)))
    return NUMBERS[op_type](x, y), infer(op_type, [known, known_y])


@st.composite
def conditions(draw: st.DrawFn, depth: int = 3) -> Known:
    kind = draw(st.sampled_from(["compare", *(["logic", "not", "table"] * (depth > 0))]))
    if kind == "table":
        low, high = sorted((draw(st.integers(-5, 5)), draw(st.integers(-5, 5))))
        seen = (low <= DISTANCES) & (high >= DISTANCES)
        return seen, table(seen)
    if kind == "compare":
        (x, known), (y, known_y) = draw(numbers(depth)), draw(numbers(depth))
        op_type = draw(st.sampled_from(sorted(COMPARISONS)))
        return COMPARISONS[op_type](x, y), infer(op_type, [known, known_y])
    x, known = draw(conditions(depth - 1))
    if kind == "not":
        return ~x, infer("Not", [known])
    y, known_y = draw(conditions(depth - 1))
    op_type = draw(st.sampled_from(sorted(LOGIC)))
    return LOGIC[op_type](x, y), infer(op_type, [known, known_y])


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.one_of(numbers(), conditions()))
def test_every_element_is_in_a_case_that_holds_at_its_distance(seen: Known) -> None:
    elements, cases = seen
    covered = np.zeros(QUERIES.shape, bool)
    for case in cases:
        form = case.form
        place = elements.astype(float) - form.a * QUERIES - form.b * KEYS
        inside = (case.band.low <= DISTANCES) & (case.band.high >= DISTANCES)
        covered |= inside & (place >= form.low - 1e-6) & (place <= form.high + 1e-6)
    assert covered.all()


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(conditions())
def test_nothing_is_seen_outside_of_the_band(seen: Known) -> None:
    elements, cases = seen
    band = where_above(cases, 0)
    assert not elements[(band.low > DISTANCES) | (band.high < DISTANCES)].any()


def test_blocks_by_a_rounded_factor_are_told_no_closer_than_they_are() -> None:
    """In float32, 41 times a 41st is less than 1."""
    factor = np.float32(1 / 41)
    blocks = [
        infer("Floor", [infer("Mul", [position(of_key=of_key), constant(np.array(factor))])])
        for of_key in (False, True)
    ]
    band = where_above(infer("Equal", blocks), 0)
    steps = np.arange(41 * 6, dtype=np.float32)
    of_step = np.floor(steps * factor)
    same = np.argwhere(of_step[:, None] == of_step[None, :])
    assert (of_step != steps // 41).any()
    assert band.low <= (same[:, 1] - same[:, 0]).min()
    assert (same[:, 1] - same[:, 0]).max() <= band.high < 50


def test_a_window_is_told_to_the_step() -> None:
    i, j = position(of_key=False), position(of_key=True)
    one, eight = constant(np.array(1)), constant(np.array(8))
    not_after = infer("LessOrEqual", [j, i])
    near = infer("Greater", [j, infer("Sub", [i, eight])])
    assert where_above(infer("And", [not_after, near]), 0) == where_above(
        infer(
            "Not",
            [infer("Or", [infer("Greater", [j, i]), infer("LessOrEqual", [j, infer("Sub", [i, eight])])])],
        ),
        0,
    )
    band = where_above(infer("And", [infer("Less", [j, infer("Add", [i, one])]), near]), 0)
    assert (band.low, band.high) == (-7, 0)
