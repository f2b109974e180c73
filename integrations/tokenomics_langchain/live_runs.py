"""The runs that are open right now, before anything is recorded of them.

A callback does no more than this table needs; what it was told waits in a backlog, in the order of the events of its
tree, and is recorded together with other events.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from opentelemetry.trace import Span

from tokenomics_langchain.ambient import AmbientSpan
from tokenomics_langchain.backlog import Backlog
from tokenomics_langchain.moments import Moment

__all__ = ["LiveRun", "LiveRuns"]

FindSpan = Callable[[UUID], Span | None]


class LiveRun:
    """A run between its start and its end, as they are heard."""

    __slots__ = (
        "_find_span",
        "_span",
        "ambient",
        "backlog",
        "has_ended",
        "is_agent",
        "is_current",
        "is_model_node",
        "owner",
        "parent",
        "parent_run_id",
        "run_id",
        "started",
    )

    def __init__(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        started: Moment,
        parent: LiveRun | None,
        owner: object,
        backlog: Backlog,
        find_span: FindSpan,
    ) -> None:
        self.run_id = run_id
        self.parent_run_id = parent_run_id
        """Of the run that LangChain names as the one around it."""
        self.started = started
        """When and where it started."""
        self.parent = parent
        """The open run that it was found to belong to."""
        self.owner = owner
        """Whose callbacks heard of it first, and record it."""
        self.backlog = backlog
        """What is still to be recorded of its tree."""
        self.ambient: AmbientSpan | None = None
        """The context in which its span may be current."""
        self.is_current = False
        """Whether its span is current there; known when its start is recorded."""
        self.is_agent = False
        """Whether it is known to be an agent that `create_agent` made."""
        self.is_model_node = False
        """Whether it may be the node in which an agent calls its model."""
        self.has_ended = False
        """Whether its end was heard."""
        self._find_span = find_span
        self._span: Span | None = None

    def started_span(self) -> Span | None:
        """The span that shows it, started now if it was not."""
        if self._span is None:
            self.backlog.drain()
            self._span = self._find_span(self.run_id)
        return self._span

    def current_span(self) -> Span | None:
        """The same, where it is to be current."""
        span = self.started_span()
        return span if self.is_current else None


class LiveRuns:
    """The open runs of one tracer provider, by id; safe to use from any thread.

    Args:
        find_span: The span of a run, once its start is recorded.
    """

    def __init__(self, find_span: FindSpan) -> None:
        # By the id as an integer, so that each operation of the dict is atomic: none runs Python code.
        self._open: dict[int, LiveRun] = {}
        self._find_span = find_span

    def find(self, run_id: UUID | None) -> LiveRun | None:
        """An open run; `None` when it has ended, or began where no handler listened."""
        return None if run_id is None else self._open.get(run_id.int)

    def begin(self, run_id: UUID, parent_run_id: UUID | None, started: Moment, owner: object) -> LiveRun | None:
        """A run starts; `None` when another handler has heard of it already."""
        parent = None if parent_run_id is None else self._open.get(parent_run_id.int)
        if parent is None:
            parent = self.find(started.enclosing_run_id)
        backlog = Backlog() if parent is None else parent.backlog
        run = LiveRun(run_id, parent_run_id, started, parent, owner, backlog, self._find_span)
        return run if self._open.setdefault(run_id.int, run) is run else None

    def end(self, run_id: UUID) -> LiveRun | None:
        """A run ends; `None` when it is not open."""
        run = self._open.pop(run_id.int, None)
        if run is not None:
            run.has_ended = True
            if run.ambient is not None:
                run.ambient.heal()
        return run
