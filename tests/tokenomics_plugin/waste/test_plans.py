import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.waste import DeadPlan, Finding
from trajectories import Script, fingerprint


def plans(script: Script) -> list[Finding]:
    return list(DeadPlan().find(script.trajectory()))


def follow(script: Script, step: str) -> None:
    script.turn("do", step, f"did {step}", step_id=fingerprint(step))


def test_a_plan_that_was_replaced_before_a_step_was_taken_is_dead() -> None:
    script = Script()
    planner = script.model("Plan: a, b", step_kind="plan")
    first = script.plan(["a", "b"])
    script.model("Plan: c", step_kind="plan")
    second = script.plan(["c"], revision=1)
    follow(script, "c")

    (finding,) = plans(script)

    assert finding.tier is Tier.B
    assert finding.spans == (planner.span_id,)
    assert finding.evidence == (first.span_id, second.span_id)


def test_a_revision_whose_new_steps_nobody_took_is_dead() -> None:
    script = Script()
    script.model("Plan: a", step_kind="plan")
    script.plan(["a"])
    follow(script, "a")
    planner = script.model("Plan: b", step_kind="plan")
    script.plan(["a", "b"], revision=1)

    assert [finding.spans for finding in plans(script)] == [(planner.span_id,)]


@pytest.mark.parametrize("taken", ["a", "b"])
def test_a_plan_with_one_step_that_was_followed_lives(taken: str) -> None:
    script = Script()
    script.model("Plan: a, b", step_kind="plan")
    script.plan(["a", "b"])
    follow(script, taken)
    script.model("Done", step_kind="plan")
    script.plan([], revision=1)

    assert plans(script) == []


def test_steps_that_the_next_revision_kept_were_not_thrown_away() -> None:
    script = Script()
    script.model("Plan: a, b", step_kind="plan")
    script.plan(["a", "b"])
    script.model("Plan: b, c", step_kind="plan")
    script.plan(["b", "c"], revision=1)
    follow(script, "c")

    assert plans(script) == []


def test_a_step_that_a_list_says_is_done_was_followed() -> None:
    script = Script()
    script.model("Plan: a", step_kind="plan")
    script.plan(["a"], statuses=("in_progress",))
    script.model("Plan: b", step_kind="plan")
    script.plan(["b"], revision=1, statuses=("completed",))

    assert plans(script) == []


def test_where_nothing_says_what_was_followed_no_plan_is_dead() -> None:
    script = Script()
    script.model("Plan: a", step_kind="plan")
    script.plan(["a"])
    script.model("Plan: b", step_kind="plan")
    script.plan(["b"], revision=1)
    script.turn("do", "b", "did b")

    assert plans(script) == []


def test_a_plan_of_unknown_steps_is_not_judged() -> None:
    script = Script()
    script.model("Plan: ?", step_kind="plan")
    script.plan(None)
    script.model("Plan: b", step_kind="plan")
    script.plan(["b"], revision=1)
    follow(script, "b")

    assert plans(script) == []


def test_a_call_that_planned_and_also_asked_for_a_tool_is_not_claimed() -> None:
    script = Script()
    script.model("Plan: a; and look", step_kind="plan")
    script.plan(["a"])
    script.tool("look", "there", "seen")
    script.model("Plan: b", step_kind="plan")
    script.plan(["b"], revision=1)
    follow(script, "b")

    assert plans(script) == []


def test_a_plan_that_no_model_call_of_its_agent_wrote_is_not_claimed() -> None:
    script = Script()
    script.plan(["a"], agent="another")
    script.model("Plan: b", step_kind="plan")
    script.plan(["b"], revision=1)
    follow(script, "b")

    assert plans(script) == []
