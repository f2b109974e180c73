from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.waste import Finding, OverlongOutput
from trajectories import Script


def overlong(script: Script) -> list[Finding]:
    return list(OverlongOutput().find(script.trajectory()))


@pytest.mark.parametrize("reason", ["length", "max_tokens", "MAX_TOKENS"])
def test_an_answer_that_was_cut_off_and_asked_for_again_is_claimed_whole(reason: str) -> None:
    script = Script()
    call = script.model("Too lo", keep=False, finish_reasons=(reason,))
    again = script.model("Short")

    (finding,) = overlong(script)

    assert (finding.tier, finding.spans, finding.outputs) == (Tier.A, (call.span_id,), ())
    assert finding.evidence == (again.span_id,)


def test_a_cut_off_attempt_that_another_replaced_is_claimed_whatever_the_other_was_sent() -> None:
    script = Script()
    call = script.model("Too lo", keep=False, finish_reasons=("length",))
    repair = script.model("Short", context=script.conversation[:1], attempt_kind="structured_output_repair")
    script.revise(call, superseded_by=repair.span_id)

    assert [finding.spans for finding in overlong(script)] == [(call.span_id,)]


def test_an_answer_that_was_continued_is_no_waste() -> None:
    script = Script()
    script.model("Too lo", finish_reasons=("length",))
    script.model("ng")

    assert overlong(script) == []


def test_an_answer_that_was_cut_off_and_left_at_that_may_have_done() -> None:
    script = Script()
    script.model("Too lo", finish_reasons=("length",))

    assert overlong(script) == []


def test_output_that_a_conversation_went_on_without_is_a_matter_of_policy() -> None:
    script = Script()
    call = script.model("Forget it", keep=False)
    script.says("user", "Hello?")
    later = script.model("Hello")

    (finding,) = overlong(script)

    assert (finding.tier, finding.spans, finding.outputs) == (Tier.C, (), (call.span_id,))
    assert finding.evidence == (later.span_id,)


@pytest.mark.parametrize("said", [{"step_kind": "verify"}, {"step_kind": "plan"}, {"answer_hash": None}])
def test_output_that_steers_the_program_or_is_unknown_was_of_use(said: dict[str, Any]) -> None:
    script = Script()
    script.model("Go left", keep=False, **said)
    script.says("user", "Hello?")
    script.model("Hello")

    assert overlong(script) == []


def test_an_answer_that_asked_for_a_tool_was_of_use() -> None:
    script = Script()
    script.model("Look", keep=False)
    script.tool("look", "there", "seen")
    script.model("Seen")

    assert overlong(script) == []
