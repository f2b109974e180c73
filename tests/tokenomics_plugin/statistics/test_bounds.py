from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import Range, manski_bounds

counts = st.integers(0, 500)


def rate_bounds(successes: int, failures: int, missing: int) -> Range:
    return manski_bounds([(successes, successes + failures)], lowest=[(0, missing)], highest=[(missing, missing)])


def test_missing_outcomes_bound_the_success_rate() -> None:
    assert rate_bounds(successes=6, failures=2, missing=2) == Range(low=0.6, high=0.8)


@given(counts, counts, counts, st.data())
def test_every_way_the_missing_may_turn_out_is_inside(
    successes: int, failures: int, missing: int, data: st.DataObject
) -> None:
    failures += successes + failures + missing == 0
    turned_out_well = data.draw(st.integers(0, missing))
    bounds = rate_bounds(successes, failures, missing)
    assert (successes + turned_out_well) / (successes + failures + missing) in bounds


@given(counts, counts, counts)
def test_an_outcome_that_arrives_never_widens_the_bounds(successes: int, failures: int, missing: int) -> None:
    before = rate_bounds(successes, failures, missing + 1)
    for after in (rate_bounds(successes + 1, failures, missing), rate_bounds(successes, failures + 1, missing)):
        assert before.union(after) == before


def test_nothing_missing_is_a_point() -> None:
    assert manski_bounds([(6, 4)], lowest=[], highest=[]) == Range(low=1.5, high=1.5)


def test_cost_per_success_is_lowest_when_the_missing_succeed() -> None:
    # Three successes for 10, and one task for 2 that is still open.
    assert manski_bounds([(10, 3)], lowest=[(2, 1)], highest=[(2, 0)]) == Range(low=3, high=4)


def test_cost_per_success_has_no_limit_while_there_may_be_no_success() -> None:
    assert manski_bounds([(10, 0)], lowest=[(2, 4)], highest=[(2, 0)]) == Range(low=3, high=None)


def test_a_net_value_is_bounded_by_the_least_and_most_that_a_task_may_bring() -> None:
    assert manski_bounds([(8, 4)], lowest=[(-5, 1)], highest=[(2, 1)]) == Range(low=0.6, high=2)


def test_what_never_has_a_denominator_has_no_bounds() -> None:
    with pytest.raises(ValueError, match="there is no ratio"):
        manski_bounds([(1, 0)], lowest=[], highest=[])


def test_a_range_must_not_be_reversed() -> None:
    with pytest.raises(ValueError, match="low must not exceed high"):
        Range(low=2, high=1)


def test_a_union_is_unbounded_where_a_part_is() -> None:
    assert Range(low=1, high=2).union(Range(low=None, high=5)) == Range(low=None, high=5)
    assert Range(low=1, high=2).union(Range(low=4, high=None)) == Range(low=1, high=None)
    assert 3 in Range(low=1, high=2).union(Range(low=4, high=None))
