"""Curves of cost: what lies between the points, and what noise can't do to them."""

import math
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balacoon_tk.errors import ParameterError
from balacoon_tk.pacing.costs import CostCurve, CostModel, PushCosts

CURVE = CostCurve((2, 4, 8), (1.0, 2.0, 6.0))
MODEL = CostModel({"stateful": PushCosts(CURVE, CostCurve((1,), (0.5,)))}, CURVE, CURVE, 4.5)


@pytest.mark.parametrize(
    ("count", "seconds"), [(0, 1), (1, 1), (2, 1), (3, 1.5), (4, 2), (5, 3), (7, 5), (8, 6), (9, 7), (18, 16)]
)
def test_a_curve_is_straight_between_its_points_and_goes_on_after_them(count, seconds):
    assert CURVE(count) == seconds


def test_a_single_point_is_no_free_lunch_for_larger_counts():
    assert [CostCurve((4,), (2.0,))(count) for count in (1, 4, 8)] == [2.0, 2.0, 4.0]


@given(
    st.dictionaries(
        st.integers(1, 99), st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=5), min_size=1, max_size=9
    )
)
def test_what_is_fitted_never_falls_and_keeps_the_mean(measured):
    curve = CostCurve.fit(measured)
    assert curve.counts == tuple(sorted(measured))
    assert all(curve(count) <= curve(count + 1) for count in range(1, 120))


def test_fitting_takes_medians_and_joins_only_what_falls():
    measured = {1: [1.0, 1.0, 50.0], 2: [4.0], 3: [2.0], 4: [3.0, 99.0, 0.1], 9: [8.0]}
    assert CostCurve.fit(measured).seconds == (1.0, 3.0, 3.0, 3.0, 8.0)


@pytest.mark.parametrize(
    ("counts", "seconds", "message"),
    [
        ((), (), "must be as many, >= 1"),
        ((1, 2), (1.0,), "2 counts and 1 seconds must be as many"),
        ((0, 1), (1.0, 1.0), r"counts=\(0, 1\) must rise"),
        ((2, 2), (1.0, 1.0), "must rise"),
        ((1, 2), (2.0, 1.0), "and not fall"),
        ((1,), (0.0,), "must be positive"),
        ((1, 2), (1.0, math.inf), "and finite"),
        ((1,), (math.nan,), "must be positive and finite"),
    ],
)
def test_a_curve_that_cannot_be_is_refused(counts, seconds, message):
    with pytest.raises(ParameterError, match=message):
        CostCurve(counts, seconds)


def test_a_model_is_read_as_it_was_written():
    assert CostModel.from_dict(asdict(MODEL)) == MODEL
    assert MODEL.prepare_s(4) == 4.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            ("pushes", value)
            for value in (None, [], {"stateful": {}}, {"stateful": {"first": 1, "later": 2}})
        ),
        *(
            ("encoder", value)
            for value in ({}, {"counts": [1], "seconds": ["x"]}, {"counts": 3, "seconds": [1]})
        ),
        *(("onset_frames", value) for value in (math.inf, "much", math.nan, None)),
    ],
)
def test_a_damaged_model_is_refused(field, value):
    with pytest.raises(ParameterError):
        CostModel.from_dict(asdict(MODEL) | {field: value})
    with pytest.raises(ParameterError, match="lacks a field"):
        CostModel.from_dict({})
