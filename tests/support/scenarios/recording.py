"""Running a scenario's program once, and keeping everything that it returned and emitted."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult
from langgraph.types import Command, Interrupt
from opentelemetry import trace
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricsData
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from scenarios.scenario import Scenario
from scenarios.stage import Mode, Stage
from scenarios.tree import span_id
from scenarios.ways import UNTRACED, Way
from tokenomics_langchain import TokenomicsCallbackHandler

__all__ = ["Outcome", "Recording", "record", "untraced"]

_MADE_UP: Final = re.compile(r"[0-9a-f]{8}(-?[0-9a-f]{4}){3}-?[0-9a-f]{12}|\d+\.\d+s\b|\b0x[0-9a-f]+")
"""Ids of tasks and checkpoints, how long something took, and where something lies."""
_LOGGERS: Final = (
    "asyncio",
    "langchain_core",
    "langgraph",
    "opentelemetry",
    "tokenomics_langchain",
    "tokenomics_plugin",
)
_RESOURCE: Final = Resource({"service.name": "scenarios"})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a program's user sees, in values that compare."""

    result: Any = None
    """What it returned."""
    error: tuple[str, ...] | None = None
    """Type, text and notes of what it raised, and of what that came from."""
    graphs: tuple[tuple[str, ...], ...] = ()
    """Nodes of the graphs that it made."""


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Everything that came of one run."""

    outcome: Outcome
    """What its user saw."""
    error: BaseException | None
    """What it raised."""
    spans: Sequence[ReadableSpan]
    """Those that ended, in the order of their start."""
    started: int
    """How many spans started."""
    ended_late: int
    """How many ended only when the provider shut down."""
    logs: Sequence[ReadableLogRecord]
    """Log events."""
    metrics: MetricsData | None
    """Metrics, as one collection."""
    reported: Sequence[tuple[int, int]]
    """Input and output tokens of each model call that completed, by the models' own account."""
    complaints: Sequence[str]
    """What the event loop, the frameworks, OpenTelemetry or the tracing logged as a warning, or worse."""
    leaks: Sequence[str]
    """Where the ambient context was not the caller's own."""
    open_runs: int
    """Runs that the handler still held when the program was over."""
    waiting_trees: int
    """Runs that it had heard of, and still held, without recording them."""


def record(scenario: Scenario, mode: Mode, way: Way) -> Recording:
    """Run a scenario's program, traced in a way of its own providers."""
    log, reader = _SpanLog(), InMemoryMetricReader()
    logs: InMemoryLogRecordExporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call] # by its authors
    with _providers(log, reader, logs) as (tracing, metering, telling):
        handler = TokenomicsCallbackHandler(
            tracing, meter_provider=metering, logger_provider=telling, capture_content=False, **scenario.options
        )
        stage = Stage(mode, way, handler, trace.get_tracer("application", tracer_provider=tracing))
        with _listening_to_logs() as complaints:
            outcome, error = _run(scenario, stage, way, handler)
        ended, open_runs, waiting = len(log.ended), handler.open_runs, handler.on_demand.waiting
        tracing.shutdown()
        return Recording(
            outcome=outcome,
            error=error,
            spans=log.in_order(),
            started=len(log.started),
            ended_late=len(log.ended) - ended,
            logs=logs.get_finished_logs(),
            metrics=reader.get_metrics_data(),
            reported=stage.reported,
            complaints=complaints,
            leaks=stage.leaks,
            open_runs=open_runs,
            waiting_trees=waiting,
        )


@cache
def untraced(scenario: Scenario, mode: Mode) -> Recording:
    """Run a scenario's program without any tracing."""
    return record(scenario, mode, UNTRACED)


def _run(
    scenario: Scenario, stage: Stage, way: Way, handler: TokenomicsCallbackHandler
) -> tuple[Outcome, BaseException | None]:
    result: Any = None
    raised: BaseException | None = None
    with way.around(handler), stage.looking("after the program"):
        try:
            result = scenario.program(stage)
        except (Exception, asyncio.CancelledError, SystemExit) as error:
            raised = error
    outcome = Outcome(
        result=_comparable(result),
        error=None if raised is None else tuple(_told(raised)),
        graphs=tuple(tuple(map(str, nodes)) for nodes in stage.graphs),
    )
    return outcome, raised


@contextmanager
def _providers(
    log: _SpanLog, reader: InMemoryMetricReader, logs: InMemoryLogRecordExporter
) -> Iterator[tuple[TracerProvider, MeterProvider, LoggerProvider]]:
    tracing = TracerProvider(resource=_RESOURCE, shutdown_on_exit=False)
    tracing.add_span_processor(log)
    metering = MeterProvider([reader], resource=_RESOURCE, shutdown_on_exit=False)
    telling = LoggerProvider(resource=_RESOURCE, shutdown_on_exit=False)
    telling.add_log_record_processor(SimpleLogRecordProcessor(logs))
    try:
        yield tracing, metering, telling
    finally:
        metering.shutdown()
        telling.shutdown()


@contextmanager
def _listening_to_logs() -> Iterator[list[str]]:
    complaints: list[str] = []
    listener = _Complaints(complaints)
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addHandler(listener)
    try:
        yield complaints
    finally:
        for logger in loggers:
            logger.removeHandler(listener)


class _Complaints(logging.Handler):
    """Keeps what is logged."""

    def __init__(self, complaints: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._complaints = complaints

    def emit(self, record: logging.LogRecord) -> None:
        self._complaints.append(_without_ids(f"{record.name} logged: {record.getMessage()}"))


class _SpanLog(SpanProcessor):
    """Every span that started, and every one that ended."""

    def __init__(self) -> None:
        self.started: dict[int, int] = {}
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.started[span.get_span_context().span_id] = len(self.started)

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def in_order(self) -> list[ReadableSpan]:
        return sorted(self.ended, key=lambda s: (s.start_time or 0, self.started[span_id(s)]))


def _told(error: BaseException) -> Iterator[str]:
    yield type(error).__qualname__
    yield _without_ids(str(error))
    yield from map(_without_ids, getattr(error, "__notes__", ()))
    if error.__cause__ is not None:
        yield from _told(error.__cause__)


def _comparable(value: Any) -> Any:
    """A value without what is made up for each run: ids and times."""
    match value:
        case BaseMessage():
            calls = [(call["name"], call["args"]) for call in getattr(value, "tool_calls", ())]
            usage = getattr(value, "usage_metadata", None)
            return value.type, _comparable(value.content), calls, getattr(value, "status", None), usage
        case LLMResult():
            return [generation.text for choices in value.generations for generation in choices]
        case Interrupt():
            return "interrupt", _comparable(value.value)
        case Document():
            return value.page_content
        case Command():
            return "command", _comparable(value.update), repr(value.goto)
        case dict():
            return {key: _comparable(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_comparable(inner) for inner in value]
        case BaseException():
            return list(_told(value))
        case str():
            return _without_ids(value)
    return value


def _without_ids(text: str) -> str:
    return _MADE_UP.sub("ID", text)
