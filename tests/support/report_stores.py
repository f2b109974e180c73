"""Stores made of lists, for reports: the cases that every view must render, and how to make one's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from hostile_names import HOSTILE_NAMES
from tokenomics_plugin import semconv
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.pricing import Price, PriceBook
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.store import Payload, TraceStore
from tokenomics_plugin.usage import TokenUsage

__all__ = ["CASES", "PRICES", "SECOND", "START", "ListReader", "Trace", "outcome", "stored", "used"]

START = 1_772_000_000 * 10**9  # 2026-02-25
SECOND = 10**9
PRICES = PriceBook([Price(provider="acme", model="*", input=Decimal(1), cache_read=Decimal("0.1"), output=Decimal(10))])
"""One dollar a million input tokens, ten a million of output; the call of `Trace.chat` costs $0.002."""
_STATUS = {"Unset": Status.STATUS_CODE_UNSET, "Ok": Status.STATUS_CODE_OK, "Error": Status.STATUS_CODE_ERROR}
_TEXTS = {
    "operation": semconv.GEN_AI_OPERATION_NAME,
    "provider": semconv.GEN_AI_PROVIDER_NAME,
    "request_model": semconv.GEN_AI_REQUEST_MODEL,
    "response_model": semconv.GEN_AI_RESPONSE_MODEL,
    "agent_name": semconv.GEN_AI_AGENT_NAME,
    "tool_name": semconv.GEN_AI_TOOL_NAME,
    "conversation_id": semconv.GEN_AI_CONVERSATION_ID,
    "task_id": semconv.TASK_ID,
    "task_group": semconv.TASK_GROUP,
    "error_type": semconv.ERROR_TYPE,
    "node_name": semconv.NODE_NAME,
    "operation_id": semconv.LOGICAL_OPERATION_ID,
    "attempt_kind": semconv.ATTEMPT_KIND,
    "superseded_by": semconv.ATTEMPT_SUPERSEDED_BY,
    "loop_kind": semconv.LOOP_KIND,
    "run_state": semconv.RUN_STATE,
    "answered_by": semconv.ANSWERED_BY,
    "plan_revision": semconv.PLAN_REVISION,
    "plan_steps_added": semconv.PLAN_STEPS_ADDED,
    "plan_steps_removed": semconv.PLAN_STEPS_REMOVED,
    "plan_steps_completed": semconv.PLAN_STEPS_COMPLETED,
}
_FLAGS = {
    "is_replay": semconv.REPLAY,
    "is_cache_hit": semconv.CACHE_HIT,
    "is_usage_estimated": semconv.USAGE_ESTIMATED,
}


def stored(reader: ListReader, path: Path) -> Path:
    """The same in a real store. A half of a surrogate pair cannot travel: it becomes a question mark."""
    spans, logs = ExportTraceServiceRequest(), ExportLogsServiceRequest()
    out = spans.resource_spans.add().scope_spans.add().spans
    for span in reader.spans():
        end = span.start_unix_nano + (span.duration_nano or 0)
        wire = out.add(
            trace_id=bytes.fromhex(span.trace_id),
            span_id=bytes.fromhex(span.span_id),
            parent_span_id=bytes.fromhex(span.parent_span_id or ""),
            name=_sendable(span.name),
            start_time_unix_nano=span.start_unix_nano,
            end_time_unix_nano=end,
        )
        wire.status.code = _STATUS[span.status]
        wire.attributes.extend(_key_values(_attributes(span)))
        if span.is_resumed:
            wire.events.add(name=semconv.EVENT_RESUME, time_unix_nano=span.start_unix_nano)
    records = logs.resource_logs.add().scope_logs.add().log_records
    for judged in reader.outcomes():
        record = records.add(time_unix_nano=judged.observed_time_unix_nano or START)
        record.event_name = semconv.EVENT_EVALUATION_RESULT
        record.attributes.extend(_key_values(judged.to_attributes()))
    with TraceStore(path) as store:
        store.load([Payload(Signal.TRACES, spans.SerializeToString()), Payload(Signal.LOGS, logs.SerializeToString())])
    return path


def _attributes(span: SpanRecord) -> dict[str, Any]:
    texts = {name: getattr(span, field_name) for field_name, name in _TEXTS.items()}
    flags = {name: True for field_name, name in _FLAGS.items() if getattr(span, field_name)}
    usage = {} if span.usage is None else span.usage.to_attributes()
    return {name: value for name, value in texts.items() if value is not None} | flags | usage


def _key_values(attributes: dict[str, Any]) -> Iterator[KeyValue]:
    for name, value in attributes.items():
        if isinstance(value, bool):
            yield KeyValue(key=name, value=AnyValue(bool_value=value))
        elif isinstance(value, int):
            yield KeyValue(key=name, value=AnyValue(int_value=value))
        else:
            yield KeyValue(key=name, value=AnyValue(string_value=_sendable(str(value))))


def _sendable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, kw_only=True)
class ListReader:
    """A `TraceReader` over lists."""

    spans_: Sequence[SpanRecord] = ()
    outcomes_: Sequence[Outcome] = ()

    def spans(self) -> Iterator[SpanRecord]:
        return iter(self.spans_)

    def outcomes(self) -> Sequence[Outcome]:
        return self.outcomes_


@dataclass
class Trace:
    """Builds one trace, span by span; each is given its parent's id or becomes a root."""

    number: int
    spans: list[SpanRecord] = field(default_factory=list)
    says_attempts: bool = False
    """Whether its model calls and tools say which operation they are an attempt of."""

    @property
    def trace_id(self) -> str:
        return f"{self.number:032x}"

    def span(self, parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        span_id = f"{self.number * 1000 + len(self.spans) + 1:016x}"
        is_work = fields.get("operation") in (semconv.OPERATION_CHAT, semconv.OPERATION_EXECUTE_TOOL)
        made = SpanRecord(
            **{
                "trace_id": self.trace_id,
                "span_id": span_id,
                "operation_id": span_id if self.says_attempts and is_work else None,
                "parent_span_id": None if parent is None else parent.span_id,
                "start_unix_nano": START + self.number * SECOND + len(self.spans),
                "duration_nano": SECOND,
                **fields,
            }
        )
        self.spans.append(made)
        return made

    def agent(self, agent_name: str | None = "planner", parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        return self.span(parent, operation=semconv.OPERATION_INVOKE_AGENT, agent_name=agent_name, **fields)

    def tool(self, tool_name: str = "search", parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        return self.span(parent, operation=semconv.OPERATION_EXECUTE_TOOL, tool_name=tool_name, **fields)

    def node(self, node_name: str = "step", parent: SpanRecord | None = None, **fields: Any) -> SpanRecord:
        return self.span(parent, operation=semconv.OPERATION_RUN_NODE, node_name=node_name, **fields)

    def retry(self, before: SpanRecord, kind: str, **fields: Any) -> SpanRecord:
        """Another attempt at what a span tried, which says that this one replaced it."""
        operation_id = before.operation_id or before.span_id
        again = self.span(
            **{name: getattr(before, name) for name in ("operation", "agent_name", "tool_name", "node_name")},
            **{name: getattr(before, name) for name in ("provider", "parent_span_id")},
            **{"request_model": before.request_model, "usage": before.usage, **fields},
            operation_id=operation_id,
            attempt_kind=kind,
        )
        place = next(place for place, span in enumerate(self.spans) if span.span_id == before.span_id)
        self.spans[place] = replace(self.spans[place], operation_id=operation_id, superseded_by=again.span_id)
        return again

    def chat(
        self, parent: SpanRecord | None = None, *, tokens: tuple[int, int] | None = (1000, 100), **fields: Any
    ) -> SpanRecord:
        usage = None if tokens is None else used(*tokens)
        return self.span(
            parent,
            **{
                "operation": semconv.OPERATION_CHAT,
                "provider": "acme",
                "request_model": "acme-large",
                "usage": usage,
                **fields,
            },
        )


def used(input_tokens: int | None, output_tokens: int | None) -> TokenUsage:
    return TokenUsage.from_inclusive(input_tokens=input_tokens, output_tokens=output_tokens)


def outcome(task_id: str, status: str, **fields: Any) -> Outcome:
    return Outcome(task_id=task_id, status=OutcomeStatus(status), **{"observed_time_unix_nano": START, **fields})


def empty() -> ListReader:
    return ListReader()


def one_trace() -> ListReader:
    trace = Trace(1)
    agent = trace.agent(task_id="ticket-1")
    trace.chat(agent)
    trace.tool(parent=agent)
    trace.chat(agent, tokens=(1500, 40))
    return ListReader(spans_=trace.spans, outcomes_=[outcome("ticket-1", "succeeded", value="4.50")])


def failures_and_pending() -> ListReader:
    """Sixty tasks, two to a group: most succeed, one in twenty harms, some are open, two calls have no usage."""
    statuses = ("succeeded", "succeeded", "failed", "succeeded", "succeeded")
    traces, outcomes = [], []
    for number in range(1, 61):
        task_id, trace = f"task-{number:02}", Trace(number)
        agent = trace.agent("planner" if number % 3 else "critic", task_id=task_id, task_group=f"group-{number // 2}")
        failed = statuses[number % 5] == "failed"
        for call in range(2 + failed):
            trace.chat(agent, tokens=(900 + 40 * number, 50 + 10 * call))
            trace.tool("search" if call else "database", agent, status="Error" if failed and call else "Unset")
        if number == 7:
            helper = trace.tool("delegate", agent)
            trace.chat(helper, request_model="acme-small", tokens=None)
            trace.chat(helper, provider="nobody", request_model="unknown")
        traces.append(trace)
        if number % 20 == 3:
            outcomes.append(outcome(task_id, "harmful", harm="2.00"))
        elif number % 12 == 5:
            outcomes.append(outcome(task_id, "pending"))
        elif number % 30 != 11:
            outcomes.append(outcome(task_id, statuses[number % 5], value=None if failed else "0.50"))
    outcomes += [
        outcome("only-judged", "succeeded", value="0.50"),
        outcome("in-euros", "succeeded", value="3", currency="EUR"),
    ]
    return ListReader(spans_=[span for trace in traces for span in trace.spans], outcomes_=outcomes)


def hostile() -> ListReader:
    """Every name that a trace can carry, set to what would break out of a page or a terminal."""
    traces, outcomes = [], []
    for number, name in enumerate(HOSTILE_NAMES, start=1):
        trace = Trace(number)
        agent = trace.agent(name, name=name, task_id=name, task_group=name, conversation_id=name)
        tool = trace.tool(name, agent, loop_kind=name, status="Error", error_type=name, operation_id=name)
        trace.node(name, agent, run_state=name, attempt_kind=name, superseded_by=name, answered_by=name)
        trace.chat(tool, request_model=name, provider="acme", error_type=name, status="Error", tokens=(500, 500))
        trace.chat(agent, request_model=name, provider=name, tokens=None)
        traces.append(trace)
        outcomes.append(outcome(name, "succeeded" if number % 2 else "failed", evidence=name, evaluator=name))
    return ListReader(spans_=[span for trace in traces for span in trace.spans], outcomes_=outcomes)


def retries_and_endings() -> ListReader:
    """An agent that tries again, repeats itself, waits for a person and is cut off; another that says nothing."""
    traces = [_refused(), _retried(), _in_circles(), _interrupted(), _resumed(), _cut_off(), _untold()]
    return ListReader(
        spans_=[span for trace in traces for span in trace.spans],
        outcomes_=[outcome("refused", "succeeded", value="1"), outcome("retried", "failed")],
    )


def _refused() -> Trace:
    trace = Trace(1, says_attempts=True)
    agent = trace.agent("clerk", task_id="refused")
    refused = trace.chat(agent, tokens=None, status="Error", error_type="RateLimitError")
    trace.retry(refused, "with_retry", usage=used(1000, 100))
    return trace


def _retried() -> Trace:
    trace = Trace(2, says_attempts=True)
    agent = trace.agent("clerk", task_id="retried")
    trace.chat(agent)
    failed = trace.tool("price", agent, status="Error", error_type="ConnectionError")
    trace.retry(failed, "tool_retry")
    trace.tool("refund", agent, status="Error", error_type="unknown_tool", operation_id=None)
    trace.retry(trace.chat(agent, tokens=(1400, 30)), "structured_output_repair", usage=used(1500, 20))
    node = trace.node("plan", agent, status="Error", error_type="TimeoutError")
    broken = trace.chat(node, tokens=(200, 0), status="Error", error_type="ServerError")
    trace.retry(broken, "fallback", usage=used(200, 10), request_model="acme-small")
    trace.chat(trace.retry(node, "node_retry"), tokens=(250, 10))
    return trace


def _in_circles() -> Trace:
    trace = Trace(3, says_attempts=True)
    agent = trace.agent("clerk", task_id="in circles")
    trace.span(agent, operation=semconv.OPERATION_PLAN, plan_revision=0, plan_steps_added=3)
    for number in range(6):
        trace.chat(agent, tokens=(300 + 50 * number, 20))
        name = "search" if number % 2 else "price"
        trace.tool(name, agent, loop_kind="alternation" if number > 2 else "revisit" if number == 2 else None)
    trace.span(
        agent,
        operation=semconv.OPERATION_PLAN,
        plan_revision=1,
        plan_steps_added=1,
        plan_steps_removed=2,
        plan_steps_completed=1,
    )
    trace.node("reflect", agent, loop_kind="revisit")
    return trace


def _interrupted() -> Trace:
    trace = Trace(4, says_attempts=True)
    agent = trace.agent("clerk", task_id="asks first", run_state="interrupted")
    trace.chat(agent)
    trace.tool("approve", agent, run_state="interrupted")
    return trace


def _resumed() -> Trace:
    trace = Trace(5, says_attempts=True)
    agent = trace.agent("clerk", task_id="asks first", is_resumed=True)
    trace.tool("approve", agent, is_replay=True)
    trace.chat(agent, tokens=(1200, 10), is_replay=True)
    trace.chat(agent, tokens=(0, 0), is_cache_hit=True)
    trace.span(agent, operation=semconv.OPERATION_SKIP_MODEL_CALL, answered_by="middleware")
    trace.tool("price", agent, answered_by="middleware", operation_id=None)
    return trace


def _cut_off() -> Trace:
    trace = Trace(6, says_attempts=True)
    agent = trace.agent("clerk", task_id="cut off", run_state="abandoned")
    trace.chat(agent, usage=used(None, 40), is_usage_estimated=True, run_state="abandoned")
    helper = trace.agent("helper", agent, run_state="handed_off")
    trace.tool("transfer", helper, run_state="handed_off")
    return trace


def _untold() -> Trace:
    trace = Trace(7)
    agent = trace.agent("other", task_id="untold")
    trace.chat(agent)
    trace.tool("price", agent)
    return trace


CASES = {case.__name__: case for case in (empty, one_trace, failures_and_pending, retries_and_endings, hostile)}
