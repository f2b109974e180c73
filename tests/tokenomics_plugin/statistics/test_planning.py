from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import Spread, design_effect

TAU_AIRLINE = Spread(success_rate=0.42, cost_variation=0.83, correlation=-0.33)


@pytest.mark.parametrize(
    ("change", "tasks"), [(-0.1, 3838), (-0.2, 856), (-0.3, 335), (-0.5, 89)], ids=["10 %", "20 %", "30 %", "50 %"]
)
def test_published_sizes_of_an_airline_agent(change: float, tasks: int) -> None:
    # The published inputs are rounded to two digits.
    assert TAU_AIRLINE.tasks_to_detect(change) == pytest.approx(tasks, rel=2e-3)


def test_published_size_for_a_fifth_of_precision() -> None:
    assert TAU_AIRLINE.variance_of_log == pytest.approx(2.7, abs=0.05)
    assert TAU_AIRLINE.tasks_for_precision(0.2) == pytest.approx(314, rel=2e-3)


def test_half_of_the_power_needs_the_critical_value_alone() -> None:
    spread = Spread(success_rate=0.5, cost_variation=0.0)
    # 2 * 1.959964**2 * 1 / ln(0.5)**2 = 15.99; with a power of 20 % the critical value less 0.8416: 5.2.
    assert spread.tasks_to_detect(-0.5, power=0.5) == 16
    assert spread.tasks_to_detect(-0.5, power=0.2) == 6


@given(st.floats(0.05, 0.95), st.floats(0.0, 3.0), st.floats(-1, 1))
def test_the_same_tasks_in_both_arms_save_what_they_share(rate: float, variation: float, correlation: float) -> None:
    spread = Spread(success_rate=rate, cost_variation=variation, correlation=correlation)
    alone, paired = spread.tasks_to_detect(-0.2), spread.tasks_to_detect(-0.2, paired=0.5)
    assert paired == pytest.approx(alone / 2, abs=1)


def test_trials_of_one_task_count_by_how_alike_they_are() -> None:
    assert design_effect(tasks_per_cluster=4, correlation=0.4) == pytest.approx(2.2)
    assert design_effect(tasks_per_cluster=1, correlation=0.4) == 1
    assert TAU_AIRLINE.tasks_for_precision(0.2, effect=2) == pytest.approx(
        2 * TAU_AIRLINE.tasks_for_precision(0.2), abs=1
    )


def test_the_variance_is_that_of_simulated_ratios(simulate: Callable[..., Any]) -> None:
    runs = simulate(tasks=200_000, trials=1)
    costs, successes = runs.costs.ravel(), runs.successes.ravel()
    spread = Spread(
        success_rate=successes.mean(),
        cost_variation=costs.std() / costs.mean(),
        correlation=float(np.corrcoef(costs, successes)[0, 1]),
    )
    ratios = costs.reshape(1000, 200).sum(axis=1) / successes.reshape(1000, 200).sum(axis=1)
    # A variance over 1,000 samples has a relative standard error of 4.5 %.
    assert np.log(ratios).var() * 200 == pytest.approx(spread.variance_of_log, rel=0.14)


@pytest.mark.parametrize("change", [0.0, -1.0, -2.0])
def test_a_change_is_between_all_and_nothing(change: float) -> None:
    with pytest.raises(ValueError, match="change must be above -1 and not 0"):
        TAU_AIRLINE.tasks_to_detect(change)


def test_impossible_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        Spread(success_rate=1.0, cost_variation=0.5)
    with pytest.raises(ValueError, match="effect >= 1"):
        TAU_AIRLINE.tasks_to_detect(-0.2, effect=0.5)
    with pytest.raises(ValueError, match="positive width"):
        TAU_AIRLINE.tasks_for_precision(0.0)
    with pytest.raises(ValueError, match="at least one task per cluster"):
        design_effect(tasks_per_cluster=0.5, correlation=0.1)
