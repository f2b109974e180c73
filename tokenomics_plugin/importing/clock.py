"""Times for what a log may not have dated, in the order in which it was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

from tokenomics_plugin.importing.chat_log import Message

__all__ = ["UNDATED_UNIX_NANO", "Clock"]

UNDATED_UNIX_NANO: Final = 1_767_268_800 * 10**9
"""Where runs without any time are put: 2026-01-01 12:00 UTC, the date of the standard prices."""
_STEP_NS: Final = 1_000_000
_TAKES_TIME: Final = frozenset({"assistant", "tool", "function"})


@dataclass
class Clock:
    """Gives each message its end, never before that of the one before it."""

    now: int
    """End of the last message, nanoseconds since 1970."""
    is_synthesized: bool
    """Whether `now` is ours and not the log's."""

    @classmethod
    def at_start(cls, started: int | None, messages: Sequence[Message]) -> Self:
        """The start of a run: what the log says, else the time of the first message that has one."""
        first = next((message for message in messages if message.timestamp is not None), None)
        if started is not None:
            return cls(started, is_synthesized=False)
        if first is None or first.timestamp is None:
            return cls(UNDATED_UNIX_NANO, is_synthesized=True)
        # An answer is dated when it is complete: when it began, nobody says.
        return cls(first.timestamp, is_synthesized=first.role in _TAKES_TIME)

    def advance(self, timestamp: int | None) -> bool:
        """Go on to the end of the next message; says whether the time between is ours."""
        was_synthesized = self.is_synthesized
        self.is_synthesized = timestamp is None or timestamp < self.now
        self.now = self.now + _STEP_NS if timestamp is None or timestamp < self.now else timestamp
        return was_synthesized or self.is_synthesized

    def observe(self, timestamp: int | None) -> None:
        """Take the time of a message that no span stands for."""
        if timestamp is not None and timestamp >= self.now:
            self.now, self.is_synthesized = timestamp, False
