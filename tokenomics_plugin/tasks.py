"""Binding spans to a business task, and sending what became of it.

The task's id travels in the OpenTelemetry context as W3C baggage: asyncio tasks inherit it, other
processes get it with the trace headers, and threads get it because entering the first task teaches
`threading.Thread.start` and `ThreadPoolExecutor.submit` to hand the context on. `TaskSpanProcessor`
copies it onto every span that starts, whichever library started it.

An outcome is sent twice: as the `gen_ai.evaluation.result` event of the GenAI conventions, and as a
small carrier span linked to the judged trace, because backends that know only traces drop events.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from functools import wraps
from types import TracebackType
from typing import Any, Final, Self

from opentelemetry import baggage, context, trace
from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber, get_logger_provider
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link, SpanContext, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from tokenomics_plugin import semconv
from tokenomics_plugin.outcome import Outcome, OutcomeStatus, as_money
from tokenomics_plugin.version import package_version

__all__ = ["Task", "TaskSpanProcessor", "bind_tasks", "record_outcome", "task", "task_attributes"]

_LOGGER = logging.getLogger(__name__)
_SCOPE: Final = "tokenomics_plugin"
_ACTIVE_TASK: Final = context.create_key("tokenomics-task")
_STARTED_THREAD: Final = context.create_key("tokenomics-started-thread")
_BAGGAGE_ATTRIBUTES: Final = (semconv.TASK_ID, semconv.TASK_GROUP)
_MAX_LINKS: Final = 128  # the SDK's own default limit
_bound_providers: weakref.WeakSet[Any] = weakref.WeakSet()
_bind_lock = threading.Lock()


def task_attributes(otel_context: Context | None = None) -> dict[str, str]:
    """The `tokenomics.task.*` attributes that the baggage of a context asks for; empty outside a task."""
    if _has_outlived_task(otel_context):
        return {}
    pairs = ((name, baggage.get_baggage(name, otel_context)) for name in _BAGGAGE_ATTRIBUTES)
    return {name: str(value) for name, value in pairs if value is not None}


class TaskSpanProcessor(SpanProcessor):
    """Writes the current task's id and group onto every span that starts; never delays or drops one."""

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Called by the SDK, in the thread that starts the span."""
        span.set_attributes(task_attributes(parent_context))
        active = context.get_value(_ACTIVE_TASK, parent_context)
        if isinstance(active, Task) and not active._has_ended:
            active._saw(span)

    def on_end(self, span: ReadableSpan) -> None:
        """Nothing to do: the span already carries what it needs."""


def bind_tasks(provider: TracerProvider) -> None:
    """Have `provider` write the task onto its spans; does nothing the second time, or without the SDK."""
    _hand_context_to_threads()
    add_span_processor = getattr(provider, "add_span_processor", None)
    if add_span_processor is None:
        return
    try:
        with _bind_lock:
            if provider in _bound_providers:
                return
            _bound_providers.add(provider)
        add_span_processor(TaskSpanProcessor())
    except Exception:  # a provider that is not the SDK's, and unlike it
        _LOGGER.exception("spans of %r will not carry the task they belong to", type(provider).__qualname__)


class Task:
    """One unit of business work, as a sync or async context manager: `with task("ticket-17") as current: ...`.

    Spans that start inside it, in any thread or asyncio task, belong to it. Of the pools of
    `concurrent.futures` only the work submitted inside belongs to it; any other thread that is started inside
    does while the task lasts, for it may be a worker that later tasks feed as well.

    Args:
        task_id: Your name for the task: a ticket, a pull request, a document. It travels as baggage.
        value: What a success is worth, in `currency`; `None` when nobody can say.
        group: Tasks that are alike (same template, repository, customer); intervals treat them as one draw.
        currency: ISO 4217 code.
        tracer_provider: Where the outcome's carrier span goes; the global provider by default.
        logger_provider: Where the outcome's event goes; the global provider by default.

    Raises:
        ValueError: If the id is empty, or the value or the currency is not one.
    """

    def __init__(
        self,
        task_id: str,
        *,
        value: Decimal | int | float | str | None = None,
        group: str | None = None,
        currency: str = "USD",
        tracer_provider: TracerProvider | None = None,
        logger_provider: LoggerProvider | None = None,
    ) -> None:
        # An Outcome checks them all, so that a bad value fails here and not when the work is done.
        declared = Outcome(
            task_id=task_id,
            status=OutcomeStatus.PENDING,
            value=as_money("value", value),
            currency=currency,
            group=group,
        )
        self.task_id = task_id
        self.value = declared.value
        self.group = group
        self.currency = currency
        self.outcome: Outcome | None = None
        """The outcome recorded last; `None` until there is one."""
        self._tracer_provider = tracer_provider
        self._logger_provider = logger_provider
        self._roots: dict[int, SpanContext] = {}  # by trace id, the first span of each
        self._lock = threading.Lock()
        self._token: Any = None
        self._entered_unix_nano = 0
        self._has_ended = False

    def __enter__(self) -> Self:
        if self._token is not None:
            raise RuntimeError(f"task {self.task_id!r} is entered already: make a new one with task(...)")
        bind_tasks(self._tracer_provider or trace.get_tracer_provider())
        surrounding = trace.get_current_span().get_span_context()
        if surrounding.is_valid:
            self._remember(surrounding)
        self._entered_unix_nano, self._has_ended = time.time_ns(), False
        self._token = context.attach(self._context())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        context.detach(self._token)
        self._token, self._has_ended = None, True
        if self.outcome is None:
            self._emit_pending(None if kind is None else f"left by {kind.__qualname__}")

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    @property
    def traceparent(self) -> str | None:
        """What is judged, as a W3C traceparent to keep for `record_outcome`; `None` before there is a span.

        It is the span around the task, if there is one, else the first span inside.
        """
        root = next(iter(self._judged()), None)
        if root is None:
            return None
        return f"00-{root.trace_id:032x}-{root.span_id:016x}-{root.trace_flags:02x}"

    def succeed(
        self,
        *,
        score: float | None = None,
        value: Decimal | int | float | str | None = None,
        evaluator: str = "user",
        evidence: str | None = None,
    ) -> Outcome:
        """The task reached its goal; it is worth `value`, or what `task` was told it would be."""
        worth = self.value if value is None else as_money("value", value)
        return self.record(
            self._outcome(OutcomeStatus.SUCCEEDED, score=score, value=worth, evaluator=evaluator, evidence=evidence)
        )

    def fail(
        self,
        *,
        score: float | None = None,
        value: Decimal | int | float | str | None = None,
        harm: Decimal | int | float | str | None = None,
        evaluator: str = "user",
        evidence: str | None = None,
    ) -> Outcome:
        """The task missed its goal; with `harm` it also did damage of that size and counts as harmful.

        Where the value of a success is declared, a failure is worth 0 unless `value` says otherwise.
        """
        nothing = None if self.value is None else Decimal(0)
        return self.record(
            self._outcome(
                OutcomeStatus.FAILED if harm is None else OutcomeStatus.HARMFUL,
                score=score,
                value=nothing if value is None else as_money("value", value),
                harm=as_money("harm", harm),
                evaluator=evaluator,
                evidence=evidence,
            )
        )

    def record(self, outcome: Outcome) -> Outcome:
        """Send an outcome of this task; one recorded later revises it.

        Raises:
            ValueError: If the outcome names another task.
        """
        if outcome.task_id != self.task_id:
            raise ValueError(
                f"this is task {self.task_id!r}, but the outcome is for {outcome.task_id!r}: use record_outcome()"
            )
        completed = dataclasses.replace(
            outcome, group=outcome.group or self.group, trace_id=outcome.trace_id or _trace_id(self._judged())
        )
        if self.outcome is not None and completed.version <= self.outcome.version:
            completed = dataclasses.replace(completed, version=self.outcome.version + 1)
        if self.outcome is not None and completed.observed_time_unix_nano < self.outcome.observed_time_unix_nano:
            # It was built before the other, or the clock stepped back; recorded later, it revises all the same.
            completed = dataclasses.replace(completed, observed_time_unix_nano=self.outcome.observed_time_unix_nano)
        self.outcome = completed
        self._emit(completed)
        return completed

    def _context(self) -> Context:
        bound = baggage.set_baggage(semconv.TASK_ID, self.task_id)
        if self.group is None:
            bound = baggage.remove_baggage(semconv.TASK_GROUP, bound)  # an enclosing task's group is not ours
        else:
            bound = baggage.set_baggage(semconv.TASK_GROUP, self.group, bound)
        return context.set_value(_ACTIVE_TASK, self, bound)

    def _saw(self, span: Span) -> None:
        own = span.get_span_context()
        if own is not None and own.trace_id not in self._roots:
            self._remember(own)

    def _remember(self, span_context: SpanContext) -> None:
        with self._lock:
            if len(self._roots) < _MAX_LINKS:
                self._roots.setdefault(span_context.trace_id, span_context)

    def _judged(self) -> tuple[SpanContext, ...]:
        with self._lock:
            return tuple(self._roots.values())

    def _outcome(self, status: OutcomeStatus, **fields: Any) -> Outcome:
        return Outcome(task_id=self.task_id, status=status, currency=self.currency, group=self.group, **fields)

    def _emit_pending(self, evidence: str | None) -> None:
        # Missing is not failed: somebody may still judge it. Dated at the start, so that it does not outrank
        # a judgement that was recorded meanwhile by the task's id.
        self._emit(
            self._outcome(OutcomeStatus.PENDING, evidence=evidence, observed_time_unix_nano=self._entered_unix_nano)
        )

    def _emit(self, outcome: Outcome) -> None:
        _send(
            outcome,
            judged=self._judged(),
            tracer_provider=self._tracer_provider,
            logger_provider=self._logger_provider,
        )


task = Task
"""`Task` under the name that reads well: `with task("ticket-17") as current: ...`."""


def record_outcome(
    task_id: str,
    status: OutcomeStatus | str,
    *,
    traceparent: str | None = None,
    tracer_provider: TracerProvider | None = None,
    logger_provider: LoggerProvider | None = None,
    **fields: Any,
) -> Outcome:
    """Send the outcome of a task that ran earlier, in this process or another, minutes or weeks ago.

    Args:
        task_id: The id that `task` was given.
        status: succeeded | failed | harmful | pending.
        traceparent: The judged span, as `Task.traceparent` gave it, when it was kept; the task id is enough
            for reports to join them, this also shows the outcome inside the trace.
        tracer_provider: Where the carrier span goes; the global provider by default.
        logger_provider: Where the event goes; the global provider by default.
        **fields: Further fields of `Outcome`: score, value, harm, currency, evaluator, evidence, group,
            observed_time_unix_nano, version.

    Raises:
        ValueError: If a field breaks its rule (see `Outcome`), or the traceparent is not one.
        TypeError: If `Outcome` has no such field.
    """
    judged = () if traceparent is None else (_parse_traceparent(traceparent),)
    outcome = Outcome(task_id=task_id, status=OutcomeStatus(status), trace_id=_trace_id(judged), **fields)
    _send(outcome, judged=judged, tracer_provider=tracer_provider, logger_provider=logger_provider)
    return outcome


def _send(
    outcome: Outcome,
    *,
    judged: tuple[SpanContext, ...],
    tracer_provider: TracerProvider | None,
    logger_provider: LoggerProvider | None,
) -> None:
    """Send the carrier and the event, whatever becomes of the other."""
    if isinstance(tracer_provider or trace.get_tracer_provider(), trace.ProxyTracerProvider):
        _LOGGER.warning("outcome of task %r goes nowhere: call tokenomics_plugin.configure() first", outcome.task_id)
    with _guarded("carrier span", outcome):
        _send_carrier(outcome, judged, tracer_provider or trace.get_tracer_provider())
    with _guarded("event", outcome):
        _send_event(outcome, judged, logger_provider or get_logger_provider())


@contextmanager
def _guarded(what: str, outcome: Outcome) -> Iterator[None]:
    """A failure to send is logged, never raised into the traced program."""
    try:
        yield
    except Exception:
        _LOGGER.exception("the %s of an outcome of task %r was not sent", what, outcome.task_id)


def _send_carrier(outcome: Outcome, judged: tuple[SpanContext, ...], provider: TracerProvider) -> None:
    # A child of what it judges, so that a backend shows one trace a task; the links say what was judged.
    tracer = provider.get_tracer(_SCOPE, package_version(), schema_url=semconv.SCHEMA_URL)
    span = tracer.start_span(
        f"{semconv.OPERATION_RECORD_OUTCOME} {outcome.evaluator}",
        context=_within(judged),
        links=[Link(span_context) for span_context in judged],
        attributes=outcome.to_attributes()
        | {
            semconv.GEN_AI_OPERATION_NAME: semconv.OPERATION_RECORD_OUTCOME,
            semconv.OPENINFERENCE_SPAN_KIND: "EVALUATOR",
        },
    )
    span.end()


def _send_event(outcome: Outcome, judged: tuple[SpanContext, ...], provider: LoggerProvider) -> None:
    logger = provider.get_logger(_SCOPE, package_version(), schema_url=semconv.SCHEMA_URL)
    logger.emit(
        LogRecord(
            timestamp=outcome.observed_time_unix_nano,
            context=_within(judged),
            severity_number=SeverityNumber.INFO,
            event_name=semconv.EVENT_EVALUATION_RESULT,
            attributes=outcome.to_attributes(),
        )
    )


def _within(judged: tuple[SpanContext, ...]) -> Context:
    """A context inside the judged span, or outside of any: a late outcome is nobody's child."""
    if not judged:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(judged[0]), Context())


def _parse_traceparent(traceparent: str) -> SpanContext:
    extracted = TraceContextTextMapPropagator().extract({"traceparent": traceparent}, Context())
    span_context = trace.get_current_span(extracted).get_span_context()
    if not span_context.is_valid:
        raise ValueError(f"traceparent must look like '00-<32 hex>-<16 hex>-01' (W3C), got {traceparent!r}")
    return span_context


def _trace_id(judged: Sequence[SpanContext]) -> str | None:
    return trace.format_trace_id(judged[0].trace_id) if judged else None


def _hand_context_to_threads() -> None:
    """Teach threads and thread pools to carry the context of a task; once for the process."""
    with _bind_lock:
        if not hasattr(threading.Thread.start, "__tokenomics__"):
            _wrap(threading.Thread, "start", _start_in_task)
            _wrap(ThreadPoolExecutor, "submit", _submit_in_task)


def _wrap(owner: type, name: str, around: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    @wraps(original)
    def wrapper(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if baggage.get_baggage(semconv.TASK_ID) is None:
            return original(self, *args, **kwargs)
        return around(original, self, *args, **kwargs)

    wrapper.__tokenomics__ = True  # type: ignore[attr-defined]
    setattr(owner, name, wrapper)


def _has_outlived_task(otel_context: Context | None) -> bool:
    """Whether this is a thread that a task started, and the task is over."""
    active = context.get_value(_ACTIVE_TASK, otel_context)
    return isinstance(active, Task) and active._has_ended and bool(context.get_value(_STARTED_THREAD, otel_context))


def _start_in_task(original: Callable[..., None], thread: threading.Thread) -> None:
    inherited = context.set_value(_STARTED_THREAD, True)
    thread.run = _in_context(thread.run, inherited)  # type: ignore[method-assign]  # on the instance: dies with it
    original(thread)


def _submit_in_task(
    original: Callable[..., Any], pool: ThreadPoolExecutor, function: Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Any:
    bound = _in_context(function, context.get_current())
    # A pool's threads outlive the task that happens to start them: they must not inherit it.
    token = context.attach(Context())
    try:
        return original(pool, bound, *args, **kwargs)
    finally:
        context.detach(token)


def _in_context(function: Callable[..., Any], captured: Context) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        token = context.attach(captured)
        try:
            return function(*args, **kwargs)
        finally:
            context.detach(token)

    return run
