from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.marginal import Contender, TaskResult, cost_success_frontier


def contender(name: str, successes: int, cost: float, tasks: int = 20) -> Contender:
    return Contender(
        name=name,
        results={str(number): TaskResult(cost / tasks, number < successes) for number in range(tasks)},
    )


def test_a_dearer_contender_that_solves_no_more_is_left_out() -> None:
    found = cost_success_frontier([contender("dear", 5, 9.0), contender("cheap", 5, 1.0), contender("best", 8, 4.0)])
    assert [step.contender.name for step in found] == ["cheap", "best"]


def test_the_step_costs_the_difference_for_each_further_success() -> None:
    found = cost_success_frontier([contender("cheap", 5, 1.0), contender("best", 8, 4.0)])
    assert found[0].marginal_cost is None
    assert found[1].marginal_cost is not None
    assert found[1].marginal_cost.estimate == pytest.approx(1.0)


def test_a_step_of_one_success_has_no_upper_limit() -> None:
    found = cost_success_frontier([contender("cheap", 5, 1.0), contender("best", 6, 40.0)])
    assert found[1].marginal_cost is not None
    assert 1e9 in found[1].marginal_cost.confidence_set


def test_clusters_are_the_independent_draws() -> None:
    halves = {str(number): number % 2 for number in range(20)}
    found = cost_success_frontier([contender("cheap", 5, 1.0), contender("best", 8, 4.0)], cluster_of=halves)
    assert found[1].marginal_cost is not None
    assert found[1].marginal_cost.clusters == 2


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 50)), min_size=1, max_size=8))
def test_no_contender_beats_one_of_the_frontier(results: list[tuple[int, int]]) -> None:
    everyone = [contender(str(number), won, float(cost)) for number, (won, cost) in enumerate(results)]
    for step in cost_success_frontier(everyone):
        for other in everyone:
            beaten = other.successes >= step.contender.successes and other.cost < step.contender.cost - 1e-9
            assert not beaten


def test_contenders_of_other_tasks_are_not_compared() -> None:
    with pytest.raises(ValueError, match="tried other tasks"):
        cost_success_frontier([contender("a", 1, 1.0, tasks=5), contender("b", 1, 1.0, tasks=6)])


def test_an_unknown_cost_is_not_nothing() -> None:
    with pytest.raises(ValueError, match="unknown cost"):
        cost_success_frontier([contender("a", 1, float("nan"))])
