"""Whose work a span is: the business task, the agent and the tool it belongs to.

Instrumentations write these names on some spans only, so the rest inherit them from the nearest ancestor that has
them. A task's own id counts first; a trace that names one task only lends it to all of its spans, also to those
outside, such as the web request that started the task.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from tokenomics_plugin import semconv
from tokenomics_plugin.ancestry import inherited
from tokenomics_plugin.span import SpanRecord

__all__ = ["Owner", "attribute"]


class Owner(NamedTuple):
    """What a span is part of; `None` where nothing says."""

    task_id: str | None = None
    """Business task."""
    agent: str | None = None
    """Agent that did the work."""
    tool: str | None = None
    """Innermost tool that was running."""

    def of_children(self, span: SpanRecord) -> Owner:
        """What the children of `span` inherit, when `span` itself is owned by `self`."""
        task_id, agent, tool = self
        task_id = span.task_id or task_id
        if span.operation == semconv.OPERATION_INVOKE_AGENT:
            agent = span.agent_name or agent
        elif span.operation == semconv.OPERATION_EXECUTE_TOOL:
            tool = span.tool_name or span.name or tool
        return Owner(task_id, agent, tool)


_NOBODY = Owner()


def attribute(trace: Sequence[SpanRecord], *, judged_task: str | None = None) -> Iterator[tuple[SpanRecord, Owner]]:
    """Pair each span of one trace with its owner.

    Args:
        trace: The spans, in any order; parents may be missing.
        judged_task: Task of an outcome that names this trace, used when no span names a task.
    """
    inherited_by = inherited({span.span_id: span for span in trace}, Owner.of_children, nothing=_NOBODY)
    named = {span.task_id for span in trace if span.task_id}
    only_task = judged_task if not named else named.pop() if len(named) == 1 else None
    for span in trace:
        owner = inherited_by[span.span_id]
        yield span, Owner(owner.task_id or only_task, span.agent_name or owner.agent, owner.tool)
