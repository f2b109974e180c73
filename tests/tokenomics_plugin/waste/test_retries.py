from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect
from tokenomics_plugin.usage import TokenUsage
from tokenomics_plugin.waste import (
    BlockRange,
    ErrorRent,
    FallbackDoubleSpend,
    Finding,
    RetryAfterSameFailure,
)
from trajectories import Script


def retries(script: Script) -> list[Finding]:
    return list(RetryAfterSameFailure().find(script.trajectory()))


def rents(script: Script) -> list[Finding]:
    return list(ErrorRent().find(script.trajectory()))


def fallbacks(script: Script) -> list[Finding]:
    return list(FallbackDoubleSpend().find(script.trajectory()))


@pytest.mark.parametrize(
    ("error_type", "tier"),
    [
        ("ValidationError", Tier.A),
        ("openai.BadRequestError", Tier.A),
        ("404", Tier.A),
        ("unknown_tool", Tier.A),
        ("tool_error", Tier.B),
        ("ToolException", Tier.B),
        ("429", Tier.C),
        ("503", Tier.C),
        ("RateLimitError", Tier.C),
        ("InternalServerError", Tier.C),
        ("TimeoutError", Tier.C),
        ("httpx.ReadTimeout", Tier.C),
        ("ConnectionResetError", Tier.C),
        ("DeadlineExceeded", Tier.C),
    ],
)
def test_how_sure_a_repeated_failure_is_waste_depends_on_its_class(error_type: str, tier: Tier) -> None:
    script = Script()
    failure: dict[str, Any] = {"effect": SideEffect.WRITE, "error_type": error_type}
    _, first = script.turn("book", "seat 1", "Error", **failure)
    asker, again = script.turn("book", "seat 1", "Error", **failure)

    (finding,) = retries(script)

    assert finding.tier is tier
    assert finding.spans == (again.span_id, asker.span_id)
    assert finding.evidence == (first.span_id,)


def test_all_but_the_first_of_many_failures_are_claimed() -> None:
    script = Script()
    turns = [script.turn("book", "seat 1", "Error", error_type="ValueError") for _ in range(4)]

    claimed = {finding.spans[0] for finding in retries(script)}

    assert claimed == {tool.span_id for _, tool in turns[1:]}


def test_the_repeated_failure_need_not_be_the_next_call() -> None:
    script = Script()
    script.turn("book", "seat 1", "Error", error_type="ValueError")
    script.turn("get", "order 7", "shipped")
    script.turn("book", "seat 1", "Error", error_type="ValueError")

    assert len(retries(script)) == 1


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({"arguments": "seat 2"}, id="it asked for something else"),
        pytest.param({"error_type": "KeyError"}, id="it failed in another way"),
        pytest.param({"result": "Another error"}, id="the message says something else"),
        pytest.param({"error_type": None}, id="it worked"),
        pytest.param({"is_replay": True}, id="it runs again after an interrupt"),
        pytest.param({"run_state": "cancelled", "error_type": "CancelledError"}, id="it was cancelled"),
    ],
)
def test_a_second_call_is_no_repeated_failure_if(again: dict[str, Any]) -> None:
    script = Script()
    script.turn("book", "seat 1", "Error", error_type="ValueError")
    script.turn(**{"name": "book", "arguments": "seat 1", "result": "Error", "error_type": "ValueError"} | again)

    assert retries(script) == []


@pytest.mark.parametrize("effect", [SideEffect.WRITE, SideEffect.UNKNOWN])
def test_a_retry_after_something_was_changed_is_none_of_the_same(effect: SideEffect) -> None:
    script = Script()
    script.turn("book", "seat 1", "Not logged in", error_type="PermissionError")
    script.turn("log_in", "me", "welcome", effect=effect)
    script.turn("book", "seat 1", "Not logged in", error_type="PermissionError")

    assert retries(script) == []


def test_a_failure_after_a_success_begins_anew() -> None:
    script = Script()
    script.turn("get", "x", "Error", error_type="ValueError")
    script.turn("get", "x", "found")
    script.turn("get", "x", "Error", error_type="ValueError")

    assert retries(script) == []


def test_attempts_of_one_request_are_claimed_without_the_model_call_that_asked_once() -> None:
    script = Script()
    script.model("Book it.")
    script.tool("book", "seat 1", "Error", error_type="ValueError", keep=False, call_id="c1")
    again = script.tool("book", "seat 1", "Error", error_type="ValueError", call_id="c1", attempt_kind="tool_retry")

    assert [finding.spans for finding in retries(script)] == [(again.span_id,)]


def test_a_model_call_that_must_fail_again_is_a_repeated_failure() -> None:
    script = Script()
    first = script.model("", keep=False, error_type="BadRequestError")
    again = script.model("", keep=False, error_type="BadRequestError")

    (finding,) = retries(script)

    assert (finding.tier, finding.spans, finding.evidence) == (Tier.A, (again.span_id,), (first.span_id,))


def test_an_error_is_carried_for_nothing_once_the_tool_has_worked() -> None:
    script = Script()
    asker, error = script.turn("search", "wrong", "Error", error_type="ToolException")
    _, success = script.turn("search", "right", "found")
    later = script.model("Found.")

    (finding,) = rents(script)

    assert finding.tier is Tier.B
    assert finding.spans == ()
    assert finding.blocks == (BlockRange(call=later.span_id, start=2, stop=4),)
    assert finding.evidence == (error.span_id, success.span_id)
    assert asker.span_id not in finding.spans


def test_an_error_teaches_until_the_tool_has_worked() -> None:
    script = Script()
    script.turn("search", "wrong", "Error", error_type="ToolException")
    script.turn("search", "wrong too", "Error", error_type="ToolException")
    script.turn("other", "right", "found")
    script.model("Not found.")

    assert rents(script) == []


def test_another_agent_s_success_recovers_nothing() -> None:
    script = Script()
    script.turn("search", "wrong", "Error", error_type="ToolException")
    script.tool("search", "right", "found", agent="another", keep=False)
    script.model("Not found.")

    assert rents(script) == []


def test_a_request_that_also_asked_for_what_worked_is_kept() -> None:
    script = Script()
    script.model("Search twice.")
    script.tool("search", "wrong", "Error", error_type="ToolException")
    script.tool("search", "right", "found")
    later = script.model("Found.")

    (finding,) = rents(script)

    assert finding.blocks == (BlockRange(call=later.span_id, start=3, stop=4),)


def test_an_error_that_was_cleared_from_the_context_costs_nothing() -> None:
    script = Script()
    script.turn("search", "wrong", "Error", error_type="ToolException")
    script.turn("search", "right", "found")
    del script.conversation[2:4]
    script.model("Found.")

    assert rents(script) == []


def fallback(script: Script, **failure: Any) -> tuple[str, str]:
    fields: dict[str, Any] = {"error_type": "ContentPolicyValidationError"} | failure
    failed = script.model("", keep=False, **fields)
    second = script.model("Paris", model="claude-y", attempt_kind="fallback")
    script.revise(failed, superseded_by=second.span_id)
    return failed.span_id, second.span_id


def test_a_failure_that_was_billed_before_a_fallback_is_claimed_and_the_fallback_is_not() -> None:
    script = Script()
    failed, second = fallback(script)

    (finding,) = fallbacks(script)

    assert (finding.tier, finding.spans, finding.evidence) == (Tier.A, (failed,), (second,))


@pytest.mark.parametrize("error_type", ["TimeoutError", "RateLimitError", "503"])
def test_a_failure_that_may_pass_is_the_price_of_reliability(error_type: str) -> None:
    script = Script()
    fallback(script, error_type=error_type)

    assert [finding.tier for finding in fallbacks(script)] == [Tier.C]


def test_a_fallback_that_was_sent_something_else_is_no_proof() -> None:
    script = Script()
    fallback(script, context=script.conversation[:1])

    assert [finding.tier for finding in fallbacks(script)] == [Tier.C]


@pytest.mark.parametrize("usage", [None, TokenUsage.from_inclusive(input_tokens=0, output_tokens=0)])
def test_a_failure_that_is_not_known_to_be_billed_is_no_finding(usage: TokenUsage | None) -> None:
    script = Script()
    fallback(script, usage=usage)

    assert fallbacks(script) == []


def test_a_failure_without_a_fallback_is_no_double_spend() -> None:
    script = Script()
    script.model("", keep=False, error_type="BadRequestError")
    script.model("Paris", model="claude-y")

    assert fallbacks(script) == []
