"""Two runs of the same tasks: what pairs, which way the change goes, and when nothing is said."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.report import Change, Comparison, Spend, TaskSummary, Tokens, compare
from tokenomics_plugin.resampling import Estimate

SUCCEEDED, FAILED = OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED


def run(
    number: int, status: OutcomeStatus | None, *, cost: str | None = "0.1", tokens: int = 100, group: str | None = None
) -> TaskSummary:
    spend = Spend(
        spans=1,
        errors=0,
        calls=1,
        calls_with_usage=1,
        priced_calls=int(cost is not None),
        tokens=Tokens(input=tokens, cache_write=0, cache_read=0, output=0, reasoning=0),
        standard_tokens=Decimal(tokens),
        priced_cost_usd=Decimal(cost or 0),
        cost_usd=None if cost is None else Decimal(cost),
    )
    name = f"t{number}"
    outcome = None if status is None else Outcome(task_id=name, status=status, value=Decimal(status is SUCCEEDED))
    return TaskSummary.of(name, group=group, traces=1, spend=spend, agents=(), outcome=outcome)


def runs(successes: int, count: int = 20, **said: int) -> list[TaskSummary]:
    """The first ones succeed."""
    return [run(number, SUCCEEDED if number < successes else FAILED, **said) for number in range(count)]  # type: ignore[arg-type]


def changes(comparison: Comparison) -> dict[str, Change]:
    return {change.kind.title: change for change in comparison.changes}


def estimate(change: Change) -> Estimate:
    assert change.change is not None, change.withheld
    return change.change


def test_twice_the_successes_at_half_the_tokens_are_four_times_the_value_per_token() -> None:
    comparison = compare(runs(8, tokens=100), runs(16, tokens=50))

    found = changes(comparison)
    assert (comparison.pairs, comparison.repaired, comparison.broken, comparison.unpaired) == (20, 8, 0, 0)
    assert comparison.p_value == pytest.approx(2 * 0.5**8)
    assert estimate(found["Success rate"]).point == pytest.approx(0.4)
    assert estimate(found["Net value per task"]).point == pytest.approx(0.4)
    assert estimate(found["Value per million standard tokens"]).point == pytest.approx(4)
    assert estimate(found["Value per dollar"]).point == pytest.approx(2)
    assert estimate(found["Cost per success"]).point == pytest.approx(0.5)
    tokens = found["Tokens per success"]
    assert (tokens.before, tokens.after) == (250, 62.5)
    assert estimate(tokens).point == pytest.approx(0.25)
    for change in comparison.changes:
        interval, no_change = estimate(change).interval, float(change.is_ratio)
        assert not (interval.low or 0) <= no_change <= (interval.high or 0), change.kind.title


def test_the_same_runs_have_not_changed() -> None:
    for change in compare(runs(8), runs(8)).changes:
        found = estimate(change)
        assert (
            found.point == found.interval.low == pytest.approx(float(change.is_ratio))
            or change.kind.title == "Success rate"
        )


@given(st.permutations(range(14)), st.permutations(range(14)))
def test_the_order_of_tasks_changes_nothing(one: list[int], other: list[int]) -> None:
    before, after = runs(6, 14), runs(9, 14, tokens=70)
    assert compare([before[n] for n in one], [after[n] for n in other]) == compare(before, after)


def test_only_tasks_that_were_judged_both_times_are_compared() -> None:
    before, after = runs(8), [*runs(8)[1:], run(0, None), run(99, SUCCEEDED)]

    comparison = compare(before, after)

    assert (comparison.pairs, comparison.unpaired) == (19, 2)


def test_what_is_unknown_on_one_side_is_left_out_of_that_figure_only() -> None:
    after = [replace(runs(8)[0], spend=run(0, SUCCEEDED, cost=None).spend), *runs(8)[1:]]

    found = changes(compare(runs(8), after))

    assert {title: change.tasks for title, change in found.items()} == {
        "Net value per task": 19,
        "Success rate": 20,
        "Value per million standard tokens": 20,
        "Value per dollar": 19,
        "Cost per success": 19,
        "Tokens per success": 20,
    }


def test_tasks_of_a_group_are_one_draw() -> None:
    before = [replace(task, group=f"g{number // 5}") for number, task in enumerate(runs(8))]

    comparison = compare(before, runs(16))

    assert (comparison.clusters, comparison.p_value) == (4, None)
    assert {change.withheld for change in comparison.changes} == {
        "needs at least 10 independent tasks or groups, there are 4"
    }


def test_too_few_successes_make_no_ratio_and_the_difference_stays() -> None:
    found = changes(compare(runs(0), runs(16)))

    assert found["Cost per success"].before is None
    assert found["Cost per success"].withheld == "needs at least 5 successes on both sides, one has 0"
    assert estimate(found["Success rate"]).point == pytest.approx(0.8)


def test_nothing_to_compare_is_no_error() -> None:
    comparison = compare([], runs(8))
    assert (comparison.pairs, comparison.unpaired, comparison.p_value) == (0, 20, None)
    assert all(change.change is None for change in comparison.changes)
