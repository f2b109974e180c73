"""From rows that `queries` returned to what reports compute with."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tokenomics_plugin import semconv
from tokenomics_plugin.outcome import Outcome, as_money
from tokenomics_plugin.span import SpanRecord
from tokenomics_plugin.usage import TokenUsage

__all__ = ["cost", "outcome", "span_record", "usage"]


def span_record(row: tuple[Any, ...]) -> SpanRecord:
    """A row of `queries.SPANS`."""
    (
        trace_id,
        span_id,
        parent_span_id,
        name,
        service_name,
        start_unix_nano,
        duration_nano,
        status,
        error_type,
        operation,
        provider,
        request_model,
        response_model,
        agent_name,
        tool_name,
        conversation_id,
        task_id,
        task_group,
        reported_cost,
        time_to_first_chunk_s,
        input_tokens,
        output_tokens,
        cache_read_tokens,
        cache_write_tokens,
        reasoning_tokens,
        node_name,
        operation_id,
        attempt_kind,
        superseded_by,
        loop_kind,
        run_state,
        answered_by,
        is_resumed,
        is_replay,
        is_cache_hit,
        is_usage_estimated,
        plan_revision,
        plan_steps_added,
        plan_steps_removed,
        plan_steps_completed,
    ) = row
    return SpanRecord(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=parent_span_id,
        name=name,
        service_name=service_name,
        start_unix_nano=start_unix_nano,
        duration_nano=duration_nano,
        status=status,
        error_type=error_type,
        operation=operation,
        provider=provider,
        request_model=request_model,
        response_model=response_model,
        agent_name=agent_name,
        tool_name=tool_name,
        conversation_id=conversation_id,
        task_id=task_id,
        task_group=task_group,
        usage=usage(input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens),
        reported_cost_usd=cost(reported_cost),
        time_to_first_chunk_s=time_to_first_chunk_s,
        node_name=node_name,
        operation_id=operation_id,
        attempt_kind=attempt_kind,
        superseded_by=superseded_by,
        loop_kind=loop_kind,
        run_state=run_state,
        answered_by=answered_by,
        is_resumed=is_resumed,
        is_replay=is_replay,
        is_cache_hit=is_cache_hit,
        is_usage_estimated=is_usage_estimated,
        plan_revision=plan_revision,
        plan_steps_added=plan_steps_added,
        plan_steps_removed=plan_steps_removed,
        plan_steps_completed=plan_steps_completed,
    )


def outcome(row: tuple[Mapping[str, str], str | None, int]) -> Outcome:
    """A row of `queries.OUTCOME_EVENTS` or `queries.OUTCOME_SPANS`.

    Raises:
        ValueError: If its attributes are not an outcome.
    """
    attributes, trace_id, time_unix_nano = row
    # Who wrote no time of judgement judged when the event happened.
    return Outcome.from_attributes({semconv.OUTCOME_OBSERVED_TIME: time_unix_nano, **attributes}, trace_id=trace_id)


def cost(text: str | None) -> Decimal | None:
    """An amount of money; `None` for what is none, which a foreign sender may write."""
    try:
        amount = as_money("cost", text)
    except ValueError:
        return None
    return None if amount is None or amount < 0 else amount


def usage(
    input_tokens: int | None,
    output_tokens: int | None,
    cache_read_tokens: int | None,
    cache_write_tokens: int | None,
    reasoning_tokens: int | None,
) -> TokenUsage | None:
    """The usage of a span by its typed columns; `None` when it carries none."""
    counts = (input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, reasoning_tokens)
    if counts == (None, None, None, None, None):
        return None
    return TokenUsage.from_inclusive(
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        cache_read_tokens=cache_read_tokens,
        cache_write_tokens=cache_write_tokens,
        reasoning_tokens=reasoning_tokens,
    )
