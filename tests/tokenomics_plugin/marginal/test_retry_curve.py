from __future__ import annotations

import itertools
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_plugin.marginal import RepeatedTask, RetryCurve, Trial, attempt_limit, retry_curve

trials = st.builds(Trial, is_success=st.booleans(), cost=st.integers(0, 20).map(float))
task_lists = st.lists(st.lists(trials, min_size=3, max_size=4), min_size=2, max_size=6)
SUCCESSES_OF_AIRLINE = {0: 14, 1: 12, 2: 10, 3: 4, 4: 10}
"""Tasks by successes in four trials: gpt-4o on tau-bench's airline tasks."""


def task(name: str, *outcomes: int, cost: float = 1.0) -> RepeatedTask:
    return RepeatedTask(task_id=name, trials=tuple(Trial(is_success=bool(won), cost=cost) for won in outcomes))


def curve(tasks: list[RepeatedTask], **settings: int) -> RetryCurve:
    return retry_curve(tasks, **{"resamples": 50, **settings})


@pytest.fixture(scope="module")
def airline() -> RetryCurve:
    names = ((successes, number) for successes, tasks in SUCCESSES_OF_AIRLINE.items() for number in range(tasks))
    return curve([task(f"{won}-{number}", *[1] * won, *[0] * (4 - won)) for won, number in names], resamples=1000)


def test_each_attempt_succeeds_less_often_than_the_one_before(airline: RetryCurve) -> None:
    found = [attempt.success_probability.point for attempt in airline.attempts]
    assert found == pytest.approx([0.420, 0.253, 0.215, 0.176], abs=5e-4)


def test_reach_is_the_share_that_failed_so_far(airline: RetryCurve) -> None:
    assert [attempt.reach for attempt in airline.attempts] == pytest.approx([1, 0.58, 0.4333, 0.34], abs=5e-5)


def test_cumulative_success_is_pass_at_k(airline: RetryCurve) -> None:
    found = [attempt.cumulative_success.point for attempt in airline.attempts]
    assert found == pytest.approx([0.42, 0.5667, 0.66, 0.72], abs=5e-5)


def test_independence_would_promise_more(airline: RetryCurve) -> None:
    found = [attempt.independent_forecast for attempt in airline.attempts]
    assert found == pytest.approx([0.42, 0.664, 0.805, 0.887], abs=5e-4)


def test_the_fit_is_the_most_likely_beta_binomial(airline: RetryCurve) -> None:
    assert airline.fit is not None
    assert (airline.fit.alpha, airline.fit.beta) == pytest.approx((0.642, 0.858), abs=5e-4)
    found = [attempt.modelled_probability for attempt in airline.attempts]
    assert found == pytest.approx([0.428, 0.257, 0.183, 0.143], abs=5e-4)


def test_two_attempts_are_forecast_beyond_the_data(airline: RetryCurve) -> None:
    assert [attempt.number for attempt in airline.forecast] == [5, 6]
    found = [attempt.success_probability for attempt in airline.forecast]
    assert found == pytest.approx([0.117, 0.099], abs=5e-4)


def test_trying_until_success_has_no_finite_cost_when_many_tasks_are_nearly_hopeless(airline: RetryCurve) -> None:
    assert airline.mean_cost_until_success is None


def test_trying_until_success_has_a_cost_when_tasks_are_alike() -> None:
    # Rates near 1/2 everywhere: two attempts on average.
    found = curve([task(str(number), 1, 1, 0, 0, cost=3.0) for number in range(12)])
    assert found.mean_cost_until_success == pytest.approx(6.0, rel=1e-3)


def test_intervals_of_late_attempts_are_wider(airline: RetryCurve) -> None:
    def width(number: int) -> float:
        interval = airline.attempts[number - 1].success_probability.interval
        assert interval.low is not None
        assert interval.high is not None
        return interval.high - interval.low

    assert width(4) > width(1)


def test_shrinking_moves_a_rate_towards_the_fit_and_not_past_it(airline: RetryCurve) -> None:
    for attempt in airline.attempts:
        assert attempt.modelled_probability is not None
        ends = sorted([attempt.success_probability.point, attempt.modelled_probability])
        assert ends[0] - 1e-12 <= attempt.shrunk_probability <= ends[1] + 1e-12


@settings(max_examples=40, deadline=None)
@given(task_lists)
def test_the_curve_is_the_mean_over_all_orderings(tasks: list[list[Trial]]) -> None:
    found = curve([RepeatedTask(task_id=str(number), trials=tuple(made)) for number, made in enumerate(tasks)])
    for attempt in found.attempts:
        reach = success = cost = 0.0
        for made in tasks:
            orders = [order for order in itertools.permutations(made) if len(order) >= attempt.number]
            ends = [
                order[attempt.number - 1]
                for order in orders
                if not any(trial.is_success for trial in order[: attempt.number - 1])
            ]
            if orders:
                reach += len(ends) / len(orders)
                success += sum(trial.is_success for trial in ends) / len(orders)
                cost += sum(trial.cost for trial in ends) / len(orders)
        assert attempt.success_probability.point == pytest.approx(success / reach)
        assert attempt.cost.point == pytest.approx(cost / reach)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=8))
def test_the_first_attempt_costs_and_succeeds_as_all_trials_do(successes: list[int]) -> None:
    tasks = [task(str(n), *[1] * won, *[0] * (4 - won), cost=n + 1.0) for n, won in enumerate(successes)]
    first = curve(tasks).attempts[0]
    made = [trial for each in tasks for trial in each.trials]
    assert first.success_probability.point == pytest.approx(fmean(trial.is_success for trial in made))
    assert first.cost.point == pytest.approx(fmean(trial.cost for trial in made))


def test_without_a_success_there_is_no_marginal_cost() -> None:
    only = curve([task("a", 0, 0), task("b", 0, 0)]).attempts[0]
    assert only.marginal_cost is None
    assert only.marginal_cost_set is None
    assert only.cumulative_cost_per_success is None


def test_the_curve_ends_where_nothing_failed() -> None:
    assert len(curve([task("a", 1, 1), task("b", 1, 1)]).attempts) == 1


def test_tasks_of_one_cluster_are_one_draw() -> None:
    alike = [
        RepeatedTask(task_id=str(number), trials=(Trial(is_success=number < 4, cost=1.0),), cluster=str(number % 2))
        for number in range(8)
    ]
    assert curve(alike).attempts[0].sample.clusters == 2


@pytest.mark.parametrize("attempts", [0, 3], ids=["none", "more than were made"])
def test_a_curve_needs_attempts_that_were_made(attempts: int) -> None:
    with pytest.raises(ValueError, match="most trials of a task, 2"):
        retry_curve([task("a", 0, 1)], attempts=attempts)


def test_a_trial_of_unknown_cost_is_refused() -> None:
    with pytest.raises(ValueError, match="leave the trial out"):
        Trial(is_success=True, cost=float("nan"))


@pytest.mark.parametrize(
    ("value", "attempts"), [(2.0, 0), (3.0, 1), (4.2, 2), (5.0, 3), (6.0, 4)], ids=lambda number: str(number)
)
def test_the_limit_is_the_last_attempt_that_pays(airline: RetryCurve, value: float, attempts: int) -> None:
    # Attempts cost 1, and an additional success 2.38, 3.95, 4.64 and 5.67 of it.
    assert attempt_limit(airline, value=value).attempts == attempts


def test_the_cautious_limit_is_no_higher_than_the_hopeful_one(airline: RetryCurve) -> None:
    for value in (2.0, 3.0, 5.0, 9.0):
        limit = attempt_limit(airline, value=value)
        assert limit.cautious <= limit.attempts <= limit.hopeful


def test_harm_is_paid_with_every_attempt(airline: RetryCurve) -> None:
    assert attempt_limit(airline, value=3.0, harm=0.5).attempts == 0


def test_a_negative_harm_is_refused(airline: RetryCurve) -> None:
    with pytest.raises(ValueError, match="harm at least 0"):
        attempt_limit(airline, value=1.0, harm=-1.0)


@pytest.mark.slow
def test_intervals_of_the_second_attempt_cover_as_often_as_they_say() -> None:
    random, alpha, beta = np.random.default_rng(99), 0.45, 0.6
    probability = alpha / (alpha + beta + 1)
    # Failures cost 1.6 times as much as successes, whose mean is exp(0.8**2 / 2).
    marginal = float(np.exp(0.32)) * (probability + (1 - probability) * 1.6) / probability
    covered = []
    for seed in range(200):
        won = random.random((100, 4)) < random.beta(alpha, beta, (100, 1))
        costs = random.lognormal(0, 0.8, (100, 4)) * np.where(won, 1, 1.6)
        tasks = [
            RepeatedTask(
                task_id=str(number),
                trials=tuple(Trial(is_success=bool(end), cost=float(cost)) for end, cost in zip(*pair, strict=True)),
            )
            for number, pair in enumerate(zip(won, costs, strict=True))
        ]
        second = curve(tasks, resamples=200, seed=seed).attempts[1]
        assert second.marginal_cost_set is not None
        covered.append((probability in second.success_probability.interval, marginal in second.marginal_cost_set))
    # In 1,000 replications: 94.3 and 94.8 %. Three standard errors of 200 are 4.6 points.
    assert (np.mean(covered, axis=0) > 0.90).all()
