from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from logged_runs import logged, run_lists
from tokenomics_plugin.simulation import (
    CallCap,
    CostBudget,
    LoggedRun,
    LoopBreaker,
    MemoReads,
    Rule,
    RunTable,
    StopAfterErrors,
    avoidable_failed_spend,
    choose_rule,
    judge_improvement,
    simulate,
    simulate_family,
    truncation_frontier,
)


def tasks(
    count: int, *, length: int, success: bool | None, prefix: str = "t", value: float | None = None
) -> list[LoggedRun]:
    return [logged([1.0] * length, task=f"{prefix}{number}", success=success, value=value) for number in range(count)]


def test_saved_and_lost_are_those_of_the_logged_runs() -> None:
    runs = [*tasks(6, length=4, success=True), *tasks(4, length=10, success=False, prefix="f")]
    found = simulate(runs, CallCap(calls=5))
    assert (found.spend, found.saved.point, found.lost_successes) == (64.0, 20.0, 0)
    assert found.saved_share.point == pytest.approx(20 / 64)
    assert found.touched_runs == 4


def test_break_even_is_the_saving_for_each_success_lost() -> None:
    runs = [*tasks(6, length=4, success=True), *tasks(4, length=10, success=False, prefix="f")]
    found = simulate(runs, CallCap(calls=3))
    assert found.lost_successes == 6
    assert found.break_even_value == pytest.approx((6 * 1 + 4 * 7) / 6)


def test_without_a_loss_there_is_no_break_even_value() -> None:
    assert simulate(tasks(3, length=4, success=True), CallCap(calls=4)).break_even_value is None


@pytest.mark.parametrize("lost", [0, 1, 5, 20])
def test_the_limit_of_the_share_lost_is_exact(lost: int) -> None:
    runs = [*tasks(lost, length=9, success=True, prefix="l"), *tasks(20 - lost, length=2, success=True)]
    found = simulate(runs, CallCap(calls=5))
    assert found.lost_share_limit == pytest.approx(stats.beta.ppf(0.95, lost + 1, 20 - lost) if lost < 20 else 1.0)


def test_none_of_84_lost_leaves_up_to_three_and_a_half_percent() -> None:
    assert simulate(tasks(84, length=2, success=True), CallCap(calls=5)).lost_share_limit == pytest.approx(
        1 - 0.05 ** (1 / 84)
    )


def test_successes_of_one_task_say_less_than_those_of_many() -> None:
    alone = simulate(tasks(40, length=2, success=True), CallCap(calls=5))
    together = simulate([*tasks(10, length=2, success=True)] * 4, CallCap(calls=5))
    assert together.lost_share_limit == alone.lost_share_limit
    assert together.lost_share_limit_clustered is not None
    assert alone.lost_share_limit_clustered is not None
    assert together.lost_share_limit_clustered > alone.lost_share_limit_clustered


def test_the_gain_is_what_is_saved_less_the_value_lost() -> None:
    runs = [*tasks(6, length=4, success=True), *tasks(4, length=10, success=False, prefix="f")]
    found = simulate(runs, CallCap(calls=3), value=2.0)
    assert found.gain is not None
    assert found.gain.point == pytest.approx(34 - 12)


def test_a_run_that_says_its_worth_is_taken_at_its_word() -> None:
    found = simulate(tasks(2, length=4, success=True, value=7.0), CallCap(calls=3), value=2.0)
    assert found.gain is not None
    assert found.gain.point == pytest.approx(2 - 14)


def test_stopping_a_run_that_does_harm_earns_nothing_for_it() -> None:
    found = simulate(tasks(2, length=4, success=False, value=-100.0), CallCap(calls=3))
    assert found.gain is not None
    assert found.gain.point == pytest.approx(2.0)


def test_without_a_value_of_the_lost_there_is_no_gain() -> None:
    found = simulate(tasks(2, length=4, success=True), CallCap(calls=3))
    assert found.gain is None
    assert found.gain_bounds is None
    assert found.lost_value is None


def test_stopped_runs_of_unknown_outcome_are_neither_kept_nor_lost() -> None:
    runs = [*tasks(5, length=4, success=None), *tasks(5, length=2, success=True, prefix="s")]
    found = simulate(runs, CallCap(calls=3), value=3.0)
    assert (found.lost_successes, found.possibly_lost) == (0, 5)
    assert found.gain is None
    assert found.lost_value is not None
    assert (found.lost_value.low, found.lost_value.high) == (0.0, 15.0)
    assert found.break_even_value is None
    assert found.break_even_low == 1.0
    assert any("unknown" in assumption for assumption in found.assumptions)


def test_the_gain_of_unknown_outcomes_has_no_lower_end_without_a_value() -> None:
    found = simulate(tasks(5, length=4, success=None), CallCap(calls=3))
    assert found.gain_bounds is not None
    assert found.gain_bounds.low is None
    assert found.gain_bounds.high == 5.0


def test_a_value_is_a_number() -> None:
    with pytest.raises(ValueError, match="use None when nobody said"):
        simulate(tasks(2, length=4, success=True), CallCap(calls=3), value=float("nan"))


@given(runs=run_lists)
def test_labelling_the_unknown_either_way_stays_within_bounds(runs: list[LoggedRun]) -> None:
    def labelled(success: bool) -> list[LoggedRun]:
        return [
            LoggedRun(
                task_id=run.task_id,
                step_costs=run.step_costs,
                is_success=success if run.is_success is None else run.is_success,
            )
            for run in runs
        ]

    bare = [LoggedRun(task_id=run.task_id, step_costs=run.step_costs, is_success=run.is_success) for run in runs]
    found = simulate(bare, CallCap(calls=3), value=2.0, resamples=2)
    for success in (True, False):
        other = simulate(labelled(success), CallCap(calls=3), value=2.0, resamples=2)
        assert found.lost_successes <= other.lost_successes <= found.lost_successes + found.possibly_lost
        assert other.lost_value is not None
        assert other.lost_value.low is not None
        assert found.lost_value is not None
        assert other.lost_value.low in found.lost_value


@given(runs=run_lists, value=st.none() | st.floats(0, 10))
def test_a_cap_above_every_run_changes_nothing(runs: list[LoggedRun], value: float | None) -> None:
    found = simulate(runs, CallCap(calls=8), value=value, resamples=10)
    assert (found.saved.point, found.saved.interval.low, found.saved.interval.high) == (0.0, 0.0, 0.0)
    assert (found.lost_successes, found.possibly_lost, found.touched_runs) == (0, 0, 0)
    assert found.gain is not None
    assert found.gain.point == 0.0


def test_clusters_widen_the_interval() -> None:
    random = np.random.default_rng(3)
    lengths = random.integers(3, 20, size=30)

    def interval(cluster: bool) -> float:
        runs = [
            logged([1.0] * int(length), task=f"{number}-{trial}", cluster=str(number) if cluster else None)
            for number, length in enumerate(lengths)
            for trial in range(4)
        ]
        found = simulate(runs, CallCap(calls=8)).saved_share.interval
        return (found.high or 0) - (found.low or 0)

    # Four equal runs a cluster: a standard error twice as large, give or take the draws.
    assert interval(True) == pytest.approx(2 * interval(False), rel=0.2)


@pytest.mark.slow
def test_the_interval_of_the_saving_covers_as_often_as_it_says() -> None:
    random = np.random.default_rng(11)
    covered = []
    for seed in range(300):
        lengths = random.geometric(0.15, size=40)
        runs = [logged([1.0] * int(length), task=str(number)) for number, length in enumerate(lengths)]
        interval = simulate(runs, CallCap(calls=5), resamples=400, seed=seed).saved.interval
        # E[(L - 5)+] of a geometric length is 0.85**5 / 0.15.
        covered.append(40 * 0.85**5 / 0.15 in interval)
    # Percentile intervals fall a few points short with 40 clusters; three standard errors of 300 are 4 points.
    assert 0.88 <= np.mean(covered) <= 0.98


def test_a_better_cost_per_success_by_failing_fast_is_no_improvement() -> None:
    # Half of the successes are long: giving up early makes those that are left cheap.
    runs = [
        *tasks(40, length=4, success=True),
        *tasks(40, length=12, success=True, prefix="h"),
        *tasks(60, length=30, success=False, prefix="f"),
    ]
    found = simulate(runs, CallCap(calls=4), value=60.0)
    assert found.cost_per_success is not None
    assert found.cost_per_success_under_rule is not None
    assert found.cost_per_success_under_rule < found.cost_per_success
    judged = judge_improvement(found, margin=0.05)
    assert not judged.holds
    assert len(judged.objections) == 2


def test_saving_on_failures_alone_is_an_improvement() -> None:
    runs = [*tasks(300, length=4, success=True), *tasks(200, length=30, success=False, prefix="f")]
    assert judge_improvement(simulate(runs, CallCap(calls=8), value=5.0), margin=0.02).holds


def test_a_gain_does_not_excuse_a_lower_success_rate() -> None:
    # Each lost success is worth little, so money is gained; the margin is broken all the same.
    runs = [*tasks(100, length=12, success=True), *tasks(100, length=30, success=False, prefix="f")]
    judged = judge_improvement(simulate(runs, CallCap(calls=4), value=0.1), margin=0.02)
    assert not judged.holds
    assert judged.objections[0].startswith("the success rate may fall")


def test_answers_from_memory_cannot_lose_a_success() -> None:
    runs = [logged([1.0] * 3, task=str(number), read_keys=[4, 4, 4]) for number in range(5)]
    found = simulate(runs, MemoReads(), value=5.0)
    assert (found.lost_share_limit, found.lost_share_limit_clustered, found.success_drop_limit) == (0.0, 0.0, 0.0)
    assert judge_improvement(found, margin=0.0).holds


def test_a_few_clusters_prove_no_improvement() -> None:
    runs = [*tasks(5, length=4, success=True), *tasks(5, length=30, success=False, prefix="f")]
    assert not judge_improvement(simulate(runs, CallCap(calls=8), value=5.0), margin=0.02).holds


def test_unknown_outcomes_prove_no_improvement() -> None:
    runs = [*tasks(300, length=4, success=True), *tasks(200, length=30, success=None, prefix="f")]
    assert not judge_improvement(simulate(runs, CallCap(calls=8), value=5.0), margin=0.02).holds


def test_an_improvement_needs_a_value() -> None:
    judged = judge_improvement(simulate(tasks(9, length=4, success=True), CallCap(calls=3)), margin=0.5)
    assert any("say what a success is worth" in objection for objection in judged.objections)


def test_a_margin_is_a_share() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        judge_improvement(simulate(tasks(2, length=4, success=True), CallCap(calls=3)), margin=5)


@given(runs=run_lists)
def test_no_rule_beats_one_of_the_frontier(runs: list[LoggedRun]) -> None:
    rules: list[Rule] = [*(CallCap(calls=calls) for calls in range(1, 9)), *(CostBudget(limit=b) for b in (2.0, 9.0))]
    results = simulate_family(runs, rules, resamples=2)
    frontier = truncation_frontier(results)
    assert frontier
    for point in frontier:
        for result in results:
            lost = result.lost_successes + result.possibly_lost
            assert not (lost < point.most_lost and result.saved.point >= point.result.saved.point)
            assert not (lost <= point.most_lost and result.saved.point > point.result.saved.point)


def test_the_frontier_prices_each_further_success() -> None:
    runs = [*tasks(2, length=4, success=True), *tasks(2, length=10, success=False, prefix="f")]
    frontier = truncation_frontier(simulate_family(runs, [CallCap(calls=4), CallCap(calls=3)], resamples=2))
    assert [point.most_lost for point in frontier] == [0, 2]
    assert frontier[0].saved_per_further_loss is None
    assert frontier[1].saved_per_further_loss == pytest.approx((16 - 12) / 2)


def test_the_chosen_rule_is_reported_on_clusters_that_had_no_say() -> None:
    runs = [*tasks(40, length=4, success=True), *tasks(40, length=30, success=False, prefix="f")]
    choice = choose_rule(RunTable.of(runs), [CallCap(calls=calls) for calls in range(2, 12)], value=50.0)
    assert choice is not None
    assert choice.rule == CallCap(calls=4)
    assert choice.chosen_on.runs + choice.reported_on.runs == 80
    assert choice.chosen_on.clusters == choice.reported_on.clusters == 40


def test_runs_of_one_task_are_never_on_both_halves() -> None:
    runs = [*tasks(10, length=4, success=True)] * 3
    choice = choose_rule(RunTable.of(runs), [CallCap(calls=2)], value=0.1)
    assert choice is not None
    assert (choice.chosen_on.runs, choice.reported_on.runs) == (15, 15)


def test_without_a_value_only_rules_that_lose_nothing_are_chosen() -> None:
    runs = [*tasks(20, length=4, success=True), *tasks(20, length=30, success=False, prefix="f")]
    choice = choose_rule(RunTable.of(runs), [CallCap(calls=3), CallCap(calls=6)])
    assert choice is not None
    assert choice.rule == CallCap(calls=6)


def test_no_rule_is_chosen_where_doing_nothing_is_better() -> None:
    assert choose_rule(RunTable.of(tasks(20, length=4, success=True)), [CallCap(calls=3)], value=99.0) is None


def test_choosing_needs_two_clusters() -> None:
    with pytest.raises(ValueError, match="two clusters"):
        choose_rule(RunTable.of(tasks(1, length=4, success=True)), [CallCap(calls=3)])


def test_failed_spend_is_avoidable_as_far_as_a_rule_saves_it_without_a_loss() -> None:
    runs = [*tasks(6, length=4, success=True), *tasks(4, length=10, success=False, prefix="f")]
    found = avoidable_failed_spend(simulate_family(runs, [CallCap(calls=calls) for calls in range(1, 10)]))
    assert (found.spend, found.avoidable) == (40.0, 24.0)
    assert found.best is not None
    assert found.best.rule == CallCap(calls=4)


@pytest.mark.parametrize("success", [True, None], ids=["loses a success", "may lose one"])
def test_failed_spend_is_not_avoidable_at_the_price_of_a_success(success: bool | None) -> None:
    runs = [*tasks(1, length=10, success=success), *tasks(4, length=10, success=False, prefix="f")]
    found = avoidable_failed_spend([simulate(runs, CallCap(calls=4))])
    assert (found.spend, found.avoidable, found.best) == (40.0, 0.0, None)


def test_without_a_rule_nothing_is_known_to_be_avoidable() -> None:
    with pytest.raises(ValueError, match="at least one"):
        avoidable_failed_spend([])


@pytest.mark.slow
def test_fifty_rules_on_a_hundred_thousand_runs_take_seconds() -> None:
    random, count, length = np.random.default_rng(1), 100_000, 30
    costs, errors = random.lognormal(size=(count, length)), random.random((count, length)) < 0.05
    keys = random.integers(-1, 40, (count, length))
    table = RunTable.of(
        [
            LoggedRun(
                task_id=str(number // 2),
                step_costs=costs[number],
                is_success=bool(number % 3),
                step_errors=errors[number],
                action_keys=keys[number],
                read_keys=keys[number],
            )
            for number in range(count)
        ]
    )
    rules: list[Rule] = [
        *(CallCap(calls=calls) for calls in range(5, 30)),
        *(CostBudget(limit=float(limit)) for limit in range(10, 60, 5)),
        *(StopAfterErrors(errors=errors) for errors in range(1, 9)),
        *(LoopBreaker(repeats=repeats) for repeats in range(2, 8)),
        MemoReads(),
    ]
    start = time.process_time()
    results = simulate_family(table, rules, value=10.0)
    # 3 s of CPU where it was written; the margin is for slower machines.
    assert time.process_time() - start < 15
    assert len(results) == 50
