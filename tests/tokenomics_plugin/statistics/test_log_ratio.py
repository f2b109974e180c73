from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from tokenomics_plugin.statistics import Range, bootstrap_t_interval, log_delta_interval

Interval = Callable[..., Range]
METHODS = [pytest.param(log_delta_interval, id="delta"), pytest.param(bootstrap_t_interval, id="bootstrap")]
clusters = st.lists(st.tuples(st.floats(0.1, 100), st.integers(0, 6)), min_size=5, max_size=30).filter(
    lambda pairs: sum(b > 0 for _, b in pairs) >= 3
)


def ends(found: Range) -> tuple[float, float]:
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def test_known_interval() -> None:
    # a = (1, 2, 3, 4), b = (1, 1, 2, 2): R = 5/3, residuals -2/3, 1/3, -1/3, 2/3 with squares 10/9,
    # se = sqrt(4/3 * 10/9) / 10 and t = 3.182446 (three degrees of freedom).
    reach = 3.182446 * sqrt(40 / 27) / 10
    found = log_delta_interval([(1, 1), (2, 1), (3, 2), (4, 2)])
    assert ends(found) == pytest.approx((5 / 3 * exp(-reach), 5 / 3 * exp(reach)), rel=1e-6)


def test_delta_reaches_equally_far_in_factors() -> None:
    low, high = ends(log_delta_interval([(3, 1), (1, 0), (2, 2), (7, 1)]))
    assert low * high == pytest.approx((13 / 4) ** 2)


def test_studentised_quantiles_come_from_resampled_clusters() -> None:
    # With equal denominators the ratio is a mean, and with many clusters its studentised quantiles are Student's.
    values = stats.norm.ppf([(rank + 0.5) / 400 for rank in range(400)], loc=10, scale=2).tolist()
    low, high = ends(bootstrap_t_interval([(value, 1) for value in values], resamples=4000))
    reach = 1.966 * stats.sem(values) / 10
    assert (log(low), log(high)) == pytest.approx((log(10) - reach, log(10) + reach), abs=0.15 * reach)


@given(clusters)
def test_the_estimate_lies_between_the_ends_of_delta(pairs: list[tuple[float, float]]) -> None:
    low, high = ends(log_delta_interval(pairs))
    ratio = sum(a for a, _ in pairs) / sum(b for _, b in pairs)
    assert low * (1 - 1e-9) <= ratio <= high * (1 + 1e-9)


@pytest.mark.parametrize("interval", METHODS)
@settings(max_examples=30)
@given(clusters, st.sampled_from([1e-6, 0.25, 1e6]))
def test_units_scale_through(interval: Interval, pairs: list[tuple[float, float]], unit: float) -> None:
    plain, scaled = interval(pairs), interval([(a * unit, b) for a, b in pairs])
    # A few like clusters, drawn again and again, may have no spread and leave the bootstrap without an end.
    assume(plain.high is not None)
    low, high = ends(plain)
    # A standard error is the root of a difference: half of a float's digits are left of one that vanishes.
    assert ends(scaled) == pytest.approx((low * unit, high * unit), rel=1e-4)


@pytest.mark.parametrize("interval", METHODS)
def test_no_spread_gives_a_point(interval: Interval) -> None:
    assert ends(interval([(2, 1), (4, 2), (6, 3)])) == pytest.approx((2, 2))


@pytest.mark.parametrize("interval", METHODS)
@pytest.mark.parametrize(
    ("pairs", "rule"),
    [([(1, 1)], "two clusters"), ([(1, 0), (2, 0)], "positive sums"), ([(0, 1), (0, 2)], "positive sums")],
    ids=["one cluster", "no success", "no cost"],
)
def test_what_has_no_logarithm_is_refused(interval: Interval, pairs: list[tuple[float, float]], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        interval(pairs)


def test_a_seed_repeats_the_resamples() -> None:
    pairs = [(1.0, 1), (4.0, 0), (2.0, 1), (9.0, 2), (3.0, 1)]
    assert bootstrap_t_interval(pairs, seed=3) == bootstrap_t_interval(pairs, seed=3)
    assert bootstrap_t_interval(pairs, seed=3) != bootstrap_t_interval(pairs, seed=4)


def test_resamples_without_a_success_are_left_out() -> None:
    # A third of the resamples draw no success at all.
    low, high = ends(bootstrap_t_interval([(5.0, 1), *[(float(cost), 0) for cost in range(1, 9)]]))
    assert 0 < low < 41 < high


def test_tails_need_resamples() -> None:
    with pytest.raises(ValueError, match="at least 100 resamples"):
        bootstrap_t_interval([(1, 1), (2, 1)], resamples=99)


@pytest.mark.parametrize(("interval", "tasks"), [(log_delta_interval, 30), (bootstrap_t_interval, 50)])
def test_nominal_coverage_holds_by_cluster(
    simulate: Callable[..., Any],
    true_cost_per_success: float,
    slack: Callable[[int], float],
    interval: Interval,
    tasks: int,
) -> None:
    replications = 500
    samples = (simulate(tasks=tasks, trials=4).by_task() for _ in range(replications))
    covered = sum(true_cost_per_success in interval(pairs) for pairs in samples)
    assert covered / replications == pytest.approx(0.95, abs=slack(replications))
