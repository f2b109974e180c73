from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from math import sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.report.figure import (
    Figure,
    cost_per_success,
    net_value_per_task,
    success_rate,
    value_per_dollar,
    value_per_million_standard_tokens,
)
from tokenomics_plugin.report.spend import Spend, Tokens
from tokenomics_plugin.report.task import TaskStatus, TaskSummary
from tokenomics_plugin.statistics import Range, SetShape

NOTHING = Tokens(input=0, cache_write=0, cache_read=0, output=0, reasoning=0)


def task(
    number: int,
    status: str = "succeeded",
    *,
    cost: Decimal | int | None = 1,
    value: Decimal | int | None = 0,
    harm: Decimal | int | None = 0,
    standard_tokens: int | None = 1_000_000,
    group: str | None = None,
) -> TaskSummary:
    is_final = TaskStatus(status).is_final
    return TaskSummary(
        task_id=f"task-{number}",
        group=group,
        status=TaskStatus(status),
        traces=1,
        spend=Spend(
            spans=1,
            errors=0,
            calls=1,
            calls_with_usage=1,
            priced_calls=int(cost is not None),
            tokens=NOTHING,
            standard_tokens=None if standard_tokens is None else Decimal(standard_tokens),
            priced_cost_usd=Decimal(cost or 0),
            cost_usd=None if cost is None else Decimal(cost),
        ),
        value=None,
        harm=None,
        currency=None,
        agents=(),
        value_usd=Decimal(value) if is_final and value is not None else None,
        harm_usd=Decimal(harm) if is_final and harm is not None else None,
    )


def tasks(*, succeeded: int = 0, failed: int = 0, pending: int = 0, **fields: Any) -> list[TaskSummary]:
    statuses = ["succeeded"] * succeeded + ["failed"] * failed + ["pending"] * pending
    return [task(number, status, **fields) for number, status in enumerate(statuses)]


def test_cost_per_success_pays_for_failures() -> None:
    found = cost_per_success([*tasks(succeeded=20, cost=1), *(task(100 + n, "failed", cost=2) for n in range(10))])
    assert (found.numerator, found.denominator, found.estimate) == (Decimal(40), Decimal(20), 2.0)


def test_value_per_dollar_is_a_ratio_of_sums() -> None:
    judged = [task(n, cost=n + 1, value=10) for n in range(10)] + [task(100 + n, "failed", cost=1) for n in range(10)]
    assert value_per_dollar(judged).estimate == pytest.approx(100 / 65)


def test_value_per_million_standard_tokens_divides_by_frozen_work() -> None:
    judged = [task(n, value=3, standard_tokens=500_000) for n in range(10)]
    judged += [task(100 + n, "failed", standard_tokens=1_500_000) for n in range(10)]
    assert value_per_million_standard_tokens(judged).estimate == pytest.approx(30 / 20)


def test_net_value_subtracts_cost_and_harm_and_may_be_negative() -> None:
    judged = [task(n, value=5, cost=1) for n in range(8)] + [
        task(100 + n, "harmful", harm=60, cost=1) for n in range(2)
    ]
    found = net_value_per_task(judged)
    assert (found.numerator, found.estimate) == (Decimal(40 - 10 - 120), -9.0)


def test_a_harmful_task_is_no_success() -> None:
    judged = [*tasks(succeeded=10), *(task(100 + n, "harmful") for n in range(10))]
    assert success_rate(judged).estimate == 0.5


def test_known_cost_per_success_of_a_public_benchmark() -> None:
    # Claude Sonnet 4.5 on tau2-bench airline: 36 of 50 tasks at an agent cost of $14.44 in all.
    cost = Decimal("14.44") / 50
    found = cost_per_success(tasks(succeeded=36, failed=14, cost=cost))
    assert float(success_rate(tasks(succeeded=36, failed=14)).estimate or 0) == 0.72
    assert found.estimate == pytest.approx(14.44 / 36)


def test_groups_are_the_independent_draws() -> None:
    # Successes of gpt-4o in four trials of each of 50 tasks of tau-bench airline.
    successes = [0] * 14 + [1] * 12 + [2] * 10 + [3] * 4 + [4] * 10
    trials = [
        task(4 * number + trial, "succeeded" if trial < won else "failed", cost=Decimal("0.0534"), group=str(number))
        for number, won in enumerate(successes)
        for trial in range(4)
    ]
    grouped = cost_per_success(trials)
    alone = cost_per_success([replace(each, group=None) for each in trials])
    assert grouped.estimate == alone.estimate == pytest.approx(0.0534 * 200 / 84)
    assert (grouped.clusters, alone.clusters, grouped.tasks) == (50, 200, 200)
    assert grouped.confidence is not None
    assert alone.confidence is not None
    # Ignoring that trials of one task end alike would promise twice the certainty.
    assert width(grouped) > 1.5 * width(alone)
    rate = success_rate(trials)
    assert (rate.confidence and rate.confidence.low, rate.confidence and rate.confidence.high) == pytest.approx(
        (0.325, 0.525), abs=0.01
    )


def width(figure: Figure) -> float:
    assert figure.confidence is not None
    assert figure.confidence.low is not None
    assert figure.confidence.high is not None
    return figure.confidence.high - figure.confidence.low


@pytest.mark.parametrize(
    ("judged", "reason"),
    [
        (tasks(succeeded=4, failed=40), "at least 5 successes, there are 4"),
        (tasks(succeeded=40, failed=1), "at least 5 failures, there is 1"),
        ([task(n, "succeeded" if n % 2 else "failed", group=str(n % 9)) for n in range(90)], "there are 9"),
        (tasks(succeeded=30, failed=30, pending=16), r"16 of 76 tasks have no final outcome, more than 20%"),
    ],
    ids=["successes", "failures", "groups", "too much missing"],
)
def test_a_ratio_on_too_little_is_withheld_with_the_reason(judged: list[TaskSummary], reason: str) -> None:
    found = cost_per_success(judged)
    assert (found.estimate, found.confidence, found.caveat) == (None, None, None)
    assert reason in (found.withheld or "")
    assert found.numerator == found.tasks, "the counts are not withheld"


def test_a_rate_needs_no_failures() -> None:
    found = success_rate(tasks(succeeded=30))
    assert found.estimate == 1.0
    assert found.confidence is not None
    assert found.confidence.low == pytest.approx(0.8865, abs=1e-4)


@pytest.mark.parametrize(
    ("judged", "caveat"),
    [
        (tasks(succeeded=10, failed=10), "20 independent tasks or groups, fewer than 30"),
        (tasks(succeeded=9, failed=40), "9 successes, fewer than 10"),
        ([task(n, "failed" if n % 3 else "succeeded", cost=10**n) for n in range(40)], "wider than ±50%"),
        (tasks(succeeded=30, failed=30), None),
    ],
    ids=["few tasks", "few successes", "wide", "ample"],
)
def test_an_estimate_on_little_has_a_caveat(judged: list[TaskSummary], caveat: str | None) -> None:
    found = cost_per_success(judged)
    assert found.estimate is not None
    assert (found.caveat is None) if caveat is None else (caveat in (found.caveat or ""))


def test_a_set_that_is_open_on_one_side_says_so() -> None:
    # One group has nearly all successes: whether others have any is open.
    judged = [task(n, "succeeded" if n < 12 else "failed", group=str(0 if n < 12 else n)) for n in range(60)]
    found = cost_per_success(judged)
    assert found.confidence is not None
    assert found.confidence.shape is SetShape.DISJOINT
    assert "leave one side open" in (found.caveat or "")


def test_tasks_of_unknown_cost_leave_both_sides_and_are_counted() -> None:
    judged = [*tasks(succeeded=10, failed=10, cost=2), *(task(100 + n, cost=None) for n in range(7))]
    found = cost_per_success(judged)
    assert (found.numerator, found.denominator, found.tasks, found.left_out) == (Decimal(40), Decimal(10), 20, 7)
    assert success_rate(judged).tasks == 27


def test_without_any_value_nothing_is_said_about_value() -> None:
    judged = [task(n, value=None) for n in range(20)] + [task(100 + n, "failed", value=0) for n in range(20)]
    for found in (net_value_per_task(judged), value_per_dollar(judged), value_per_million_standard_tokens(judged)):
        assert found.withheld == "no success says what it is worth in USD"
        assert (found.estimate, found.bounds) == (None, None)


def test_free_work_has_no_value_per_dollar() -> None:
    found = value_per_dollar([*tasks(succeeded=10, failed=10, cost=0, value=1)])
    assert found.withheld == "there is nothing to divide by"


def test_a_negative_value_is_not_ranked_by_a_ratio() -> None:
    judged = [task(n, value=1) for n in range(10)] + [task(100 + n, "failed", value=-5) for n in range(10)]
    assert "negative" in (value_per_dollar(judged).withheld or "")
    assert net_value_per_task(judged).estimate == -3.0


def test_missing_outcomes_bound_every_figure() -> None:
    judged = [
        *(task(n, value=5, cost=1) for n in range(12)),
        *(task(100 + n, "failed", cost=1) for n in range(7)),
        task(200, "harmful", harm=3, cost=1),
        *(task(300 + n, "pending", cost=2) for n in range(2)),
        task(400, "unlabelled", cost=1),
    ]
    assert success_rate(judged).bounds == Range(low=12 / 23, high=15 / 23)
    assert cost_per_success(judged).bounds == Range(low=25 / 15, high=25 / 12)
    assert value_per_dollar(judged).bounds == Range(low=60 / 25, high=75 / 25)
    # A missing task may turn out as bad as the worst (harm 3) or as good as the best (value 5).
    assert net_value_per_task(judged).bounds == Range(low=(60 - 3 - 25 - 9) / 23, high=(60 - 3 - 25 + 15) / 23)


def test_bounds_with_sampling_error_hold_the_bounds_and_the_interval() -> None:
    found = cost_per_success(tasks(succeeded=30, failed=20, pending=5))
    assert found.bounds is not None
    assert found.bounds_confidence is not None
    assert found.bounds_confidence.union(found.bounds) == found.bounds_confidence
    assert found.estimate is not None
    assert found.estimate in found.bounds_confidence


def test_bounds_are_shown_even_when_the_estimate_is_withheld() -> None:
    assert cost_per_success(tasks(failed=3, pending=2)).bounds == Range(low=2.5, high=None)
    assert success_rate(tasks(pending=4)).bounds == Range(low=0, high=1)
    assert cost_per_success(tasks(failed=3)).bounds is None


def test_net_value_interval_is_students() -> None:
    judged = [task(n, value=n, cost=0) for n in range(10)]
    found = net_value_per_task(judged)
    reach = 2.262157 * sqrt(82.5 / 9) / sqrt(10)  # t with 9 degrees of freedom
    assert found.confidence is not None
    assert (found.confidence.low, found.confidence.high) == pytest.approx((4.5 - reach, 4.5 + reach), rel=1e-6)


amounts = st.decimals(min_value=0, max_value=100, places=4)
cohorts = st.lists(
    st.builds(
        task,
        st.integers(0, 10**6),
        st.sampled_from([status.value for status in TaskStatus]),
        cost=st.none() | amounts,
        value=st.none() | amounts,
        harm=st.none() | amounts,
        group=st.sampled_from([None, *"abcdefghijklmnop"]),
    ),
    max_size=80,
    unique_by=lambda task: task.task_id,
)
FIGURES = (success_rate, cost_per_success, value_per_dollar, net_value_per_task, value_per_million_standard_tokens)


@given(cohorts)
def test_an_estimate_or_a_reason_and_the_estimate_within_its_confidence(found_tasks: Sequence[TaskSummary]) -> None:
    for make in FIGURES:
        found = make(found_tasks)
        assert (found.estimate is None) == (found.withheld is not None) == (found.confidence is None)
        if found.estimate is not None and found.confidence is not None:
            slack = 1e-7 * max(1.0, abs(found.estimate))  # ends are right to the square root of a float's precision
            assert any(found.estimate + nudge in found.confidence for nudge in (-slack, 0, slack))


@given(cohorts)
def test_a_success_rate_is_within_its_bounds(found_tasks: Sequence[TaskSummary]) -> None:
    found = success_rate(found_tasks)
    if found.estimate is not None:
        assert found.bounds is not None
        assert found.estimate in found.bounds


@given(cohorts, st.data())
def test_the_order_of_tasks_changes_nothing(found_tasks: Sequence[TaskSummary], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(found_tasks))
    for make in FIGURES:
        assert make(found_tasks) == make(shuffled)
