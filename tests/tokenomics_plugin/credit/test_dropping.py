from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from tokenomics_plugin.credit import Arm, Outcomes, Verdict, leave_one_out_net


def arm(values: list[float], costs: list[float], tasks: list[str] | None = None) -> Arm:
    return Arm(
        outcomes=Outcomes(values=np.array(values), costs=np.array(costs)),
        clusters=tasks or [f"task {number}" for number in range(len(values))],
    )


def noisy_arm(rate: float, cost: float, *, runs: int, seed: int, prefix: str) -> Arm:
    random = np.random.default_rng(seed)
    return Arm(
        outcomes=Outcomes(
            values=(random.random(runs) < rate).astype(float), costs=random.gamma(4.0, cost / 4, size=runs)
        ),
        clusters=[f"{prefix}{number}" for number in range(runs)],
    )


def test_the_same_tasks_in_both_arms_give_the_paired_interval() -> None:
    random = np.random.default_rng(1)
    difficulty = random.normal(size=12)
    with_it, without = difficulty + 0.5 + random.normal(0, 0.1, 12), difficulty + random.normal(0, 0.1, 12)
    found = leave_one_out_net(
        arm(with_it.tolist(), [0.0] * 12), arm(without.tolist(), [0.0] * 12), value_of_success=1.0
    ).net
    paired = stats.ttest_rel(with_it, without).confidence_interval(0.95)
    assert (found.interval.low, found.interval.high) == pytest.approx((paired.low, paired.high))


def test_tasks_of_their_own_in_each_arm_give_the_interval_of_two_samples() -> None:
    first, second = [1.0, 2.0, 4.0, 3.0], [2.0, 2.0, 5.0, 1.0, 3.0, 3.0]
    found = leave_one_out_net(
        arm(first, [0.0] * 4), arm(second, [0.0] * 6, [f"other {n}" for n in range(6)]), value_of_success=1.0
    ).net
    assert found.estimate == pytest.approx(2.5 - 16 / 6)
    # By hand: sums of squares 5 and 28/3 over squared sizes, small-sample factor 4/3, three degrees of freedom.
    error = sqrt(4 / 3 * (5 / 16 + (28 / 3) / 36))
    assert found.interval.high == pytest.approx(2.5 - 16 / 6 + stats.t.ppf(0.975, 3) * error)


def test_what_costs_and_adds_nothing_is_dropped() -> None:
    found = leave_one_out_net(
        noisy_arm(0.6, 1.0, runs=800, seed=1, prefix="a"),
        noisy_arm(0.6, 0.5, runs=800, seed=2, prefix="b"),
        value_of_success=2.0,
    )
    assert found.verdict is Verdict.DROP
    assert found.net.interval.high is not None
    assert found.net.interval.high < 0


def test_what_saves_more_than_it_costs_is_kept_though_it_adds_no_success() -> None:
    found = leave_one_out_net(
        noisy_arm(0.6, 0.5, runs=800, seed=1, prefix="a"),
        noisy_arm(0.6, 1.0, runs=800, seed=2, prefix="b"),
        value_of_success=2.0,
    )
    assert found.cost.estimate < 0
    assert found.verdict is Verdict.KEEP


def test_the_value_of_a_success_decides() -> None:
    arms = (
        noisy_arm(0.7, 1.0, runs=2000, seed=1, prefix="a"),
        noisy_arm(0.5, 0.5, runs=2000, seed=2, prefix="b"),
    )
    verdicts = [leave_one_out_net(*arms, value_of_success=value).verdict for value in (0.5, 2.5, 10.0)]
    assert verdicts == [Verdict.DROP, Verdict.UNDECIDED, Verdict.KEEP]


def test_few_tasks_decide_nothing_however_clear_they_look() -> None:
    found = leave_one_out_net(arm([0.0] * 9, [1.0] * 9), arm([1.0] * 9, [0.1] * 9), value_of_success=1.0)
    assert found.net.interval.high == pytest.approx(-1.9)
    assert found.verdict is Verdict.UNDECIDED


def test_a_harmless_component_is_dropped_as_seldom_as_the_confidence_says() -> None:
    dropped, replications = 0, 400
    for seed in range(replications):
        verdict = leave_one_out_net(
            noisy_arm(0.5, 1.0, runs=60, seed=2 * seed, prefix="a"),
            noisy_arm(0.5, 1.0, runs=60, seed=2 * seed + 1, prefix="b"),
            value_of_success=3.0,
        ).verdict
        dropped += verdict is Verdict.DROP
    assert dropped / replications == pytest.approx(0.025, abs=0.023)


@pytest.mark.parametrize(
    ("values", "costs", "tasks"),
    [([1.0, 0.0], [1.0], ["a", "b"]), ([], [], [])],
    ids=["a cost is missing", "no runs"],
)
def test_an_arm_has_a_value_and_a_cost_for_each_run(values: list[float], costs: list[float], tasks: list[str]) -> None:
    with pytest.raises(ValueError, match="one value, cost and cluster"):
        Arm(outcomes=Outcomes(values=np.array(values), costs=np.array(costs)), clusters=tasks)


def test_one_task_in_an_arm_has_no_interval() -> None:
    with pytest.raises(ValueError, match="two tasks in each arm"):
        leave_one_out_net(arm([1.0], [1.0]), arm([1.0, 0.0], [1.0, 1.0]), value_of_success=1.0)
