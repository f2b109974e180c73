"""The flow of a trajectory, and what its answer rests on."""

from __future__ import annotations

import pytest

from tokenomics_plugin.context_blocks import ContextBlock
from tokenomics_plugin.credit import Evidence, evidence_of, run_flow
from tokenomics_plugin.trajectory import ModelCall, SideEffect, ToolCall, Trajectory


def block(hash_: str, role: str, producer: str | None = None) -> ContextBlock:
    return ContextBlock(hash=hash_, role=role, size=10, producer=producer)


def two_lookups(effect: SideEffect = SideEffect.READ) -> Trajectory:
    """An agent that looks up twice and answers; the second request is all that its answer was sent."""
    request = block("0a", "user")
    first = [request, block("0b", "assistant", "m1"), block("0c", "tool", "t1")]
    return Trajectory(
        trace_id="f" * 32,
        steps=(
            ModelCall(span_id="m1", parent_span_id="r", started_unix_nano=0, ended_unix_nano=1, context=(request,)),
            ToolCall(
                span_id="t1",
                parent_span_id="r",
                tool="get",
                result_hash="0c",
                started_unix_nano=2,
                ended_unix_nano=3,
                side_effect=effect,
            ),
            ModelCall(span_id="m2", parent_span_id="r", started_unix_nano=4, ended_unix_nano=5, context=tuple(first)),
        ),
    )


def test_what_stood_in_the_last_context_may_have_been_used_and_nothing_more_is_certain() -> None:
    found = run_flow(two_lookups()).slice()
    assert found.must == {"m2"}
    assert found.may == {"m1", "t1", "m2"}


def test_a_completed_write_is_a_result_and_who_asked_for_it_took_part() -> None:
    flow = run_flow(two_lookups(SideEffect.WRITE))
    assert set(flow.results) == {"m2", "t1"}
    assert flow.slice().must == {"m1", "m2", "t1"}
    assert {each.evidence for each in flow.flows} == {Evidence.CONTROL, Evidence.CONTEXT}


def test_a_run_without_a_completed_answer_delivered_nothing() -> None:
    failed = Trajectory(trace_id="f" * 32, steps=(ModelCall(span_id="m1", error_type="Timeout"),))
    assert run_flow(failed).results == ()
    assert evidence_of(failed) == frozenset()


@pytest.mark.parametrize("effect", list(SideEffect))
def test_evidence_is_the_certain_part_of_the_slice(effect: SideEffect) -> None:
    trajectory = two_lookups(effect)
    assert evidence_of(trajectory) == run_flow(trajectory).slice().must
