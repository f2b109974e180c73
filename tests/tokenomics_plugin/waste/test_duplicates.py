from typing import Any

import pytest

from tokenomics_plugin.cells import Tier
from tokenomics_plugin.trajectory import SideEffect
from tokenomics_plugin.waste import BlockRange, DuplicateModelCall, DuplicateRead, Finding, block_pairs
from trajectories import Script


def reads(script: Script, **declared: Any) -> list[Finding]:
    return list(DuplicateRead(**declared).find(script.trajectory()))


def calls(script: Script) -> list[Finding]:
    return list(DuplicateModelCall().find(script.trajectory()))


def test_a_repeated_read_is_claimed_with_the_call_that_asked_for_it_and_what_it_cost_to_carry() -> None:
    script = Script()
    _, first = script.turn("get", "order 7", "shipped")
    asker, again = script.turn("get", "order 7", "shipped")
    later = script.model("It was shipped.")

    (finding,) = reads(script)

    assert finding.tier is Tier.A
    assert finding.spans == (again.span_id, asker.span_id)
    assert finding.evidence == (first.span_id,)
    assert finding.blocks == (BlockRange(call=later.span_id, start=4, stop=6),)


def test_the_second_copy_is_claimed_and_the_first_is_not() -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    script.turn("get", "order 7", "shipped")
    later = script.model("It was shipped.")
    trajectory = script.trajectory()

    (finding,) = DuplicateRead().find(trajectory)

    result = script.block("tool", "shipped").hash
    assert later.context is not None
    assert [block.hash for block in later.context if block is not None].count(result) == 2
    assert [hash for _, hash in block_pairs(finding, trajectory)].count(result) == 1


@pytest.mark.parametrize(
    "between",
    [
        pytest.param({"effect": SideEffect.WRITE}, id="a write"),
        pytest.param({"effect": SideEffect.UNKNOWN}, id="a tool of unknown effect"),
        pytest.param({"effect": SideEffect.WRITE, "error_type": "ReadTimeout"}, id="a write that timed out"),
        pytest.param({"effect": SideEffect.WRITE, "run_state": "cancelled"}, id="a write that was cancelled half-way"),
    ],
)
def test_a_read_after_what_may_have_changed_it_is_no_duplicate(between: dict[str, Any]) -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    script.turn("update", "order 7", "done", **between)
    script.turn("get", "order 7", "shipped")

    assert reads(script) == []


@pytest.mark.parametrize(
    "between",
    [
        pytest.param({"effect": SideEffect.WRITE, "error_type": "ValidationError"}, id="a write that was refused"),
        pytest.param({"effect": SideEffect.READ}, id="another read"),
        pytest.param({"effect": SideEffect.NONE}, id="a calculation"),
    ],
)
def test_a_read_after_what_changed_nothing_is_a_duplicate(between: dict[str, Any]) -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    script.turn("other", "order 7", "well", **between)
    script.turn("get", "order 7", "shipped")

    assert len(reads(script)) == 1


def test_a_write_that_runs_beside_the_first_read_may_have_changed_it_after() -> None:
    script = Script()
    script.model("Read and write.")
    script.tool("get", "order 7", "open", waits=False)
    script.tool("update", "order 7", "done", effect=SideEffect.WRITE)
    script.turn("get", "order 7", "open")

    assert reads(script) == []


def test_a_calculation_done_twice_is_a_duplicate_whatever_was_written() -> None:
    script = Script()
    script.turn("add", "1 + 1", "2", effect=SideEffect.NONE)
    script.turn("update", "order 7", "done", effect=SideEffect.WRITE)
    script.turn("add", "1 + 1", "2", effect=SideEffect.NONE)

    assert len(reads(script)) == 1


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({"result": "delivered"}, id="it gave something new"),
        pytest.param({"arguments": "order 8"}, id="it asked for something else"),
        pytest.param({"name": "find"}, id="it is another tool"),
        pytest.param({"is_replay": True}, id="it runs again after an interrupt"),
        pytest.param({"result_hash": None}, id="its result is unknown"),
        pytest.param({"arguments_hash": None}, id="its arguments are unknown"),
        pytest.param({"answered_by": "policy"}, id="a policy refused it"),
        pytest.param({"error_type": "ToolException"}, id="it failed"),
        pytest.param({"effect": SideEffect.UNKNOWN}, id="nobody declared that it only reads"),
    ],
)
def test_a_second_call_is_no_duplicate_read_if(again: dict[str, Any]) -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    said: dict[str, Any] = {"name": "get", "arguments": "order 7", "result": "shipped"}
    script.turn(**said | again)

    assert reads(script) == []


def test_a_tool_that_is_polled_on_purpose_can_be_declared() -> None:
    script = Script()
    script.turn("get_job_status", "job 1", "running")
    script.turn("get_job_status", "job 1", "running")

    assert len(reads(script)) == 1
    assert reads(script, polling=frozenset({"get_job_*"})) == []


def test_a_result_can_go_out_of_date() -> None:
    script = Script()
    script.turn("get_price", "gold", "100")
    script.wait(61)
    script.turn("get_price", "gold", "100")

    assert len(reads(script)) == 1
    assert reads(script, time_to_live_s=60) == []


def test_a_request_that_also_asked_for_something_new_is_not_claimed() -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    script.model("Order 7, and order 8.")
    again = script.tool("get", "order 7", "shipped")
    script.tool("get", "order 8", "open")
    later = script.model("One is shipped.")

    (finding,) = reads(script)

    assert finding.spans == (again.span_id,)
    assert finding.blocks == (BlockRange(call=later.span_id, start=5, stop=6),)


def test_a_model_that_no_longer_had_the_first_result_was_right_to_ask_again() -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    del script.conversation[2:]
    _, again = script.turn("get", "order 7", "shipped")
    script.model("It was shipped.")

    (finding,) = reads(script)

    assert (finding.spans, finding.blocks) == ((again.span_id,), ())


def test_another_agent_that_reads_the_same_pays_for_the_tool_only() -> None:
    script = Script()
    script.turn("get", "order 7", "shipped")
    other = [script.block("system", "You write letters.")]
    asker = script.model("Which order?", agent="writer", context=other, keep=False)
    again = script.tool("get", "order 7", "shipped", agent="writer", keep=False)
    other += [
        script.block("assistant", "Which order?", producer=asker.span_id),
        script.block("tool", "shipped", producer=again.span_id),
    ]
    script.model("Dear customer", agent="writer", context=other, keep=False)

    (finding,) = reads(script)

    assert (finding.spans, finding.blocks) == ((again.span_id,), ())


def test_without_contexts_only_the_tool_call_is_claimed() -> None:
    script = Script()
    script.model("Get it.", context=None)
    script.tool("get", "order 7", "shipped")
    asker = script.model("Get it again.")
    again = script.tool("get", "order 7", "shipped")
    for call in script.trajectory().model_calls:
        script.revise(call, context=None)

    (finding,) = reads(script)

    assert finding.spans == (again.span_id,)
    assert asker.span_id not in finding.spans


@pytest.mark.parametrize(
    ("temperature", "answer", "tier"),
    [
        pytest.param(0.0, "Paris", Tier.A, id="cold, same answer"),
        pytest.param(0.0, "London", Tier.B, id="cold, another answer: perhaps another schema"),
        pytest.param(None, "Paris", Tier.B, id="of unknown temperature, same answer"),
        pytest.param(0.7, "Paris", Tier.B, id="warm, same answer"),
    ],
)
def test_the_same_prompt_again_is_claimed_as(temperature: float | None, answer: str, tier: Tier) -> None:
    script = Script()
    first = script.model("Paris", keep=False, temperature=temperature)
    again = script.model(answer, temperature=temperature)

    (finding,) = calls(script)

    assert (finding.tier, finding.spans, finding.evidence) == (tier, (again.span_id,), (first.span_id,))


@pytest.mark.parametrize(
    "again",
    [
        pytest.param({"answer": "London"}, id="it is another sample"),
        pytest.param({"model": "claude-y"}, id="it went to another model"),
        pytest.param({"max_tokens": 5}, id="it had another limit"),
        pytest.param({"temperature": 1.0}, id="it was drawn at another temperature"),
        pytest.param({"is_cache_hit": True}, id="a cache answered it, and nothing was billed"),
        pytest.param({"is_replay": True}, id="it runs again after an interrupt"),
        pytest.param({"attempt_kind": "with_retry"}, id="it is a retry"),
        pytest.param({"error_type": "BadRequestError"}, id="it failed"),
    ],
)
def test_the_same_prompt_again_is_no_duplicate_if(again: dict[str, Any]) -> None:
    script = Script()
    first: dict[str, Any] = {"answer": "Paris", "temperature": 0.7 if "answer" in again else 0.0}
    script.model(keep=False, **first)
    script.model(**first | again)

    assert calls(script) == []


def test_samples_that_feed_a_vote_are_no_duplicates() -> None:
    script = Script()
    votes = [script.model("Paris", keep=False, temperature=0.0) for _ in range(3)]
    ballots = [script.block("assistant", "Paris", producer=vote.span_id) for vote in votes]
    script.model("Paris it is", context=[script.block("system", "Count votes."), *ballots], keep=False)

    assert calls(script) == []


def test_samples_drawn_at_the_same_time_are_taken_for_a_vote_that_code_counts() -> None:
    script = Script()
    for _ in range(3):
        script.model("Paris", keep=False, waits=False, temperature=0.8)

    assert calls(script) == []


def test_an_answer_that_was_cut_off_does_not_make_its_repetition_a_duplicate() -> None:
    script = Script()
    script.model("Par", keep=False, temperature=0.0, finish_reasons=("length",))
    script.model("Paris", temperature=0.0)

    assert calls(script) == []


def test_calls_of_unknown_context_are_not_compared() -> None:
    script = Script()
    for _ in range(2):
        script.revise(script.model("Paris", keep=False, temperature=0.0), context=None)

    assert calls(script) == []


def test_a_context_with_an_unknown_block_equals_no_other() -> None:
    script = Script()
    for _ in range(2):
        script.revise(script.model("Paris", keep=False, temperature=0.0), context=(script.conversation[0], None))

    assert calls(script) == []
