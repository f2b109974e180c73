"""The checker of the conventions: it passes what keeps them, and finds each thing that does not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import TodoListMiddleware
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda, RunnableParallel
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, Metric
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

import tokenomics_plugin
from conventions import OWN_ATTRIBUTES, Finding, Level, violations_of_log, violations_of_metric, violations_of_span
from conventions.tables import EVENTS, METRICS, OPERATIONS, PREVIOUS_METRICS, SCHEMA_URL, MetricRule
from tokenomics_langchain import TokenomicsCallbackHandler

SEMCONV_PAGE = Path(__file__).parents[2] / "docs" / "semconv.md"

CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "toy",
    "gen_ai.request.model": "toy-1",
    "gen_ai.response.id": "resp-1",
    "gen_ai.response.model": "toy-1-2026",
    "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
}
TOOL = {
    "gen_ai.operation.name": "execute_tool",
    "gen_ai.tool.name": "add",
    "gen_ai.tool.type": "function",
    "gen_ai.tool.description": "Adds.",
    "gen_ai.tool.call.id": "call-1",
}
AGENT = {
    "gen_ai.operation.name": "invoke_agent",
    "gen_ai.agent.name": "helper",
    "gen_ai.usage.input_tokens": 10,
    "gen_ai.usage.output_tokens": 5,
}
WORKFLOW = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.workflow.name": "homework"}
CONFORMING: dict[str, dict[str, Any]] = {
    "chat": CHAT,
    "text_completion": CHAT | {"gen_ai.operation.name": "text_completion"},
    "execute_tool": TOOL,
    "invoke_agent": AGENT,
    "invoke_workflow": WORKFLOW,
    "plan": {"gen_ai.operation.name": "plan", "gen_ai.agent.name": "helper"},
    "retrieval": {"gen_ai.operation.name": "retrieval"},
    "run_node": {"gen_ai.operation.name": "run_node", "tokenomics.node.name": "n", "openinference.span.kind": "CHAIN"},
    "run_branch": {"gen_ai.operation.name": "run_branch", "tokenomics.branch.name": "left"},
    "skip_model_call": {"gen_ai.operation.name": "skip_model_call", "tokenomics.answered_by": "middleware"},
    "record_outcome": {
        "gen_ai.operation.name": "record_outcome",
        "gen_ai.evaluation.name": "user",
        "openinference.span.kind": "EVALUATOR",
        "tokenomics.task.id": "ticket-1",
        "tokenomics.outcome.status": "succeeded",
    },
}
TEXT = {"role": "user", "parts": [{"type": "text", "content": "hello"}]}


def make_span(
    attributes: Mapping[str, Any],
    *,
    without: str | None = None,
    name: str | None = None,
    kind: SpanKind | None = None,
    status: Status | None = None,
    events: Mapping[str, Mapping[str, Any]] | None = None,
    link: Mapping[str, Any] | None = None,
    schema_url: str = SCHEMA_URL,
    is_about_trace: bool = False,
) -> ReadableSpan:
    attributes = {key: value for key, value in attributes.items() if key != without}
    operation = OPERATIONS.get(attributes["gen_ai.operation.name"])
    subject = attributes.get(operation.subject or "") if operation else None
    usual_kind = SpanKind.INTERNAL if operation is None or "INTERNAL" in operation.kinds else SpanKind.CLIENT
    tracer = TracerProvider().get_tracer("test", schema_url=schema_url)
    span: Any = tracer.start_span(
        name or " ".join(filter(None, (attributes["gen_ai.operation.name"], subject))),
        kind=kind or usual_kind,
        attributes=attributes,
    )
    if is_about_trace:
        span.set_attribute("gen_ai.conversation.id", f"{span.get_span_context().trace_id:032x}")
    if link is not None:
        span.add_link(span.get_span_context(), link)
    for event, about in (events or {}).items():
        span.add_event(event, about)
    if status is not None:
        span.set_status(status)
    span.end()
    return span  # type: ignore[no-any-return]


def rules(findings: list[Finding], level: Level = Level.VIOLATION) -> set[str]:
    return {finding.rule for finding in findings if finding.level is level}


@pytest.mark.parametrize("operation", CONFORMING)
def test_a_span_that_keeps_the_conventions_passes(operation: str) -> None:
    assert violations_of_span(make_span(CONFORMING[operation])) == []


def _failed(
    error_type: str | None, code: StatusCode = StatusCode.ERROR, description: str | None = None
) -> dict[str, Any]:
    attributes = TOOL if error_type is None else TOOL | {"error.type": error_type}
    return {"attributes": attributes, "status": Status(code, description)}


BROKEN_SPANS: dict[str, tuple[str, dict[str, Any]]] = {
    "an operation that nobody defined": ("operation", {"attributes": CHAT | {"gen_ai.operation.name": "ponder"}}),
    "a name of its own": ("name", {"attributes": CHAT, "name": "ChatOpenAI"}),
    "a name without its subject": ("name", {"attributes": TOOL, "name": "execute_tool"}),
    "the wrong kind": ("kind", {"attributes": TOOL, "kind": SpanKind.CLIENT}),
    "a retrieval that is no client": ("kind", {"attributes": CONFORMING["retrieval"], "kind": SpanKind.INTERNAL}),
    "another schema": ("schema", {"attributes": TOOL, "schema_url": "https://opentelemetry.io/schemas/1.41.0"}),
    "no provider": ("required", {"attributes": CHAT, "without": "gen_ai.provider.name"}),
    "no name of the node": ("required", {"attributes": CONFORMING["run_node"], "without": "tokenomics.node.name"}),
    "a name of the last generation": ("unknown", {"attributes": CHAT | {"gen_ai.system": "toy"}}),
    "a made up name": ("unknown", {"attributes": CHAT | {"gen_ai.usage.cost.amount": 0.5}}),
    "a made up name of ours": ("unknown", {"attributes": TOOL | {"tokenomics.mood": "good"}}),
    "a number as text": ("type", {"attributes": CHAT | {"gen_ai.request.max_tokens": "10"}}),
    "an integer for a double": ("type", {"attributes": CHAT | {"gen_ai.request.temperature": 1}}),
    "a double for an integer": ("type", {"attributes": CHAT | {"gen_ai.request.top_k": 40.0}}),
    "a word for an array": ("type", {"attributes": CHAT | {"gen_ai.response.finish_reasons": "stop"}}),
    "a number for a boolean": ("type", {"attributes": CHAT | {"gen_ai.request.stream": 1}}),
    "an attribute of ours of another type": ("type", {"attributes": TOOL | {"tokenomics.attempt.number": "1"}}),
    "a word that ours does not know": ("value", {"attributes": TOOL | {"tokenomics.run.state": "asleep"}}),
    "a provider on an agent": ("place", {"attributes": AGENT | {"gen_ai.provider.name": "toy"}}),
    "an agent's id": ("place", {"attributes": AGENT | {"gen_ai.agent.id": "agent-1"}}),
    "an agent's version": ("place", {"attributes": AGENT | {"gen_ai.agent.version": "1"}}),
    "cached tokens of an agent": ("place", {"attributes": AGENT | {"gen_ai.usage.cache_read.input_tokens": 4}}),
    "usage of a workflow": ("place", {"attributes": WORKFLOW | {"gen_ai.usage.input_tokens": 4}}),
    "a workflow's name on a tool": ("place", {"attributes": TOOL | {"gen_ai.workflow.name": "homework"}}),
    "a default for a workflow's name": ("workflow", {"attributes": WORKFLOW | {"gen_ai.workflow.name": "LangGraph"}}),
    "a class for a workflow's name": (
        "workflow",
        {"attributes": WORKFLOW | {"gen_ai.workflow.name": "RunnableSequence"}},
    ),
    "a UUID for a conversation": (
        "conversation",
        {"attributes": TOOL | {"gen_ai.conversation.id": "01999999-1111-7222-8333-444444444444"}},
    ),
    "the trace for a conversation": ("conversation", {"attributes": TOOL, "is_about_trace": True}),
    "one choice": ("condition", {"attributes": CHAT | {"gen_ai.request.choice.count": 1}}),
    "a stream that is none": ("condition", {"attributes": CHAT | {"gen_ai.request.stream": False}}),
    "chunks without a stream": ("condition", {"attributes": CHAT | {"gen_ai.response.time_to_first_chunk": 0.5}}),
    "an address without a port": ("condition", {"attributes": CHAT | {"server.address": "api.toy.com"}}),
    "an error without a type": ("error", _failed(None)),
    "a type without an error": ("error", _failed("ValueError", StatusCode.UNSET)),
    "a status of OK": ("status", _failed(None, StatusCode.OK)),
    "a description of the error": ("content", _failed("ValueError", description="no such user: Jo")),
    "arguments of a tool": ("content", {"attributes": TOOL | {"gen_ai.tool.call.arguments": '{"a":1}'}}),
    "the message of an exception": (
        "content",
        {"attributes": TOOL, "events": {"exception": {"exception.type": "E", "exception.message": "no user Jo"}}},
    ),
    "an exception without a type": ("required", {"attributes": TOOL, "events": {"exception": {}}}),
    "a made up event": ("event", {"attributes": TOOL, "events": {"new_token": {}}}),
    "a made up attribute of an event": ("unknown", {"attributes": TOOL, "events": {"tokenomics.drain": {"why": "so"}}}),
    "a made up kind of link": ("value", {"attributes": TOOL, "link": {"tokenomics.link.kind": "likes"}}),
}


@pytest.mark.parametrize(("rule", "broken"), BROKEN_SPANS.values(), ids=BROKEN_SPANS)
def test_a_span_that_breaks_a_rule_is_found(rule: str, broken: dict[str, Any]) -> None:
    assert rules(violations_of_span(make_span(**broken))) == {rule}


def test_a_conversation_that_the_program_named_may_look_like_anything() -> None:
    thread_id = "01999999-1111-7222-8333-444444444444"
    span = make_span(TOOL | {"gen_ai.conversation.id": thread_id})

    assert violations_of_span(span, conversations=[thread_id]) == []


@pytest.mark.parametrize(
    ("attributes", "missing"),
    [(TOOL, "gen_ai.tool.description"), (CHAT, "gen_ai.usage.output_tokens"), (WORKFLOW, "gen_ai.workflow.name")],
    ids=["tool", "chat", "workflow"],
)
def test_what_is_recommended_and_missing_is_advice(attributes: dict[str, Any], missing: str) -> None:
    (finding,) = violations_of_span(make_span(attributes, without=missing))

    assert (finding.level, finding.rule, finding.detail) == (Level.ADVICE, "recommended", f"{missing} is missing")


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("gen_ai.input.messages", [TEXT], [{"role": "user", "content": "hello"}]),
        ("gen_ai.input.messages", [TEXT], [TEXT | {"role": "human"}]),
        ("gen_ai.input.messages", [TEXT], [TEXT | {"parts": [{"type": "text"}]}]),
        ("gen_ai.input.messages", [TEXT], [TEXT | {"parts": ["hello"]}]),
        ("gen_ai.input.messages", [TEXT], TEXT),
        ("gen_ai.output.messages", [TEXT | {"finish_reason": "stop"}], [TEXT]),
        ("gen_ai.system_instructions", TEXT["parts"], [{"content": "be brief"}]),
        ("gen_ai.tool.definitions", [{"type": "function", "name": "add"}], [{"name": "add"}]),
    ],
    ids=["no parts", "role", "empty part", "bare text", "one message", "no finish reason", "no type", "tool's type"],
)
def test_content_has_the_structure_of_the_conventions(name: str, good: Any, bad: Any) -> None:
    def found(content: Any) -> set[str]:
        return rules(violations_of_span(make_span(CHAT | {name: json.dumps(content)}), with_content=True))

    assert found(good) == set()
    assert found(bad) == {"type"}


def test_content_that_is_no_json_is_found() -> None:
    span = make_span(CHAT | {"gen_ai.input.messages": "[HumanMessage(content='hello')]"})

    assert rules(violations_of_span(span, with_content=True)) == {"type"}


def test_the_table_of_our_attributes_is_that_of_the_documentation() -> None:
    rows = re.findall(r"^\| `(tokenomics\.[\w.]+)` \| ([\w\[\]]+) \|", SEMCONV_PAGE.read_text("utf-8"), re.MULTILINE)
    documented = {name: kind for name, kind in rows if kind != "event"}

    assert documented == OWN_ATTRIBUTES


# Events

DETAILS, EXCEPTION, EVALUATION = EVENTS


def make_log(
    name: str,
    attributes: Mapping[str, Any],
    *,
    severity: SeverityNumber = SeverityNumber.DEBUG,
    span: Any = None,
    body: str | None = None,
) -> ReadableLogRecord:
    provider, exporter = LoggerProvider(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    context = None if span is None else set_span_in_context(span)
    record = LogRecord(
        context=context, severity_number=severity, event_name=name, attributes=dict(attributes), body=body
    )
    provider.get_logger("test").emit(record)
    (log,) = exporter.get_finished_logs()
    provider.shutdown()
    return log


def test_events_that_keep_the_conventions_pass() -> None:
    span = make_span(CHAT)
    logs = [
        make_log(DETAILS, CHAT, span=span),
        make_log(EXCEPTION, {"exception.type": "ValueError"}, severity=SeverityNumber.WARN, span=span),
        make_log(EVALUATION, {"gen_ai.evaluation.name": "user", "tokenomics.task.id": "t"}),
    ]

    assert [violations_of_log(log, spans=[span]) for log in logs] == [[], [], []]


BROKEN_LOGS: dict[str, tuple[str, dict[str, Any]]] = {
    "a made up event": ("event", {"name": "gen_ai.choice", "attributes": {}}),
    "another severity": ("severity", {"name": DETAILS, "attributes": CHAT, "severity": SeverityNumber.INFO}),
    "no operation": ("required", {"name": DETAILS, "attributes": {"gen_ai.provider.name": "toy"}}),
    "an unknown attribute": ("unknown", {"name": DETAILS, "attributes": CHAT | {"gen_ai.system": "toy"}}),
    "content": ("content", {"name": DETAILS, "attributes": CHAT | {"gen_ai.input.messages": json.dumps([TEXT])}}),
    "a body": ("place", {"name": DETAILS, "attributes": CHAT, "body": "hello"}),
    "a model on an evaluation": (
        "place",
        {"name": EVALUATION, "attributes": {"gen_ai.evaluation.name": "user", "gen_ai.request.model": "toy-1"}},
    ),
    "a tool's": ("parent", {"name": DETAILS, "attributes": CHAT, "span": make_span(TOOL)}),
    "nobody's": ("parent", {"name": DETAILS, "attributes": CHAT, "span": None}),
}


@pytest.mark.parametrize(("rule", "broken"), BROKEN_LOGS.values(), ids=BROKEN_LOGS)
def test_an_event_that_breaks_a_rule_is_found(rule: str, broken: dict[str, Any]) -> None:
    span = broken.get("span", make_span(CHAT))
    log = make_log(**({"span": span} | broken))

    assert rules(violations_of_log(log, spans=[] if span is None else [span])) == {rule}


# Metrics

CALL = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "toy", "gen_ai.request.model": "toy-1"}
NEEDED = {"gen_ai.tool.name": "add", "gen_ai.token.modality": "unknown", "gen_ai.token.type": "input"}


def make_metric(
    name: str,
    rule: MetricRule,
    *,
    instrument: str | None = None,
    unit: str | None = None,
    more: Mapping[str, Any] | None = None,
    without: str | None = None,
    buckets: tuple[float, ...] | None = None,
    value: float = 1,
) -> Metric:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    meter = provider.get_meter("test")
    attributes = {key: found for key, found in (CALL | NEEDED).items() if key in rule.required} | dict(more or {})
    attributes.pop(without or "", None)
    unit = unit if unit is not None else rule.unit or "{call}"
    if (instrument or rule.instrument) == "counter":
        meter.create_counter(name, unit).add(value, attributes)
    else:
        bounds = buckets or rule.buckets or (1.0,)
        meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=bounds).record(value, attributes)
    data = reader.get_metrics_data()
    provider.shutdown()
    assert data is not None
    return data.resource_metrics[0].scope_metrics[0].metrics[0]


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_that_keeps_the_conventions_passes(name: str) -> None:
    assert violations_of_metric(make_metric(name, METRICS[name])) == []


@pytest.mark.parametrize("name", PREVIOUS_METRICS)
def test_a_metric_of_the_previous_generation_passes_where_it_is_asked_for(name: str) -> None:
    assert violations_of_metric(make_metric(name, PREVIOUS_METRICS[name]), generation="previous") == []


@pytest.mark.parametrize("name", set(PREVIOUS_METRICS) - set(METRICS))
def test_a_removed_metric_is_found(name: str) -> None:
    assert rules(violations_of_metric(make_metric(name, PREVIOUS_METRICS[name]))) == {"unknown"}


DURATION, TOKENS = "gen_ai.client.inference.duration", "gen_ai.client.inference.usage.input_tokens"
BROKEN_METRICS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "another instrument": ("instrument", TOKENS, {"instrument": "histogram"}),
    "milliseconds": ("unit", DURATION, {"unit": "ms"}),
    "no provider": ("required", DURATION, {"without": "gen_ai.provider.name"}),
    "no modality": ("required", TOKENS, {"without": "gen_ai.token.modality"}),
    "a made up modality": ("value", TOKENS, {"more": {"gen_ai.token.modality": "smell"}}),
    "the removed token type": ("place", TOKENS, {"more": {"gen_ai.token.type": "input"}}),
    "a conversation": ("place", DURATION, {"more": {"gen_ai.conversation.id": "t"}}),
    "a port as text": ("type", DURATION, {"more": {"server.port": "443"}}),
    "half a token": ("type", TOKENS, {"value": 0.5}),
}


@pytest.mark.parametrize(("rule", "name", "broken"), BROKEN_METRICS.values(), ids=BROKEN_METRICS)
def test_a_metric_that_breaks_a_rule_is_found(rule: str, name: str, broken: dict[str, Any]) -> None:
    assert rules(violations_of_metric(make_metric(name, METRICS[name], **broken))) == {rule}


def test_other_buckets_are_advice() -> None:
    (finding,) = violations_of_metric(make_metric(DURATION, METRICS[DURATION], buckets=(1.0, 2.0)))

    assert (finding.level, finding.rule) == (Level.ADVICE, "buckets")


# What our tracing emits


COMPLETION_SAYS_NOTHING = (
    "gen_ai.request.model",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
)


class Homework(TypedDict):
    messages: list[Any]


class OneDocument(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        return [Document("text", id="doc-1", metadata={"score": 0.5})]


class Everything:
    """What a program with every kind of run sends, by all three signals."""

    def __init__(self, *, with_content: bool) -> None:
        self.with_content = with_content
        self._spans, self._logs = InMemorySpanExporter(), InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self._reader = InMemoryMetricReader()
        self.tracer_provider, self.logger_provider = TracerProvider(), LoggerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))
        self.handler = TokenomicsCallbackHandler(
            self.tracer_provider,
            meter_provider=MeterProvider([self._reader]),
            logger_provider=self.logger_provider,
            capture_content=with_content,
        )

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self._spans.get_finished_spans())

    @property
    def logs(self) -> list[ReadableLogRecord]:
        return list(self._logs.get_finished_logs())

    @property
    def metrics(self) -> list[Metric]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return [metric for resource in data.resource_metrics for s in resource.scope_metrics for metric in s.metrics]

    def findings(self) -> list[Finding]:
        about: dict[str, Any] = {"with_content": self.with_content}
        return [
            *(f for span in self.spans for f in violations_of_span(span, conversations=["thread-1"], **about)),
            *(f for log in self.logs for f in violations_of_log(log, spans=self.spans, **about)),
            *(f for metric in self.metrics for f in violations_of_metric(metric)),
        ]


@pytest.fixture(params=[False, True], ids=["content off", "content on"])
def emitted(request: pytest.FixtureRequest, script: list[AIMessage], streaming_model: Any) -> Everything:
    everything = Everything(with_content=request.param)
    config: Any = {"callbacks": [everything.handler], "configurable": {"thread_id": "thread-1"}}
    providers: Any = {
        "tracer_provider": everything.tracer_provider,
        "logger_provider": everything.logger_provider,
    }
    with tokenomics_plugin.task("homework-1", group="maths", **providers) as task:
        list(_homework(streaming_model).stream({"messages": [("user", "1 + 2?")]}, config, stream_mode="messages"))
        task.succeed()
    todos = [{"content": "add", "status": "in_progress"}]
    script[0].tool_calls[0] |= {"name": "write_todos", "args": {"todos": todos}}
    planning_model = type(streaming_model)(script=script)
    planner: Any = create_agent(planning_model, middleware=[TodoListMiddleware()], name="planner")
    planner.invoke({"messages": [("user", "plan it")]}, config)
    RunnableParallel(left=RunnableLambda(len), right=RunnableLambda(str)).invoke("x", config)
    with pytest.raises(ValueError, match="no"):
        RunnableLambda(_fail).invoke("x", config)
    with pytest.raises(ValueError, match="no"):
        type(streaming_model)(script=[ValueError("no")]).invoke("hello", config)
    return everything


def _homework(model: Any) -> Any:
    @tool
    def add(a: int, b: int) -> int:
        """Add two numbers, after asking around."""
        OneDocument().invoke("how to add")
        FakeListLLM(responses=["like so"]).invoke("how to add")
        return a + b

    builder = StateGraph(Homework)
    builder.add_node("pupil", create_agent(model, [add], name="calculator"))
    builder.add_edge(START, "pupil")
    return builder.compile(name="homework")


def _fail(_question: str) -> str:
    raise ValueError("no")


def test_the_program_has_every_kind_of_span_event_and_metric(emitted: Everything) -> None:
    assert {(span.attributes or {})["gen_ai.operation.name"] for span in emitted.spans} == set(CONFORMING) - {
        "skip_model_call"
    }
    assert {log.log_record.event_name for log in emitted.logs} >= {EXCEPTION, EVALUATION}
    assert {metric.name for metric in emitted.metrics} >= {DURATION, TOKENS, "gen_ai.invoke_agent.tool_calls"}


def test_what_we_emit_breaks_no_rule(emitted: Everything) -> None:
    assert [finding for finding in emitted.findings() if finding.level is Level.VIOLATION] == []


def test_what_we_emit_lacks_only_what_the_program_did_not_say(emitted: Everything) -> None:
    lacking = {(f.subject, f.detail.removesuffix(" is missing")) for f in emitted.findings() if f.level is Level.ADVICE}

    assert lacking == {
        ("invoke_workflow", "gen_ai.workflow.name"),  # a runnable that nobody gave a name
        *(("text_completion", name) for name in COMPLETION_SAYS_NOTHING),
    }
