from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tokenomics_plugin.credit import experiment_worth, regret_bound
from tokenomics_plugin.statistics import Mean, Range


def known(estimate: float, error: float, *, clusters: int = 50) -> Mean:
    reach = error * float(stats.t.ppf(0.975, clusters - 1))
    return Mean(estimate=estimate, interval=Range(low=estimate - reach, high=estimate + reach), clusters=clusters)


@pytest.mark.parametrize("estimate", [-0.02, 0.0, 0.05], ids=["negative", "open", "positive"])
def test_the_gain_is_that_of_playing_it_out(estimate: float) -> None:
    # Draw the truth from what is known, an experiment from the truth, and decide by both together.
    random = np.random.default_rng(1)
    truth = random.normal(estimate, 0.04, 400_000)
    seen = random.normal(truth, 0.04 * np.sqrt(50 / 150))
    pooled = (estimate * 50 + seen * 150) / 200
    gain = np.where(pooled > 0, truth, 0).mean() - (estimate > 0) * estimate
    found = experiment_worth(known(estimate, 0.04), tasks=150, cost=20.0, runs_that_follow=10_000)
    assert found.gain == pytest.approx(10_000 * gain, abs=4)
    assert found.chance_of_change == pytest.approx(((pooled > 0) != (estimate > 0)).mean(), abs=0.003)
    assert found.ratio == pytest.approx(found.gain / 20)


def test_what_is_clear_is_not_worth_testing_and_what_is_open_is() -> None:
    clear, open_ = (
        experiment_worth(known(estimate, 0.02), tasks=100, cost=50.0, runs_that_follow=100_000).ratio
        for estimate in (0.2, 0.01)
    )
    assert clear < 1e-6
    assert open_ > 1


def test_a_larger_experiment_gains_more_and_ever_less_more() -> None:
    gains = [
        experiment_worth(known(0.0, 0.02), tasks=tasks, cost=1.0, runs_that_follow=1).gain for tasks in (10, 20, 40, 80)
    ]
    steps = np.diff(gains)
    assert np.all(steps > 0)
    assert gains[-1] < 0.02 / np.sqrt(2 * np.pi), "what certainty would gain"


def test_what_is_certain_gains_nothing() -> None:
    found = experiment_worth(known(0.1, 0.0), tasks=10, cost=1.0, runs_that_follow=1000)
    assert (found.gain, found.chance_of_change) == (0, 0)


@pytest.mark.parametrize(("tasks", "cost"), [(0, 1.0), (10, 0.0)], ids=["no tasks", "no cost"])
def test_an_experiment_has_tasks_and_a_cost(tasks: int, cost: float) -> None:
    with pytest.raises(ValueError, match="has tasks and costs money"):
        experiment_worth(known(0.1, 0.1), tasks=tasks, cost=cost, runs_that_follow=1)


def test_an_open_interval_tells_no_error() -> None:
    half_open = Mean(estimate=0.1, interval=Range(low=None, high=1.0), clusters=10)
    with pytest.raises(ValueError, match="two ends"):
        experiment_worth(half_open, tasks=1, cost=1.0, runs_that_follow=1)


def test_regret_is_at_most_the_explored_decisions_gone_wrong() -> None:
    assert regret_bound(explored_share=0.05, decisions=2000, worst_loss=0.04) == pytest.approx(4.0)
    with pytest.raises(ValueError, match="between 0 and 1"):
        regret_bound(explored_share=5, decisions=2000, worst_loss=0.04)
