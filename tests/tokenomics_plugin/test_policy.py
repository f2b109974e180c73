from __future__ import annotations

import pytest

from tokenomics_plugin.policy import Allowed, CallPolicy, CallResult, ProposedCall, Refused, Verdict
from tokenomics_plugin.usage import TokenUsage


class TokenBudget:
    """The kind of policy that the seam is made for: reserves the worst case, and settles it afterwards."""

    def __init__(self, tokens: int) -> None:
        self._left = tokens
        self._reserved: dict[tuple[str, int], int] = {}

    def ask(self, call: ProposedCall) -> Verdict:
        worst_case = (call.input_characters or 0) // 4 + (call.max_output_tokens or 0)
        if worst_case > self._left:
            return Refused(reason="The budget is spent.", rule="budget")
        self._reserved[call.operation_id, call.attempt] = worst_case
        self._left -= worst_case
        return Allowed()

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        self._left += self._reserved.pop((call.operation_id, call.attempt))
        self._left -= 0 if result.usage is None else result.usage.total_tokens or 0


def call(operation_id: str) -> ProposedCall:
    return ProposedCall(
        kind="model",
        name="toy-1",
        operation_id=operation_id,
        attempt=1,
        run_id="run",
        agent_run_id="run",
        agent_name=None,
        task_id=None,
        conversation_id=None,
        input_characters=40,
        max_output_tokens=20,
    )


def result(output_tokens: int) -> CallResult:
    usage = TokenUsage.from_inclusive(input_tokens=10, output_tokens=output_tokens)
    return CallResult(state="completed", duration_ns=1, usage=usage)


def test_a_budget_can_reserve_the_worst_case_and_settle_what_was_used() -> None:
    budget: CallPolicy = TokenBudget(60)
    first, second, third = call("first"), call("second"), call("third")
    assert [budget.ask(first), budget.ask(second)] == [Allowed(), Allowed()]
    assert budget.ask(third) == Refused(reason="The budget is spent.", rule="budget")
    budget.tell(first, result(output_tokens=5))
    assert budget.ask(third) == Refused(reason="The budget is spent.", rule="budget")
    budget.tell(second, result(output_tokens=5))
    assert budget.ask(third) == Allowed()


def test_a_refusal_shows_its_rule_and_not_its_reason() -> None:
    refused = Refused(reason="Ann has spent 12 dollars.", rule="budget")
    assert refused.to_attributes() == {"tokenomics.policy.refused": True, "tokenomics.policy.rule": "budget"}


@pytest.mark.parametrize("value", [Allowed(), Refused(reason="", rule=""), call("any"), result(1)], ids=repr)
def test_what_policies_are_given_and_give_cannot_be_changed(value: object) -> None:
    with pytest.raises((AttributeError, TypeError)):
        value.attempt = 2  # type: ignore[attr-defined]
