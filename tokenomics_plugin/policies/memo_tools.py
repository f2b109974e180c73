"""Answers a read from the answer that the same read got before, as long as nothing may have changed it.

A write counts from the moment it is asked for, and again when it ends: a read that overlaps one is never kept.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, get_args

from tokenomics_plugin.policies.scopes import Scope, Scopes, check_choice, check_mode, matches_any, scope_of
from tokenomics_plugin.policy import Allowed, Answered, CallResult, Decision, Mode, ProposedCall, Verdict

__all__ = ["MemoTools"]

_RULE: Final = "memo"
_MOST: Final = 1_000
_REASON: Final = "The same read was answered before, and no write came in between."


@dataclass(slots=True)
class _Memory:
    version: int = 0
    answers: OrderedDict[str, tuple[Any, float]] = field(default_factory=OrderedDict)
    """Answer and time of each read, in the present version."""
    open: dict[tuple[str, int], int] = field(default_factory=dict)
    """Version in which a read that has not ended began."""

    def forget(self) -> None:
        self.version += 1
        self.answers.clear()


class MemoTools:
    """Answers repeated reads without calling the tool. Only what completed, and only in the scope in which it did.

    A tool that answers with more than a message (a `Command`), fails or is interrupted is called again.

    Args:
        read_only: Names or patterns of tools that have no effect and answer the same in the same state.
        ttl: Seconds that an answer is good for; without end by default.
        invalidate_on: Names or patterns of tools that may change what the reads answer; by default every other one.
        scope: What shares answers.
        mode: `shadow` records, `enforce` answers.
        clock: Seconds that do not go back.

    Raises:
        ValueError: If `ttl` is not above 0, or a choice is unknown.
    """

    def __init__(
        self,
        *,
        read_only: Iterable[str],
        ttl: float | None = None,
        invalidate_on: Iterable[str] | None = None,
        scope: Scope = "run",
        mode: Mode = "shadow",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if ttl is not None and not ttl > 0:
            raise ValueError(f"ttl must be above 0 seconds, got {ttl}")
        check_choice("scope", scope, get_args(Scope))
        self.mode = check_mode(mode)
        self._read_only, self._ttl, self._scope, self._clock = tuple(read_only), ttl, scope, clock
        self._invalidate_on = None if invalidate_on is None else tuple(invalidate_on)
        self._memories = Scopes(_Memory)
        self._lock = threading.Lock()

    def ask(self, call: ProposedCall) -> Verdict:
        """Answer a read that was answered before; forget everything before a write."""
        scope = scope_of(call, self._scope)
        if call.kind != "tool" or scope is None:
            return Allowed()
        with self._lock:
            memory = self._memories[scope]
            if self._writes(call):
                memory.forget()
            if (key := self._key(call)) is None:
                return Allowed()
            if (kept := memory.answers.get(key)) is not None and self._is_fresh(kept[1]):
                decision = Decision(rule=_RULE, mode=self.mode, action="answer", reason=_REASON)
                if self.mode == "enforce":
                    return Answered(answer=kept[0], rule=_RULE, decisions=(decision,))
                return Allowed((decision,))
            memory.open[call.operation_id, call.attempt] = memory.version
        return Allowed()

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Keep the answer of a read; forget everything after a write, even one that failed."""
        scope = scope_of(call, self._scope)
        if call.kind != "tool" or scope is None:
            return
        with self._lock:
            memory = self._memories[scope]
            began = memory.open.pop((call.operation_id, call.attempt), None)
            if self._writes(call) and result.state not in ("refused", "answered"):
                memory.forget()
            key = self._key(call)
            if key is None or began != memory.version or result.state != "completed" or result.answer is None:
                return
            # A shadow keeps no content: that there was an answer is all it needs.
            memory.answers[key] = (result.answer if self.mode == "enforce" else True), self._clock()
            memory.answers.move_to_end(key)
            if len(memory.answers) > _MOST:
                memory.answers.popitem(last=False)

    def _writes(self, call: ProposedCall) -> bool:
        if self._invalidate_on is None:
            return not matches_any(call.name, self._read_only)
        return matches_any(call.name, self._invalidate_on)

    def _key(self, call: ProposedCall) -> str | None:
        if call.arguments_fingerprint is None or not matches_any(call.name, self._read_only):
            return None
        return f"{call.name}\0{call.arguments_fingerprint}"

    def _is_fresh(self, kept_at: float) -> bool:
        return self._ttl is None or self._clock() - kept_at < self._ttl
