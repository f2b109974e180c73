from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logged_runs import logged, run_lists
from tokenomics_plugin.simulation import (
    CallCap,
    CostBudget,
    LoggedRun,
    LoopBreaker,
    MemoReads,
    RetryCap,
    Rule,
    RunTable,
    StopAfterErrors,
)

RULES = [
    CallCap(calls=3),
    CostBudget(limit=7.0),
    StopAfterErrors(errors=2),
    RetryCap(attempts=1),
    LoopBreaker(repeats=2),
    MemoReads(),
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)


def saved(run: LoggedRun, rule: Rule) -> float:
    return float(rule.effect(RunTable.of([run])).saved[0])


def is_cut_short(run: LoggedRun, rule: Rule) -> bool:
    return bool(rule.effect(RunTable.of([run])).is_cut_short[0])


def halved(run: LoggedRun, at: int) -> LoggedRun:
    """The same run with one step logged as two; what the step did came of its second half."""

    def inserted(column: Any, first: int | None = None) -> Any:
        if column is None:
            return None
        return np.insert(column, at, column[at] if first is None else first)

    costs = inserted(run.step_costs, run.step_costs[at] / 2)
    costs[at + 1] /= 2
    begins = inserted(np.ones(len(run.step_costs), bool))
    begins[at + 1] = False
    step = run.success_step
    return LoggedRun(
        task_id=run.task_id,
        step_costs=costs,
        is_success=run.is_success,
        begins_call=begins,
        step_errors=inserted(run.step_errors, False),
        attempts=inserted(run.attempts),
        action_keys=inserted(run.action_keys, -1),
        success_step=None if step is None else step + (step >= at),
    )


def test_a_call_cap_keeps_the_first_calls() -> None:
    assert saved(logged([1, 2, 4, 8]), CallCap(calls=2)) == 12


def test_tools_are_paid_with_the_call_that_asked_for_them() -> None:
    run = logged([1, 2, 4, 8], begins_call=[True, False, True, False])
    assert saved(run, CallCap(calls=1)) == 12


def test_the_call_that_reaches_the_budget_is_paid() -> None:
    assert saved(logged([1, 2, 4, 8]), CostBudget(limit=2.5)) == 12
    assert saved(logged([1, 2, 4, 8]), CostBudget(limit=3.0)) == 12
    assert saved(logged([1, 2, 4, 8]), CostBudget(limit=3.5)) == 8


def test_errors_count_wherever_they_happen_in_the_run() -> None:
    run = logged([1, 2, 4, 8], errors=[True, False, True, False])
    assert saved(run, StopAfterErrors(errors=2)) == 8


def test_a_retry_cap_drops_later_attempts_whole() -> None:
    assert saved(logged([1, 2, 4, 8], attempts=[1, 1, 2, 3]), RetryCap(attempts=1)) == 12


def test_a_run_without_attempts_made_one() -> None:
    assert saved(logged([1, 2]), RetryCap(attempts=1)) == 0


def test_a_loop_is_the_same_action_and_not_the_same_place() -> None:
    run = logged([1, 2, 4, 8], action_keys=[7, 5, 7, 9])
    assert saved(run, LoopBreaker(repeats=2)) == 8
    assert saved(run, LoopBreaker(repeats=3)) == 0


def test_steps_without_an_action_are_no_loop() -> None:
    assert saved(logged([1, 2, 4], action_keys=[-1, -1, -1]), LoopBreaker(repeats=2)) == 0


def test_loops_of_one_run_do_not_count_in_the_next() -> None:
    runs = [logged([1, 1, 1], action_keys=[3, 3, 3]), logged([1, 1, 1], action_keys=[3, 4, 5])]
    assert LoopBreaker(repeats=2).effect(RunTable.of(runs)).saved.tolist() == [1, 0]


def test_a_read_is_remembered_after_the_first() -> None:
    assert saved(logged([1, 2, 4, 8], read_keys=[6, -1, 6, 6]), MemoReads()) == 12


def test_remembering_loses_no_success() -> None:
    assert not is_cut_short(logged([1, 2, 4], read_keys=[6, 6, 6]), MemoReads())


def test_success_that_stood_before_the_stop_is_kept() -> None:
    run = logged([1, 2, 4, 8], success_step=1)
    assert not is_cut_short(run, CallCap(calls=2))
    assert is_cut_short(run, CallCap(calls=1))


def test_success_comes_with_the_last_step_unless_the_run_says_otherwise() -> None:
    assert is_cut_short(logged([1, 2, 4]), CallCap(calls=2))
    assert not is_cut_short(logged([1, 2, 4]), CallCap(calls=3))


def test_success_in_a_tool_of_a_kept_call_is_kept() -> None:
    run = logged([1, 2, 4], begins_call=[True, False, True], success_step=1)
    assert not is_cut_short(run, CallCap(calls=1))


@each_rule
@settings(max_examples=40)
@given(runs=run_lists)
def test_a_rule_saves_no_more_than_the_run_cost(rule: Rule, runs: list[LoggedRun]) -> None:
    effect = rule.effect(RunTable.of(runs))
    for run, spared in zip(runs, effect.saved, strict=True):
        assert 0 <= spared <= run.step_costs.sum() + 1e-9


@each_rule
@settings(max_examples=40)
@given(runs=run_lists)
def test_each_run_is_judged_by_itself(rule: Rule, runs: list[LoggedRun]) -> None:
    together = rule.effect(RunTable.of(runs))
    alone = [rule.effect(RunTable.of([run])) for run in runs]
    assert together.saved.tolist() == pytest.approx([effect.saved[0] for effect in alone])
    assert together.is_cut_short.tolist() == [effect.is_cut_short[0] for effect in alone]
    assert together.first_touched_call.tolist() == [effect.first_touched_call[0] for effect in alone]


@pytest.mark.parametrize("rule", RULES[:-1], ids=lambda rule: type(rule).__name__)
@settings(max_examples=40)
@given(runs=run_lists, data=st.data())
def test_logging_a_step_as_two_changes_nothing(rule: Rule, runs: list[LoggedRun], data: st.DataObject) -> None:
    cut = [halved(run, data.draw(st.integers(0, len(run.step_costs) - 1))) for run in runs]
    before, after = (rule.effect(RunTable.of(each)) for each in (runs, cut))
    assert after.saved.tolist() == pytest.approx(before.saved.tolist())
    assert after.is_cut_short.tolist() == before.is_cut_short.tolist()


@pytest.mark.parametrize(
    ("family", "limits"),
    [
        (lambda limit: CallCap(calls=limit), range(1, 10)),
        (lambda limit: CostBudget(limit=limit), range(1, 60, 5)),
        (lambda limit: StopAfterErrors(errors=limit), range(1, 9)),
        (lambda limit: RetryCap(attempts=limit), range(1, 5)),
        (lambda limit: LoopBreaker(repeats=limit), range(2, 9)),
    ],
    ids=["calls", "cost", "errors", "attempts", "repeats"],
)
@settings(max_examples=40)
@given(runs=run_lists)
def test_a_looser_limit_saves_and_loses_no_more(
    family: Callable[[int], Rule], limits: range, runs: list[LoggedRun]
) -> None:
    table = RunTable.of(runs)
    effects = [family(limit).effect(table) for limit in limits]
    for tighter, looser in itertools.pairwise(effects):
        assert (looser.saved <= tighter.saved + 1e-9).all()
        assert (looser.is_cut_short <= tighter.is_cut_short).all()


@given(runs=run_lists)
def test_a_cap_above_every_run_saves_and_loses_nothing(runs: list[LoggedRun]) -> None:
    longest = max(len(run.step_costs) for run in runs)
    effect = CallCap(calls=longest).effect(RunTable.of(runs))
    assert not effect.saved.any()
    assert not effect.is_touched.any()
    assert not effect.is_cut_short.any()


@pytest.mark.parametrize(
    ("rule", "column"),
    [(LoopBreaker(repeats=2), "action_keys"), (MemoReads(), "read_keys"), (StopAfterErrors(errors=1), "step_errors")],
    ids=["actions", "reads", "errors"],
)
def test_what_was_not_recorded_cannot_be_simulated(rule: Rule, column: str) -> None:
    bare = LoggedRun(task_id="a", step_costs=np.array([1.0]), is_success=True)
    with pytest.raises(ValueError, match=f"did not record {column}"):
        rule.effect(RunTable.of([bare]))


@pytest.mark.parametrize(
    "make",
    [
        lambda: CallCap(calls=0),
        lambda: CostBudget(limit=0.0),
        lambda: StopAfterErrors(errors=0),
        lambda: RetryCap(attempts=0),
        lambda: LoopBreaker(repeats=1),
    ],
    ids=["calls", "cost", "errors", "attempts", "repeats"],
)
def test_a_limit_that_allows_nothing_is_refused(make: Callable[[], Rule]) -> None:
    with pytest.raises(ValueError, match=r"must be (at least|a finite)"):
        make()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (CallCap(calls=1), "stop a run after 1 model call"),
        (CostBudget(limit=0.4), "stop a run that has spent 0.4"),
        (StopAfterErrors(errors=2), "stop a run after 2 failed steps"),
        (RetryCap(attempts=3), "give a task up after 3 attempts"),
        (LoopBreaker(repeats=3), "stop a run that takes one action 3 times in the same state"),
        (MemoReads(), "answer repeated reads from memory"),
    ],
    ids=["calls", "cost", "errors", "attempts", "repeats", "reads"],
)
def test_a_rule_says_what_it_does(rule: Rule, words: str) -> None:
    assert rule.description == words


def test_unknown_costs_are_refused_and_not_taken_for_nothing() -> None:
    with pytest.raises(ValueError, match="leave out runs of unknown cost"):
        logged([1.0, float("nan")])


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"action_keys": [1]}, "one element a step"),
        ({"attempts": [2, 1]}, "never fall"),
        ({"attempts": [0, 1]}, "count from 1"),
        ({"success_step": 2}, "index below 2"),
        ({"value": float("inf")}, "must be finite"),
    ],
    ids=["short column", "attempts fall", "attempts from 0", "success beyond the end", "value"],
)
def test_a_malformed_run_is_refused(columns: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        logged([1.0, 2.0], **columns)


def test_a_run_without_steps_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        logged([])


def test_a_run_begins_with_a_model_call() -> None:
    with pytest.raises(ValueError, match="must begin a model call"):
        RunTable.of([logged([1.0, 2.0], begins_call=[False, True])])


def test_nothing_cannot_be_simulated() -> None:
    with pytest.raises(ValueError, match="no run was given"):
        RunTable.of([])
