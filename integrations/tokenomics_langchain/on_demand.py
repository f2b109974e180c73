"""Listening to every run, recording only the trees that somebody asks for.

What an agent carries (a middleware) speaks up only when the agent calls its model, and by then the agent has
been running for a while. So the events of each tree are kept, with the moment at which each happened, until
the tree is asked for or has ended. Asking replays them into the recording handler, as if it had listened from
the start.
"""

from __future__ import annotations

import threading
import time
from typing import Any, Final, Protocol
from uuid import UUID

from langgraph.callbacks import GraphCallbackHandler, GraphInterruptEvent, GraphResumeEvent

from tokenomics_langchain.moments import Moment

__all__ = ["OnDemandHandler"]

_MAX_TREES: Final = 1_000
_MAX_EVENTS: Final = 5_000

_Event = tuple[str, tuple[Any, ...], dict[str, Any]]


class RecordingHandler(Protocol):
    """A handler that records what it hears; it has LangChain's callbacks too."""

    def is_recording(self, run_id: UUID | None) -> bool:
        """Whether a run is open that it records."""

    def remembers_interruption(self, thread_id: str | None, checkpoint_id: str) -> bool:
        """Whether it has recorded a run that was interrupted there."""

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """A graph stops, to be resumed."""


class OnDemandHandler(GraphCallbackHandler):
    """Keeps what it hears from `follow` on for the handler that it is given.

    Args:
        handler: Records the trees that are asked for.
    """

    raise_error = False
    run_inline = True
    # As properties, which they are in the class above, they would be called for every event.
    ignore_llm = False
    ignore_chain = False
    ignore_agent = False
    ignore_retriever = False
    ignore_chat_model = False

    def __init__(self, handler: RecordingHandler) -> None:
        super().__init__()
        self._handler = handler
        # Reentrant, for the garbage collector may close a stream anywhere, which is an event too. So the tables are
        # plain ones with integers as keys: no step of theirs runs Python code that another event could come between.
        self._lock = threading.RLock()
        self._roots: dict[int, int] = {}
        self._waiting: dict[int, list[_Event]] = {}
        self._replays = 0
        """How many trees are being told: until one is, its later events must wait for the lock."""

    @property
    def waiting(self) -> int:
        """Number of trees that nobody has asked for yet."""
        return len(self._waiting)

    def follow(self, run_id: UUID | None) -> None:
        """Record the tree that a run belongs to, from its start on; does nothing for a run that is not waiting."""
        if run_id is None or not self._waits(run_id):
            return
        # Held until all is told, so that no later event of the tree overtakes an earlier one.
        with self._lock:
            root_id = self._roots.get(run_id.int)
            self._replays += 1  # before the tree is forgotten, for others look without the lock
            try:
                for method, args, kwargs in self._forget(root_id) if root_id is not None else ():
                    getattr(self._handler, method)(*args, **kwargs)
            finally:
                self._replays -= 1

    def _waits(self, run_id: UUID) -> bool:
        """Whether a run may belong to a tree that waits, or that is being told; asked without the lock."""
        return run_id.int in self._roots or self._replays > 0

    def _started(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with self._lock:
            if not self._is_recorded(kwargs):
                run_id, parent_id = kwargs["run_id"].int, kwargs.get("parent_run_id")
                root_id = run_id if parent_id is None else self._roots.get(parent_id.int, run_id)
                self._roots[run_id] = root_id
                self._keep(root_id, method, args, kwargs)
                return
        getattr(self._handler, method)(*args, **kwargs)

    def _went_on(self, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with self._lock:
            run_id = kwargs["run_id"].int
            if (root_id := self._roots.get(run_id)) is not None:
                self._keep(root_id, method, args, kwargs)
                if root_id == run_id and method in _ENDS:
                    self._forget(root_id)
                return
        getattr(self._handler, method)(*args, **kwargs)

    def _is_recorded(self, kwargs: dict[str, Any]) -> bool:
        return self._handler.is_recording(kwargs.get("parent_run_id")) or self._handler.is_recording(kwargs["run_id"])

    def _keep(self, root_id: int, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        events = self._waiting.setdefault(root_id, [])
        if method in _STARTS:
            kwargs = {**kwargs, "moment": Moment.now()._replace(is_live=False)}
        else:
            kwargs = {**kwargs, "clock_ns": time.perf_counter_ns()}
        events.append((method, args, kwargs))
        if len(events) > _MAX_EVENTS:
            self._forget(root_id)
        elif len(self._waiting) > _MAX_TREES:
            self._forget(next(iter(self._waiting)))

    def _forget(self, root_id: int) -> list[_Event]:
        events = self._waiting.pop(root_id, [])
        for _, _, kwargs in events:
            self._roots.pop(kwargs["run_id"].int, None)
        return events

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Reaches the recording handler, which knows the runs that it records."""
        self._handler.on_interrupt(event)

    def on_resume(self, event: GraphResumeEvent) -> None:
        """Kept like any other event, for it comes before the first node starts."""
        if event.run_id is None:
            return
        self._went_on("on_resume", (event,), {"run_id": event.run_id})
        # What was recorded before an interrupt is recorded after it, from the first tool that goes on.
        if self._handler.remembers_interruption(self._thread_of(event.run_id), event.checkpoint_id):
            self.follow(event.run_id)

    def _thread_of(self, root_id: UUID | None) -> str | None:
        with self._lock:
            events = self._waiting.get(root_id.int) if root_id is not None else None
        thread_id = (events[0][2].get("metadata") or {}).get("thread_id") if events else None
        return None if thread_id is None else str(thread_id)


def _hearing_start(method: str) -> Any:
    def hear(self: OnDemandHandler, *args: Any, **kwargs: Any) -> None:
        if self._is_recorded(kwargs):
            getattr(self._handler, method)(*args, **kwargs)
        else:
            self._started(method, args, kwargs)

    hear.__name__ = method
    return hear


def _hearing_more(method: str) -> Any:
    def hear(self: OnDemandHandler, *args: Any, **kwargs: Any) -> None:
        if self._waits(kwargs["run_id"]):
            self._went_on(method, args, kwargs)
        else:
            getattr(self._handler, method)(*args, **kwargs)

    hear.__name__ = method
    return hear


_STARTS: Final = ("on_chain_start", "on_chat_model_start", "on_llm_start", "on_tool_start", "on_retriever_start")
_ENDS: Final = frozenset(
    f"on_{kind}_{ending}" for kind in ("chain", "llm", "tool", "retriever") for ending in ("end", "error")
)
for _method in _STARTS:
    setattr(OnDemandHandler, _method, _hearing_start(_method))
for _method in (*_ENDS, "on_llm_new_token", "on_stream_event"):
    setattr(OnDemandHandler, _method, _hearing_more(_method))
