"""The matrix of scenarios: every program, through every way in, in every mode."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scenarios import SCENARIOS, UNTRACED, WAYS, Case, Outcome, cases

CASES = list(cases())
ONE_OF_EACH = {case.scenario: replace(case, way=UNTRACED) for case in CASES}.values()

BROKEN: dict[str, tuple[str, Any, str]] = {
    "another result": ("outcome", Outcome(result="another"), "the program came to"),
    "a span that never ends": ("started", 99, "never ended"),
    "a span that ends late": ("ended_late", 1, "ended only with the process"),
    "an open run": ("open_runs", 1, "still open"),
    "a run that waits": ("waiting_trees", 1, "still wait"),
    "a leaked context": ("leaks", ["another span was current"], "another span was current"),
    "a warning": ("complaints", ["opentelemetry logged"], "opentelemetry logged"),
    "uncounted tokens": ("reported", [(1, 1)], "the models reported (1, 1)"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_program_gives_the_right_spans_and_goes_on_as_without_them(case: Case) -> None:
    problems = case.problems(case.record())

    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("case", ONE_OF_EACH, ids=lambda case: case.scenario.name)
def test_a_program_that_nothing_traces_has_wrong_spans(case: Case) -> None:
    assert case.problems(case.record())


@pytest.mark.parametrize(("field", "value", "problem"), BROKEN.values(), ids=BROKEN.keys())
def test_what_breaks_a_rule_is_found(field: str, value: Any, problem: str) -> None:
    case = Case(scenario=SCENARIOS[0], way=WAYS[0], mode=SCENARIOS[0].modes[0])

    [found] = case.problems(replace(case.record(), **{field: value}))

    assert problem in found


def test_every_scenario_has_a_name_of_its_own() -> None:
    assert len({scenario.name for scenario in SCENARIOS}) == len(SCENARIOS)
