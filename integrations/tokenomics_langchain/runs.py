"""The runs that have not ended: which span shows each of them, and the context that its children start in.

Parents are found by run id and handed to OpenTelemetry explicitly. Nothing is ever attached as the
current context: LangChain ends a run in another thread, task or generator frame than it began in, so
what a callback attaches cannot be detached.

A run without a span of its own is kept too, so that its children find the nearest ancestor that has one.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any
from uuid import UUID

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Tracer, set_span_in_context

from tokenomics_langchain.attributes import Attributes, known
from tokenomics_plugin import semconv
from tokenomics_plugin.tasks import task_attributes

__all__ = ["ChainKind", "Run", "Runs"]


class ChainKind(Enum):
    """What a chain run is, in LangChain's wide sense of chain."""

    WORKFLOW = "workflow"
    AGENT = "agent"
    NODE = "node"
    PART = "part"


@dataclass(kw_only=True, slots=True, eq=False)
class Run:
    """One LangChain run between its start and its end."""

    parent: Run | None
    """The run it belongs to; `None` for the outermost run that the handler sees."""
    name: str | None
    """LangChain's name for it."""
    metadata: Mapping[str, Any]
    """As LangChain gave it, inherited keys included."""
    ambient: Context
    """The application's context at the start, whose baggage says which task this run serves."""
    task: Mapping[str, str]
    """The `tokenomics.task.*` attributes of that context."""
    started_unix_nano: int
    """When LangChain reported the start."""
    started_clock_ns: int
    """The same on the monotonic clock, for what is measured from there."""
    chain_kind: ChainKind | None = None
    """What it is, for a chain run; `None` for a call of a model, a tool or a retriever."""
    agent_name: str | None = None
    """The name that an agent was given; `None` for every other run."""
    inputs: Any = None
    """What a chain was given; kept only when content is captured."""
    span: Span | None = None
    """The span that shows it, if one does."""
    has_streamed: bool = False
    """Whether the first chunk has arrived."""

    def lineage(self) -> Iterator[Run]:
        """This run, its parent, and so on to the outermost one."""
        run: Run | None = self
        while run is not None:
            yield run
            run = run.parent

    def parent_context(self) -> Context:
        """The context that this run's span starts in: the nearest shown ancestor, over the ambient baggage."""
        span = next((run.span for run in self.lineage() if run.span is not None), None)
        return self.ambient if span is None else set_span_in_context(span, self.ambient)

    def shared_attributes(self) -> Attributes:
        """What every span of a run says about the work that it is part of."""
        agent = next((run for run in self.lineage() if run.chain_kind is ChainKind.AGENT), None)
        thread_id = self.metadata.get("thread_id")  # of the graph's configuration
        return {
            **self.task,
            **known(
                (semconv.GEN_AI_CONVERSATION_ID, None if thread_id is None else str(thread_id)),
                (semconv.GEN_AI_AGENT_NAME, agent.agent_name if agent else None),
            ),
        }


class Runs:
    """Open runs by id; safe to use from any thread.

    Some runs never end: LangChain reports no end for a model call that is cancelled. So the table is
    bounded, and the run that has been open longest makes room, its span ended as it is.
    """

    def __init__(self, tracer: Tracer, *, max_open: int) -> None:
        self._tracer = tracer
        self._max_open = max_open
        # An OrderedDict compares UUIDs in Python in the middle of an operation, so its operations are not atomic.
        self._lock = threading.Lock()
        self._open: OrderedDict[UUID, Run] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def find(self, run_id: UUID | None) -> Run | None:
        """An open run; `None` when it has ended, or began where the handler did not listen."""
        with self._lock:
            return None if run_id is None else self._open.get(run_id)

    def begin(
        self, run_id: UUID, parent_run_id: UUID | None, *, name: str | None, metadata: Mapping[str, Any] | None
    ) -> Run:
        """Register a run that starts now."""
        parent, metadata = self.find(parent_run_id), metadata or {}
        ambient, task = _surroundings(parent)
        run = Run(
            parent=parent,
            name=name,
            metadata=metadata,
            ambient=ambient,
            task=task,
            started_unix_nano=time.time_ns(),
            started_clock_ns=time.perf_counter_ns(),
        )
        with self._lock:
            self._open[run_id] = run
            oldest = self._open.popitem(last=False)[1] if len(self._open) > self._max_open else None
        if oldest is not None and oldest.span is not None:
            oldest.span.end()
        return run

    def show(self, run: Run, name: str, attributes: Attributes, *, kind: SpanKind = SpanKind.INTERNAL) -> None:
        """Start the span of a run, dated at the run's start."""
        run.span = self._tracer.start_span(
            name,
            context=run.parent_context(),
            kind=kind,
            attributes={**run.shared_attributes(), **attributes},
            start_time=run.started_unix_nano,
        )

    def finish(self, run_id: UUID) -> Run | None:
        """Forget a run that ends now; `None` when it is not open."""
        with self._lock:
            return self._open.pop(run_id, None)


def _surroundings(parent: Run | None) -> tuple[Context, Mapping[str, str]]:
    """The ambient context of a run that starts now, and its task.

    A worker thread may have no context at all, so a run inside another takes its parent's, unless the
    program has entered a task of its own in between.
    """
    current = otel_context.get_current()
    task = task_attributes(current)
    return (current, task) if parent is None or task else (parent.ambient, parent.task)
