"""Joining a resumed run to the interrupted one, and telling work that runs again from work that is new.

LangGraph ends an interrupted graph without an error, and resumes it as another run, in which every
interrupted node starts over: what it did before the interrupt, it does again. Both runs name the same
checkpoint, and a checkpoint belongs to a thread, so (thread id, checkpoint id) joins exactly those two.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from opentelemetry.trace import SpanContext

__all__ = ["Interruption", "Interruptions"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Interruption:
    """An interrupted run, as far as resuming it needs."""

    root: SpanContext
    """The span of the run."""
    executed: Mapping[object, SpanContext]
    """What the interrupted nodes had done, and the spans that showed it."""


class Interruptions:
    """Interrupted runs that may be resumed, once or more often: the last ones; safe to use from any thread."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._by_checkpoint: OrderedDict[tuple[str | None, str], Interruption] = OrderedDict()

    def add(self, thread_id: str | None, checkpoint_id: str, interruption: Interruption) -> None:
        """Remember an interrupted run; the one that has been remembered longest makes room."""
        with self._lock:
            self._by_checkpoint[thread_id, checkpoint_id] = interruption
            self._by_checkpoint.move_to_end((thread_id, checkpoint_id))
            if len(self._by_checkpoint) > self._limit:
                self._by_checkpoint.popitem(last=False)

    def find(self, thread_id: str | None, checkpoint_id: str) -> Interruption | None:
        """The run that was interrupted there; `None` when it ran in another process, or too long ago."""
        with self._lock:
            return self._by_checkpoint.get((thread_id, checkpoint_id))
