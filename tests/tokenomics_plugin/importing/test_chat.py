from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tokenomics_plugin.context_blocks import ContextBlock, resolve
from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.importing import import_chat
from tokenomics_plugin.importing.chat import ChatReader
from tokenomics_plugin.importing.clock import UNDATED_UNIX_NANO
from tokenomics_plugin.outcome import OutcomeStatus, latest_outcomes
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import ImportResult, LoadCounts, TraceStore

ImportRuns = Callable[..., ImportResult]
Attributes = Callable[[], dict[str, dict[str, str]]]


def call(*, asks: Sequence[tuple[str | None, str, Any]] = (), **fields: Any) -> dict[str, Any]:
    asked = [{"id": key, "function": {"name": name, "arguments": given}} for key, name, given in asks]
    return {"role": "assistant", "content": "words", "tool_calls": asked, **fields}


def answer(key: str | None, content: str, **fields: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": key, "content": content, **fields}


RUN: dict[str, Any] = {
    "task_id": "ticket-1",
    "agent": "helper",
    "provider": "openai",
    "model": "gpt-4o",
    "messages": [
        {"role": "system", "content": "rules"},
        {"role": "user", "content": "hello"},
        call(
            asks=[("a", "find", '{"x": 1}'), ("b", "find", {"x": 1})],
            usage={"prompt_tokens": 9, "completion_tokens": 4},
        ),
        answer("b", "two"),
        answer("a", "one", error=True),
        call(usage={"prompt_tokens": 30, "completion_tokens": 3}),
    ],
    "outcome": {"success": True, "value": 5},
}


def by_operation(store: TraceStore, operation: str) -> list[SpanRecord]:
    return [span for span in store.spans() if span.operation == operation]


def test_a_run_becomes_calls_and_tools_under_one_agent(store: TraceStore, import_runs: ImportRuns) -> None:
    assert import_runs(RUN).counts == LoadCounts(spans=6, logs=1)

    [root] = by_operation(store, "invoke_agent")
    others = [span for span in store.spans() if span is not root and span.operation != "invoke_agent"]
    assert (root.name, root.parent_span_id, root.service_name) == ("invoke_agent helper", None, "helper")
    assert [span.name for span in others] == ["chat gpt-4o", "execute_tool find", "execute_tool find", "chat gpt-4o"]
    assert {span.parent_span_id for span in others} == {root.span_id}
    assert {span.task_id for span in (root, *others)} == {"ticket-1"}
    assert [span.usage.total_tokens for span in by_operation(store, "chat") if span.usage] == [13, 33]


def test_each_call_carries_all_that_was_said_before_it(import_runs: ImportRuns, attributes: Attributes) -> None:
    import_runs(RUN)

    spans = attributes()
    calls = {key: said for key, said in spans.items() if said["gen_ai.operation.name"] == "chat"}
    first, second = resolve(calls).values()
    assert first is not None
    assert second is not None
    assert [(block.role, block.size) for block in first if block] == [("system", 5), ("user", 5)]
    assert second[:2] == first
    produced = [block for block in second[2:] if isinstance(block, ContextBlock)]
    assert [(block.role, block.tokens) for block in produced] == [("assistant", 4), ("tool", None), ("tool", None)]
    # What a call carried is what a span produced, by the hash and by the name of the span.
    assert [block.hash for block in produced] == [
        spans[str(block.producer)]["tokenomics.result.fingerprint"] for block in produced
    ]


def test_bytes_grow_with_the_conversation_and_not_with_its_square() -> None:
    def size(turns: int) -> int:
        messages = [message for turn in range(turns) for message in ({"role": "user", "content": str(turn)}, call())]
        line = json.dumps({"task_id": "t", "messages": messages}).encode()
        return sum(request.ByteSize() for _, request in ChatReader(FingerprintKeys(b"k")).read(line))

    assert size(400) < 4.2 * size(100)


def test_tool_definitions_are_a_block_that_every_call_carries(import_runs: ImportRuns, attributes: Attributes) -> None:
    import_runs(RUN | {"tools": [{"type": "function", "function": {"name": "find"}}]})

    calls = {key: said for key, said in attributes().items() if said["gen_ai.operation.name"] == "chat"}
    contexts = list(resolve(calls).values())
    assert [context[0].role for context in contexts if context and context[0]] == ["other", "other"]
    assert len({context[0] for context in contexts if context}) == 1


def test_a_result_belongs_to_the_call_that_it_names(import_runs: ImportRuns, attributes: Attributes) -> None:
    import_runs(RUN)

    tools = [said for said in attributes().values() if said["gen_ai.operation.name"] == "execute_tool"]
    assert [(tool["gen_ai.tool.call.id"], tool.get("error.type")) for tool in tools] == [
        ("b", None),
        ("a", "tool_error"),
    ]
    # Text and object say the same arguments.
    assert len({tool["tokenomics.arguments.fingerprint"] for tool in tools}) == 1
    assert len({tool["tokenomics.result.fingerprint"] for tool in tools}) == 2


def test_a_result_without_an_id_answers_the_oldest_call(import_runs: ImportRuns, attributes: Attributes) -> None:
    asks = [(None, "one", "{}"), (None, "two", "{}")]
    import_runs({"task_id": "t", "messages": [call(asks=asks), answer(None, "x"), answer(None, "y")]})

    names = [said.get("gen_ai.tool.name") for said in attributes().values()]
    assert [name for name in names if name] == ["one", "two"]


def test_an_id_that_comes_again_names_the_call_that_waits(store: TraceStore, import_runs: ImportRuns) -> None:
    turns = [call(asks=[("call_0", "a", "{}")]), answer("call_0", "x"), call(asks=[("call_0", "b", "{}")])]
    import_runs({"task_id": "t", "messages": [*turns, answer("call_0", "y")]})

    assert [span.tool_name for span in by_operation(store, "execute_tool")] == ["a", "b"]


def test_calls_without_an_answer_are_marked_and_none_is_lost(store: TraceStore, import_runs: ImportRuns) -> None:
    result = import_runs({"task_id": "t", "messages": [call(asks=[("a", "f", "{}"), ("a", "f", "{}")])]})

    assert [span.run_state for span in by_operation(store, "execute_tool")] == ["abandoned", "abandoned"]
    assert result.notes["tool calls without a result: marked abandoned"] == 2


def test_a_result_that_answers_nothing_is_kept_without_arguments(
    import_runs: ImportRuns, attributes: Attributes
) -> None:
    result = import_runs({"task_id": "t", "messages": [answer("z", "x", name="f")]})

    [tool] = [said for said in attributes().values() if said["gen_ai.operation.name"] == "execute_tool"]
    assert tool["gen_ai.tool.name"] == "f"
    assert "tokenomics.arguments.fingerprint" not in tool
    assert result.notes["tool results that answer no call: their arguments are unknown"] == 1


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": None}], ids=["null", "empty", "nulls"])
def test_usage_that_is_missing_is_unknown_and_not_zero(
    store: TraceStore, import_runs: ImportRuns, usage: dict[str, Any] | None
) -> None:
    result = import_runs({"task_id": "t", "messages": [call(usage=usage)]})

    [span] = by_operation(store, "chat")
    assert (span.usage, span.reported_cost_usd) == (None, None)
    assert result.notes["model calls without token counts: unknown, not 0"] == 1


def test_counts_that_contradict_each_other_are_kept_and_marked(store: TraceStore, import_runs: ImportRuns) -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "completion_tokens_details": {"reasoning_tokens": 8},
        "cost": 0.25,
    }
    result = import_runs({"task_id": "t", "messages": [call(usage=usage)]})

    [span] = by_operation(store, "chat")
    assert span.usage is not None
    assert not span.usage.is_consistent
    assert (span.usage.output_tokens, str(span.reported_cost_usd)) == (5, "0.25")
    assert result.notes["model calls whose token counts contradict each other"] == 1


def test_a_second_import_adds_nothing(store: TraceStore, import_runs: ImportRuns) -> None:
    import_runs(RUN)

    assert import_runs(RUN).counts == LoadCounts(duplicates=7)
    assert len(list(store.spans())) == 5


def test_an_outcome_that_is_known_later_revises_the_run_and_does_not_repeat_it(
    store: TraceStore, import_runs: ImportRuns
) -> None:
    import_runs(RUN | {"outcome": None})
    import_runs(RUN | {"outcome": {"success": False, "observed": UNDATED_UNIX_NANO / 1e9 + 1}})
    again = import_runs(RUN | {"outcome": {"success": True, "observed": UNDATED_UNIX_NANO / 1e9 + 2}})

    assert again.counts == LoadCounts(spans=1, logs=1, duplicates=5)
    assert len(list(store.spans())) == 5
    [outcome] = latest_outcomes(store.outcomes()).values()
    assert outcome.status is OutcomeStatus.SUCCEEDED


def test_runs_that_differ_only_in_their_trial_are_two(store: TraceStore, import_runs: ImportRuns) -> None:
    import_runs(RUN | {"trial": 0}, RUN | {"trial": 1})

    assert len({span.trace_id for span in store.spans()}) == 2
    assert {(outcome.task_id, outcome.group) for outcome in store.outcomes()} == {
        ("ticket-1#0", "ticket-1"),
        ("ticket-1#1", "ticket-1"),
    }


def test_an_outcome_names_its_trace_and_comes_as_event_and_carrier(store: TraceStore, import_runs: ImportRuns) -> None:
    import_runs(RUN)

    event, carrier = store.outcomes()
    [trace_id] = {span.trace_id for span in store.spans()}
    assert event == carrier
    assert (event.trace_id, event.value, event.evaluator) == (trace_id, Decimal(5), "log")


def test_a_run_that_said_nothing_is_still_a_task_with_an_outcome(store: TraceStore, import_runs: ImportRuns) -> None:
    import_runs({"task_id": "t", "messages": [], "outcome": {"success": False}})

    assert [span.name for span in store.spans()] == ["invoke_agent"]
    assert {outcome.status for outcome in store.outcomes()} == {OutcomeStatus.FAILED}


def test_times_of_the_log_are_the_times_of_the_spans(store: TraceStore, import_runs: ImportRuns) -> None:
    messages = [
        {"role": "user", "content": "x", "timestamp": 102},
        call(asks=[("a", "f", "{}"), ("b", "f", "{}")], timestamp=105),
        answer("b", "x", timestamp=106),
        answer("a", "y", timestamp=109),
        call(timestamp="1970-01-01T00:01:50Z"),
    ]
    import_runs({"task_id": "t", "started": 100, "ended": 120, "messages": messages})

    spans = [(span.operation, span.start_unix_nano // 10**9, span.duration_nano) for span in store.spans()]
    assert sorted(spans) == [
        ("chat", 102, 3 * 10**9),
        ("chat", 109, 10**9),
        ("execute_tool", 105, 10**9),
        ("execute_tool", 105, 4 * 10**9),
        ("invoke_agent", 100, 20 * 10**9),
    ]


@pytest.mark.parametrize(
    ("first", "duration"),
    [({"role": "user", "content": "x", "timestamp": 100}, 20 * 10**9), (call(timestamp=100), None)],
    ids=["asked", "answered"],
)
def test_a_run_without_a_start_begins_with_its_first_question_but_not_with_an_answer(
    store: TraceStore, import_runs: ImportRuns, first: dict[str, Any], duration: int | None
) -> None:
    import_runs({"task_id": "t", "messages": [first, call(timestamp=120)]})

    [root] = by_operation(store, "invoke_agent")
    assert (root.start_unix_nano, root.duration_nano) == (100 * 10**9, duration)


def test_durations_that_the_log_does_not_say_are_unknown(store: TraceStore, import_runs: ImportRuns) -> None:
    import_runs(RUN)

    spans = list(store.spans())
    assert {span.duration_nano for span in spans} == {None}
    assert spans[0].start_unix_nano == UNDATED_UNIX_NANO


def test_a_time_that_steps_back_is_replaced_and_marked(import_runs: ImportRuns, attributes: Attributes) -> None:
    messages = [call(timestamp=105), call(timestamp=90), call(timestamp=110), call(timestamp=111)]
    import_runs({"task_id": "t", "started": 100, "messages": messages})

    marks = [said.get("tokenomics.time.synthesized") for said in attributes().values() if "chat" in said.values()]
    assert marks == [None, "true", "true", None]


MESSAGES = st.lists(
    st.one_of(
        st.builds(lambda t: {"role": "user", "content": "u", "timestamp": t}, st.none() | st.integers(0, 50)),
        st.builds(
            lambda t, a, n: call(
                asks=a, timestamp=t, usage=None if n is None else {"prompt_tokens": n, "completion_tokens": 1}
            ),
            st.none() | st.integers(0, 50),
            st.lists(st.tuples(st.sampled_from(["a", "b", None]), st.just("f"), st.just("{}")), max_size=2),
            st.none() | st.integers(0, 100),
        ),
        st.builds(lambda i, t: answer(i, "r", timestamp=t), st.sampled_from(["a", "b", None]), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(messages=MESSAGES)
def test_whatever_was_said_no_call_no_result_and_no_token_is_lost(messages: list[dict[str, Any]]) -> None:
    line = json.dumps({"task_id": "t", "messages": messages}).encode()
    [(_, request)] = ChatReader(FingerprintKeys(b"k")).read(line)
    assert isinstance(request, ExportTraceServiceRequest)
    spans = request.resource_spans[0].scope_spans[0].spans
    said = [{item.key: item.value for item in span.attributes} for span in spans]

    operations = [attributes["gen_ai.operation.name"].string_value for attributes in said]
    asked = sum(len(message.get("tool_calls", ())) for message in messages)
    results = sum(message["role"] == "tool" for message in messages)
    unanswered = sum("tokenomics.run.state" in attributes for attributes in said)
    orphans = sum(
        operation == "execute_tool" and "tokenomics.arguments.fingerprint" not in attributes
        for operation, attributes in zip(operations, said, strict=True)
    )
    assert operations.count("chat") == sum(message["role"] == "assistant" for message in messages)
    assert operations.count("execute_tool") == results + unanswered
    assert asked - unanswered == results - orphans
    known = [message["usage"]["prompt_tokens"] for message in messages if message.get("usage")]
    name = "gen_ai.usage.input_tokens"
    assert sum(attributes[name].int_value for attributes in said if name in attributes) == sum(known)
    assert len({span.span_id for span in spans}) == len(spans)
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in spans)
    ends = [span.end_time_unix_nano for span in spans[:-1]]
    assert ends[: len(ends) - unanswered] == sorted(ends[: len(ends) - unanswered])


def test_texts_are_not_kept(db: Path, import_runs: ImportRuns, store: TraceStore) -> None:
    secret = "secret-" + "x" * 40
    messages = [
        {"role": "user", "content": secret},
        call(content=[{"type": "text", "text": secret}], asks=[("a", "f", {"x": secret})]),
        answer("a", secret),
    ]
    import_runs({"task_id": "t", "messages": messages, "tools": [{"name": secret}]})
    store.close()

    assert secret.encode() not in db.read_bytes()


def test_parts_of_any_form_are_hashed_and_have_a_size_only_as_text(
    import_runs: ImportRuns, attributes: Attributes
) -> None:
    contents: list[Any] = [[{"type": []}], [3], [{"type": "image_url"}], [{"type": "text", "text": "x"}], ["x"], []]
    import_runs({"task_id": "t", "messages": [*({"role": "user", "content": said} for said in contents), call()]})

    calls = {key: said for key, said in attributes().items() if said["gen_ai.operation.name"] == "chat"}
    [context] = resolve(calls).values()
    assert [block is not None and block.size is not None for block in context or ()] == [False] * 3 + [True] * 3
    assert len({block.hash for block in context or () if block}) == 6


def test_halves_of_surrogates_do_not_stop_an_import(store: TraceStore, import_runs: ImportRuns) -> None:
    half = "\ud800"
    result = import_runs(
        {"task_id": half, "messages": [call(model=half, asks=[(half, half, half)]), answer(half, half)]}
    )

    assert result.bad_line_count == 0
    assert {span.task_id for span in store.spans()} == {"?"}


def test_a_bad_line_is_named_and_the_rest_goes_in(store: TraceStore) -> None:
    lines = [json.dumps(RUN), "{}", "", json.dumps(RUN | {"trial": 1}), '{"task_id": "t"']

    result = import_chat(store, io.BytesIO(gzip.compress("\n".join(lines).encode())))

    assert result.counts == LoadCounts(spans=12, logs=2)
    assert [(line.number, line.reason.partition(":")[0]) for line in result.bad_lines] == [
        (2, "task_id is missing; messages is missing"),
        (5, "the file ends within this line"),
    ]


def test_a_last_line_without_a_newline_that_breaks_a_rule_is_not_called_torn(store: TraceStore) -> None:
    [bad] = import_chat(store, io.BytesIO(b"{}")).bad_lines

    assert bad.reason == "task_id is missing; messages is missing"


def test_under_one_secret_two_imports_give_the_same_fingerprints_and_under_another_they_do_not() -> None:
    line = json.dumps(RUN).encode()

    def spans(secret: bytes) -> bytes:
        return b"".join(request.SerializeToString() for _, request in ChatReader(FingerprintKeys(secret)).read(line))

    assert spans(b"one") == spans(b"one")
    assert spans(b"one") != spans(b"two")
