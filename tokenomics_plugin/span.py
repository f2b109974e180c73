"""The span as a report reads it: identity, time, parties and usage, without the rest of its attributes.

This is the seam between stores and everything that computes: a store yields `SpanRecord`s (from DuckDB
today, from a ClickHouse cluster when someone needs one), and no figure depends on where they came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from tokenomics_plugin import semconv
from tokenomics_plugin.outcome import Outcome
from tokenomics_plugin.usage import TokenUsage

__all__ = ["SpanRecord", "TraceReader"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SpanRecord:
    """One finished span. Text that the source did not give is `None`."""

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_span_id: str | None = None
    """16 hex digits; `None` for a root."""
    name: str = ""
    """Span name."""
    service_name: str = ""
    """`service.name` of the resource."""
    start_unix_nano: int = 0
    """Start, nanoseconds since the epoch."""
    duration_nano: int | None = None
    """End minus start, nanoseconds; `None` when the sender's clock stepped back in between, or a log has no times."""
    status: str = "Unset"
    """Unset | Ok | Error, as the Collector's ClickHouse exporter writes it."""
    error_type: str | None = None
    """`error.type`."""
    operation: str | None = None
    """`gen_ai.operation.name`."""
    provider: str | None = None
    """`gen_ai.provider.name`."""
    request_model: str | None = None
    """`gen_ai.request.model`."""
    response_model: str | None = None
    """`gen_ai.response.model`."""
    agent_name: str | None = None
    """`gen_ai.agent.name`."""
    tool_name: str | None = None
    """`gen_ai.tool.name`."""
    conversation_id: str | None = None
    """`gen_ai.conversation.id`."""
    task_id: str | None = None
    """`tokenomics.task.id`."""
    task_group: str | None = None
    """`tokenomics.task.group`."""
    usage: TokenUsage | None = None
    """Tokens in disjoint classes; `None` when the span carries no usage at all."""
    reported_cost_usd: Decimal | None = None
    """`tokenomics.usage.cost`: what the call cost as its log says; `None` when it does not."""
    time_to_first_chunk_s: float | None = None
    """`gen_ai.response.time_to_first_chunk`, seconds."""
    node_name: str | None = None
    """`tokenomics.node.name`."""
    operation_id: str | None = None
    """`tokenomics.operation.id`, the same on all attempts of one operation; `None`: nothing is said of attempts."""
    attempt_kind: str | None = None
    """`tokenomics.attempt.kind`: what tried again; `None` for a first attempt."""
    superseded_by: str | None = None
    """`tokenomics.attempt.superseded_by`: span id of the attempt that replaced this one."""
    loop_kind: str | None = None
    """`tokenomics.loop.kind`; `None` for what repeats nothing, or was not watched."""
    run_state: str | None = None
    """`tokenomics.run.state`; `None` for what completed or failed."""
    answered_by: str | None = None
    """`tokenomics.answered_by`: what answered in the place of a model or tool, which did not run."""
    is_resumed: bool = False
    """Whether it goes on from a checkpoint: it has the event `tokenomics.resume`."""
    is_replay: bool = False
    """`tokenomics.replay`: it had run before the interrupt."""
    is_cache_hit: bool = False
    """`tokenomics.cache.hit`: the framework's own cache answered, and no model ran."""
    is_usage_estimated: bool = False
    """`tokenomics.usage.estimated`: the count of output tokens is an estimate."""
    plan_revision: int | None = None
    """`tokenomics.plan.revision`: 0 where a plan was made, more where it was revised; `None` for other work."""
    plan_steps_added: int | None = None
    """`tokenomics.plan.steps.added`."""
    plan_steps_removed: int | None = None
    """`tokenomics.plan.steps.removed`."""
    plan_steps_completed: int | None = None
    """`tokenomics.plan.steps.completed`."""

    @property
    def is_billed(self) -> bool:
        """Whether this span is a model call, whose tokens are what the provider bills."""
        return self.operation in semconv.BILLED_OPERATIONS

    @property
    def model(self) -> str | None:
        """The model that answered, else the one that was asked for."""
        return self.response_model or self.request_model


class TraceReader(Protocol):
    """What a report needs of a store."""

    def spans(self) -> Iterator[SpanRecord]:
        """Every span once, those of a trace together and by start time."""
        ...

    def outcomes(self) -> Iterable[Outcome]:
        """Every outcome that arrived, revised ones and duplicates included."""
        ...
