from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import Range, mean_bounds, proportion_bounds, ratio_bounds

counts = st.integers(0, 500)


def test_missing_outcomes_bound_the_success_rate() -> None:
    assert proportion_bounds(successes=6, failures=2, missing=2) == Range(low=0.6, high=0.8)


@given(counts, counts, counts, st.data())
def test_every_way_the_missing_may_turn_out_is_inside(
    successes: int, failures: int, missing: int, data: st.DataObject
) -> None:
    if successes + failures + missing == 0:
        failures = 1
    turned_out_well = data.draw(st.integers(0, missing))
    bounds = proportion_bounds(successes=successes, failures=failures, missing=missing)
    assert (successes + turned_out_well) / (successes + failures + missing) in bounds


@given(counts, counts, counts)
def test_an_outcome_that_arrives_never_widens_the_bounds(successes: int, failures: int, missing: int) -> None:
    before = proportion_bounds(successes=successes, failures=failures, missing=missing + 1)
    for after in (
        proportion_bounds(successes=successes + 1, failures=failures, missing=missing),
        proportion_bounds(successes=successes, failures=failures + 1, missing=missing),
    ):
        assert before.union(after) == before


def test_nothing_missing_is_a_point() -> None:
    assert mean_bounds(total=6, observed=4, missing=0, lowest=-1, highest=9) == Range(low=1.5, high=1.5)


def test_cost_per_success_is_lowest_when_the_missing_succeed() -> None:
    assert ratio_bounds(numerator=12, denominator=3, missing_low=0, missing_high=1) == Range(low=3, high=4)


def test_cost_per_success_has_no_limit_when_there_may_be_no_success() -> None:
    assert ratio_bounds(numerator=12, denominator=0, missing_low=0, missing_high=4) == Range(low=3, high=None)


@pytest.mark.parametrize(
    ("bounds", "rule"),
    [
        (lambda: mean_bounds(total=0, observed=0, missing=0, lowest=0, highest=1), "mean over nothing"),
        (lambda: mean_bounds(total=0, observed=-1, missing=3, lowest=0, highest=1), "must not be negative"),
        (lambda: ratio_bounds(numerator=1, denominator=0, missing_low=0, missing_high=0), "denominator is 0"),
        (lambda: ratio_bounds(numerator=-1, denominator=1, missing_low=0, missing_high=0), "must not be negative"),
        (lambda: Range(low=2, high=1), "low must not exceed high"),
    ],
    ids=["empty", "negative count", "no denominator", "negative part", "reversed"],
)
def test_what_has_no_bounds_is_refused(bounds: object, rule: str) -> None:
    assert callable(bounds)
    with pytest.raises(ValueError, match=rule):
        bounds()


def test_a_union_is_unbounded_where_a_part_is() -> None:
    assert Range(low=1, high=2).union(Range(low=None, high=5)) == Range(low=None, high=5)
    assert Range(low=1, high=2).union(Range(low=4, high=None)) == Range(low=1, high=None)
    assert 3 in Range(low=1, high=2).union(Range(low=4, high=None))
