from __future__ import annotations

from collections.abc import Callable
from math import log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import SetShape, excess_sequence, mean_sequence, ratio_sequence


def test_half_width_is_that_of_the_paper() -> None:
    values = [0.0, 1.0] * 250
    found = mean_sequence(values, tuned_at=500)
    rho2 = (-2 * log(0.05) + log(-2 * log(0.05) + 1)) / 500
    reach = 0.5 * sqrt(2 * (500 * rho2 + 1) / (500**2 * rho2) * log(sqrt(500 * rho2 + 1) / 0.05))
    assert found.means[-1] == 0.5
    assert (found.lows[-1], found.highs[-1]) == pytest.approx((0.5 - reach, 0.5 + reach))


def test_it_says_nothing_before_a_hundred_clusters() -> None:
    found = mean_sequence(np.arange(150.0))
    assert found.sizes.tolist() == list(range(100, 151))
    with pytest.raises(ValueError, match="starts at 100 clusters, there are 99"):
        mean_sequence(np.arange(99.0))


def test_it_is_narrowest_where_it_was_tuned() -> None:
    values = np.tile([0.0, 1.0], 1000)
    widths = {at: mean_sequence(values, tuned_at=at).highs[500 - 100] for at in (100, 500, 1900)}
    assert min(widths, key=lambda at: widths[at]) == 500


@given(st.floats(-1e6, 1e6), st.floats(0.001, 1000))
def test_a_shift_and_a_unit_go_through(shift: float, unit: float) -> None:
    values = np.sin(np.arange(200.0))
    plain, moved = mean_sequence(values), mean_sequence(values * unit + shift)
    assert moved.lows == pytest.approx(plain.lows * unit + shift, abs=1e-6 * unit + 1e-9 * abs(shift))


def test_the_first_day_on_which_a_reference_is_excluded() -> None:
    found = mean_sequence(np.tile([0.9, 1.1], 100))
    assert found.first_excluding(1.0) is None
    assert found.first_excluding(5.0) == 100


def test_a_change_for_the_worse_is_noticed(simulate: Callable[..., Any], true_cost_per_success: float) -> None:
    pairs = simulate(tasks=3000, trials=1).by_task()
    dearer = [(2 * cost, successes) for cost, successes in pairs]
    found = excess_sequence(dearer, true_cost_per_success)
    assert found.first_excluding(0.0) is not None
    assert found.lows[-1] > 0, "cost per success is above the reference"


def test_a_ratio_is_in_its_set_as_long_as_its_excess_may_be_zero(simulate: Callable[..., Any]) -> None:
    pairs = simulate(tasks=400, trials=1).by_task()
    for reference in (3.0, 4.0, 4.5, 5.0, 6.0):
        excess = excess_sequence(pairs, reference)
        sets = ratio_sequence(pairs)
        inside = [reference in found.confidence_set for found in sets]
        assert inside == ((excess.lows <= 0) & (excess.highs >= 0)).tolist()


def test_a_ratio_may_be_asked_for_at_some_days_only(simulate: Callable[..., Any]) -> None:
    pairs = simulate(tasks=300, trials=1).by_task()
    every, some = ratio_sequence(pairs), ratio_sequence(pairs, at=[100, 300])
    assert some == (every[0], every[-1])
    assert some[1].estimate == pytest.approx(sum(a for a, _ in pairs) / sum(b for _, b in pairs))


def test_a_ratio_without_a_success_has_no_estimate_and_no_upper_limit() -> None:
    (found,) = ratio_sequence([(1.0 + task % 3, 0.0) for task in range(120)], at=[120])
    assert found.estimate is None
    assert found.confidence_set.shape is not SetShape.INTERVAL


@pytest.mark.parametrize("at", [99, 301], ids=["too early", "in the future"])
def test_sizes_outside_the_series_are_refused(simulate: Callable[..., Any], at: int) -> None:
    with pytest.raises(ValueError, match="sizes must be from 100 to the 300"):
        ratio_sequence(simulate(tasks=300, trials=1).by_task(), at=[at])


def test_a_tuning_size_is_a_number_of_clusters() -> None:
    with pytest.raises(ValueError, match="tuned_at"):
        mean_sequence(np.arange(150.0), tuned_at=0)


def test_looking_daily_raises_few_false_alarms_where_a_one_look_interval_raises_many(
    simulate: Callable[..., Any], true_cost_per_success: float, slack: Callable[[int], float]
) -> None:
    replications, one_look, sequence = 300, 0, 0
    for _ in range(replications):
        pairs = np.array(simulate(tasks=3000, trials=1).by_task())
        found = excess_sequence(pairs, true_cost_per_success)
        sequence += found.first_excluding(0.0) is not None
        excess = pairs[:, 0] - true_cost_per_success * pairs[:, 1]
        errors = excess.std() / np.sqrt(found.sizes)
        one_look += bool((abs(found.means) > 1.96 * errors).any())
    assert sequence / replications <= 0.05 + slack(replications)
    assert one_look / replications > 0.25
