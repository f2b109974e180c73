"""Sees an agent take the same action again and again while nothing changes.

The same call after a write is a new question, not a loop. Which tools write is seldom declared, so every tool that is
not declared to read may; only a repetition of the very call that wrote last leaves the counts alone.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from tokenomics_plugin.policies.scopes import Scopes, check_choice, check_mode, matches_any
from tokenomics_plugin.policy import Allowed, CallResult, Decision, Mode, ProposedCall, Refused, Verdict

__all__ = ["LoopBreaker"]

_RULE: Final = "loop"
_HAPPENED: Final = frozenset({"completed", "failed", "answered"})


@dataclass(slots=True)
class _Actions:
    counts: Counter[str] = field(default_factory=Counter)
    is_looping: bool = False


class LoopBreaker:
    """Stops an agent's run that calls one tool with the same arguments too often in one state.

    Retries of one call, and calls that were interrupted or cancelled, are no repetitions.

    Args:
        repeats: Occurrences that make a loop, the first included.
        action: `stop` refuses the model call after the last of them; `block` answers the last of them with an error
            that the model reads, and lets the run go on.
        read_only: Names or patterns of tools that change nothing. Any other call that completes begins a new state
            for all other calls.
        exempt: Names or patterns of tools that may be called as often as they like, such as `poll_*`.
        mode: `shadow` records, `enforce` refuses.

    Raises:
        ValueError: If `repeats` is below 2, or `action` or `mode` is unknown.
    """

    def __init__(
        self,
        *,
        repeats: int = 3,
        action: Literal["stop", "block"] = "stop",
        read_only: Iterable[str] = (),
        exempt: Iterable[str] = (),
        mode: Mode = "shadow",
    ) -> None:
        if repeats < 2:
            raise ValueError(f"repeats must be at least 2, got {repeats}")
        check_choice("action", action, ("stop", "block"))
        self.mode = check_mode(mode)
        self._repeats, self._action = repeats, action
        self._read_only, self._exempt = tuple(read_only), tuple(exempt)
        self._agents = Scopes(_Actions)
        self._lock = threading.Lock()

    def ask(self, call: ProposedCall) -> Verdict:
        """Count a tool call; refuse what the loop that it closes forbids."""
        if call.agent_run_id is None:
            return Allowed()
        with self._lock:
            actions = self._agents[call.agent_run_id]
            if call.kind == "model":
                return self._verdict(self._repeats) if self._action == "stop" and actions.is_looping else Allowed()
            if (key := self._key(call)) is None or call.attempt > 1:
                return Allowed()
            seen = actions.counts[key] + 1
            verdict = self._verdict(seen) if self._action == "block" and seen >= self._repeats else Allowed()
            if not isinstance(verdict, Refused):
                actions.counts[key] = seen
                actions.is_looping = actions.is_looping or seen >= self._repeats
        return verdict

    def tell(self, call: ProposedCall, result: CallResult) -> None:
        """Begin a new state after a write; forget a call that was not made to its end."""
        if call.kind != "tool" or call.agent_run_id is None:
            return
        key = self._key(call)
        with self._lock:
            actions = self._agents[call.agent_run_id]
            if result.state not in _HAPPENED:
                if key is not None and call.attempt == 1 and actions.counts[key]:
                    actions.counts[key] -= 1
            elif result.state == "completed" and not matches_any(call.name, self._read_only):
                actions.counts = Counter() if key is None else Counter({key: actions.counts[key]})
            actions.is_looping = any(count >= self._repeats for count in actions.counts.values())

    def _key(self, call: ProposedCall) -> str | None:
        if call.arguments_fingerprint is None or matches_any(call.name, self._exempt):
            return None
        return f"{call.name}\0{call.arguments_fingerprint}"

    def _verdict(self, seen: int) -> Verdict:
        reason = f"The same call was asked for {seen} times, and nothing has changed in between."
        decision = Decision(rule=_RULE, mode=self.mode, action=self._action, reason=reason, estimate=float(seen))
        if self.mode == "shadow":
            return Allowed((decision,))
        return Refused(reason=reason, rule=_RULE, decisions=(decision,))
