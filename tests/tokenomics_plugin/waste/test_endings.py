from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.outcome import OutcomeStatus
from tokenomics_plugin.trajectory import SideEffect
from tokenomics_plugin.waste import FailedRunSpend, Finding, PostAnswerWork
from trajectories import Script


def late(script: Script, **declared: Any) -> list[Finding]:
    return list(PostAnswerWork(**declared).find(script.trajectory()))


def test_what_lies_between_an_answer_and_its_repetition_is_claimed_with_the_repetition() -> None:
    script = Script()
    first = script.model("42", step_kind="answer")
    asker, tool = script.turn("browse", "web", "text")
    again = script.model("42", step_kind="answer")

    (finding,) = late(script)

    assert finding.tier is Tier.A
    assert finding.spans == (asker.span_id, tool.span_id, again.span_id)
    assert finding.evidence == (first.span_id, again.span_id)


def test_a_supervisor_that_says_again_what_its_worker_answered_works_after_the_answer() -> None:
    script = Script()
    worker = script.model("42", keep=False, agent="worker", step_kind="answer")
    script.conversation.append(script.block("tool", "42", producer=worker.span_id))
    again = script.model("42", step_kind="answer")

    assert [finding.spans for finding in late(script)] == [(again.span_id,)]


def test_the_answer_itself_and_what_led_to_it_is_no_waste() -> None:
    script = Script()
    script.turn("browse", "web", "text")
    script.model("42", step_kind="answer")

    assert late(script) == []


def test_what_trails_after_the_last_answer_is_likely_waste_unless_it_was_declared() -> None:
    script = Script()
    script.model("42", step_kind="answer")
    extra = script.model("A title", context=[script.block("user", "Name it.", producer="0" * 16)], agent="titles")

    (finding,) = late(script)

    assert (finding.tier, finding.spans) == (Tier.B, (extra.span_id,))
    assert late(script, post_processing=frozenset({"titles"})) == []


@pytest.mark.parametrize("effect", [SideEffect.WRITE, SideEffect.UNKNOWN])
def test_what_leads_to_a_write_is_not_after_the_work(effect: SideEffect) -> None:
    script = Script()
    script.model("42", step_kind="answer")
    script.turn("save", "42", "saved", effect=effect)

    assert late(script) == []


def test_only_what_comes_after_the_last_write_is_claimed() -> None:
    script = Script()
    script.model("42", step_kind="answer")
    script.turn("save", "42", "saved", effect=SideEffect.WRITE)
    again = script.model("42", step_kind="answer")

    assert [finding.spans for finding in late(script)] == [(again.span_id,)]


def test_a_user_who_speaks_makes_it_a_conversation() -> None:
    script = Script()
    script.model("Anything else?", step_kind="answer")
    script.says("user", "The weather, please.")
    script.turn("weather", "here", "sunny")
    script.model("Anything else?", step_kind="answer")

    assert late(script) == []


@pytest.mark.parametrize("kind", ["verify", "reflect"])
def test_checking_an_answer_is_not_working_on(kind: str) -> None:
    script = Script()
    script.model("42", step_kind="answer")
    script.model("Checked.", step_kind=kind, context=script.conversation, keep=False)

    assert late(script) == []


def test_what_was_sent_the_answer_goes_on_with_it() -> None:
    script = Script()
    script.model("42", step_kind="answer")
    script.model("Dear customer: 42", step_kind="act")

    assert late(script) == []


def test_where_no_call_is_known_to_answer_nothing_is_after_the_answer() -> None:
    script = Script()
    script.model("42")
    script.turn("browse", "web", "text")
    script.model("42")

    assert late(script) == []


@pytest.mark.parametrize("status", [OutcomeStatus.FAILED, OutcomeStatus.HARMFUL])
def test_what_a_failed_run_cost_is_shown_and_never_called_waste(status: OutcomeStatus) -> None:
    script = Script()
    asker, tool = script.turn("get", "order 7", "shipped")
    script.plan(["a"])

    (finding,) = FailedRunSpend().find(script.trajectory(status))

    assert finding.spans == (asker.span_id, tool.span_id)
    assert finding.tier is Tier.C
    assert not finding.is_waste


@pytest.mark.parametrize("status", [None, OutcomeStatus.PENDING, OutcomeStatus.SUCCEEDED])
def test_a_task_that_nobody_judged_has_not_failed(status: OutcomeStatus | None) -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")

    assert list(FailedRunSpend().find(script.trajectory(status))) == []


def test_nothing_but_failed_run_spend_is_shown_without_being_waste() -> None:
    script = Script()
    script.model("42", step_kind="answer")
    script.model("42", step_kind="answer")

    assert all(finding.is_waste for finding in late(script))
