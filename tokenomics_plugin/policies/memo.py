"""Answers a pure tool's call with an earlier result, in the same run and the same state."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from tokenomics_plugin.policies.memory import Recent, checked_mode, is_named
from tokenomics_plugin.policy import Allowed, CallResult, Decision, ProposedCall, Recalled, Verdict

__all__ = ["MemoTools"]

_RULE: Final = "memo"
_Key = tuple[str | None, str]


@dataclass
class _Memory:
    """What a run knows: when each call was answered, and in which state."""

    version: int = 0
    answered: dict[_Key, tuple[int, float]] = field(default_factory=dict)


class MemoTools:
    """Remembers results of tools that are declared pure; whatever else is called may change what they read.

    A result is remembered for the run that the application started, its sub-agents included, and never for another
    one. Errors and calls that did not complete are not remembered.
    """

    def __init__(
        self,
        *,
        read_only: Iterable[str],
        invalidate_on: Iterable[str] | None = None,
        ttl: float = 300.0,
        mode: str = "shadow",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Declare tools.

        Args:
            read_only: Patterns of tools without effects, whose answer depends on arguments and state alone (`get_*`).
            invalidate_on: Patterns of tools that change what these read; by default every other tool does.
            ttl: Seconds for which an answer holds, for what changes from outside.
            mode: `shadow` or `enforce`.
            clock: Tells seconds.

        Raises:
            ValueError: If no tool is declared, or `ttl` is not positive.
        """
        self._read_only = frozenset([read_only] if isinstance(read_only, str) else read_only)
        if not self._read_only:
            raise ValueError("read_only must name a tool: nothing else may be answered from memory")
        if not ttl > 0:
            raise ValueError(f"ttl must be above 0 seconds, got {ttl}")
        self._invalidates = None if invalidate_on is None else frozenset(invalidate_on)
        self._ttl, self._clock = ttl, clock
        self._mode = checked_mode(mode)
        self._lock = threading.Lock()
        self._memories: Recent[_Memory] = Recent(_Memory)

    def ask(self, call: ProposedCall) -> Verdict:
        """Recall, or have the answer remembered."""
        key = self._key(call)
        if key is None or call.run_id is None:
            return Allowed()
        with self._lock:
            memory = self._memories.of(call.run_id)
            known, version = memory.answered.get(key), memory.version
        remembered = f"{call.run_id}:{version}:{key[0]}:{key[1]}"
        if known is None or known[0] != version or self._clock() - known[1] > self._ttl:
            return Allowed(remember_as=remembered)
        age = self._clock() - known[1]
        reason = f"The same call was answered {age:.0f} seconds ago, and nothing has changed since."
        decision = Decision(rule=_RULE, acts=True, mode=self._mode, reason=reason, estimate=age)
        if self._mode == "shadow":
            return Allowed(decisions=(decision,))
        return Recalled(key=remembered, decisions=(decision,))

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Note the answer, or that what is known may hold no longer."""
        if call.kind != "tool" or call.run_id is None or result.state == "refused":
            return
        key = self._key(call)
        with self._lock:
            memory = self._memories.of(call.run_id)
            if key is not None and result.state == "completed":
                memory.answered[key] = memory.version, self._clock()
            elif key is None and self._may_change(call.name):
                memory.version += 1
                memory.answered.clear()

    def _key(self, call: ProposedCall) -> _Key | None:
        if call.kind != "tool" or call.arguments_fingerprint is None or not is_named(call.name, self._read_only):
            return None
        return call.name, call.arguments_fingerprint

    def _may_change(self, name: str | None) -> bool:
        return self._invalidates is None or is_named(name, self._invalidates)
