"""When and where an event happened."""

from __future__ import annotations

from time import perf_counter_ns
from typing import NamedTuple
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config
from opentelemetry.context import Context

from tokenomics_langchain.ambient import get_current

__all__ = ["Moment"]


class Moment(NamedTuple):
    """When and where a run started."""

    clock_ns: int
    """Monotonic clock, for durations."""
    context: Context
    """The application's OpenTelemetry context."""
    enclosing_run_id: UUID | None = None
    """The run in whose frame it started, as LangChain's own context says."""
    is_live: bool = True
    """Whether the start is reported as it happens, in the frame in which it does."""

    @classmethod
    def now(cls) -> Moment:
        """This moment, at which a run starts here."""
        config = var_child_runnable_config.get()
        enclosing = getattr(config.get("callbacks"), "parent_run_id", None) if config else None
        return _make(cls, (perf_counter_ns(), get_current(), enclosing, True))


# Every start passes here, and a named tuple's own constructor is one more call of Python.
_make = tuple.__new__
