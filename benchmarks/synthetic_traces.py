"""Requests as an instrumented agent would export them, by the million: runs of ten spans on average, with outcomes.

A run is an agent that calls a model, whose context grows, and tools, one of which is read again for nothing now and
then; calls fail and are retried; one run in seven hands a part of its work to a second agent. Some hundred runs are
written out span by span; all others are copies of them with ids, task and times of their own, because making a
million spans one by one would take longer than what is measured. The same numbers give the same bytes.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from tokenomics_plugin import semconv
from tokenomics_plugin.context_blocks import ContextBlock, ContextDelta
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.outcome import Outcome, OutcomeStatus
from tokenomics_plugin.store import Payload

__all__ = ["RUNS_PER_REQUEST", "SPANS_PER_RUN", "payloads", "trace_id"]

RUNS_PER_REQUEST: Final = 10
SPANS_PER_RUN: Final = 10
"""On average."""
_RUN_SPANS: Final = (5, 7, 9, 11, 13, 15)
_TEMPLATES: Final = 120
_RUNS_PER_TASK: Final = 2
_TASKS_PER_GROUP: Final = 20
_START: Final = 1_790_000_000 * 10**9  # 2026-09-21
_PERIOD_NS: Final = 28 * 86_400 * 10**9
_SECOND: Final = 10**9
_VALUE: Final = Decimal("0.5")
_MODELS: Final = (
    ("openai", "gpt-4o", "gpt-4o-2024-08-06"),
    ("openai", "gpt-4o-mini", "gpt-4o-mini-2024-07-18"),
    ("anthropic", "claude-sonnet-4-5", "claude-sonnet-4-5-20250929"),
)
_TOOLS: Final = ("get_user", "get_order", "search_flights", "update_order", "send_mail")


@dataclass(frozen=True, kw_only=True)
class _Template:
    """A run that others are copies of."""

    resource_spans: ResourceSpans
    starts: tuple[int, ...]
    """Of its spans, nanoseconds after the run's start."""
    durations: tuple[int, ...]


def trace_id(run: int) -> bytes:
    """Id of a run's trace; random, as those of the SDKs are."""
    return random.Random(run).randbytes(16)


def payloads(runs: range) -> Iterator[Payload]:
    """Requests with the spans of some runs, and with their outcomes."""
    templates = [_template(number) for number in range(_TEMPLATES)]
    for first in range(runs.start, runs.stop, RUNS_PER_REQUEST):
        here = range(first, min(first + RUNS_PER_REQUEST, runs.stop))
        request = ExportTraceServiceRequest()
        for run in here:
            _copy(templates[run % _TEMPLATES], run, request.resource_spans.add())
        yield Payload(Signal.TRACES, request.SerializeToString())
        yield Payload(Signal.LOGS, _outcomes(here))


def _task(run: int) -> str:
    return f"task-{run // _RUNS_PER_TASK:07d}"


def _start(run: int) -> int:
    return _START + run * 7_919 % 1_000_003 * (_PERIOD_NS // 1_000_003)


def _copy(template: _Template, run: int, target: ResourceSpans) -> None:
    target.CopyFrom(template.resource_spans)
    trace, start, task = trace_id(run), _start(run), _task(run)
    spans = target.scope_spans[0].spans
    for span, after, duration in zip(spans, template.starts, template.durations, strict=True):
        span.trace_id = trace
        span.start_time_unix_nano = start + after
        span.end_time_unix_nano = start + after + duration
    root = spans[0].attributes
    root[0].value.string_value = task
    root[1].value.string_value = f"group-{run // _RUNS_PER_TASK // _TASKS_PER_GROUP:05d}"


def _outcomes(runs: range) -> bytes:
    records = []
    for run in runs:
        draw = random.Random(~run)
        if run % _RUNS_PER_TASK or draw.random() < 0.1:  # one outcome a task; some are never judged
            continue
        status = draw.choices((OutcomeStatus.SUCCEEDED, OutcomeStatus.FAILED, OutcomeStatus.HARMFUL), (60, 38, 2))[0]
        ended = _start(run) + 60 * _SECOND
        outcome = Outcome(task_id=_task(run), status=status, value=_VALUE, observed_time_unix_nano=ended)
        records.append(
            LogRecord(
                time_unix_nano=ended,
                event_name=semconv.EVENT_EVALUATION_RESULT,
                attributes=_attributes(outcome.to_attributes()),
            )
        )
    return ExportLogsServiceRequest(
        resource_logs=[ResourceLogs(scope_logs=[ScopeLogs(log_records=records)])]
    ).SerializeToString()


class _Writer:
    """Writes the spans of one run, one after the other."""

    def __init__(self, number: int) -> None:
        self.draw = random.Random(number)
        self.agent = f"agent-{number % 5}"
        self.provider, self.model, self.answered_by = _MODELS[number % len(_MODELS)]
        self.spans: list[Span] = []
        self.clock = 0
        self.root = self.id()

    def id(self) -> str:
        return self.draw.randbytes(8).hex()

    def hash(self) -> str:
        return f"1f2e3d4c:{self.draw.randbytes(8).hex()}"

    def span(self, span_id: str, operation: str, name: str, attributes: Mapping[str, Any], *, seconds: float) -> None:
        """Add a span below the root; failed ones name an error."""
        start, self.clock = self.clock, self.clock + int(seconds * _SECOND)
        is_error = semconv.ERROR_TYPE in attributes
        self.spans.append(
            Span(
                span_id=bytes.fromhex(span_id),
                parent_span_id=b"" if span_id == self.root else bytes.fromhex(self.root),
                name=name,
                kind=Span.SPAN_KIND_CLIENT,
                start_time_unix_nano=start,
                end_time_unix_nano=self.clock,
                status=Status(code=Status.STATUS_CODE_ERROR if is_error else Status.STATUS_CODE_UNSET),
                attributes=_attributes({semconv.GEN_AI_OPERATION_NAME: operation, **attributes}),
            )
        )

    def template(self) -> _Template:
        spans = ScopeSpans(spans=self.spans)
        of_resource = ResourceSpans(scope_spans=[spans])
        of_resource.resource.attributes.extend(_attributes({"service.name": "desk", "service.version": "1.4.2"}))
        return _Template(
            resource_spans=of_resource,
            starts=tuple(span.start_time_unix_nano for span in self.spans),
            durations=tuple(span.end_time_unix_nano - span.start_time_unix_nano for span in self.spans),
        )


def _template(number: int) -> _Template:
    """The agent's span, then model calls with a tool after each but the last."""
    writer, size = _Writer(number), _RUN_SPANS[number % len(_RUN_SPANS)]
    draw = writer.draw
    writer.span(writer.root, semconv.OPERATION_INVOKE_AGENT, f"invoke_agent {writer.agent}", {}, seconds=0)
    agent = {semconv.GEN_AI_AGENT_NAME: writer.agent}
    root = {semconv.TASK_ID: "", semconv.TASK_GROUP: "", semconv.GEN_AI_OPERATION_NAME: "invoke_agent", **agent}
    del writer.spans[0].attributes[:]
    writer.spans[0].attributes.extend(_attributes(root))  # task and group first, where copies write theirs
    system = ContextBlock(hash="1f2e3d4c:00000000000000aa", role="system", size=4_000)
    blocks = [system, ContextBlock(hash=writer.hash(), role="user", size=draw.randint(50, 2_000))]
    before: list[ContextBlock] = []
    previous, known = None, list[tuple[str, str, str]]()
    while len(writer.spans) < size:
        is_last = len(writer.spans) == size - 1
        call, answer, output = writer.id(), writer.hash(), draw.randint(20, 400)
        attributes = _model_call(writer, blocks, before, previous, answer=answer, output=output, is_last=is_last)
        if number % 7 == 3 and len(writer.spans) > 4:
            attributes[semconv.GEN_AI_AGENT_NAME] = "helper"
        if not is_last and number % 6 == 5 and len(writer.spans) == 3:  # refused, and sent again
            _refused(writer, attributes, call)
        writer.span(call, semconv.OPERATION_CHAT, f"chat {writer.model}", attributes, seconds=1.5)
        previous, before = call, list(blocks)
        blocks = [
            *blocks,
            ContextBlock(hash=answer, role="assistant", size=4 * output, tokens=output, producer=call),
        ]
        if not is_last and len(writer.spans) < size:
            blocks.append(_tool(writer, known, is_repeat=bool(known) and draw.random() < 0.1))
    writer.spans[0].end_time_unix_nano = writer.clock
    return writer.template()


def _model_call(
    writer: _Writer,
    blocks: list[ContextBlock],
    before: list[ContextBlock],
    previous: str | None,
    *,
    answer: str,
    output: int,
    is_last: bool,
) -> dict[str, Any]:
    tokens = sum(block.tokens or (block.size or 0) // 4 for block in blocks) + 120
    sent = sum(block.tokens or (block.size or 0) // 4 for block in before)
    return {
        semconv.GEN_AI_PROVIDER_NAME: writer.provider,
        semconv.GEN_AI_REQUEST_MODEL: writer.model,
        semconv.GEN_AI_RESPONSE_MODEL: writer.answered_by,
        semconv.GEN_AI_RESPONSE_FINISH_REASONS: ["stop" if is_last else "tool_calls"],
        semconv.GEN_AI_USAGE_INPUT_TOKENS: tokens,
        semconv.GEN_AI_USAGE_OUTPUT_TOKENS: output,
        semconv.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: sent // 128 * 128,
        semconv.RESULT_FINGERPRINT: answer,
        semconv.LOGICAL_OPERATION_ID: writer.id(),
        semconv.ATTEMPT_NUMBER: 1,
        semconv.STEP_KIND: "answer" if is_last else "act",
        **ContextDelta.between(blocks, previous=previous, before=before).to_attributes(),
    }


def _refused(writer: _Writer, attributes: dict[str, Any], replacement: str) -> None:
    refused = {
        name: value
        for name, value in attributes.items()
        if name not in (semconv.RESULT_FINGERPRINT, semconv.GEN_AI_RESPONSE_MODEL)
        and not name.startswith(("gen_ai.usage", "gen_ai.response"))
    }
    failed = {semconv.ERROR_TYPE: "RateLimitError", semconv.ATTEMPT_SUPERSEDED_BY: replacement}
    writer.span(writer.id(), semconv.OPERATION_CHAT, f"chat {writer.model}", refused | failed, seconds=0.2)
    attributes |= {semconv.ATTEMPT_NUMBER: 2, semconv.ATTEMPT_KIND: "with_retry"}


def _tool(writer: _Writer, known: list[tuple[str, str, str]], *, is_repeat: bool) -> ContextBlock:
    """Add a tool call, perhaps one that was made before, with the same result; gives the block of its result."""
    draw, call = writer.draw, writer.id()
    done = draw.choice(known) if is_repeat else (draw.choice(_TOOLS), writer.hash(), writer.hash())
    tool, arguments, result = done
    known.append(done)
    attributes: dict[str, Any] = {
        semconv.GEN_AI_TOOL_NAME: tool,
        semconv.GEN_AI_TOOL_CALL_ID: f"call_{writer.id()}",
        semconv.ARGUMENTS_FINGERPRINT: arguments,
        semconv.RESULT_FINGERPRINT: result,
        semconv.LOGICAL_OPERATION_ID: call,
        semconv.ATTEMPT_NUMBER: 1,
    }
    if draw.random() < 0.05:
        attributes[semconv.ERROR_TYPE] = "ToolException"
    writer.span(call, semconv.OPERATION_EXECUTE_TOOL, f"execute_tool {tool}", attributes, seconds=0.4)
    return ContextBlock(hash=result, role="tool", size=draw.randint(20, 3_000), producer=call)


def _attributes(values: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=_value(value)) for key, value in values.items()]


def _value(value: Any) -> AnyValue:
    match value:
        case int():
            return AnyValue(int_value=value)
        case float():
            return AnyValue(double_value=value)
        case list():
            return AnyValue(array_value=ArrayValue(values=map(_value, value)))
    return AnyValue(string_value=value)
