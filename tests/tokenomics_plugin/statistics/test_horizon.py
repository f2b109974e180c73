from __future__ import annotations

from collections.abc import Callable
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokenomics_plugin.statistics import (
    Cohort,
    CohortMismatchError,
    LateValue,
    cluster_mean,
    kaplan_meier,
    require_same_tasks,
    value_per_cost_within,
    value_within,
)

HORIZON = 14.0
RATE = 0.5263
TRUTH = RATE * (1 - np.exp(-HORIZON / 5))
Draw = Callable[..., list[LateValue]]


@pytest.fixture
def draw() -> Draw:
    """Draws tasks of ages up to 20 days, whose successes become known sooner than their failures."""
    random = np.random.default_rng(11)

    def draw(tasks: int, *, ages_known: bool = True) -> list[LateValue]:
        ages, succeeds = random.uniform(0, 20, tasks), random.random(tasks) < RATE
        delays = random.exponential(np.where(succeeds, 5.0, 12.0))
        return [
            LateValue(followed_for=age if ages_known else None, arrived_after=delay, value=float(good))
            if delay <= age
            else LateValue(followed_for=age)
            for age, delay, good in zip(ages.tolist(), delays.tolist(), succeeds.tolist(), strict=True)
        ]

    return draw


def test_a_value_counts_for_those_too_young_to_have_it() -> None:
    # Of three tasks followed for 5 days or more, one is worth 6; it stands for four tasks in three: 6 / (3/4) / 4.
    tasks = [
        LateValue(followed_for=2),
        LateValue(followed_for=10, arrived_after=5, value=6),
        LateValue(followed_for=12),
        LateValue(followed_for=20),
    ]
    assert value_within(tasks, 10).estimate == pytest.approx(2)
    assert value_within(tasks, 10, cohort=Cohort.MATURE).estimate == pytest.approx(2)
    assert value_within(tasks, 4).estimate == 0, "it arrived after the horizon"


def test_what_is_realised_on_the_day_of_the_horizon_counts() -> None:
    tasks = [LateValue(followed_for=5, arrived_after=5, value=1), LateValue(followed_for=5)]
    for cohort in Cohort:
        assert value_within(tasks, 5, cohort=cohort).estimate == 0.5


@given(st.lists(st.tuples(st.floats(0, 30), st.floats(-5, 5)), min_size=2, max_size=30))
def test_with_nothing_pending_it_is_the_plain_mean(arrivals: list[tuple[float, float]]) -> None:
    tasks = [LateValue(followed_for=30, arrived_after=after, value=value) for after, value in arrivals]
    plain = cluster_mean([(value if after <= 30 else 0, 1) for after, value in arrivals])
    for cohort in Cohort:
        found = value_within(tasks, 30, cohort=cohort)
        assert found.estimate == pytest.approx(plain.estimate)
        assert found.interval.low == pytest.approx(plain.interval.low)


def test_ages_and_kaplan_meier_tell_the_same_of_the_same_tasks(draw: Draw) -> None:
    known = draw(5000)
    unknown = [
        LateValue(followed_for=None, arrived_after=task.arrived_after, value=task.value)
        if task.arrived_after is not None
        else task
        for task in known
    ]
    by_age, by_curve = value_within(known, HORIZON), value_within(unknown, HORIZON)
    assert by_age.estimate == pytest.approx(by_curve.estimate, abs=0.01)
    assert by_age.interval.high == pytest.approx(by_curve.interval.high or 0, abs=0.01)


def test_kaplan_meier_of_a_textbook() -> None:
    # Freireich's leukaemia trial, 6-MP arm: remission in weeks, + still in remission.
    ended = [6, 6, 6, 7, 10, 13, 16, 22, 23]
    lasting = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
    curve = kaplan_meier([*ended, *lasting], [True] * len(ended) + [False] * len(lasting))
    assert curve.times.tolist() == [6, 7, 10, 13, 16, 22, 23]
    assert curve.after == pytest.approx([0.857, 0.807, 0.753, 0.690, 0.627, 0.538, 0.448], abs=5e-4)
    assert curve.at_least(np.array([0.0, 6.0, 6.5, 40.0])) == pytest.approx([1, 1, 0.857, 0.448], abs=5e-4)


def test_kaplan_meier_of_follow_up_lets_arrived_values_leave_first() -> None:
    # On day 1 one value arrives and one follow-up ends: only two of three were still waited for.
    curve = kaplan_meier([1, 1, 2], [False, True, True], others_leave_first=True)
    assert curve.after.tolist() == [0.5, 0]
    assert kaplan_meier([1, 1, 2], [False, True, True]).after == pytest.approx([2 / 3, 0])


def test_value_per_cost_has_the_same_tasks_on_both_sides(draw: Draw) -> None:
    tasks = draw(400)
    costs = [2.0 if (task.followed_for or 0) >= HORIZON else 100.0 for task in tasks]
    found = value_per_cost_within(tasks, costs, HORIZON, cohort=Cohort.MATURE)
    assert found.estimate == pytest.approx(value_within(tasks, HORIZON, cohort=Cohort.MATURE).estimate / 2)
    everyone = value_per_cost_within(tasks, costs, HORIZON)
    assert everyone.estimate == pytest.approx(value_within(tasks, HORIZON).estimate / np.mean(costs))


def test_value_of_some_tasks_is_not_divided_by_cost_of_others() -> None:
    require_same_tasks(["a", "b"], ["b", "a"])
    with pytest.raises(CohortMismatchError, match="2 tasks stand on one side"):
        require_same_tasks(["a", "b"], ["b", "c"])


def test_tasks_of_a_cluster_stay_together(draw: Draw) -> None:
    tasks = draw(300)
    doubled = [task for task in tasks for _ in range(2)]
    pairs = [index // 2 for index in range(600)]
    for cohort in Cohort:
        once = value_within(tasks, HORIZON, cohort=cohort)
        twice = value_within(doubled, HORIZON, cohort=cohort, clusters=pairs)
        assert twice.clusters == once.clusters
        assert (twice.interval.low, twice.interval.high) == pytest.approx((once.interval.low, once.interval.high))


@pytest.mark.parametrize("cohort", [*Cohort, None], ids=lambda cohort: cohort or "Kaplan-Meier")
def test_nominal_coverage_holds_where_naive_means_never_cover(
    draw: Draw, slack: Callable[[int], float], cohort: Cohort | None
) -> None:
    replications, covered, naive = 500, 0, 0
    estimates = []
    for _ in range(replications):
        tasks = draw(400, ages_known=cohort is not None)
        found = value_within(tasks, HORIZON, cohort=cohort or Cohort.ALL)
        estimates.append(found.estimate)
        covered += TRUTH in found.interval
        naive += TRUTH in cluster_mean([(task.value, 1) for task in tasks if task.arrived_after is not None]).interval
    assert covered / replications == pytest.approx(0.95, abs=slack(replications))
    assert np.mean(estimates) == pytest.approx(TRUTH, abs=4 * np.std(estimates) / replications**0.5)
    assert naive / replications < 0.1


@pytest.mark.parametrize(
    ("task", "rule"),
    [
        ({"followed_for": None}, "needs followed_for"),
        ({"followed_for": 3, "value": 1}, "needs arrived_after"),
        ({"followed_for": -1}, "finite and not negative"),
        ({"followed_for": inf}, "finite and not negative"),
        ({"followed_for": nan}, "finite and not negative"),
        ({"followed_for": 2, "arrived_after": 3}, "followed at least so long"),
        ({"followed_for": 0, "arrived_after": 3}, "followed at least so long"),
    ],
    ids=["unseen", "no time", "negative", "endless", "nan", "seen too late", "not followed"],
)
def test_impossible_tasks_are_refused(task: dict[str, float | None], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        LateValue(**task)  # type: ignore[arg-type]


def test_what_happens_later_than_anyone_was_followed_is_not_guessed() -> None:
    tasks = [LateValue(followed_for=5, arrived_after=1, value=1), LateValue(followed_for=9)]
    with pytest.raises(ValueError, match="no task was followed for the horizon of 10"):
        value_within(tasks, 10)


def test_the_mature_need_known_ages() -> None:
    tasks = [LateValue(followed_for=None, arrived_after=1, value=1), LateValue(followed_for=9)]
    with pytest.raises(ValueError, match="mature cohort needs followed_for"):
        value_within(tasks, 5, cohort=Cohort.MATURE)


def test_impossible_questions_are_refused() -> None:
    tasks = [LateValue(followed_for=5), LateValue(followed_for=9)]
    with pytest.raises(ValueError, match="horizon must be positive"):
        value_within(tasks, 0)
    with pytest.raises(ValueError, match="each of the 2 tasks"):
        value_within(tasks, 5, clusters=["a"])
    with pytest.raises(ValueError, match="one flag per time"):
        kaplan_meier([1.0], [])
