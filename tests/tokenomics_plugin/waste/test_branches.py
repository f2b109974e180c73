from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.trajectory import ModelCall, SideEffect, ToolCall
from tokenomics_plugin.usage import TokenUsage
from tokenomics_plugin.waste import AbandonedBranch, Finding, UnusedStream
from trajectories import Script


def branches(script: Script) -> list[Finding]:
    return list(AbandonedBranch().find(script.trajectory()))


def streams(script: Script) -> list[Finding]:
    return list(UnusedStream().find(script.trajectory()))


def branch(script: Script, state: str = "cancelled", **tool: Any) -> tuple[ModelCall, ToolCall]:
    """A sub-agent that asks for one tool; the run goes on without it unless the test says otherwise."""
    task: list[ContextBlock] = [script.block("user", "Look.")]
    asker = script.model("Looking", keep=False, context=task, agent="scout", enclosing_run_state=state)
    return asker, script.tool(
        "look", "there", "seen", keep=False, **{"agent": "scout", "enclosing_run_state": state} | tool
    )


def test_a_cancelled_branch_that_nobody_read_is_claimed_whole() -> None:
    script = Script()
    inside = branch(script)
    script.model("Going on.")

    (finding,) = branches(script)

    assert finding.tier is Tier.A
    assert set(finding.spans) == {step.span_id for step in inside}


def test_a_branch_that_wrote_something_had_an_effect() -> None:
    script = Script()
    branch(script, effect=SideEffect.WRITE)
    script.model("Going on.")

    assert branches(script) == []


def test_a_branch_of_which_something_was_read_was_of_use() -> None:
    script = Script()
    _, tool = branch(script)
    script.conversation.append(script.block("tool", "seen", producer=tool.span_id))
    script.model("Going on.")

    assert branches(script) == []


def test_a_run_that_was_cancelled_as_a_whole_has_no_abandoned_branch() -> None:
    script = Script()
    branch(script)

    assert branches(script) == []


def test_while_a_context_is_unknown_nobody_knows_what_was_read() -> None:
    script = Script()
    branch(script)
    script.revise(script.model("Going on."), context=None)

    assert [finding.tier for finding in branches(script)] == [Tier.B]


def test_who_left_a_stream_may_have_read_enough_of_it() -> None:
    script = Script()
    branch(script, "abandoned")
    script.model("Going on.")

    assert [finding.tier for finding in branches(script)] == [Tier.C]


def test_the_losers_of_a_choice_are_the_price_of_the_choice() -> None:
    script = Script()
    samples = [script.model(f"Draft {n}", keep=False, waits=False, temperature=0.9) for n in range(3)]
    script.wait(1)
    best = script.block("assistant", "Draft 1", producer=samples[1].span_id)
    script.model("Done.", context=[*script.conversation, best])

    (finding,) = branches(script)

    assert finding.tier is Tier.C
    assert set(finding.spans) == {samples[0].span_id, samples[2].span_id}
    assert finding.evidence == (samples[1].span_id,)


def test_a_vote_that_was_sent_all_samples_has_no_losers() -> None:
    script = Script()
    samples = [script.model(f"Draft {n}", keep=False, waits=False) for n in range(3)]
    script.wait(1)
    shown = [script.block("assistant", f"Draft {n}", producer=call.span_id) for n, call in enumerate(samples)]
    script.model("The second.", context=[script.block("system", "Choose."), *shown], keep=False)

    assert branches(script) == []


def test_output_of_a_cancelled_call_is_claimed_and_its_input_is_not() -> None:
    script = Script()
    call = script.model("Never mi", keep=False, run_state="cancelled", error_type="CancelledError")

    (finding,) = streams(script)

    assert (finding.tier, finding.spans, finding.outputs) == (Tier.A, (), (call.span_id,))


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        pytest.param({"run_state": "cancelled", "is_usage_estimated": True}, Tier.B, id="its output is estimated"),
        pytest.param({"run_state": "abandoned"}, Tier.C, id="its reader left, and may have read enough"),
    ],
)
def test_unused_output_is_less_sure_where(said: dict[str, Any], tier: Tier) -> None:
    script = Script()
    script.model("Never mi", keep=False, **said)

    assert [finding.tier for finding in streams(script)] == [tier]


@pytest.mark.parametrize(
    "said",
    [
        pytest.param({"keep": False}, id="it completed"),
        pytest.param({"keep": False, "run_state": "interrupted"}, id="it waits for a person"),
        pytest.param({"keep": False, "run_state": "cancelled", "usage": None}, id="its usage is unknown"),
        pytest.param(
            {
                "keep": False,
                "run_state": "cancelled",
                "usage": TokenUsage.from_inclusive(input_tokens=10, output_tokens=0),
            },
            id="it was cancelled before it said anything",
        ),
        pytest.param({"keep": True, "run_state": "cancelled"}, id="what it had said was used"),
    ],
)
def test_output_is_not_unused_if(said: dict[str, Any]) -> None:
    script = Script()
    script.model("Never mi", **said)
    script.model("Going on.")

    assert streams(script) == []
