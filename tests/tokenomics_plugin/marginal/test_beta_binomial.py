from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenomics_plugin.marginal import BetaBinomial, fit_beta_binomial


def test_no_other_shapes_are_more_likely() -> None:
    counts = [(0, 4), (1, 4), (1, 3), (4, 4), (2, 5), (5, 5)]
    fit = fit_beta_binomial(counts)
    assert fit is not None

    def likelihood(alpha: float, beta: float) -> float:
        return float(sum(stats.betabinom.logpmf(won, tried, alpha, beta) for won, tried in counts))

    best = likelihood(fit.alpha, fit.beta)
    for factor in (0.9, 0.99, 1.01, 1.1):
        assert likelihood(fit.alpha * factor, fit.beta) < best
        assert likelihood(fit.alpha, fit.beta * factor) < best


def test_the_shapes_that_drew_the_data_are_found_again() -> None:
    random = np.random.default_rng(5)
    drawn = random.binomial(8, random.beta(0.6, 0.9, 4000))
    fit = fit_beta_binomial([(int(won), 8) for won in drawn])
    assert fit is not None
    # Standard errors at this size are about 0.02 and 0.03.
    assert (fit.alpha, fit.beta) == pytest.approx((0.6, 0.9), abs=0.1)


@pytest.mark.parametrize(
    "counts", [[], [(0, 3), (0, 2)], [(3, 3), (2, 2)]], ids=["no task", "no success", "no failure"]
)
def test_outcomes_that_are_all_alike_say_nothing_about_differences(counts: list[tuple[int, int]]) -> None:
    assert fit_beta_binomial(counts) is None


def test_tasks_that_are_alike_keep_their_rate_at_later_attempts() -> None:
    fit = fit_beta_binomial([(2, 4)] * 20)
    assert fit is not None
    assert fit.success_probability(5) == pytest.approx(0.5, abs=1e-3)


def test_attempts_count_from_one() -> None:
    with pytest.raises(ValueError, match="count from 1"):
        BetaBinomial(alpha=1, beta=1).success_probability(0)


def test_shapes_are_positive() -> None:
    with pytest.raises(ValueError, match="must be positive"):
        BetaBinomial(alpha=0, beta=1)


def test_mean_attempts_of_known_shapes() -> None:
    # E[1 / p] = (alpha + beta - 1) / (alpha - 1).
    assert BetaBinomial(alpha=3, beta=2).mean_attempts_until_success == 2.0
