from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats

from tokenomics_plugin.statistics import BetaBinomial, fit_beta_binomial, forecast_attempts

TAU_AIRLINE = [(0, 4)] * 14 + [(1, 4)] * 12 + [(2, 4)] * 10 + [(3, 4)] * 4 + [(4, 4)] * 10
tasks = st.lists(st.integers(2, 8).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=3, max_size=40)


def log_likelihood(counts: list[tuple[int, int]], alpha: float, beta: float) -> float:
    successes, trials = np.array(counts).T
    return float(stats.betabinom.logpmf(successes, trials, alpha, beta).sum())


def test_published_fit_and_forecast() -> None:
    fit = fit_beta_binomial(TAU_AIRLINE)
    assert (fit.alpha, fit.beta) == pytest.approx((0.642, 0.858), abs=5e-4)
    assert [fit.success_at(attempt) for attempt in range(1, 7)] == pytest.approx(
        [0.428, 0.257, 0.183, 0.143, 0.117, 0.099], abs=5e-4
    )


@pytest.mark.shared_data
def test_published_fit_from_the_trajectories_themselves(tau_airline: list[tuple[int, int]]) -> None:
    assert fit_beta_binomial(tau_airline) == fit_beta_binomial(TAU_AIRLINE)


@example([(0, 2), (2, 2), (2, 2), (0, 3), (0, 3), (0, 3), (1, 5), (3, 6)])
@given(tasks)
def test_no_other_parameters_are_likelier(counts: list[tuple[int, int]]) -> None:
    fit = fit_beta_binomial(counts)
    # On the border scipy's parameters are infinite or 0: the tests below look at it.
    assume(1e-4 < fit.dispersion < inf and 0 < fit.mean < 1)
    best = log_likelihood(counts, fit.alpha, fit.beta)
    for up in (0.98, 1.0, 1.02):
        for across in (0.98, 1.0, 1.02):
            assert log_likelihood(counts, fit.alpha * up, fit.beta * across) <= best + 1e-9


@given(tasks)
def test_order_of_tasks_does_not_matter(counts: list[tuple[int, int]]) -> None:
    assert fit_beta_binomial(counts) == fit_beta_binomial(sorted(counts))


@given(tasks)
def test_the_fit_of_failures_mirrors_that_of_successes(counts: list[tuple[int, int]]) -> None:
    fit, mirrored = fit_beta_binomial(counts), fit_beta_binomial([(n - c, n) for c, n in counts])
    assert mirrored.mean == pytest.approx(1 - fit.mean, abs=1e-6)
    assert mirrored.dispersion == pytest.approx(fit.dispersion, rel=1e-4, abs=1e-6)


def test_tasks_that_are_all_alike_have_no_dispersion() -> None:
    fit = fit_beta_binomial([(2, 4)] * 10)
    assert fit == BetaBinomial(mean=0.5, dispersion=0.0)
    assert fit.success_at(5) == 0.5
    assert fit.alpha == inf


def test_a_dispersion_may_be_likelier_though_a_little_of_it_is_not() -> None:
    fit = fit_beta_binomial(counts := [(0, 2), (6, 8), (2, 2)])
    assert fit.dispersion > 0
    alike = float(stats.binom.logpmf([0, 6, 2], [2, 8, 2], 8 / 12).sum())
    assert log_likelihood(counts, fit.alpha, fit.beta) > alike


def test_tasks_that_always_end_the_same_way_are_not_worth_a_second_attempt() -> None:
    fit = fit_beta_binomial([(0, 4)] * 6 + [(4, 4)] * 4)
    assert fit.mean == pytest.approx(0.4)
    assert fit.success_at(2) == 0.0
    assert fit.shrunk_rate(3, 3) == 1.0


@pytest.mark.parametrize(("successes", "rate"), [(0, 0.0), (4, 1.0)], ids=["fail", "succeed"])
def test_when_all_end_alike_so_does_the_next(successes: int, rate: float) -> None:
    assert fit_beta_binomial([(successes, 4)] * 5).success_at(3) == rate


def test_a_rate_is_pulled_towards_that_of_all_tasks() -> None:
    fit = BetaBinomial(mean=0.4, dispersion=0.5)  # alpha 0.8, beta 1.2
    assert fit.shrunk_rate(0, 0) == 0.4
    assert fit.shrunk_rate(4, 4) == pytest.approx(4.8 / 6)
    assert fit.shrunk_rate(0, 4) == pytest.approx(0.8 / 6)
    assert BetaBinomial(mean=0.4, dispersion=0.0).shrunk_rate(4, 4) == 0.4


def test_trying_until_success_may_be_unbounded() -> None:
    assert fit_beta_binomial(TAU_AIRLINE).attempts_until_success is None
    # Beta(3, 2): E[1/p] = (alpha + beta - 1) / (alpha - 1).
    assert BetaBinomial(mean=0.6, dispersion=0.2).attempts_until_success == pytest.approx(2)
    assert BetaBinomial(mean=0.5, dispersion=0.0).attempts_until_success == 2


def test_a_forecast_reaches_two_attempts_beyond_the_data_and_says_so() -> None:
    found = forecast_attempts(TAU_AIRLINE, 6)
    assert [attempt.extrapolated for attempt in found] == [False, False, False, False, True, True]
    with pytest.raises(ValueError, match=r"from 1 to 6, 2 beyond the 4 trials .* got 7"):
        forecast_attempts(TAU_AIRLINE, 7)


def test_a_forecast_has_intervals_of_its_tasks() -> None:
    first, second, *_ = forecast_attempts(TAU_AIRLINE, 4)
    # A bootstrap over the 50 tasks, without the fit, gives 0.325 to 0.525 and 0.175 to 0.345.
    assert (first.interval.low, first.interval.high) == pytest.approx((0.325, 0.525), abs=0.02)
    assert (second.interval.low, second.interval.high) == pytest.approx((0.175, 0.345), abs=0.02)


def test_a_hundred_thousand_tasks_recover_the_distribution() -> None:
    random = np.random.default_rng(1)
    rates, trials = random.beta(0.642, 0.858, 100_000), random.integers(1, 9, 100_000)
    fit = fit_beta_binomial(list(zip(random.binomial(trials, rates).tolist(), trials.tolist(), strict=True)))
    assert (fit.alpha, fit.beta) == pytest.approx((0.642, 0.858), rel=0.02)


@pytest.mark.parametrize(
    ("counts", "rule"),
    [([], "no task has two trials"), ([(1, 1), (0, 1)], "no task has two trials"), ([(3, 2)], "successes <= trials")],
    ids=["none", "single trials", "impossible"],
)
def test_what_tells_nothing_about_differences_is_refused(counts: list[tuple[int, int]], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        fit_beta_binomial(counts)


def test_impossible_questions_are_refused() -> None:
    fit = fit_beta_binomial(TAU_AIRLINE)
    with pytest.raises(ValueError, match="count from 1"):
        fit.success_at(0)
    with pytest.raises(ValueError, match="successes <= trials"):
        fit.shrunk_rate(2, 1)
