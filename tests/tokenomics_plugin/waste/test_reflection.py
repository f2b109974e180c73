from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import ModelCall, SideEffect
from tokenomics_plugin.waste import Finding, RedundantVerification, ReflectionWithoutChange
from trajectories import Script


def reflections(script: Script) -> list[Finding]:
    return list(ReflectionWithoutChange().find(script.trajectory()))


def verifications(script: Script) -> list[Finding]:
    return list(RedundantVerification().find(script.trajectory()))


def criticise(script: Script, critique: str, kind: str = "reflect") -> ModelCall:
    shown = [script.block("system", "You criticise."), script.conversation[-1]]
    critic = script.model(critique, keep=False, context=shown, agent="critic", step_kind=kind)
    script.conversation.append(script.block("user", critique, producer=critic.span_id))
    return critic


def test_a_revision_that_changed_nothing_is_claimed_and_its_critique_is_a_matter_of_policy() -> None:
    script = Script()
    draft = script.model("Draft")
    critic = criticise(script, "Fine.")
    revision = script.model("Draft")

    needless, insurance = reflections(script)

    assert (needless.tier, needless.spans) == (Tier.A, (revision.span_id,))
    assert needless.evidence == (draft.span_id, critic.span_id)
    assert (insurance.tier, insurance.spans) == (Tier.C, (critic.span_id,))


def test_a_revision_that_changed_something_is_no_waste() -> None:
    script = Script()
    script.model("Draft")
    criticise(script, "Wrong.")
    script.model("Better")

    assert reflections(script) == []


def test_a_critique_without_a_revision_is_insurance_that_is_priced_elsewhere() -> None:
    script = Script()
    script.model("Draft")
    criticise(script, "Fine.", "verify")

    assert reflections(script) == []


def test_the_same_answer_without_a_critique_between_is_no_reflection() -> None:
    script = Script()
    script.model("Yes")
    script.says("user", "And the other one?")
    script.model("Yes")

    assert reflections(script) == []


def test_the_same_words_of_someone_who_saw_neither_draft_nor_critique_are_chance() -> None:
    script = Script()
    script.model("Yes")
    criticise(script, "Fine.")
    script.model("Yes", context=[script.block("user", "Is it raining?")])

    assert reflections(script) == []


def test_two_critics_who_say_the_same_are_not_a_revision() -> None:
    script = Script()
    script.model("Draft")
    criticise(script, "Fine.", "verify")
    criticise(script, "Fine.", "verify")

    assert reflections(script) == []


def verdict(script: Script, **said: Any) -> ModelCall:
    shown = [script.block("system", "You check."), script.block("user", "artefact")]
    fields: dict[str, Any] = {"answer": "Passed", "context": shown, "agent": "checker", "step_kind": "verify"}
    return script.model(keep=False, **fields | said)


def test_the_same_verdict_on_the_same_thing_is_claimed() -> None:
    script = Script()
    first, again = verdict(script), verdict(script)

    (finding,) = verifications(script)

    assert (finding.tier, finding.spans, finding.evidence) == (Tier.A, (again.span_id,), (first.span_id,))


def test_it_is_likely_where_only_the_thing_itself_was_the_same() -> None:
    script = Script()
    verdict(script)
    verdict(script, context=[script.block("system", "Round 2."), script.block("user", "artefact")])

    assert [finding.tier for finding in verifications(script)] == [Tier.B]


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({"answer": "Failed"}, id="the verdict differs"),
        pytest.param({"agent": "another checker"}, id="another checker gave it"),
        pytest.param({"model": "claude-y"}, id="another model gave it"),
        pytest.param({"step_kind": "act"}, id="it is no verdict"),
        pytest.param({"answer_hash": None}, id="it is unknown"),
    ],
)
def test_a_second_verdict_is_no_waste_if(again: dict[str, Any]) -> None:
    script = Script()
    verdict(script)
    verdict(script, **again)

    assert verifications(script) == []


def test_a_second_look_after_a_write_is_no_waste() -> None:
    script = Script()
    verdict(script)
    script.turn("edit", "a.py", "edited", effect=SideEffect.WRITE)
    verdict(script)

    assert verifications(script) == []


def test_a_panel_of_judges_is_no_waste() -> None:
    script = Script()
    for _ in range(3):
        verdict(script, waits=False)

    assert verifications(script) == []


def test_judges_whose_verdicts_are_counted_together_are_no_waste() -> None:
    script = Script()
    votes = [verdict(script) for _ in range(3)]
    ballots = [script.block("assistant", "Passed", producer=vote.span_id) for vote in votes]
    script.model("Passed.", context=[script.block("system", "Count."), *ballots], keep=False)

    assert verifications(script) == []


def test_a_checker_that_was_sent_instructions_only_checked_nothing_that_is_known() -> None:
    script = Script()
    for number in range(2):
        verdict(script, context=[script.block("user", f"{number}"), script.block("system", "Check.")])

    assert verifications(script) == []
