from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tokenomics_plugin.statistics import clopper_pearson, clustered_wilson, rule_of_three, wilson

counts = st.integers(1, 2000).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials)))
clusters = st.lists(
    st.integers(1, 6).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))), min_size=2
)

# Successes in four trials of each of 50 tasks of tau-bench airline by gpt-4o, from its published trajectories.
TAU_AIRLINE = [0] * 14 + [1] * 12 + [2] * 10 + [3] * 4 + [4] * 10


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe, Statistics in Medicine 17, 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
    ids=["81/263", "15/148", "0/20", "1/29"],
)
def test_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@given(counts)
def test_agrees_with_scipy(pair: tuple[int, int]) -> None:
    successes, trials = pair
    found = wilson(successes, trials)
    reference = stats.binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


@given(counts)
def test_the_share_is_inside_and_so_is_the_interval(pair: tuple[int, int]) -> None:
    successes, trials = pair
    found = wilson(successes, trials)
    assert found.low is not None
    assert found.high is not None
    assert 0 <= found.low <= successes / trials <= found.high <= 1


@given(counts)
def test_one_success_more_moves_both_ends_up(pair: tuple[int, int]) -> None:
    successes, trials = pair
    lower, upper = wilson(successes, trials + 1), wilson(successes + 1, trials + 1)
    assert lower.low is not None
    assert lower.high is not None
    assert upper.low is not None
    assert upper.high is not None
    assert lower.low < upper.low
    assert lower.high < upper.high


@given(counts)
def test_swapping_success_and_failure_mirrors_the_interval(pair: tuple[int, int]) -> None:
    successes, trials = pair
    found, mirrored = wilson(successes, trials), wilson(trials - successes, trials)
    assert found.low is not None
    assert mirrored.high is not None
    assert found.low == pytest.approx(1 - mirrored.high, abs=1e-12)


@pytest.mark.parametrize(("successes", "trials"), [(1, 0), (-1, 5), (6, 5)], ids=["no trial", "negative", "too many"])
def test_impossible_counts_are_refused(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="trials"):
        wilson(successes, trials)


@given(st.lists(st.integers(0, 1), min_size=1))
def test_clusters_of_one_task_give_the_plain_interval(outcomes: list[int]) -> None:
    assert clustered_wilson((outcome, 1) for outcome in outcomes) == wilson(sum(outcomes), len(outcomes))


@given(clusters)
def test_clusters_never_narrow_the_interval(pairs: list[tuple[int, int]]) -> None:
    found = clustered_wilson(pairs)
    plain = wilson(sum(successes for successes, _ in pairs), sum(trials for _, trials in pairs))
    assert found.low is not None
    assert found.high is not None
    assert plain.low is not None
    assert plain.high is not None
    assert found.high - found.low >= plain.high - plain.low - 1e-12


@given(clusters.flatmap(lambda pairs: st.tuples(st.just(pairs), st.permutations(pairs))))
def test_order_of_clusters_does_not_matter(orders: tuple[list[tuple[int, int]], list[tuple[int, int]]]) -> None:
    first, second = (clustered_wilson(order) for order in orders)
    assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-12)


@pytest.mark.parametrize("ends", [0, 1], ids=["all fail", "all succeed"])
def test_clusters_that_all_end_alike_count_once_each(ends: int) -> None:
    assert clustered_wilson([(5 * ends, 5)] * 12) == wilson(12 * ends, 12)


def test_trials_of_one_task_are_not_independent_tasks() -> None:
    successes = sum(TAU_AIRLINE)
    assert (successes, successes / 200) == (84, 0.42)
    plain, clustered = wilson(successes, 200), clustered_wilson((count, 4) for count in TAU_AIRLINE)
    assert (plain.low, plain.high) == pytest.approx((0.3537, 0.4893), abs=5e-5)
    # A bootstrap over the 50 tasks gives 0.325 to 0.525.
    assert (clustered.low, clustered.high) == pytest.approx((0.325, 0.525), abs=0.01)


@pytest.mark.parametrize("pairs", [[], [(0, 0)], [(3, 2)]], ids=["none", "empty cluster", "too many"])
def test_impossible_clusters_are_refused(pairs: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="cluster"):
        clustered_wilson(pairs)


@pytest.mark.parametrize(("tasks", "trials"), [(12, 4), (40, 3)], ids=["12 tasks", "40 tasks"])
def test_nominal_coverage_holds_by_cluster(
    simulate: Callable[..., Any], true_rate: float, tasks: int, trials: int
) -> None:
    replications = 800
    covered = 0
    for _ in range(replications):
        runs = simulate(tasks=tasks, trials=trials)
        covered += true_rate in clustered_wilson((int(count), trials) for count in runs.successes.sum(axis=1))
    # Three standard errors of a coverage over 800 replications are 2.3 points.
    assert covered / replications == pytest.approx(0.95, abs=0.023)


@given(counts)
def test_the_exact_interval_agrees_with_scipy(pair: tuple[int, int]) -> None:
    found = clopper_pearson(*pair)
    reference = stats.binomtest(*pair).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_the_exact_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="a trial"):
        clopper_pearson(0, 0)


def test_what_never_happened_in_a_hundred_tasks_happens_in_at_most_three_percent() -> None:
    assert rule_of_three(100) == 0.03
    assert rule_of_three(2) == 1.0
    # The exact limit is 1 - 0.05**(1/n).
    assert rule_of_three(300) == pytest.approx(1 - 0.05 ** (1 / 300), rel=0.01)


def test_no_trial_has_no_limit() -> None:
    with pytest.raises(ValueError, match="trials must be positive"):
        rule_of_three(0)
