"""Runs of an agent whose content was captured, as a store has them; ids and times count from 1."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import IdGenerator

from tokenomics_plugin import semconv
from tokenomics_plugin.otlp_json import Signal
from tokenomics_plugin.store import Payload, TraceStore
from tokenomics_plugin.tasks import Task, task

__all__ = ["PRICE", "CapturedRuns", "asks", "said", "text", "tool_result"]

Json = dict[str, Any]

PRICE: Final = Path(__file__).with_name("captured_runs.toml")
"""A dollar a million tokens, in or out."""
_TOOLS: Final = [{"type": "function", "name": "price", "parameters": {"type": "object", "properties": {}}}]


def text(role: str, content: str) -> Json:
    """A message of text."""
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def said(content: str, **more: Any) -> Json:
    """An answer."""
    return text("assistant", content) | {"finish_reason": "stop", **more}


def asks(call_id: str | None, arguments: Any) -> Json:
    """An answer that calls the tool."""
    part = {"type": "tool_call", "id": call_id, "name": "price", "arguments": arguments}
    return {"role": "assistant", "parts": [part], "finish_reason": "tool_call"}


def tool_result(call_id: str | None, response: Any) -> Json:
    """What the tool says."""
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": response}]}


class _Counting(IdGenerator):
    def __init__(self) -> None:
        self._traces, self._spans = count(1), count(1)

    def generate_trace_id(self) -> int:
        return next(self._traces)

    def generate_span_id(self) -> int:
        return next(self._spans)


@dataclass
class CapturedRuns:
    """Records runs, then puts them into a store."""

    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)
    traces: TracerProvider = field(default_factory=lambda: TracerProvider(id_generator=_Counting()))

    def __post_init__(self) -> None:
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))

    def succeeds(
        self, task_id: str, *answers: Json, value: Any = "0.01", group: str | None = None, **said: Any
    ) -> None:
        """A run of one task, judged as a success."""
        with self.task(task_id, value=value, group=group) as current:
            self.run(*answers, **said)
            current.succeed()

    @contextmanager
    def task(self, task_id: str, **fields: Any) -> Iterator[Task]:
        """A task, to be judged by whoever opens it."""
        with task(task_id, tracer_provider=self.traces, logger_provider=LoggerProvider(), **fields) as current:
            yield current

    def run(
        self,
        *answers: Json,
        question: str = "What does a pen cost?",
        results: Sequence[str] = (),
        tokens: int | None = 1_000,
        capture: bool = True,
        tools: Sequence[Json] | None = _TOOLS,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """An agent that gives these answers, one a call; `results` are what its calls return."""
        tracer = self.traces.get_tracer("test")
        agent = {semconv.GEN_AI_OPERATION_NAME: "invoke_agent", semconv.GEN_AI_AGENT_NAME: "shop"}
        conversation, returned = [text("user", question)], iter(results)
        with tracer.start_as_current_span("invoke_agent shop", attributes=agent):
            for answer in answers:
                attributes = self._call(conversation, answer, tokens, tools if capture else None, capture=capture)
                tracer.start_span("chat m-1", attributes=attributes | dict(more or {})).end()
                conversation.append({key: answer[key] for key in ("role", "parts")})
                conversation += [
                    tool_result(part["id"], next(returned)) for part in answer["parts"] if part["type"] == "tool_call"
                ]

    def stored(self, path: Path) -> Path:
        """All of it in a store."""
        payload = Payload(Signal.TRACES, encode_spans(self.exporter.get_finished_spans()).SerializeToString())
        with TraceStore(path) as store:
            store.load([payload])
        return path

    @staticmethod
    def _call(
        conversation: Sequence[Json], answer: Json, tokens: int | None, tools: Sequence[Json] | None, *, capture: bool
    ) -> dict[str, Any]:
        usage = (
            {} if tokens is None else {semconv.GEN_AI_USAGE_INPUT_TOKENS: tokens, semconv.GEN_AI_USAGE_OUTPUT_TOKENS: 0}
        )
        content = {
            semconv.GEN_AI_SYSTEM_INSTRUCTIONS: json.dumps([{"type": "text", "content": "Be brief."}]),
            semconv.GEN_AI_INPUT_MESSAGES: json.dumps(conversation),
            semconv.GEN_AI_OUTPUT_MESSAGES: json.dumps([answer]),
        }
        offered = {semconv.GEN_AI_TOOL_DEFINITIONS: json.dumps(tools)} if tools else {}
        return {
            semconv.GEN_AI_OPERATION_NAME: "chat",
            semconv.GEN_AI_PROVIDER_NAME: "acme",
            semconv.GEN_AI_REQUEST_MODEL: "m-1",
            **usage,
            **(content if capture else {}),
            **offered,
        }
