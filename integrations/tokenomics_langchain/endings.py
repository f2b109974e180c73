"""How a run ended, told from the exception that LangChain reported.

LangGraph moves control with exceptions: an interrupt, a hand-off to the parent graph and a drained graph
all unwind the stack, and nothing went wrong. A stream that its consumer closes ends with `GeneratorExit`,
which is the consumer's choice. Only the rest are errors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from opentelemetry.util.types import AttributeValue

from tokenomics_plugin import semconv

__all__ = ["ABANDONED", "COMPLETED", "Ending", "RunState", "ending_of", "full_name"]


class RunState(Enum):
    """How a run ended; the values of `tokenomics.run.state`, but for the first two."""

    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"
    HANDED_OFF = "handed_off"
    DRAINED = "drained"
    ABANDONED = "abandoned"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How a run ended."""

    state: RunState
    """In one word."""
    error: BaseException | None = None
    """What was raised, when that is an error."""
    error_type: str | None = None
    """`error.type`, when the run failed or was cancelled."""
    event: str | None = None
    """The span event that tells about it, for control flow."""
    event_attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    """The event's attributes."""

    @property
    def is_error(self) -> bool:
        """Whether the span's status is ERROR."""
        return self.error_type is not None


COMPLETED: Final = Ending(state=RunState.COMPLETED)
ABANDONED: Final = Ending(state=RunState.ABANDONED)


def ending_of(error: BaseException) -> Ending:
    """The ending that an exception stands for."""
    if isinstance(error, GraphBubbleUp):
        return _control_flow(error)
    if isinstance(error, GeneratorExit):
        return ABANDONED
    kind = type(error).__qualname__
    state = RunState.CANCELLED if isinstance(error, asyncio.CancelledError) else RunState.FAILED
    return Ending(state=state, error=error, error_type=kind)


def full_name(kind: type) -> str:
    """The name of an exception's class, with its module where that says anything."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _control_flow(error: GraphBubbleUp) -> Ending:
    if isinstance(error, GraphInterrupt):
        count = len(error.args[0]) if error.args and isinstance(error.args[0], list | tuple) else 1
        return Ending(
            state=RunState.INTERRUPTED,
            event=semconv.EVENT_INTERRUPT,
            event_attributes={semconv.INTERRUPT_COUNT: count},
        )
    if isinstance(error, ParentCommand):
        goto = error.args[0].goto if error.args else None
        return Ending(
            state=RunState.HANDED_OFF,
            event=semconv.EVENT_HAND_OFF,
            event_attributes={semconv.HAND_OFF_TO: goto} if isinstance(goto, str) and goto else {},
        )
    return Ending(state=RunState.DRAINED, event=semconv.EVENT_DRAIN)
