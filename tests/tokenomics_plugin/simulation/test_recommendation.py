from __future__ import annotations

import importlib
from typing import Any

import pytest

from logged_runs import logged
from tokenomics_plugin.simulation import (
    CallCap,
    CostBudget,
    IdentificationClass,
    LoggedRun,
    LoopBreaker,
    MemoReads,
    Recommendation,
    RetryCap,
    Rule,
    RunTable,
    StopAfterErrors,
    recommend,
    simulate,
)


def advised(runs: list[LoggedRun], rule: Rule, value: float | None = None) -> Recommendation | None:
    table = RunTable.of(runs)
    return recommend(table, simulate(table, rule, value=value))


@pytest.fixture
def runs() -> list[LoggedRun]:
    looping = logged(
        [1.0] * 6,
        task="loop",
        success=False,
        errors=[False, True, True, True, True, True],
        action_keys=[1, 2, 2, 2, 2, 2],
        read_keys=[-1, 2, 2, 2, 2, 2],
        attempts=[1, 1, 2, 2, 3, 3],
        trace_id="4bf92f35",
        span_ids=("s0", "s1", "s2", "s3", "s4", "s5"),
    )
    short = logged([1.0, 1.0], task="short", action_keys=[1, 2], read_keys=[-1, 3], attempts=[1, 1])
    return [looping, short]


@pytest.mark.parametrize(
    ("rule", "component", "arguments"),
    [
        (
            CallCap(calls=3),
            "langchain.agents.middleware.ModelCallLimitMiddleware",
            {"run_limit": 3, "exit_behavior": "end"},
        ),
        (
            CostBudget(limit=3.0),
            "tokenomics_langchain.BudgetPolicy",
            {"max_cost": 3.0, "reserve": False, "mode": "shadow"},
        ),
        (RetryCap(attempts=2), "tokenomics_langchain.RetryCap", {"attempts": 2, "mode": "shadow"}),
        (
            LoopBreaker(repeats=3, read_only=("get_*",)),
            "tokenomics_langchain.LoopBreaker",
            {"repeats": 3, "read_only": ["get_*"], "action": "stop", "mode": "shadow"},
        ),
        (
            MemoReads(read_only=("get_*",)),
            "tokenomics_langchain.MemoTools",
            {"read_only": ["get_*"], "mode": "shadow"},
        ),
    ],
    ids=["calls", "cost", "attempts", "loop", "reads"],
)
def test_a_recommendation_names_what_does_it(
    runs: list[LoggedRun], rule: Rule, component: str, arguments: dict[str, Any]
) -> None:
    found = advised(runs, rule)
    assert found is not None
    assert found.configuration is not None
    assert found.configuration.component == component
    assert found.configuration.arguments == arguments


def test_langchain_takes_the_configuration_as_it_is(runs: list[LoggedRun]) -> None:
    found = advised(runs, CallCap(calls=3))
    assert found is not None
    assert found.configuration is not None
    module, _, name = found.configuration.component.rpartition(".")
    middleware = getattr(importlib.import_module(module), name)(**found.configuration.arguments)
    assert middleware.run_limit == 3


def test_a_rule_that_no_component_enforces_says_so(runs: list[LoggedRun]) -> None:
    found = advised(runs, StopAfterErrors(errors=2))
    assert found is not None
    assert found.configuration is None


def test_truncation_is_exact_from_logs_and_says_what_it_assumes(runs: list[LoggedRun]) -> None:
    found = advised(runs, CallCap(calls=3))
    assert found is not None
    assert found.identification is IdentificationClass.EXACT
    assert found.action == "Stop a run after 3 model calls."
    assert any("does not work differently" in assumption for assumption in found.assumptions)


def test_evidence_is_the_first_span_that_would_not_have_been(runs: list[LoggedRun]) -> None:
    found = advised(runs, CallCap(calls=3))
    assert found is not None
    assert [(item.task_id, item.trace_id, item.span_id, item.saved) for item in found.evidence] == [
        ("loop", "4bf92f35", "s3", 3.0)
    ]


def test_what_may_be_lost_is_the_value_at_risk() -> None:
    lost, kept = logged([1.0] * 9, task="a"), logged([1.0], task="b")
    unknown = logged([1.0] * 9, task="c", success=None)
    found = advised([lost, kept, unknown], CallCap(calls=2), value=3.0)
    assert found is not None
    assert found.value_at_risk is not None
    assert (found.value_at_risk.low, found.value_at_risk.high) == (3.0, 6.0)
    assert found.break_even_value == 7.0


def test_a_rule_that_saves_nothing_is_not_recommended(runs: list[LoggedRun]) -> None:
    assert advised(runs, CallCap(calls=6)) is None


def test_a_rule_that_loses_more_than_it_saves_is_not_recommended() -> None:
    assert advised([logged([1.0] * 9)], CallCap(calls=2), value=8.0) is None


def test_without_a_value_the_break_even_value_decides() -> None:
    found = advised([logged([1.0] * 9)], CallCap(calls=2))
    assert found is not None
    assert found.value_at_risk is None
    assert found.break_even_value == 7.0
