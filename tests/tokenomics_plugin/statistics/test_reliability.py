from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import combinations
from math import prod
from statistics import mean
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import clustered_wilson, cost_of_reliability, pass_at_k, pass_hat_k, ratio_of_sums

tasks = st.lists(st.integers(4, 7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=2)
# Successes in four trials of each of 50 tasks of tau-bench airline by gpt-4o, from its published trajectories.
TAU_AIRLINE = [(0, 4)] * 14 + [(1, 4)] * 12 + [(2, 4)] * 10 + [(3, 4)] * 4 + [(4, 4)] * 10


@pytest.mark.shared_data
def test_successes_per_task_of_the_published_trajectories(tau_airline: list[tuple[int, int]]) -> None:
    assert Counter(tau_airline) == Counter(TAU_AIRLINE)
    assert [pass_hat_k(tau_airline, k).estimate for k in range(1, 5)] == pytest.approx([0.42, 0.82 / 3, 0.22, 0.2])
    assert [pass_at_k(tau_airline, k).estimate for k in range(1, 5)] == pytest.approx([0.42, 1.7 / 3, 0.66, 0.72])


@pytest.mark.parametrize(
    ("k", "always", "once"),
    [(1, 0.420, 0.420), (2, 0.2733, 0.5667), (3, 0.220, 0.660), (4, 0.200, 0.720)],
    ids=lambda value: f"{value}",
)
def test_published_figures_of_a_leaderboard(k: int, always: float, once: float) -> None:
    assert pass_hat_k(TAU_AIRLINE, k).estimate == pytest.approx(always, abs=5e-5)
    assert pass_at_k(TAU_AIRLINE, k).estimate == pytest.approx(once, abs=5e-5)


def test_neither_is_a_power_of_the_success_rate() -> None:
    assert pass_hat_k(TAU_AIRLINE, 4).estimate > 6 * 0.42**4
    assert pass_at_k(TAU_AIRLINE, 4).estimate < 1 - 0.58**4 - 0.15


@given(tasks, st.integers(1, 4))
def test_they_average_over_all_choices_of_trials(counts: list[tuple[int, int]], k: int) -> None:
    def of_choices(successes: int, trials: int, judge: Callable[[Any], bool]) -> float:
        outcomes = [True] * successes + [False] * (trials - successes)
        return mean(judge(choice) for choice in combinations(outcomes, k))

    assert pass_hat_k(counts, k).estimate == pytest.approx(mean(of_choices(c, n, all) for c, n in counts))
    assert pass_at_k(counts, k).estimate == pytest.approx(mean(of_choices(c, n, any) for c, n in counts))


@given(tasks, st.integers(1, 3))
def test_more_trials_are_harder_to_pass_all_and_easier_to_pass_once(counts: list[tuple[int, int]], k: int) -> None:
    assert pass_hat_k(counts, k + 1).estimate <= pass_hat_k(counts, k).estimate + 1e-12
    assert pass_at_k(counts, k + 1).estimate >= pass_at_k(counts, k).estimate - 1e-12


@given(tasks, st.integers(1, 4))
def test_failing_every_time_is_not_succeeding_once(counts: list[tuple[int, int]], k: int) -> None:
    always_fails = pass_hat_k([(n - c, n) for c, n in counts], k)
    once = pass_at_k(counts, k)
    assert once.estimate == pytest.approx(1 - always_fails.estimate)
    assert once.interval.low == pytest.approx(1 - (always_fails.interval.high or 0))


def test_one_trial_has_the_interval_of_the_success_rate() -> None:
    found, wilson = pass_hat_k(TAU_AIRLINE, 1).interval, clustered_wilson(TAU_AIRLINE)
    assert (found.low, found.high) == pytest.approx((wilson.low, wilson.high))


def test_tasks_that_are_alike_tell_less() -> None:
    templates = [index // 2 for index in range(50)]
    apart, together = pass_hat_k(TAU_AIRLINE, 2), pass_hat_k(TAU_AIRLINE, 2, clusters=templates)
    assert together.estimate == apart.estimate
    assert together.clusters == 25
    assert (together.interval.low or 0) < (apart.interval.low or 0)


def test_the_cost_of_reliability_of_one_trial_is_cost_per_success() -> None:
    costs = [0.1 + 0.01 * index for index in range(50)]
    per_success = ratio_of_sums([(cost, c) for cost, (c, _) in zip(costs, TAU_AIRLINE, strict=True)])
    assert cost_of_reliability(TAU_AIRLINE, costs, 1).estimate == pytest.approx(per_success.estimate)


def test_four_successes_in_a_row_cost_eight_times_a_success() -> None:
    costs = [1.0] * 50
    dearer = (cost_of_reliability(TAU_AIRLINE, costs, k).estimate for k in (4, 1))
    assert next(dearer) / next(dearer) == pytest.approx(8.4)


def test_reliability_that_was_never_seen_has_no_cost() -> None:
    with pytest.raises(ValueError, match="no ratio"):
        cost_of_reliability([(1, 4), (2, 4)], [1.0, 1.0], 3)


@pytest.mark.parametrize(
    ("counts", "k", "rule"),
    [
        ([], 1, "at least one"),
        ([(3, 2)], 1, "successes <= trials"),
        ([(1, 2)], 0, "k must be at least 1"),
        ([(1, 4), (1, 3), (0, 2)], 4, "2 of 3 have fewer"),
    ],
    ids=["none", "impossible", "no k", "too few trials"],
)
def test_what_cannot_be_counted_is_refused(counts: list[tuple[int, int]], k: int, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        pass_hat_k(counts, k)


@pytest.mark.parametrize("k", [1, 2, 4])
def test_nominal_coverage_holds(simulate: Callable[..., Any], slack: Callable[[int], float], k: int) -> None:
    truth = prod((0.45 + j) / (1.05 + j) for j in range(k))
    replications, covered = 500, 0
    for _ in range(replications):
        counts = [(int(count), 4) for count in simulate(tasks=50, trials=4).successes.sum(axis=1)]
        covered += truth in pass_hat_k(counts, k).interval
    assert covered / replications == pytest.approx(0.95, abs=slack(replications))
