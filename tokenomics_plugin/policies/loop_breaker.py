"""Ends a run that takes the same action in the same state again and again.

State is told by what tools may have changed: a declared write always changes it; a tool of which nothing is declared
does, unless it only does once more what was done last. So a read after a write is no repeat, and asking twice in a row
for the same thing is one, declared or not. `analysis.logged_runs` says the same of logged runs, so that what is
simulated is what would be done.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from tokenomics_plugin.policies.memory import Recent, checked_mode, is_named
from tokenomics_plugin.policies.ruling import refusal
from tokenomics_plugin.policy import Allowed, CallResult, ProposedCall, Verdict

__all__ = ["LoopBreaker"]

Action = Literal["stop", "block"]

_RULE: Final = "loop"
_Key = tuple[str | None, str]


@dataclass
class _Course:
    """What an agent's run has done."""

    version: int = 0
    last: _Key | None = None
    counts: Counter[tuple[_Key, int]] = field(default_factory=Counter)
    most: int = 0
    worst: str | None = None


class LoopBreaker:
    """Counts equal tool calls in equal state, each run of an agent by itself."""

    def __init__(
        self,
        *,
        repeats: int = 3,
        action: Action = "stop",
        read_only: Iterable[str] = (),
        writes: Iterable[str] = (),
        exempt: Iterable[str] = (),
        mode: str = "shadow",
    ) -> None:
        """Set the limit.

        Args:
            repeats: Occurrences of one action in one state that are too many, the first included.
            action: `stop` refuses the next model call, which ends the agent's loop; `block` refuses the action
                itself before it is taken so often, with an error that the model reads.
            read_only: Patterns of tools that change nothing (`get_*`).
            writes: Patterns of tools that always change something.
            exempt: Patterns of tools that may repeat, such as `poll_*`.
            mode: `shadow` or `enforce`.

        Raises:
            ValueError: If `repeats` is below 2, or there is no such action.
        """
        if repeats < 2:
            raise ValueError(f"repeats must be at least 2, got {repeats}: the first occurrence is none")
        if action not in ("stop", "block"):
            raise ValueError(f"action must be 'stop' or 'block', got {action!r}")
        self._repeats = repeats
        self._action: Action = action
        self._read_only, self._writes, self._exempt = frozenset(read_only), frozenset(writes), frozenset(exempt)
        self._mode = checked_mode(mode)
        self._lock = threading.Lock()
        self._courses: Recent[_Course] = Recent(_Course)

    def ask(self, call: ProposedCall) -> Verdict:
        """Refuse what goes on with a loop."""
        if call.agent_run_id is None:
            return Allowed()
        with self._lock:
            course = self._courses.of(call.agent_run_id)
            if call.kind == "model":
                looped = course.most if self._action == "stop" else 0
                name = course.worst
            else:
                looped, name = self._next_count(course, call) if self._action == "block" else 0, call.name
        if looped < self._repeats:
            return Allowed()
        reason = (
            f"The tool {name} was called {looped} times with the same arguments, and nothing has changed in between."
        )
        return refusal(_RULE, reason, mode=self._mode, estimate=float(looped))

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Count the action, and note whether it may have changed anything."""
        if call.kind != "tool" or call.agent_run_id is None or call.arguments_fingerprint is None:
            return
        if result.state == "refused":
            return
        key = call.name, call.arguments_fingerprint
        with self._lock:
            course = self._courses.of(call.agent_run_id)
            if self._changes(key, course.last):
                course.version += 1
                course.most = 0
            course.last = key
            course.counts[key, course.version] += 1
            if course.counts[key, course.version] > course.most and not is_named(call.name, self._exempt):
                course.most, course.worst = course.counts[key, course.version], call.name

    def _next_count(self, course: _Course, call: ProposedCall) -> int:
        if call.arguments_fingerprint is None or is_named(call.name, self._exempt):
            return 0
        key = call.name, call.arguments_fingerprint
        return 1 if self._changes(key, course.last) else course.counts[key, course.version] + 1

    def _changes(self, key: _Key, last: _Key | None) -> bool:
        """Whether the state is another one from this action on."""
        return is_named(key[0], self._writes) or (key != last and not is_named(key[0], self._read_only))
