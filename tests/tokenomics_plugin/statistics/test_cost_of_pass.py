from __future__ import annotations

from math import inf

import pytest

from tokenomics_plugin.statistics import Trials, cost_of_pass


def trials(cost: float, successes: int, count: int = 10) -> Trials:
    return Trials(cost=cost, successes=successes, trials=count)


def test_each_task_costs_what_its_successes_cost_and_at_most_a_person() -> None:
    found = cost_of_pass([[trials(4, 8)], [trials(6, 2)], [trials(9, 0)]], human_cost=5)
    assert found.mean.estimate == pytest.approx((0.5 + 3 + 5) / 3)
    assert found.handed_over == 1
    assert found.caveat is None


def test_the_best_model_is_chosen_for_each_task() -> None:
    cheap, strong = trials(1, 1), trials(6, 10)
    assert cost_of_pass([[cheap, strong], [trials(1, 0), strong]], human_cost=50).mean.estimate == pytest.approx(0.6)


def test_it_is_not_cost_per_success() -> None:
    # One task always succeeds for 1, the other once in ten trials: 2 / 1.1 per success, but (1 + 10) / 2 per task.
    found = cost_of_pass([[trials(10, 10)], [trials(10, 1)]], human_cost=100)
    assert found.mean.estimate == pytest.approx(5.5)
    assert 20 / 11 < 2 < found.mean.estimate


def test_a_person_may_cost_more_for_harder_tasks() -> None:
    found = cost_of_pass([[trials(4, 0)], [trials(4, 0)]], human_cost=[2.0, 8.0])
    assert (found.mean.estimate, found.handed_over) == (5.0, 2)


def test_few_trials_are_flagged_as_biased() -> None:
    found = cost_of_pass([[trials(1, 1, 7)], [trials(1, 1, 8)]], human_cost=5)
    assert found.caveat == "biased: a task has 7 trials, fewer than 8"


@pytest.mark.parametrize("cap", [0.0, inf, -1.0, [1.0]], ids=["free", "infinite", "negative", "too few"])
def test_without_a_persons_cost_the_unsolved_have_none(cap: float | list[float]) -> None:
    with pytest.raises(ValueError, match="human_cost must be positive and finite"):
        cost_of_pass([[trials(1, 1)], [trials(1, 0)]], human_cost=cap)


def test_a_task_needs_trials() -> None:
    with pytest.raises(ValueError, match="at least one model"):
        cost_of_pass([[trials(1, 1)], []], human_cost=1)
    with pytest.raises(ValueError, match="successes <= trials"):
        trials(1, 11)
