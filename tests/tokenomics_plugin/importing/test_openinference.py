from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenomics_plugin.context_blocks import resolve
from tokenomics_plugin.fingerprint import FingerprintKeys
from tokenomics_plugin.importing import import_openinference
from tokenomics_plugin.importing.openinference import DialectReader
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import ImportResult, LoadCounts, TraceStore

Attributes = Callable[[], dict[str, dict[str, str]]]

RECORDED = Path(__file__).parent / "openinference_agent.jsonl"
"""An agent under openinference-instrumentation-langchain 0.1.80: three turns, and the last tool fails."""

TOKENS = {"llm.token_count.prompt": 100, "llm.token_count.completion": 20}
AGENT, CHAIN, LLM, TOOL = ({"openinference.span.kind": kind} for kind in ("AGENT", "CHAIN", "LLM", "TOOL"))


def value(plain: Any) -> dict[str, Any]:
    if isinstance(plain, int):
        return {"intValue": str(plain)}
    return {"doubleValue": plain} if isinstance(plain, float) else {"stringValue": plain}


def span(number: int, attributes: dict[str, Any], *, parent: int | None = None, **fields: Any) -> dict[str, Any]:
    """A span; those of higher numbers end later."""
    return {
        "traceId": f"{1:032x}",
        "spanId": f"{number:016x}",
        "parentSpanId": "" if parent is None else f"{parent:016x}",
        "name": f"span {number}",
        "startTimeUnixNano": "1000",
        "endTimeUnixNano": str(1000 + number),
        "attributes": [{"key": key, "value": value(item)} for key, item in attributes.items()],
        **fields,
    }


def request(*spans: dict[str, Any], scope: str = "openinference.instrumentation.test") -> bytes:
    of_scope = {"scope": {"name": scope}, "spans": spans}
    return json.dumps({"resourceSpans": [{"scopeSpans": [of_scope]}]}).encode() + b"\n"


def load(store: TraceStore, *lines: bytes) -> ImportResult:
    return import_openinference(store, io.BytesIO(b"".join(lines)), keys=FingerprintKeys(b"secret"))


def billed(store: TraceStore) -> Iterator[SpanRecord]:
    return (span for span in store.spans() if span.is_billed)


def test_a_recorded_agent_becomes_an_agent_with_calls_nodes_and_tools(store: TraceStore) -> None:
    assert load(store, RECORDED.read_bytes()).counts == LoadCounts(spans=13)

    spans = list(store.spans())
    assert [span.operation for span in spans] == ["invoke_agent", *["run_node", "chat", "run_node", "execute_tool"] * 3]
    assert spans[0].agent_name == "shop_agent"
    assert [span.node_name for span in spans if span.node_name] == ["model", "tools"] * 3
    assert [span.usage.total_tokens for span in billed(store) if span.usage] == [110, 160, 210]
    assert {(span.provider, span.model) for span in billed(store)} == {("openai", "gpt-4o-2024-08-06")}
    assert [(span.status, span.error_type) for span in spans if span.tool_name] == [
        ("Ok", None),
        ("Ok", None),
        ("Error", "ValueError"),
    ]


def test_a_recorded_agents_calls_carry_what_calls_and_tools_before_them_produced(
    store: TraceStore, attributes: Attributes
) -> None:
    load(store, RECORDED.read_bytes())

    spans = attributes()
    calls = {key: said for key, said in spans.items() if said.get("gen_ai.operation.name") == "chat"}
    contexts = list(resolve(calls).values())
    assert [len(context or ()) for context in contexts] == [2, 4, 6]
    last = [block for block in contexts[-1] or () if block]
    assert [block.role for block in last] == ["system", "user", *["assistant", "tool"] * 2]
    assert [spans[str(block.producer)]["tokenomics.result.fingerprint"] for block in last[2:]] == [
        block.hash for block in last[2:]
    ]
    assert [len(json.loads(said["tokenomics.context.blocks"])) for said in calls.values()] == [2, 2, 2]


def test_what_a_recorded_agent_said_is_nowhere_in_the_store(store: TraceStore, db: Path) -> None:
    load(store, RECORDED.read_bytes())
    store.close()

    stored = db.read_bytes()
    assert not [said for said in ("You sell tea", "what costs", "tea0", ": 25", "boom") if said.encode() in stored]


def test_agents_and_chains_that_repeat_their_childrens_tokens_are_counted_once(store: TraceStore) -> None:
    repeated = {"llm.token_count.prompt": 200, "llm.token_count.completion": 40, "llm.token_count.total": 240}
    result = load(
        store,
        request(
            span(1, LLM | TOKENS, parent=3),
            span(2, LLM | TOKENS, parent=3),
            span(3, CHAIN | repeated, parent=4),
            span(4, AGENT | repeated),
        ),
    )

    assert [span.usage.total_tokens for span in store.spans() if span.usage] == [120, 120]
    assert result.notes == {"agents and chains that repeat their calls' tokens: not counted again": 2}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1)], ids=["inside-out", "outside-in"])
@pytest.mark.parametrize("is_one_line", [True, False], ids=["one-request", "three-requests"])
def test_one_call_that_two_layers_saw_is_counted_once(
    store: TraceStore, order: tuple[int, ...], is_one_line: bool
) -> None:
    spans = {
        1: span(1, LLM | TOKENS, parent=2),
        2: span(2, CHAIN, parent=3),
        3: span(3, LLM | TOKENS | {"llm.token_count.prompt": 999}),
    }
    ordered = [spans[number] for number in order]
    result = load(store, *([request(*ordered)] if is_one_line else map(request, ordered)))

    [call] = billed(store)
    expected = 120 if is_one_line or order[0] == 1 else 1019
    assert call.usage is not None
    assert call.usage.total_tokens == expected
    assert result.notes == {"spans around or inside a model call that repeat it: counted once": 1}


def test_a_call_of_a_tool_that_a_call_runs_is_a_call_of_its_own(store: TraceStore) -> None:
    load(
        store,
        request(span(1, LLM | TOKENS, parent=2), span(2, TOOL, parent=3), span(3, LLM | TOKENS)),
    )

    assert len(list(billed(store))) == 2


def test_cached_and_reasoning_tokens_are_parts_of_the_totals(store: TraceStore) -> None:
    details = {
        "llm.token_count.prompt_details.cache_read": 60,
        "llm.token_count.prompt_details.cache_write": 10,
        "llm.token_count.completion_details.reasoning": 5,
        "llm.cost.total": 0.5,
    }
    load(store, request(span(1, LLM | TOKENS | details)))

    [call] = billed(store)
    usage = call.usage
    assert usage is not None
    assert (usage.fresh_input_tokens, usage.cache_write_tokens, usage.cache_read_tokens) == (30, 10, 60)
    assert (usage.visible_output_tokens, usage.reasoning_tokens) == (15, 5)
    assert str(call.reported_cost_usd) == "0.5"


def test_cached_tokens_that_the_total_shows_to_be_left_out_of_the_prompt_are_added(store: TraceStore) -> None:
    details = {
        "llm.token_count.prompt_details.cache_read": 1733,
        "llm.token_count.prompt_details.cache_write": 512,
        "llm.token_count.total": 100 + 20 + 1733 + 512,
    }
    load(store, request(span(1, LLM | TOKENS | details)))

    [call] = billed(store)
    usage = call.usage
    assert usage is not None
    assert (usage.fresh_input_tokens, usage.cache_write_tokens, usage.cache_read_tokens) == (100, 512, 1733)


def test_counts_that_are_missing_or_contradict_each_other_are_said_to_be_so(store: TraceStore) -> None:
    impossible = {"llm.token_count.prompt_details.cache_read": 101}
    result = load(store, request(span(1, LLM), span(2, LLM | TOKENS | impossible)))

    assert [span.usage and span.usage.is_consistent for span in billed(store)] == [None, False]
    assert result.notes == {
        "model calls without token counts: unknown, not 0": 1,
        "model calls whose token counts contradict each other": 1,
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"llm.provider": "azure", "llm.system": "openai"}, ("azure.ai.openai", None)),
        ({"llm.system": "vertexai", "llm.model_name": "m"}, ("gcp.vertex_ai", "m")),
        ({"llm.system": "langchain", "llm.response.model_name": "r", "llm.model_name": "m"}, (None, "r")),
        ({"llm.request.model_name": "q"}, (None, "q")),
    ],
    ids=["provider-before-system", "well-known-value", "framework-is-no-provider", "asked-for"],
)
def test_models_go_by_the_conventions_names(
    store: TraceStore, attributes: dict[str, str], expected: tuple[str | None, str | None]
) -> None:
    load(store, request(span(1, LLM | attributes)))

    [call] = billed(store)
    assert (call.provider, call.model) == expected


def test_sessions_parameters_and_tool_errors_are_read(store: TraceStore, attributes: Attributes) -> None:
    wrapped = json.dumps({"output": {"kwargs": {"content": "no", "status": "error", "tool_call_id": "c9"}}})
    load(
        store,
        request(
            span(
                1, LLM | {"session.id": "s", "llm.invocation_parameters": '{"temperature": 0.5, "tools": ["secret"]}'}
            ),
            span(2, TOOL | {"tool.name": "f", "input.value": '{"a": 1}', "output.value": wrapped}),
        ),
    )

    call, tool = attributes().values()
    assert (call["gen_ai.conversation.id"], call["gen_ai.request.temperature"]) == ("s", "0.5")
    assert (tool["gen_ai.tool.name"], tool["gen_ai.tool.call.id"], tool["error.type"]) == ("f", "c9", "tool_error")
    assert "secret" not in str(call)


def test_a_context_that_was_cut_down_is_still_the_difference_from_the_call_that_it_is_most_like(
    store: TraceStore, attributes: Attributes
) -> None:
    numbers = count(1)

    def carried(*texts: str) -> dict[str, Any]:
        said = {f"llm.input_messages.{at}.message.content": text for at, text in enumerate(texts)}
        return span(next(numbers), LLM | TOKENS | said)

    words = [f"text {at}" for at in range(12)]
    calls = [carried(*words), carried("other"), carried(*words, "more"), carried("summary", *words[6:])]
    load(store, *map(request, calls))

    contexts = resolve(attributes())
    assert [len(context or ()) for context in contexts.values()] == [12, 1, 13, 7]
    assert all(block for context in contexts.values() for block in context or ())
    sizes = [len(said["tokenomics.context.blocks"]) for said in attributes().values()]
    assert sizes[2] < sizes[0] / 5
    assert sizes[3] < sizes[0] / 5


@pytest.mark.parametrize(
    ("scope", "calls", "others"),
    [
        (
            "opentelemetry.instrumentation.langchain",
            {"llm.request.type": "chat", "gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20},
            {"traceloop.span.kind": "workflow", "traceloop.entity.output": "secret"},
        ),
        (
            "langsmith",
            {
                "langsmith.span.kind": "llm",
                "gen_ai.operation.name": "chain",
                "gen_ai.usage.input_tokens": 100,
                "gen_ai.usage.output_tokens": 20,
                "gen_ai.prompt": "secret",
            },
            {"langsmith.span.kind": "prompt", "gen_ai.operation.name": "chat"},
        ),
        (
            "openlit.otel.tracing",
            {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20},
            {"gen_ai.operation.name": "chat", "gen_ai.system": "langchain", "gen_ai.usage.input_tokens": 7},
        ),
        (
            "any",
            {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20},
            {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 100},
        ),
    ],
    ids=["openllmetry", "langsmith", "openlit", "conventions"],
)
def test_other_dialects_say_the_same(
    store: TraceStore, db: Path, scope: str, calls: dict[str, Any], others: dict[str, Any]
) -> None:
    load(store, request(span(1, calls, parent=2), span(2, others), scope=scope))

    [call] = billed(store)
    assert call.usage is not None
    assert call.usage.total_tokens == 120
    assert [span.usage for span in store.spans() if span is not call and not span.is_billed] == [None]
    store.close()
    assert b"secret" not in db.read_bytes()


def test_our_own_spans_and_those_of_others_stay_as_they_are(store: TraceStore, attributes: Attributes) -> None:
    ours = {"openinference.span.kind": "CHAIN", "gen_ai.operation.name": "run_node", "tokenomics.node.name": "n"}
    load(store, request(span(1, ours), scope="tokenomics_langchain"), request(span(2, {"db.statement": "SELECT 1"})))

    assert list(attributes().values()) == [ours, {"db.statement": "SELECT 1"}]


def test_a_second_import_adds_nothing(store: TraceStore) -> None:
    load(store, RECORDED.read_bytes())

    assert load(store, RECORDED.read_bytes()).counts == LoadCounts(duplicates=13)


def test_events_of_the_conventions_lose_their_words(store: TraceStore, db: Path) -> None:
    record = {"eventName": "gen_ai.user.message", "timeUnixNano": "1", "body": {"stringValue": "secret-secret"}}
    raised = {
        "eventName": "gen_ai.client.operation.exception",
        "timeUnixNano": "2",
        "attributes": [{"key": "exception.message", "value": {"stringValue": "secret-secret"}}],
    }
    judged = {"eventName": "gen_ai.evaluation.result", "timeUnixNano": "1", "body": {"stringValue": "kept-kept"}}
    logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [record, raised, judged]}]}]}

    assert load(store, json.dumps(logs).encode()).counts == LoadCounts(logs=3)

    store.close()
    stored = db.read_bytes()
    assert b"secret-secret" not in stored
    assert b"kept-kept" in stored


def test_a_bad_line_is_named_and_the_rest_goes_in(store: TraceStore) -> None:
    result = load(store, b"?\n", request(span(1, LLM | TOKENS)))

    assert result.counts.spans == 1
    assert [line.number for line in result.bad_lines] == [1]


NAMES = st.sampled_from(
    [
        "openinference.span.kind",
        "langsmith.span.kind",
        "traceloop.span.kind",
        "gen_ai.operation.name",
        "llm.request.type",
        "llm.token_count.prompt",
        "llm.token_count.prompt_details.cache_read",
        "llm.token_count.total",
        "llm.cost.total",
        "llm.invocation_parameters",
        "llm.input_messages.0.message.content",
        "llm.input_messages.x.message.content",
        "llm.input_messages.0.message.tool_calls.0.tool_call.function.arguments",
        "llm.output_messages.1.message.role",
        "llm.tools.0.tool.json_schema",
        "gen_ai.prompt.0.content",
        "gen_ai.usage.input_tokens",
        "langsmith.metadata.usage_metadata",
        "metadata",
        "output.value",
        "input.value",
    ]
)
ODD = st.sampled_from(
    [
        "LLM",
        "TOOL",
        "chat",
        "",
        "{",
        "[]",
        '{"output": {"content": 3}}',
        '{"seed": 1e999, "top_k": Infinity}',
        '{"input_tokens": "1e9", "input_token_details": []}',
        '{"max_tokens": 99999999999999999999}',
        "9" * 30,
    ]
)
VALUES: st.SearchStrategy[dict[str, Any]] = st.one_of(
    ODD.map(lambda said: {"stringValue": said}),
    st.integers(-(2**63), 2**63 - 1).map(lambda said: {"intValue": str(said)}),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda said: {"doubleValue": said}),
    st.just({"boolValue": True}),
    st.just({"arrayValue": {"values": [{"stringValue": "x"}]}}),
    st.just({"kvlistValue": {"values": []}}),
    st.just({}),
)


@settings(max_examples=300, deadline=None)
@given(said=st.dictionaries(NAMES, VALUES, max_size=8))
def test_no_attribute_of_whatever_type_stops_an_import(said: dict[str, dict[str, Any]]) -> None:
    odd = span(1, {}) | {"attributes": [{"key": key, "value": item} for key, item in said.items()]}

    [(_, translated)] = DialectReader(FingerprintKeys(b"secret")).read(request(odd))

    assert translated.IsInitialized()
