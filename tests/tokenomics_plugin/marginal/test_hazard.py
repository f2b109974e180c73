from __future__ import annotations

import pytest

from tokenomics_plugin.marginal import AttemptChain, ChainEnd, hazard_curve


def chain(name: str, attempts: int, end: ChainEnd, cost: float = 1.0) -> AttemptChain:
    return AttemptChain(task_id=name, costs=(cost,) * attempts, end=end)


def test_given_up_tasks_leave_those_at_risk() -> None:
    found = hazard_curve(
        [
            chain("a", 1, ChainEnd.SUCCEEDED),
            chain("b", 1, ChainEnd.GIVEN_UP),
            chain("c", 2, ChainEnd.SUCCEEDED),
            chain("d", 2, ChainEnd.GIVEN_UP),
        ],
        resamples=50,
    )
    assert [attempt.success_probability.point for attempt in found.attempts] == [0.25, 0.5]
    # Not 2 of 4: task b might have succeeded at its second attempt.
    assert found.attempts[1].cumulative_success.point == pytest.approx(1 - 0.75 * 0.5)


def test_an_attempt_of_unknown_end_is_left_out_and_its_predecessors_failed() -> None:
    found = hazard_curve([chain("a", 2, ChainEnd.UNKNOWN), chain("b", 1, ChainEnd.SUCCEEDED)], resamples=50)
    assert [attempt.success_probability.point for attempt in found.attempts] == [0.5]


def test_each_attempt_has_its_own_mean_cost() -> None:
    found = hazard_curve(
        [
            AttemptChain(task_id="a", costs=(1.0, 5.0), end=ChainEnd.SUCCEEDED),
            AttemptChain(task_id="b", costs=(3.0,), end=ChainEnd.SUCCEEDED),
        ],
        resamples=50,
    )
    assert [attempt.cost.point for attempt in found.attempts] == [2.0, 5.0]


def test_it_says_that_it_is_an_association() -> None:
    found = hazard_curve([chain("a", 1, ChainEnd.SUCCEEDED)], resamples=10)
    assert any("Association only" in assumption for assumption in found.assumptions)


def test_a_curve_needs_an_attempt_whose_end_is_known() -> None:
    with pytest.raises(ValueError, match="whose end is known"):
        hazard_curve([chain("a", 1, ChainEnd.UNKNOWN)])


def test_an_attempt_has_a_cost() -> None:
    with pytest.raises(ValueError, match="one for each attempt"):
        AttemptChain(task_id="a", costs=(), end=ChainEnd.GIVEN_UP)
