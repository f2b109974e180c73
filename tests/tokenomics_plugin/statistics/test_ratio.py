from __future__ import annotations

from collections.abc import Callable
from math import inf, sqrt
from statistics import mean, variance
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from tokenomics_plugin.statistics import SetShape, ratio_of_sums

amounts = st.floats(min_value=0.001, max_value=1000)
counts = st.integers(min_value=0, max_value=6)
clusters = st.lists(st.tuples(amounts, counts), min_size=5, max_size=40).filter(lambda pairs: any(b for _, b in pairs))


def studentised(pairs: list[tuple[float, float]], ratio: float) -> float:
    """|mean(a - R b)| in standard errors: what Fieller's set compares with t."""
    residuals = [a - ratio * b for a, b in pairs]
    return abs(mean(residuals)) / sqrt(variance(residuals) / len(residuals))


def test_estimate_is_the_ratio_of_the_sums_and_not_the_mean_of_ratios() -> None:
    found = ratio_of_sums([(1, 1), (9, 1), (2, 2)])
    assert found.estimate == 3.0


def test_known_interval() -> None:
    # By hand for a = (1, 2, 3, 4), b = (1, 1, 2, 2): means 5/2 and 3/2, variances of the means 5/12 and 1/12,
    # covariance 1/6, t = 3.182446 (three degrees of freedom), so 1.40600 R**2 - 4.12401 R + 2.03002 <= 0.
    found = ratio_of_sums([(1, 1), (2, 1), (3, 2), (4, 2)]).confidence_set
    assert found.shape is SetShape.INTERVAL
    assert (found.low, found.high) == pytest.approx((0.62573, 2.30742), abs=1e-5)


def test_equal_denominators_give_students_interval_of_the_mean() -> None:
    values = [1.0, 4.0, 2.0, 8.0, 5.0, 7.0]
    found = ratio_of_sums([(value, 1) for value in values])
    low, high = stats.t.interval(0.95, 5, loc=mean(values), scale=stats.sem(values))
    assert (found.confidence_set.low, found.confidence_set.high) == pytest.approx((low, high))


def test_no_spread_gives_a_point() -> None:
    found = ratio_of_sums([(2, 1), (4, 2), (6, 3)])
    assert (found.confidence_set.low, found.confidence_set.high) == pytest.approx((2, 2))


def test_what_costs_nothing_costs_nothing_per_success() -> None:
    found = ratio_of_sums([(0, 1), (0, 2), (0, 1)])
    assert (found.estimate, found.confidence_set.low, found.confidence_set.high) == (0, 0, 0)


@pytest.mark.parametrize("confidence", [0.0, 1.0, 95.0])
def test_a_confidence_is_a_probability(confidence: float) -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        ratio_of_sums([(1, 1), (2, 1)], confidence=confidence)


def test_denominator_near_zero_leaves_the_ratio_without_an_upper_limit() -> None:
    rare = [(1.0, 0)] * 11 + [(1.0, 1)]
    found = ratio_of_sums(rare).confidence_set
    assert found.shape is SetShape.DISJOINT
    assert found.low is not None
    assert 0 < found.low < 12, "the estimate, 12, is inside"
    assert found.high is not None
    assert found.high < 0, "what lies below is no cost"
    assert 12 in found
    assert 1e12 in found
    assert 0 not in found


def test_data_that_exclude_nothing_say_so() -> None:
    found = ratio_of_sums([(5, 0), (-5, 1), (1, 0), (-1, 1), (3, -1)]).confidence_set
    assert found.shape is SetShape.EVERYTHING
    assert 0 in found
    assert -inf in found


@pytest.mark.parametrize(
    ("sign", "shape"), [(1, SetShape.AT_LEAST), (-1, SetShape.AT_MOST)], ids=["from below", "from above"]
)
def test_denominator_exactly_on_the_border_gives_a_half_line(
    monkeypatch: pytest.MonkeyPatch, sign: int, shape: SetShape
) -> None:
    # mean(b) = 1, variance of the mean = 1: with t = 1 the square term is exactly 0.
    monkeypatch.setattr("tokenomics_plugin.statistics.ratio.t_quantile", lambda *_args, **_kwargs: 1.0)
    found = ratio_of_sums([(sign * 5, 0), (sign * 5, 2)]).confidence_set
    assert found.shape is shape
    limit = found.low if sign > 0 else found.high
    assert limit == pytest.approx(sign * 2.5)
    assert sign * 100 in found
    assert 0 not in found


@pytest.mark.parametrize(
    ("pairs", "rule"),
    [([(1, 1)], "at least two clusters"), ([(1, 0), (2, 0)], "sum to 0")],
    ids=["one cluster", "no denominator"],
)
def test_what_has_no_ratio_is_refused(pairs: list[tuple[float, float]], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        ratio_of_sums(pairs)


@given(clusters)
def test_both_ends_are_exactly_t_standard_errors_away(pairs: list[tuple[float, float]]) -> None:
    found = ratio_of_sums(pairs).confidence_set
    assume(found.shape in (SetShape.INTERVAL, SetShape.DISJOINT))
    assert found.low is not None
    assert found.high is not None
    # Without spread every ratio but one is infinitely far away.
    assume(abs(found.high - found.low) > 1e-6 * abs(found.low))
    t = stats.t.ppf(0.975, len(pairs) - 1)
    # The variance at a root is a difference of squares: single precision is what is left of it at worst.
    assert studentised(pairs, found.low) == pytest.approx(t, rel=1e-3)
    assert studentised(pairs, found.high) == pytest.approx(t, rel=1e-3)


@given(clusters)
def test_the_estimate_is_in_its_own_set(pairs: list[tuple[float, float]]) -> None:
    found = ratio_of_sums(pairs)
    low, high = found.confidence_set.low, found.confidence_set.high
    # Ends are roots of a difference: without spread they are right to the square root of a float's precision.
    slack = 1e-7 * abs(found.estimate)
    assert any(found.estimate + nudge in found.confidence_set for nudge in (-slack, 0, slack)), (low, high)


@given(clusters, st.sampled_from([1e-12, 0.25, 3.0, 1e9]), st.sampled_from([1, 7, 1000]))
def test_units_scale_through(pairs: list[tuple[float, float]], unit_a: float, unit_b: int) -> None:
    found = ratio_of_sums(pairs)
    scaled = ratio_of_sums([(a * unit_a, b * unit_b) for a, b in pairs])
    assert scaled.estimate == pytest.approx(found.estimate * unit_a / unit_b)
    assume(found.confidence_set.shape is scaled.confidence_set.shape)
    for name in ("low", "high"):
        limit = getattr(found.confidence_set, name)
        # Ends far out, where the square term nearly vanishes, amplify rounding.
        assume(limit is None or abs(limit) < 1e4 * found.estimate)
        if limit is not None:
            unit = unit_a / unit_b
            assert getattr(scaled.confidence_set, name) == pytest.approx(limit * unit, rel=1e-5, abs=1e-9 * unit)


@given(clusters.flatmap(lambda pairs: st.tuples(st.just(pairs), st.permutations(pairs))))
def test_order_does_not_matter(orders: tuple[list[tuple[float, float]], list[tuple[float, float]]]) -> None:
    assert ratio_of_sums(orders[0]) == ratio_of_sums(orders[1])


@given(clusters)
def test_more_confidence_is_never_a_smaller_interval(pairs: list[tuple[float, float]]) -> None:
    wide, narrow = (ratio_of_sums(pairs, confidence=level).confidence_set for level in (0.99, 0.9))
    assume(wide.shape is SetShape.INTERVAL)
    assert narrow.shape is SetShape.INTERVAL
    assert wide.low is not None
    assert wide.high is not None
    assert narrow.low is not None
    assert narrow.high is not None
    assert wide.low <= narrow.low <= narrow.high <= wide.high


def test_nominal_coverage_holds_by_cluster_and_fails_when_clusters_are_ignored(
    simulate: Callable[..., Any], true_cost_per_success: float
) -> None:
    replications = 600
    by_task = by_trial = 0
    for _ in range(replications):
        runs = simulate(tasks=30, trials=4)
        by_task += true_cost_per_success in ratio_of_sums(runs.by_task()).confidence_set
        by_trial += true_cost_per_success in ratio_of_sums(runs.by_trial()).confidence_set
    # The standard error of a coverage of 95 % over 600 replications is 0.9 points: three of them each way.
    assert by_task / replications == pytest.approx(0.95, abs=0.027)
    assert by_trial / replications < 0.88


def test_ten_tasks_are_covered_too_because_the_set_may_be_unbounded(
    simulate: Callable[..., Any], true_cost_per_success: float
) -> None:
    replications = 600
    samples = (simulate(tasks=10, trials=1).by_task() for _ in range(replications))
    # Ten tasks without a success, 4 in 1000 samples, have no ratio.
    sets = [ratio_of_sums(pairs).confidence_set for pairs in samples if any(successes for _, successes in pairs)]
    assert sum(true_cost_per_success in found for found in sets) / len(sets) == pytest.approx(0.95, abs=0.027)
    unbounded = sum(found.shape is not SetShape.INTERVAL for found in sets) / len(sets)
    assert 0.1 < unbounded < 0.5
